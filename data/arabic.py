"""Words of a raw text and the proclitics that may stand before a name inside one.

A word is the unit that carries a tag. Words are read off the raw text, not off a tokenizer's pieces, so that their borders
are the same whatever encoder is used: a run of letters, marks and digits (tatweel and vowel signs are part of it, an
invisible control only between two such characters), a number with its separators, or one sign of punctuation.
"""

from __future__ import annotations

import unicodedata

import regex

_CORE = r"[\p{L}\p{M}\p{N}]"
# Runs are possessive: a word of millions of letters would fill the memory with places to go back to.
WORD = regex.compile(
    rf"{_CORE}++(?:(?:\p{{Cf}}++{_CORE}|(?<=\p{{N}})[.,٫٬](?=\p{{N}})){_CORE}*+)*+|[^\s\p{{C}}]|[\p{{Co}}\p{{Cn}}]",
    regex.VERSION1,
)

#: Conjunction (و ف), then preposition, comparison or future (ب ل ك س): what may be written onto a name's first letter.
PROCLITICS = regex.compile(r"[وف]?[بلكس]?")

#: The most letters that :data:`PROCLITICS` matches.
MAX_PROCLITIC_LETTERS = 2

_TATWEEL = "\u0640"


def segment(text: str) -> list[tuple[int, int]]:
    """Start and end of every word of ``text``, in code points, in order and without overlap."""
    return [match.span() for match in WORD.finditer(text)]


def is_letter(character: str) -> bool:
    """Whether a character stands for itself: no vowel sign, tatweel or invisible control, which belong to the one before."""
    return character != _TATWEEL and unicodedata.category(character) not in ("Mn", "Me", "Mc", "Cf")


def folded(surface: str) -> str:
    """The letters of a form: without vowel signs, tatweel and invisible marks, its white space single spaces.

    Variants of the alef and the like are kept apart: they are other letters to a system that does not fold them itself.
    """
    return " ".join("".join(filter(is_letter, surface)).split())


def letter_offsets(text: str, start: int, end: int, *, limit: int) -> list[int]:
    """Offsets of the first ``limit`` letters of ``text[start:end]``; marks and tatweel go with the letter before them."""
    offsets = []
    for offset in range(start, end):
        if is_letter(text[offset]):
            offsets.append(offset)
            if len(offsets) == limit:
                break
    return offsets


def proclitic_offsets(text: str, start: int, end: int) -> list[int]:
    """Where a name may begin inside the word ``text[start:end]``.

    Returns:
        ``offsets`` with ``offsets[k]`` the start of a name behind ``k`` proclitic letters; ``offsets[0] == start``. As long as
        the letters allow: ``وبالموصل`` gives three, ``دمشق`` one.
    """
    offsets = [start]
    letters = letter_offsets(text, start, end, limit=MAX_PROCLITIC_LETTERS + 1)
    for count in range(1, len(letters)):
        prefix = unicodedata.normalize("NFKC", "".join(text[offset] for offset in letters[:count]))
        if not PROCLITICS.fullmatch(prefix):
            break
        offsets.append(letters[count])
    return offsets
