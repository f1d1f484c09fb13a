"""Spelling variants of Arabic names: two spellings are the same name if they fold to the same string."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from musamma.data.arabic import FOLDED_LETTERS, TATWEEL, word_offsets

#: Separates the words of a folded text. It occurs in no word.
WORD_SEPARATOR = "\n"

# The characters of musamma.data.arabic.REMOVED_MARKS by kind. All are in the basic plane.
_VOWEL_MARKS = frozenset(
    map(
        chr,
        (
            *range(0x0610, 0x061B),
            *range(0x064B, 0x0653),
            *range(0x0656, 0x0660),
            0x0670,
            *range(0x06D6, 0x06EE),
            *range(0x08D3, 0x0900),
        ),
    )
)
_INVISIBLE = frozenset(
    map(
        chr,
        (
            0x00AD,
            0x061C,
            0x180E,
            *range(0x200B, 0x2010),
            *range(0x202A, 0x202F),
            *range(0x2060, 0x2070),
            0xFEFF,
            *range(0xFE00, 0xFE10),
        ),
    )
)
# Madda, hamza above and hamza below, into which NFKD takes apart آ أ ؤ ئ إ.
_HAMZA_MARKS = frozenset("\u0653\u0654\u0655")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """Differences of spelling that do not count.

    Presentation forms and Persian and Urdu letters always count as their Arabic letters, composed letters as decomposed ones, and
    any white space between words as one space. Upper and lower case of Latin letters differ.

    Args:
        hamza: أ إ آ ٱ count as ا, ؤ as و, and ئ as ي. A hamza on the line (ء) is a letter.
        alef_maqsura: ى counts as ي.
        ta_marbuta: ة counts as ه.
        vowel_marks: vowel marks and Quranic marks are left out.
        tatweel: tatweel is left out.
        direction_marks: marks of writing direction, zero-width and other invisible characters are left out.
    """

    hamza: bool = True
    alef_maqsura: bool = True
    ta_marbuta: bool = True
    vowel_marks: bool = True
    tatweel: bool = True
    direction_marks: bool = True

    def fold(self, word: str) -> str:
        """Fold a word or a part of one. The fold of a whole is the concatenation of the folds of its parts."""
        return word.translate(_table(self))

    def fold_words(self, text: str, words: Iterable[tuple[int, int]]) -> list[str]:
        """Fold words of a text, given by their offsets."""
        table = _table(self)
        folded = text.translate(table)
        # Usually every character folds to one, and the whole text can be folded at once, which is faster.
        if table.irregular.isdisjoint(text):
            return [folded[start:end] for start, end in words]
        return [text[start:end].translate(table) for start, end in words]

    def fold_text(self, text: str) -> str:
        """Fold the words of a text and join them by :data:`WORD_SEPARATOR`; words that fold to nothing are left out."""
        return WORD_SEPARATOR.join(filter(None, self.fold_words(text, word_offsets(text))))


DEFAULT_SPELLING = Spelling()


class _Table(dict[int, str]):
    """The fold of each character, by code point, computed when it is first needed.

    Attributes:
        irregular: the characters met so far that do not fold to a single one.
    """

    def __init__(self, spelling: Spelling) -> None:
        super().__init__()
        self.irregular: set[str] = set()
        self._letters = dict(FOLDED_LETTERS)
        removed: set[str] = set()
        if spelling.hamza:
            removed |= _HAMZA_MARKS
            self._letters["ٱ"] = "ا"
        if spelling.alef_maqsura:
            self._letters["ى"] = "ي"
        if spelling.ta_marbuta:
            self._letters["ة"] = "ه"
        if spelling.vowel_marks:
            removed |= _VOWEL_MARKS
        if spelling.tatweel:
            removed.add(TATWEEL)
        if spelling.direction_marks:
            removed |= _INVISIBLE
        self._removed = removed

    def __missing__(self, code: int) -> str:
        parts = unicodedata.normalize("NFKD", chr(code))
        if len(parts) > 1:  # A ligature of several words (ﷺ) is one word here.
            parts = "".join(parts.split())
        folded = "".join(self._letters.get(part, part) for part in parts if part not in self._removed)
        if len(folded) != 1:
            # A new set, because other threads may be reading this one.
            self.irregular = self.irregular | {chr(code)}
        self[code] = folded
        return folded


@cache
def _table(spelling: Spelling) -> _Table:
    return _Table(spelling)
