"""Characters that cannot be seen, or that turn the text around them, shown by name wherever a text is printed.

None of them reaches a page: a bidi override in a document shows as the marker ``RLO`` and reorders nothing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import regex
from markupsafe import Markup, escape

# Kept: what breaks and spaces lines, what joins letters and emoji, and the signs that stand over Arabic numbers.
_INVISIBLE = r"[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]--[\u200D\p{Prepended_Concatenation_Mark}]"
_HIDDEN_OR_BREAK = regex.compile(rf"[{_INVISIBLE}]", regex.VERSION1)
_HIDDEN = regex.compile(rf"[{_INVISIBLE}--[\n\t]]", regex.VERSION1)

_SHORT = {
    "\x00": "NUL", "\t": "TAB", "\n": "↵", "\r": "CR", "\u00ad": "SHY", "\u061c": "ALM", "\u200b": "ZWSP",
    "\u200c": "ZWNJ", "\u200e": "LRM", "\u200f": "RLM", "\u2028": "LS", "\u2029": "PS", "\u202a": "LRE",
    "\u202b": "RLE", "\u202c": "PDF", "\u202d": "LRO", "\u202e": "RLO", "\u2060": "WJ", "\u2066": "LRI",
    "\u2067": "RLI", "\u2068": "FSI", "\u2069": "PDI", "\ufeff": "BOM",
}  # fmt: skip

_MARKER = Markup('<i class="control" title="{}" data-mark="{}"></i>')


def running(text: str) -> Markup:
    """A text for the inside of an element that keeps line breaks: escaped, hidden characters as markers."""
    return Markup("").join(_marked(text, breaks=False))


def broken(text: str) -> Markup:
    """The same for a name, in which a line break is worth a marker, too; the break itself stays."""
    return Markup("").join(_marked(text, breaks=True))


def inline(text: str) -> Markup:
    """A text for a line or a table cell: escaped, hidden characters and line breaks as markers, isolated by ``<bdi>``."""
    return Markup('<bdi dir="auto">{}</bdi>').format(broken(text))


def plain(text: str) -> str:
    """A text for an attribute, a title or Markdown: hidden characters as ``‹U+202E›``, white space as single spaces."""
    return " ".join(_HIDDEN.sub(lambda found: f"‹{_code(found[0])}›", text).split())


def _marked(text: str, *, breaks: bool) -> Iterator[Markup]:
    begin = 0
    for found in (_HIDDEN_OR_BREAK if breaks else _HIDDEN).finditer(text):
        character = found[0]
        yield escape(text[begin : found.start()])
        yield _MARKER.format(_title(character), _SHORT.get(character, _code(character)))
        begin = found.start() if character in "\n\t" else found.end()
    yield escape(text[begin:])


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"


def _title(character: str) -> str:
    return f"{_code(character)} {unicodedata.name(character, 'control character').lower()}"
