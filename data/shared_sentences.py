"""Sentences that two sets of documents share, in whatever spelling: text that must not be trained on and scored."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from musamma.data.arabic import FOLDED_LETTERS, strip_marks
from musamma.data.document import Document

#: Shortest sentence that counts, in words. Shorter ones, such as datelines and headings, recur by chance.
MIN_WORDS = 6

_SENTENCE_END = re.compile(r"[\n!?؟]+|(?<!\d)\.(?!\d)|\.(?=\s|$)")
# Spellings of one letter, which corpora fold in different ways.
_FOLDED = str.maketrans({**FOLDED_LETTERS, **dict.fromkeys("أإآٱ", "ا"), "ى": "ي", "ئ": "ي", "ؤ": "و", "ة": "ه"})
_NOT_LETTERS = re.compile(r"[\W_]+")


def sentence_keys(text: str) -> set[str]:
    """Return a key of each sentence of at least :data:`MIN_WORDS` words.

    The key consists of the letters and digits alone, in one spelling, so that punctuation, vowel marks, forms of hamza and clitics
    written apart do not matter.
    """
    keys = set()
    for sentence in _SENTENCE_END.split(text):
        words = _NOT_LETTERS.split(strip_marks(unicodedata.normalize("NFKC", sentence)).translate(_FOLDED))
        if sum(map(bool, words)) >= MIN_WORDS:
            keys.add("".join(words))
    return keys


def drop_shared(documents: Iterable[Document], held_out: Iterable[Document]) -> tuple[list[Document], list[Document]]:
    """Separate the documents that share a sentence with held-out documents.

    Args:
        documents: documents to train on.
        held_out: documents to score.

    Returns:
        The documents that share none, and those that share one.
    """
    keys = {key for document in held_out for key in sentence_keys(document.text)}
    kept: list[Document] = []
    dropped: list[Document] = []
    for document in documents:
        (kept if keys.isdisjoint(sentence_keys(document.text)) else dropped).append(document)
    return kept, dropped
