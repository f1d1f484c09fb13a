"""CAMeL Tools: ``NERecognizer``, which labels words split at whitespace and punctuation.

Checked against camel-tools 1.6.0. It is trained on sentences, so sentences it is given; those of more than 254 pieces it cuts itself. A
word that its tokenizer makes nothing of gets no label there, and all labels behind it would move by one: such words are left out
beforehand. Names are whole words, proclitics included, for which ``whole_word`` is the fair mode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from offsets import Findings, Found, names_of_tags, tagged, word_offsets
from passages import sentences

from musamma.data.document import Document

#: The model that CAMeL Tools takes where none is named.
DEFAULT = "default"

# ``NERecognizer.predict`` gives the encoder 256 pieces at a time, two of which open and close them.
_PIECES = 254


def tag(documents: Iterable[Document], *, model: str, device: str) -> Iterator[Document]:
    """The documents with the names that CAMeL Tools finds; the model is loaded at the call.

    Args:
        documents: their own spans are not looked at.
        model: ``default``, a name of CAMeL Tools' catalogue (``arabert``), a folder, or a hub id with a slash in it.
        device: ``cpu``; with any other one CAMeL Tools takes the first GPU.

    Raises:
        InputError: its words are not those of the text.
    """
    from camel_tools.ner import NERecognizer
    from camel_tools.tokenizers.word import simple_word_tokenize

    use_gpu = device != "cpu"
    if "/" in model or Path(model).is_dir():
        recognizer = NERecognizer(model, use_gpu)
    else:
        recognizer = NERecognizer.pretrained(None if model == DEFAULT else model, use_gpu)

    def find(batch: Sequence[Document]) -> Iterator[Findings]:
        words: list[list[str]] = []
        borders: list[list[tuple[int, int]]] = []
        owners: list[int] = []
        changes: list[Counter[str]] = [Counter() for _ in batch]
        for number, document in enumerate(batch):
            text, where = document.text, f"document {document.id!r}"
            for start, end in sentences(text):
                tokens = simple_word_tokenize(text[start:end])
                offsets = word_offsets(text, tokens, start=start, where=where)
                pieces = [len(recognizer.tokenizer.tokenize(token)) for token in tokens]
                kept = [index for index, count in enumerate(pieces) if count]
                changes[number]["word_without_label"] += len(tokens) - len(kept)
                changes[number]["cut"] += sum(pieces) > _PIECES
                if kept:
                    words.append([tokens[index] for index in kept])
                    borders.append([offsets[index] for index in kept])
                    owners.append(number)
        names: list[list[Found]] = [[] for _ in batch]
        for number, offsets, tags in zip(owners, borders, recognizer.predict(words), strict=True):
            findings = names_of_tags(offsets, tags, where=f"document {batch[number].id!r}")
            names[number] += findings.names
            changes[number] += findings.changes
        return (Findings(tuple(found), +count) for found, count in zip(names, changes, strict=True))

    return tagged(documents, find)
