"""WikiFANE: clitics that are tokens are joined to their word again, as in normal Arabic spelling.

Some corpora split ``ولبغداد`` into ``و ل بغداد`` and ``رحلاتهم`` into ``رحلات هم``. The rules, in order:

1. A proclitic (و ف ب ل ك س لل) is joined to an Arabic word of at least two letters after it, or to another clitic. In a name,
   both must belong to the name. A proclitic that ends a name (``سكود س``) is one of its letters, split off by mistake.
2. ل before ال drops the alef: ``ل الجيش`` becomes ``للجيش``, and the name starts at the second lam. Foreign names that start with
   the same letters keep it (``لألمانيا``). لل before ال drops both letters.
3. The suffixes ه ها نا ني ي and a stray ة are joined to an Arabic word before them. ه after a number is the Hijri sign.
4. هم هما هن كم are also independent pronouns. They stay separate after a name, after a word with the article and, for كم, after
   a number word, where a suffix is rare. Otherwise they are suffixes.
5. ك is a suffix inside a name and after a particle. It is a preposition before ما, and before a word if the word before it
   cannot take it as a suffix. Otherwise it is undecided and stays separate.
6. Before a suffix, ة becomes ت and ى becomes ا (ي in إلى، على، لدى).

Tokens that look like a clitic and stay separate because they are undecided are reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from musamma.data.arabic import ARABIC_TOKEN_PATTERN, CLITIC_TOKENS, PROCLITIC_TOKENS, PRONOUN_TOKENS, SUFFIX_TOKENS

# fmt: off
_PARTICLES = frozenset([
    "ان", "أن", "إن", "لان", "لأن", "على", "علي", "الى", "إلى", "الي", "مع", "من", "عن", "ل", "ب", "ف", "في", "بين", "لكن",
    "لدى", "عند", "هم",
])
_NUMBER_WORDS = frozenset([
    "مليون", "مليوني", "مليونا", "بمليوني", "الف", "ألف", "الفا", "الاف", "آلاف", "مئة", "مائة", "الالف", "الالاف", "عشر",
])
_FOREIGN_NAMES = (
    "المان", "الاسكا", "الفريد", "البان", "البرت", "الكسندر", "الياس", "اليزابيث", "الفيس", "السلفادور", "اليوت", "البير",
)
# fmt: on
# Words that start with the letters of the article and do not have it.
_WITHOUT_ARTICLE = ("الى", "إلى", "الي")
# Words whose ى becomes ي before a suffix.
_KEEPS_YA = frozenset(["الى", "إلى", "على", "لدى"])
# The rest of a word counts as a name after a proclitic if it starts this many times as many names as the word itself.
_FREQUENCY_RATIO = 2

#: Where a token belongs: to the ``next`` or ``previous`` token, to neither (``separate``), or ``undecided``.
_Attachment = Literal["next", "previous", "separate", "undecided"]


@dataclass(frozen=True, slots=True)
class RejoinedSentence:
    """A sentence whose clitics are joined to their words.

    Args:
        text: the tokens, with a space between those that are separate words.
        offsets: start and end of each token in ``text``, in code points.
        joined: number of clitics joined to a word.
        respelt: number of letters changed by joining.
        apart: indices of tokens that look like a clitic, are undecided and stay separate.
    """

    text: str
    offsets: tuple[tuple[int, int], ...]
    joined: int
    respelt: int
    apart: tuple[int, ...]


def rejoin_clitics(tokens: Sequence[str], names: Sequence[int | None]) -> RejoinedSentence:
    """Join the clitics of a sentence to their words.

    Args:
        tokens: the tokens of the sentence.
        names: for each token, the number of the outermost name that contains it, or ``None``.
    """
    joined_before = [False] * (len(tokens) + 1)  # whether a token follows the one before it without a space
    undecided = []
    for index in range(len(tokens)):
        match _find_attachment(tokens, names, index):
            case "next":
                joined_before[index + 1] = True
            case "previous":
                joined_before[index] = True
            case "undecided":
                undecided.append(index)
    spelt = list(tokens)
    respelt = sum(_respell(spelt, index) for index in range(1, len(tokens)) if joined_before[index])
    parts: list[str] = []
    offsets = []
    end = 0
    for index, token in enumerate(spelt):
        if index and not joined_before[index]:
            parts.append(" ")
            end += 1
        parts.append(token)
        offsets.append((end, end + len(token)))
        end += len(token)
    return RejoinedSentence("".join(parts), tuple(offsets), sum(joined_before), respelt, tuple(undecided))


def hidden_proclitic_length(word: str, name_starts: Counter[str]) -> int:
    """Number of letters of a name's first token that are a proclitic which the corpus did not split off: 0 or 1.

    The corpus decides: the rest of the word starts names much more often than the word itself (``باوروبا`` beside
    ``اوروبا``; ``للازهر`` beside ``الازهر``).

    Args:
        word: the name's first token.
        name_starts: number of names that each token of the corpus starts.
    """
    letter, rest = word[:1], word[1:]
    if letter == "ل" and rest.startswith("ل"):
        rest = "ا" + rest
    elif letter not in ("ب", "ل"):  # The corpus always splits off و and ف, and too many names start with ك or س.
        return 0
    return int(len(rest) > 3 and name_starts[rest] > _FREQUENCY_RATIO * name_starts[word])


def _find_attachment(tokens: Sequence[str], names: Sequence[int | None], index: int) -> _Attachment:
    token = tokens[index]
    if token not in CLITIC_TOKENS:
        return "separate"
    before = tokens[index - 1] if index else ""
    after = tokens[index + 1] if index + 1 < len(tokens) else ""
    name = names[index]
    word_before = bool(ARABIC_TOKEN_PATTERN.fullmatch(before))
    word_after = bool(ARABIC_TOKEN_PATTERN.fullmatch(after)) and (len(after) > 1 or after in CLITIC_TOKENS)
    with_before = name is not None and index > 0 and names[index - 1] == name
    with_after = name is not None and bool(after) and names[index + 1] == name
    if name is not None and not with_before and token not in PROCLITIC_TOKENS:
        return "undecided"  # The token starts a name, so it is not a suffix.
    if token == "ك":
        # The first name of a sentence has the number 0 and does not count as a name before ك.
        after_name = bool(index and names[index - 1])
        return _attach_kaf(
            before,
            after,
            word_before=word_before,
            word_after=word_after,
            with_before=with_before,
            with_after=with_after,
            after_name=after_name,
        )
    if token in PROCLITIC_TOKENS:
        if name is not None and not with_after:
            return "previous" if with_before and word_before else "undecided"
        return "next" if word_after else "undecided"
    if not word_before:
        return "separate" if token in ("ه", "كم") or token in PRONOUN_TOKENS else "undecided"
    if token in PRONOUN_TOKENS and not with_before:
        if index and names[index - 1] is not None:
            return "undecided"
        if before.startswith("ال") and before not in _WITHOUT_ARTICLE:
            return "undecided"
        if token == "كم" and before in _NUMBER_WORDS:
            return "separate"
    return "previous"


def _attach_kaf(
    before: str,
    after: str,
    *,
    word_before: bool,
    word_after: bool,
    with_before: bool,
    with_after: bool,
    after_name: bool,
) -> _Attachment:
    if with_before and word_before:
        return "previous"
    if word_after and (
        after == "ما" or with_after or not word_before or after_name or before.startswith("ال") or before.endswith("ة")
    ):
        return "next"
    if word_before and (before in _PARTICLES or not word_after):
        return "previous"
    return "undecided"


def _respell(words: list[str], index: int) -> int:
    """Adapt, in place, the spelling of a word and the one before it, which are joined. Returns the number of changes."""
    before, word = words[index - 1], words[index]
    if before in ("ل", "لل") and word.startswith("ال") and len(word) > 2 and not word.startswith(_FOREIGN_NAMES):
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
