"""What is masked as one: a word without its proclitics, where the text itself tells their border.

A proclitic is written onto the word behind it, and most Arabic letters that can be one also begin plain words: the
rule takes only what is hardly anything else. In a word, marks and tatweel aside, a border stands

1. before the article, behind و ف ب ك and their pairs وب وك فب فك: و|القاهرة, ب|الموصل, وب|الاتفاق; at least three
   letters must follow the article;
2. between two lams at the beginning of a word, also behind و ف: ل|لجيش, ول|لشعب; at least two letters must follow;
3. before أ and إ, behind و ف ب ل and their pairs: و|أعلن, ب|إيران, ول|أنه; at least two letters must follow the
   hamza's.

Common words that only look like it are named in :data:`PLAIN`. Everything else (و before another letter, س before a
verb) cannot be told without a lexicon and is left in its word.
"""

from __future__ import annotations

import numpy as np
import regex

from musamma.data.words import segment

#: Beginnings of words that rules 1 to 3 would wrongly cut.
PLAIN = ("والد", "والت", "بالغ", "وكالت", "كاليفورن", "فالنس", "لأن", "فأر", "بأس", "لأم")

_MARKS = r"[\p{Mn}\p{Me}\p{Cf}\u0640]*+"


def _one(letters: str) -> str:
    return rf"[{letters}]{_MARKS}"


def _many(count: int) -> str:
    return rf"(?:\p{{L}}{_MARKS}){{{count}}}"


_AND, _ARTICLE = _one("وف"), _one("ا") + _one("ل")
_PLAIN = "|".join("".join(map(_one, word)) for word in PLAIN)
_CLITICS = regex.compile(
    rf"(?<![\p{{L}}\p{{M}}\p{{N}}])(?!{_PLAIN})(?:"
    rf"(?:{_AND}(?:{_one('بك')})?|{_one('بك')})(?={_ARTICLE}{_many(3)})"
    rf"|(?:{_AND})?{_one('ل')}(?={_one('ل')}{_many(2)})"
    rf"|(?:{_AND}(?:{_one('بل')})?|{_one('بل')})(?={_one('أإ')}{_many(2)}))",
    regex.VERSION1,
)


def clitic_borders(text: str) -> list[int]:
    """Offsets behind the proclitics of words, by the rule of this module, in order."""
    return [match.end() for match in _CLITICS.finditer(text)]


def piece_borders(text: str, offsets: np.ndarray, *, clitics: bool) -> tuple[np.ndarray, np.ndarray]:
    """Which pieces begin a word, and which begin a unit that is masked as one.

    A piece that straddles a border, with letters of the proclitic and of the stem in it, goes with the stem.

    Args:
        text: the raw text.
        offsets: start and end of every piece in it; (pieces, 2).
        clitics: whether proclitics are units of their own.

    Returns:
        Two arrays of bool, (pieces,); the first piece begins both.
    """
    words = np.array(segment(text), dtype=np.int64).reshape(-1, 2)
    if not len(words) or not len(offsets):
        first = np.arange(len(offsets)) == 0
        return first, first
    # A piece may hold the space before its word, or nothing but it: it reaches one letter into the word all the same.
    owner = np.minimum(np.searchsorted(words[:, 1], offsets[:, 0], side="right"), len(words) - 1)
    ends = np.maximum(offsets[:, 1], words[owner, 0] + 1)
    starts = _begins(words[:, 0], ends)
    borders = clitic_borders(text) if clitics else []
    return starts, _begins(np.union1d(words[:, 0], borders), ends) if borders else starts


def _begins(cuts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Whether a piece reaches behind another cut than the piece before it."""
    behind = np.maximum.accumulate(np.searchsorted(cuts, ends, side="left"))
    return np.diff(behind, prepend=-1) != 0
