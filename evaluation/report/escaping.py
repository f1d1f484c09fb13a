"""Escape texts from documents for HTML and plain text.

Invisible characters and characters that change the direction of text are shown by name: a bidi override in a document
becomes the marker ``RLO`` and reorders nothing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import regex
from markupsafe import Markup, escape

# Retained: line breaks, tabs and spaces; the zero-width joiner, for letters and emoji; signs above Arabic numbers.
_INVISIBLE = r"[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]--[\u200D\p{Prepended_Concatenation_Mark}]"
_HIDDEN_OR_BREAK = regex.compile(rf"[{_INVISIBLE}]", regex.VERSION1)
_HIDDEN = regex.compile(rf"[{_INVISIBLE}--[\n\t]]", regex.VERSION1)

_SHORT_NAMES = {
    "\x00": "NUL", "\t": "TAB", "\n": "↵", "\r": "CR", "\u00ad": "SHY", "\u061c": "ALM", "\u200b": "ZWSP",
    "\u200c": "ZWNJ", "\u200e": "LRM", "\u200f": "RLM", "\u2028": "LS", "\u2029": "PS", "\u202a": "LRE",
    "\u202b": "RLE", "\u202c": "PDF", "\u202d": "LRO", "\u202e": "RLO", "\u2060": "WJ", "\u2066": "LRI",
    "\u2067": "RLI", "\u2068": "FSI", "\u2069": "PDI", "\ufeff": "BOM",
}  # fmt: skip

_MARKER = Markup('<i class="control" title="{}" data-mark="{}"></i>')


def escape_block(text: str) -> Markup:
    """Escape text for an element that keeps line breaks; hidden characters become markers."""
    return Markup("").join(_insert_markers(text, breaks=False))


def escape_name(text: str) -> Markup:
    """Escape a name as :func:`escape_block` does, with a marker before each line break as well."""
    return Markup("").join(_insert_markers(text, breaks=True))


def escape_inline(text: str) -> Markup:
    """Escape text for a line or table cell: hidden characters and line breaks become markers, ``<bdi>`` isolates it."""
    return Markup('<bdi dir="auto">{}</bdi>').format(escape_name(text))


def escape_plain(text: str) -> str:
    """Rewrite text for an attribute, a title or Markdown: hidden characters as ``‹U+202E›``, white space as one space."""
    return " ".join(_HIDDEN.sub(lambda match: f"‹{_code_point(match[0])}›", text).split())


def _insert_markers(text: str, *, breaks: bool) -> Iterator[Markup]:
    start = 0
    for match in (_HIDDEN_OR_BREAK if breaks else _HIDDEN).finditer(text):
        character = match[0]
        yield escape(text[start : match.start()])
        yield _MARKER.format(_title(character), _SHORT_NAMES.get(character, _code_point(character)))
        start = match.start() if character in "\n\t" else match.end()
    yield escape(text[start:])


def _code_point(character: str) -> str:
    return f"U+{ord(character):04X}"


def _title(character: str) -> str:
    return f"{_code_point(character)} {unicodedata.name(character, 'control character').lower()}"
