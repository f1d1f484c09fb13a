"""Arabic text: words, letters, proclitics and suffixes, and characters that are not letters.

A word is the unit that carries a tag. Words are read from the raw text and not from a tokenizer's pieces, so their borders
are the same for every encoder.
"""

from __future__ import annotations

import re
import unicodedata

import regex

# Words

_WORD_CHARACTER = r"[\p{L}\p{M}\p{N}]"
#: A word: a run of letters, marks and digits (tatweel and vowel marks included; an invisible control only between two such
#: characters), a number with its separators, or one punctuation sign. The runs are possessive, because on a word of millions of
#: letters the positions to backtrack to would fill the memory.
WORD_PATTERN = regex.compile(
    rf"{_WORD_CHARACTER}++"
    rf"(?:(?:\p{{Cf}}++{_WORD_CHARACTER}|(?<=\p{{N}})[.,٫٬](?=\p{{N}})){_WORD_CHARACTER}*+)*+"
    r"|[^\s\p{C}]|[\p{Co}\p{Cn}]",
    regex.VERSION1,
)


def word_offsets(text: str) -> list[tuple[int, int]]:
    """Return the start and end of each word of ``text``, in code points, in order and without overlap."""
    return [match.span() for match in WORD_PATTERN.finditer(text)]


# Letters and other characters

TATWEEL = "\u0640"

#: Invisible marks of writing direction, and the byte order mark.
DIRECTION_MARKS = "\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"

#: Characters that the normaliser removes, in the syntax of `tokenizers.Regex`: vowel marks, Quranic marks, tatweel, zero-width
#: and direction controls, soft hyphen, byte order mark, variation selectors. Hamza and madda above (U+0653-U+0655) are not
#: among them: they are parts of letters, which NFKC composes. The string is saved in every checkpoint's ``tokenizer.json``.
REMOVED_MARKS = (
    r"[\x{0610}-\x{061A}\x{061C}\x{0640}\x{064B}-\x{0652}\x{0656}-\x{065F}\x{0670}\x{06D6}-\x{06ED}\x{08D3}-\x{08FF}"
    r"\x{00AD}\x{180E}\x{200B}-\x{200F}\x{202A}-\x{202E}\x{2060}-\x{206F}\x{FEFF}\x{FE00}-\x{FE0F}]"
)

#: Letters that Persian and Urdu keyboards put into Arabic text, and the Arabic letter for each.
FOLDED_LETTERS = {"ی": "ي", "ک": "ك", "ھ": "ه", "ہ": "ه"}

#: A token of Arabic letters, vowel marks and tatweel only.
ARABIC_TOKEN_PATTERN = re.compile(
    r"[\u0621-\u063a\u0640-\u0652\u0670\u0671\u067e\u0686\u0698\u06a4\u06af\u06cc]+",
)


def is_letter(character: str) -> bool:
    """Tell whether a character is not a vowel mark, tatweel or invisible control: these belong to the character before them."""
    return character != TATWEEL and unicodedata.category(character) not in ("Mn", "Me", "Mc", "Cf")


def strip_marks(surface: str) -> str:
    """Remove vowel marks, tatweel and invisible controls, and reduce white space to single spaces.

    Variants of a letter, such as those of the alef, stay distinct: they differ for any system that does not fold them.
    """
    return " ".join("".join(filter(is_letter, surface)).split())


def letter_offsets(text: str, start: int, end: int, *, limit: int) -> list[int]:
    """Return the offsets of the first ``limit`` letters of ``text[start:end]``; marks and tatweel belong to the letter before."""
    offsets = []
    for offset in range(start, end):
        if is_letter(text[offset]):
            offsets.append(offset)
            if len(offsets) == limit:
                break
    return offsets


# Proclitics and suffixes within a word

#: The proclitic letters that may precede a name in its word: a conjunction (و ف), then a preposition, comparison or future
#: particle (ب ل ك س).
PROCLITIC_PATTERN = regex.compile(r"[وف]?[بلكس]?")

#: Largest number of letters that :data:`PROCLITIC_PATTERN` matches.
MAX_PROCLITIC_LETTERS = 2

#: Pronouns that may be written onto the end of a name.
PRONOUN_SUFFIXES = frozenset(["ه", "ها", "هم", "هما", "هن", "ك", "كم", "كما", "كن", "ي", "نا", "ني"])


def is_proclitic(surface: str) -> bool:
    """Tell whether a string has letters and all of them are proclitics. Presentation forms count as their letters."""
    letters = unicodedata.normalize("NFKC", "".join(filter(is_letter, surface)))
    return bool(letters) and PROCLITIC_PATTERN.fullmatch(letters) is not None


def proclitic_offsets(text: str, start: int, end: int) -> list[int]:
    """Return the offsets at which a name may start in the word ``text[start:end]``.

    These are all borders that the letters allow; :func:`clitic_borders` returns only those that are certain.

    Returns:
        ``offsets``, where ``offsets[k]`` is the start of a name after ``k`` proclitic letters and ``offsets[0] == start``:
        three offsets for ``وبالموصل``, one for ``دمشق``.
    """
    offsets = [start]
    letters = letter_offsets(text, start, end, limit=MAX_PROCLITIC_LETTERS + 1)
    for count in range(1, len(letters)):
        if not is_proclitic("".join(text[offset] for offset in letters[:count])):
            break
        offsets.append(letters[count])
    return offsets


#: Word beginnings that :func:`clitic_borders` would wrongly split.
UNSPLIT_BEGINNINGS = ("والد", "والت", "بالغ", "وكالت", "كاليفورن", "فالنس", "لأن", "فأر", "بأس", "لأم")

_MARKS = r"[\p{Mn}\p{Me}\p{Cf}\u0640]*+"


def _one_of(letters: str) -> str:
    return rf"[{letters}]{_MARKS}"


def _any_letters(count: int) -> str:
    return rf"(?:\p{{L}}{_MARKS}){{{count}}}"


_CONJUNCTION, _ARTICLE = _one_of("وف"), _one_of("ا") + _one_of("ل")
_UNSPLIT = "|".join("".join(map(_one_of, word)) for word in UNSPLIT_BEGINNINGS)
_CERTAIN_PROCLITICS = regex.compile(
    rf"(?<![\p{{L}}\p{{M}}\p{{N}}])(?!{_UNSPLIT})(?:"
    rf"(?:{_CONJUNCTION}(?:{_one_of('بك')})?|{_one_of('بك')})(?={_ARTICLE}{_any_letters(3)})"
    rf"|(?:{_CONJUNCTION})?{_one_of('ل')}(?={_one_of('ل')}{_any_letters(2)})"
    rf"|(?:{_CONJUNCTION}(?:{_one_of('بل')})?|{_one_of('بل')})(?={_one_of('أإ')}{_any_letters(2)}))",
    regex.VERSION1,
)


def clitic_borders(text: str) -> list[int]:
    """Return the offsets after the proclitics that the spelling makes certain, in order.

    1. و ف ب ك before the article and three more letters;
    2. ل before another ل, of the article, and two more letters;
    3. و ف ب ل before أ or إ and two more letters.

    A conjunction may precede each preposition. Words of :data:`UNSPLIT_BEGINNINGS` stay whole.
    """
    return [match.end() for match in _CERTAIN_PROCLITICS.finditer(text)]


# Clitics that are tokens

# Some corpora (WikiFANE) split clitics off as tokens. These sets differ from those above on purpose: such a corpus also splits
# off لل and a stray ة, it does not split off كما and كن, and ك, which may be a proclitic or a suffix, is in the first set.

#: Tokens that belong to the token after them.
PROCLITIC_TOKENS = frozenset(["و", "ف", "ب", "ل", "ك", "س", "لل"])
#: Tokens that belong to the token before them.
SUFFIX_TOKENS = frozenset(["ه", "ها", "نا", "ني", "ي", "ة"])
#: Tokens that are a suffix or an independent pronoun.
PRONOUN_TOKENS = frozenset(["هم", "هما", "هن", "كم"])
CLITIC_TOKENS = PROCLITIC_TOKENS | SUFFIX_TOKENS | PRONOUN_TOKENS
