"""GLiNER: names of the kinds that it is asked for in words.

Checked against gliner 0.2.29. It cuts a text off behind ``max_len`` words of its own and behind the tokenizer's length, so texts go in as
passages of whole sentences that fit. Its words are runs of Python's ``\\w``, to which a vowel sign does not belong: vocalised text
falls into letters there. Names begin and end with its words, proclitics included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from offsets import Findings, Found, tagged
from passages import passages

from musamma.data.document import Document
from musamma.data.errors import InputError

#: What is asked for where the model's name says nothing else, and the label that such names get.
PROMPTS: Mapping[str, str] = {"person": "PER", "location": "LOC", "organization": "ORG"}

#: The least score of a name; GLiNER's own default.
THRESHOLD = 0.5

# Pieces that a prompt takes besides its words, and those that open and close a text; generously.
_MARKS = 4


def tag(documents: Iterable[Document], *, model: str, device: str) -> Iterator[Document]:
    """The documents with the names that GLiNER finds; the model is loaded at the call.

    Args:
        documents: their own spans are not looked at.
        model: a folder or a hub id; with ``#PROMPT=LABEL,PROMPT=LABEL`` behind it, what to ask for in place of
            :data:`PROMPTS`, e.g. ``urchade/gliner_multi-v2.1#person=PER,country or city=GPE``.
        device: ``cpu``, ``cuda`` or ``cuda:1``...

    Raises:
        InputError: the prompts cannot be read, or its offsets are not those of the text.
    """
    name, prompts = read_prompts(model)
    from gliner import GLiNER

    run = GLiNER.from_pretrained(name).to(device)
    split, tokenizer = run.data_processor.words_splitter, run.data_processor.transformer_tokenizer
    asked = " ".join(prompts)
    reserved = len(tokenizer(asked)["input_ids"]) + _MARKS * (len(prompts) + 1)

    def fits(passage: str) -> bool:
        words = [word for word, _, _ in split(passage)]
        if len(words) > run.config.max_len:
            return False
        pieces = len(tokenizer(words, is_split_into_words=True)["input_ids"])
        return pieces + reserved <= tokenizer.model_max_length

    def find(batch: Sequence[Document]) -> Iterator[Findings]:
        texts = [document.text for document in batch]
        parts = [passages(text, fits=fits) for text in texts]
        given = iter(
            run.inference(
                [text[start:end] for text, part in zip(texts, parts, strict=True) for start, end in part.borders],
                list(prompts),
                flat_ner=True,
                threshold=THRESHOLD,
            )
        )
        for part in parts:
            names = tuple(
                Found(
                    start + name["start"],
                    start + name["end"],
                    prompts[name["label"]],
                    float(name["score"]),
                    name["text"],
                )
                for start, _ in part.borders
                for name in next(given)
            )
            yield Findings(names, +Counter(cut=part.cut))

    return tagged(documents, find)


def read_prompts(model: str) -> tuple[str, dict[str, str]]:
    """The model, and the label by prompt.

    Raises:
        InputError: what stands behind ``#`` are no prompts with labels.
    """
    name, mark, asked = model.partition("#")
    if not mark:
        return name, dict(PROMPTS)
    prompts: dict[str, str] = {}
    for entry in asked.split(","):
        prompt, _, label = (part.strip() for part in entry.partition("="))
        if not prompt or not label or prompt in prompts:
            raise InputError(
                f"prompt {entry!r}", where=model, expected="'#PROMPT=LABEL,PROMPT=LABEL', each prompt once"
            )
        prompts[prompt] = label
    return name, prompts
