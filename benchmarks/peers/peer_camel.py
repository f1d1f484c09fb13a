"""CAMeL Tools: ``NERecognizer``, which labels words split at whitespace and punctuation.

Checked against camel-tools 1.6.0. It is trained on sentences and therefore gets sentences; it cuts those of more than 254 pieces itself.
It returns no label for a word without pieces, which would shift all following labels by one: such words are removed beforehand.
Names are whole words including proclitics, so ``whole_word`` is the fair mode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from predicted_names import PredictedName, TextPrediction, decode_word_tags, find_word_offsets, predict_documents
from text_passages import split_sentences

from musamma.data.document import Document

#: Selects the default model of CAMeL Tools.
DEFAULT = "default"

# ``NERecognizer.predict`` passes 256 pieces at a time to the encoder, including the first and last special token.
_MAX_PIECES = 254


def tag(documents: Iterable[Document], *, model: str, device: str) -> Iterator[Document]:
    """Return the documents with the names that CAMeL Tools predicts; the call itself loads the model.

    Args:
        documents: their spans are ignored.
        model: ``default``, a name of CAMeL Tools' catalogue (``arabert``), a folder, or a hub id with a slash in it.
        device: ``cpu``; with any other value CAMeL Tools uses the first GPU.

    Raises:
        InputError: its words differ from those of the text.
    """
    from camel_tools.ner import NERecognizer
    from camel_tools.tokenizers.word import simple_word_tokenize

    use_gpu = device != "cpu"
    if "/" in model or Path(model).is_dir():
        recognizer = NERecognizer(model, use_gpu)
    else:
        recognizer = NERecognizer.pretrained(None if model == DEFAULT else model, use_gpu)

    def predict(batch: Sequence[Document]) -> Iterator[TextPrediction]:
        words: list[list[str]] = []
        word_borders: list[list[tuple[int, int]]] = []
        document_numbers: list[int] = []
        changes: list[Counter[str]] = [Counter() for _ in batch]
        for number, document in enumerate(batch):
            text, where = document.text, f"document {document.id!r}"
            for start, end in split_sentences(text):
                tokens = simple_word_tokenize(text[start:end])
                offsets = find_word_offsets(text, tokens, start=start, where=where)
                pieces = [len(recognizer.tokenizer.tokenize(token)) for token in tokens]
                with_pieces = [index for index, count in enumerate(pieces) if count]
                changes[number]["word_without_label"] += len(tokens) - len(with_pieces)
                changes[number]["cut"] += sum(pieces) > _MAX_PIECES
                if with_pieces:
                    words.append([tokens[index] for index in with_pieces])
                    word_borders.append([offsets[index] for index in with_pieces])
                    document_numbers.append(number)
        names: list[list[PredictedName]] = [[] for _ in batch]
        for number, offsets, tags in zip(document_numbers, word_borders, recognizer.predict(words), strict=True):
            prediction = decode_word_tags(offsets, tags, where=f"document {batch[number].id!r}")
            names[number] += prediction.names
            changes[number] += prediction.changes
        return (TextPrediction(tuple(predicted), +count) for predicted, count in zip(names, changes, strict=True))

    return predict_documents(documents, predict)
