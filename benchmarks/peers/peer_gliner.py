"""GLiNER: names of the kinds described by prompts.

Checked against gliner 0.2.29. It truncates a text after ``max_len`` words of its own and at the tokenizer's length, so it gets
passages of whole sentences that fit. Its words are runs of Python's ``\\w``, which excludes vowel signs: it splits vocalised text
into letters. Names start and end at its words, including proclitics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from predicted_names import PredictedName, TextPrediction, predict_documents
from text_passages import split_passages

from musamma.data.document import Document
from musamma.data.errors import InputError

#: The default prompts, with the label of the names that each finds.
PROMPTS: Mapping[str, str] = {"person": "PER", "location": "LOC", "organization": "ORG"}

#: Minimum score of a name; GLiNER's own default.
THRESHOLD = 0.5

# Upper bound of the special pieces per prompt and per text.
_SPECIAL_PIECES = 4


def tag(documents: Iterable[Document], *, model: str, device: str) -> Iterator[Document]:
    """Return the documents with the names that GLiNER predicts; the call itself loads the model.

    Args:
        documents: their spans are ignored.
        model: a folder or a hub id, optionally followed by ``#PROMPT=LABEL,PROMPT=LABEL`` in place of
            :data:`PROMPTS`, e.g. ``urchade/gliner_multi-v2.1#person=PER,country or city=GPE``.
        device: ``cpu``, ``cuda`` or ``cuda:1``...

    Raises:
        InputError: the prompts cannot be parsed, or its offsets do not fit the text.
    """
    name, prompts = parse_prompts(model)
    from gliner import GLiNER

    gliner = GLiNER.from_pretrained(name).to(device)
    split_words, tokenizer = gliner.data_processor.words_splitter, gliner.data_processor.transformer_tokenizer
    reserved = len(tokenizer(" ".join(prompts))["input_ids"]) + _SPECIAL_PIECES * (len(prompts) + 1)

    def fits(passage: str) -> bool:
        words = [word for word, _, _ in split_words(passage)]
        if len(words) > gliner.config.max_len:
            return False
        pieces = len(tokenizer(words, is_split_into_words=True)["input_ids"])
        return pieces + reserved <= tokenizer.model_max_length

    def predict(batch: Sequence[Document]) -> Iterator[TextPrediction]:
        texts = [document.text for document in batch]
        passages = [split_passages(text, fits=fits) for text in texts]
        outputs = iter(
            gliner.inference(
                [text[start:end] for text, split in zip(texts, passages, strict=True) for start, end in split.borders],
                list(prompts),
                flat_ner=True,
                threshold=THRESHOLD,
            )
        )
        for split in passages:
            names = tuple(
                PredictedName(
                    start + name["start"],
                    start + name["end"],
                    prompts[name["label"]],
                    float(name["score"]),
                    name["text"],
                )
                for start, _ in split.borders
                for name in next(outputs)
            )
            yield TextPrediction(names, +Counter(cut=split.cut))

    return predict_documents(documents, predict)


def parse_prompts(model: str) -> tuple[str, dict[str, str]]:
    """Split off the prompts; return the model and the label of each prompt.

    Raises:
        InputError: the part after ``#`` has another form.
    """
    name, separator, prompt_list = model.partition("#")
    if not separator:
        return name, dict(PROMPTS)
    prompts: dict[str, str] = {}
    for entry in prompt_list.split(","):
        prompt, _, label = (part.strip() for part in entry.partition("="))
        if not prompt or not label or prompt in prompts:
            raise InputError(
                f"prompt {entry!r}", where=model, expected="'#PROMPT=LABEL,PROMPT=LABEL', each prompt once"
            )
        prompts[prompt] = label
    return name, prompts
