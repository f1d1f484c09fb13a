"""Writing clitics that are tokens of their own onto their word again, as Arabic is written.

Some corpora (WikiFANE) split ``ولبغداد`` into ``و ل بغداد`` and ``رحلاتهم`` into ``رحلات هم``. The rules, in order:

1. A proclitic (و ف ب ل ك س لل) is written onto a following Arabic word of two letters or more, or onto another clitic.
   Inside a name it must not leave the name; one that ends a name (``سكود س``) is a letter of it, split off by mistake.
2. ل before ال drops the alef (``ل الجيش`` is ``للجيش``, the name begins at its second lam), but not before a foreign name
   that begins with these letters (``لألمانيا``); لل before ال drops both letters.
3. The suffixes ه ها نا ني ي and a stray ة are written onto an Arabic word before them; ه after a number is the Hijri sign.
4. هم هما هن كم are pronouns, too. They are left apart behind a name, behind a word with the article and, كم, behind a
   number word: there a suffix is rare. Otherwise they are suffixes.
5. ك is a suffix inside a name and behind a particle; a preposition before ما, and where a word follows and none it could
   be a suffix of precedes; otherwise undecided, and left apart.
6. Before a suffix ة becomes ت, and ى becomes ا (ي in إلى، على، لدى).

What is left apart although it looks like a clitic is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from musamma.data.arabic import ARABIC_TOKEN_PATTERN, CLITIC_TOKENS, PROCLITIC_TOKENS, PRONOUN_TOKENS, SUFFIX_TOKENS

# fmt: off
_PARTICLES = frozenset([
    "ان", "أن", "إن", "لان", "لأن", "على", "علي", "الى", "إلى", "الي", "مع", "من", "عن", "ل", "ب", "ف", "في", "بين", "لكن",
    "لدى", "عند", "هم",
])
_NUMBER_WORDS = frozenset([
    "مليون", "مليوني", "مليونا", "بمليوني", "الف", "ألف", "الفا", "الاف", "آلاف", "مئة", "مائة", "الالف", "الالاف", "عشر",
])
_FOREIGN = (
    "المان", "الاسكا", "الفريد", "البان", "البرت", "الكسندر", "الياس", "اليزابيث", "الفيس", "السلفادور", "اليوت", "البير",
)
# fmt: on
_WITH_ARTICLE_LETTERS = ("الى", "إلى", "الي")
#: How much more often the rest of a word must begin names than the word itself, to be taken for a name behind a proclitic.
_TIMES = 2
_KEEPS_YA = frozenset(["الى", "إلى", "على", "لدى"])


@dataclass(frozen=True, slots=True)
class Joined:
    """A sentence as text.

    Args:
        text: the tokens, those that belong together without a space.
        offsets: start and end of each token in ``text``, in code points.
        joined: how many clitics were written onto their word.
        respelt: how many letters changed for it.
        apart: indices of tokens that look like a clitic and were left apart because they could not be decided.
    """

    text: str
    offsets: tuple[tuple[int, int], ...]
    joined: int
    respelt: int
    apart: tuple[int, ...]


def rejoin_clitics(tokens: Sequence[str], names: Sequence[int | None]) -> Joined:
    """The text of a sentence with its clitics rejoined.

    Args:
        tokens: the sentence's tokens.
        names: for each token the number of the outermost name it belongs to, ``None`` outside of names.
    """
    glued = [False] * (len(tokens) + 1)  # glued[i]: no space between token i - 1 and token i
    apart = []
    for index in range(len(tokens)):
        match _side(tokens, names, index):
            case "next":
                glued[index + 1] = True
            case "previous":
                glued[index] = True
            case "undecided":
                apart.append(index)
    words = list(tokens)
    respelt = sum(_respell(words, index) for index in range(1, len(tokens)) if glued[index])
    pieces: list[str] = []
    offsets = []
    end = 0
    for index, word in enumerate(words):
        if index and not glued[index]:
            pieces.append(" ")
            end += 1
        pieces.append(word)
        offsets.append((end, end + len(word)))
        end += len(word)
    return Joined("".join(pieces), tuple(offsets), sum(glued), respelt, tuple(apart))


def hidden_proclitic_length(word: str, name_starts: Counter[str]) -> int:
    """How many letters of a name's first token are a proclitic that the corpus did not split off.

    Decided by the corpus itself: the rest of the word begins names much more often than the word does (``باوروبا``
    beside ``اوروبا``; for ``للازهر``, ``الازهر``).

    Args:
        word: the name's first token.
        name_starts: how often each token of the corpus begins a name.
    """
    letter, rest = word[:1], word[1:]
    if letter == "ل" and rest.startswith("ل"):
        rest = "ا" + rest
    elif letter not in ("ب", "ل"):  # و and ف are split off throughout; names that begin with ك or س are too many.
        return 0
    return int(len(rest) > 3 and name_starts[rest] > _TIMES * name_starts[word])


def _side(tokens: Sequence[str], names: Sequence[int | None], index: int) -> str:
    """Where a token belongs: ``next``, ``previous``, ``apart`` (a word of its own) or ``undecided``."""
    token = tokens[index]
    if token not in CLITIC_TOKENS:
        return "apart"
    before = tokens[index - 1] if index else ""
    after = tokens[index + 1] if index + 1 < len(tokens) else ""
    name = names[index]
    word_before = bool(ARABIC_TOKEN_PATTERN.fullmatch(before))
    word_after = bool(ARABIC_TOKEN_PATTERN.fullmatch(after)) and (len(after) > 1 or after in CLITIC_TOKENS)
    with_before = name is not None and index > 0 and names[index - 1] == name
    with_after = name is not None and bool(after) and names[index + 1] == name
    if name is not None and not with_before and token not in PROCLITIC_TOKENS:
        return "undecided"  # A name that begins with a suffix is no suffix.
    if token == "ك":
        return _kaf(before, after, word_before, word_after, with_before, with_after, bool(index and names[index - 1]))
    if token in PROCLITIC_TOKENS:
        if name is not None and not with_after:
            return "previous" if with_before and word_before else "undecided"
        return "next" if word_after else "undecided"
    if not word_before:
        return "apart" if token in ("ه", "كم") or token in PRONOUN_TOKENS else "undecided"
    if token in PRONOUN_TOKENS and not with_before:
        if index and names[index - 1] is not None:
            return "undecided"
        if before.startswith("ال") and before not in _WITH_ARTICLE_LETTERS:
            return "undecided"
        if token == "كم" and before in _NUMBER_WORDS:
            return "apart"
    return "previous"


def _kaf(
    before: str, after: str, word_before: bool, word_after: bool, with_before: bool, with_after: bool, behind_name: bool
) -> str:
    if with_before and word_before:
        return "previous"
    if word_after and (
        after == "ما" or with_after or not word_before or behind_name or before.startswith("ال") or before.endswith("ة")
    ):
        return "next"
    if word_before and (before in _PARTICLES or not word_after):
        return "previous"
    return "undecided"


def _respell(words: list[str], index: int) -> int:
    """Adapt the spelling of two words that are written together; returns how many letters changed."""
    before, word = words[index - 1], words[index]
    if before in ("ل", "لل") and word.startswith("ال") and len(word) > 2 and not word.startswith(_FOREIGN):
        words[index] = word[len(before) :]
        return 1
    if word in SUFFIX_TOKENS | PRONOUN_TOKENS | {"ك"} and len(before) > 1:
        if before.endswith("ة") and word != "ة":
            words[index - 1] = before[:-1] + "ت"
            return 1
        if before.endswith("ى"):
            words[index - 1] = before[:-1] + ("ي" if before in _KEEPS_YA else "ا")
            return 1
    return 0
