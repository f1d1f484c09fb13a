"""Noise: texts as people also write, mark and space them, with the annotated names moved along.

Some of it is how Arabic is typed every day (no hamza, ى for ي), some comes from programs that made the text (marks of writing
direction, presentation forms). A model should find the same names in all of it.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import accumulate, pairwise

from musamma.data.arabic import TATWEEL, word_offsets
from musamma.data.document import Document, Span

#: Returns for each character of a text what stands in its place; it may draw at random.
Noise = Callable[[str, random.Random], list[str]]

_LETTER = re.compile(r"[\u0621-\u063a\u0641-\u064a]")
# Letters that do not join the next one.
_NOT_JOINING = frozenset("اأإآدذرزوؤىةء")
_VOWEL_SIGNS = "\u064e\u064f\u0650\u0652"
_SHADDA = "\u0651"
_RIGHT_TO_LEFT_MARK, _EMBEDDING, _END_OF_EMBEDDING = "\u200f", "\u202b", "\u202c"
_WITHOUT_HAMZA = dict.fromkeys("أإآ", "ا")
# By whether a letter joins the one before and the one after it.
_CONTEXTS = {(False, False): "isolated", (False, True): "initial", (True, True): "medial", (True, False): "final"}
_PUNCTUATION = frozenset("،؛؟.,:;!?()[]«»\"'“”‘’-–—…")


def vowel_signs(text: str, draw: random.Random) -> list[str]:
    """Put a vowel sign behind every Arabic letter, with shadda behind every fourth."""
    return [
        character + (_SHADDA if draw.random() < 0.25 else "") + draw.choice(_VOWEL_SIGNS)
        if _LETTER.match(character)
        else character
        for character in text
    ]


def tatweel(text: str, draw: random.Random) -> list[str]:
    """Lengthen every second letter that joins the next one."""
    return [
        character + TATWEEL
        if _LETTER.match(character) and _LETTER.match(after) and character not in _NOT_JOINING and draw.random() < 0.5
        else character
        for character, after in _with_next(text)
    ]


def direction_marks(text: str, draw: random.Random) -> list[str]:
    """Put right-to-left marks between words and white space, and around every fifth word an embedding."""
    changed = list(text)
    for start, end in word_offsets(text):
        first, last = _RIGHT_TO_LEFT_MARK, _RIGHT_TO_LEFT_MARK
        if draw.random() < 0.2:
            first, last = _EMBEDDING, _END_OF_EMBEDDING
        # Only beside white space, to which the marks then belong: they are no part of a name.
        if start and text[start - 1].isspace():
            changed[start - 1] += first
        if end < len(text) and text[end].isspace():
            changed[end] = last + changed[end]
    return changed


def no_hamza(text: str, draw: random.Random) -> list[str]:
    """Write ا for أ, إ and آ. Whoever leaves out the hamza usually keeps ؤ and ئ, which have keys of their own."""
    return [_WITHOUT_HAMZA.get(character, character) for character in text]


def alef_maqsura(text: str, draw: random.Random) -> list[str]:
    """Write ى for ي at the end of words, as is usual in Egypt."""
    return _replace_final(text, "ي", "ى")


def ta_marbuta(text: str, draw: random.Random) -> list[str]:
    """Write ه for ة."""
    return _replace_final(text, "ة", "ه")


def _replace_final(text: str, letter: str, other: str) -> list[str]:
    return [
        other if character == letter and not _LETTER.match(after) else character
        for character, after in _with_next(text)
    ]


def _with_next(text: str) -> Iterator[tuple[str, str]]:
    """Yield each character with the one after it, the last one with a space."""
    return pairwise(f"{text} ")


def lost_spaces(text: str, draw: random.Random) -> list[str]:
    """Leave out one space in twenty."""
    return ["" if character == " " and draw.random() < 0.05 else character for character in text]


def doubled_spaces(text: str, draw: random.Random) -> list[str]:
    """Double one space in five."""
    return ["  " if character == " " and draw.random() < 0.2 else character for character in text]


def no_punctuation(text: str, draw: random.Random) -> list[str]:
    """Leave out punctuation outside numbers."""
    inside_number = {
        position for match in re.finditer(r"(?<=\d)[.,:/-](?=\d)", text) for position in range(*match.span())
    }
    return [
        "" if character in _PUNCTUATION and position not in inside_number else character
        for position, character in enumerate(text)
    ]


def presentation_forms(text: str, draw: random.Random) -> list[str]:
    """Write letters as their contextual presentation forms."""
    forms = _presentation_forms()
    changed = []
    for before, (character, after) in zip(f" {text}", _with_next(text), strict=False):
        joins_before = bool(_LETTER.match(before)) and before not in _NOT_JOINING and character != "ء"
        joins_after = bool(_LETTER.match(after)) and after != "ء" and character not in _NOT_JOINING
        changed.append(forms.get((character, _CONTEXTS[joins_before, joins_after]), character))
    return changed


@cache
def _presentation_forms() -> dict[tuple[str, str], str]:
    """Return the presentation forms of single letters, by letter and context."""
    forms = {}
    for code in range(0xFE80, 0xFEF5):
        context, *letters = unicodedata.decomposition(chr(code)).split()
        if len(letters) == 1:
            forms[chr(int(letters[0], 16)), context.strip("<>")] = chr(code)
    return forms


#: Kinds of noise by name.
NOISE: Mapping[str, Noise] = {
    "vowel_signs": vowel_signs,
    "tatweel": tatweel,
    "direction_marks": direction_marks,
    "presentation_forms": presentation_forms,
    "no_hamza": no_hamza,
    "alef_maqsura": alef_maqsura,
    "ta_marbuta": ta_marbuta,
    "no_punctuation": no_punctuation,
    "doubled_spaces": doubled_spaces,
    "lost_spaces": lost_spaces,
}


def add_noise(document: Document, kinds: Iterable[str], *, seed: str = "") -> Document:
    """Add noise to the text of a document, and move its names along.

    Args:
        document: the document; its id and metadata stay.
        kinds: keys of :data:`NOISE`, applied one after the other.
        seed: random noise depends on this, the id and the kind.

    Returns:
        The document with its noisy text. A name of which nothing is left is left out.
    """
    for kind in kinds:
        characters = NOISE[kind](document.text, random.Random(f"{kind} {seed} {document.id}"))
        offsets = list(accumulate(map(len, characters), initial=0))
        document = Document(
            document.id,
            "".join(characters),
            tuple(_move(document.spans, offsets)),
            tuple(_move(document.nested, offsets)),
            document.meta,
        )
    return document


def _move(spans: Iterable[Span], offsets: list[int]) -> Iterator[Span]:
    """Yield the spans at new offsets, by character, without the empty ones."""
    for span in spans:
        start, end = offsets[span.start], offsets[span.end]
        if start < end:
            yield replace(span, start=start, end=end)
