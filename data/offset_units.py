"""Units of offsets: code points as in Python, UTF-16 code units as in JavaScript, grapheme clusters.

Annotation tools that run in a browser count UTF-16 units, in which a character beyond U+FFFF, such as most emoji, counts twice.
doccano counts extended grapheme clusters (Unicode Standard Annex 29) if a project says so: a letter with its vowel marks, an emoji
of several code points or a CR LF count once. The offsets of the project itself are code points.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from typing import Literal, get_args

import regex

from musamma.data.arabic import is_proclitic
from musamma.data.document import Document
from musamma.data.import_audit import ImportAudit
from musamma.data.span_repair import CandidateSpan

OffsetUnit = Literal["code-points", "utf16", "graphemes"]
OFFSET_UNITS: tuple[OffsetUnit, ...] = get_args(OffsetUnit)

_CLUSTER = regex.compile(r"\X")
# Characters of two UTF-16 units.
_TWO_UNITS = re.compile("[\U00010000-\U0010ffff]")
_UNIT_NAMES = {"code-points": "code points", "utf16": "UTF-16 units", "graphemes": "grapheme clusters"}


class TextOffsets:
    """Converts the offsets of a text between a unit and code points.

    Args:
        text: the text.
        unit: the unit.
        rivals: units that fit a file as well as ``unit``; a span that one of them reads differently is doubtful.
    """

    def __init__(self, text: str, unit: OffsetUnit, rivals: Iterable[OffsetUnit] = ()) -> None:
        self.unit = unit
        self._rivals = tuple(TextOffsets(text, rival) for rival in rivals)
        self._length = len(text)
        # Of the characters of two UTF-16 units, the offsets in code points and those of their second units.
        self._two_units = [match.start() for match in _TWO_UNITS.finditer(text)] if unit == "utf16" else []
        self._second_units = [start + index + 1 for index, start in enumerate(self._two_units)]
        # The borders of the clusters in code points, if there is a cluster of several.
        self._borders: list[int] | None = None
        if unit == "graphemes":
            borders = [match.start() for match in _CLUSTER.finditer(text)]
            if len(borders) < len(text):
                self._borders = [*borders, len(text)]

    def to_code_points(self, offset: int) -> int | None:
        """Convert an offset to code points.

        Returns:
            The offset in code points, or ``None`` inside a character. An offset outside the text stays outside.
        """
        if offset < 0:
            return offset
        if self._borders is not None:
            last = len(self._borders) - 1
            return self._borders[offset] if offset <= last else self._length + offset - last
        before = bisect_left(self._second_units, offset)
        if before < len(self._second_units) and self._second_units[before] == offset:
            return None
        return offset - before

    def from_code_points(self, start: int, end: int) -> tuple[int, int]:
        """Convert a span's borders from code points; one inside a grapheme cluster is moved to the outside of the cluster."""
        if self._borders is not None:
            return bisect_right(self._borders, start) - 1, bisect_left(self._borders, end)
        return start + bisect_left(self._two_units, start), end + bisect_left(self._two_units, end)

    def read_span(self, start: int, end: int, label: str, *, where: str = "") -> CandidateSpan:
        """Convert a span of a file; one with a border inside a character, or that depends on the choice of the unit, has an issue.

        Args:
            start, end: the borders, in the unit.
            label: the label.
            where: file and line.
        """
        first, last = self.to_code_points(start), self.to_code_points(end)
        if first is None or last is None:
            detail = f"the offsets [{start}, {end}) in {_UNIT_NAMES[self.unit]} lie inside a character"
            return CandidateSpan(0, 0, label, None, where, "split_character", detail)
        for rival in self._rivals:
            if (rival.to_code_points(start), rival.to_code_points(end)) != (first, last):
                detail = f"another span in {_UNIT_NAMES[rival.unit]}, which fit the words of the file as well"
                return CandidateSpan(first, last, label, None, where, "doubtful_offsets", detail)
        return CandidateSpan(first, last, label, None, where)

    def count_moved_borders(self, document: Document, audit: ImportAudit) -> None:
        """Count the spans of a document of this text that the unit cannot express."""
        for span in document.all_spans if self._borders is not None else ():
            if not (self._is_border(span.start) and self._is_border(span.end)):
                detail = f"{document.describe(span)}: a border inside a grapheme cluster is moved to its outside"
                audit.add_in_writing("split_cluster", document=document.id, detail=detail)

    def _is_border(self, offset: int) -> bool:
        borders = self._borders or []
        index = bisect_left(borders, offset)
        return index < len(borders) and borders[index] == offset


# A file in the wrong unit asks for every span of a text.
_cached_offsets = lru_cache(maxsize=len(OFFSET_UNITS))(TextOffsets)


def describe_fitting_unit(text: str, start: int, end: int, surface: str) -> str:
    """Describe the unit in which the offsets of a span are those of its surface; empty if there is none."""
    for unit in OFFSET_UNITS:
        offsets = _cached_offsets(text, unit)
        first, last = offsets.to_code_points(start), offsets.to_code_points(end)
        if first is not None and last is not None and 0 <= first <= last and text[first:last] == surface:
            return f", which fits offsets in {_UNIT_NAMES[unit]}"
    return ""


def fits_words(text: str, start: int, end: int) -> bool:
    """Tell whether a span is in the text, has no white space at its borders and cuts no word.

    Letters before a name in its word may be proclitics.

    Args:
        text: the text.
        start, end: the borders, in code points.
    """
    if not 0 <= start < end <= len(text) or text[start].isspace() or text[end - 1].isspace():
        return False
    if end < len(text) and _is_word_character(text[end - 1]) and _is_word_character(text[end]):
        return False
    if start == 0 or not (_is_word_character(text[start - 1]) and _is_word_character(text[start])):
        return True
    if unicodedata.category(text[start])[0] == "M":
        return False
    word = start
    while word and start - word < _LONGEST_PROCLITICS and _is_word_character(text[word - 1]):
        word -= 1
    return is_proclitic(text[word:start])


# Two letters with vowel marks, and one more character, with which they are no proclitics.
_LONGEST_PROCLITICS = 9


def _is_word_character(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


@dataclass(slots=True)
class UnitEvidence:
    """Spans of a file read in every unit, from which the unit of the file can be told.

    Attributes:
        spans: number of spans that are not the same in all units.
        misfits: number of these spans, by unit, that do not fit the words of the text.
        differing: pairs of units that read a span differently.
    """

    spans: int = 0
    misfits: Counter[OffsetUnit] = field(default_factory=Counter)
    differing: set[frozenset[OffsetUnit]] = field(default_factory=set)

    def add(self, text: str, offsets: Iterable[tuple[int, int]]) -> None:
        """Add the spans of a text, whose offsets are in the file's unit."""
        if text.isascii() and "\r\n" not in text:
            return
        tables = {unit: TextOffsets(text, unit) for unit in OFFSET_UNITS}
        for start, end in offsets:
            spans = {unit: (table.to_code_points(start), table.to_code_points(end)) for unit, table in tables.items()}
            if len(set(spans.values())) == 1:
                continue
            self.spans += 1
            for unit, (first, last) in spans.items():
                self.misfits[unit] += first is None or last is None or not fits_words(text, first, last)
            pairs = combinations(OFFSET_UNITS, 2)
            self.differing.update(frozenset(pair) for pair in pairs if spans[pair[0]] != spans[pair[1]])

    def choose(self, default: OffsetUnit) -> tuple[OffsetUnit, str, tuple[OffsetUnit, ...]]:
        """Choose the unit in which the fewest spans misfit.

        Args:
            default: the unit of the tool, preferred among equals.

        Returns:
            The unit, the reason, and the other units that fit as well and read some spans differently.
        """
        if not self.spans:
            return default, "every unit gives the same spans", ()
        chosen = min(OFFSET_UNITS, key=lambda unit: (self.misfits[unit], unit != default))
        counts = ", ".join(f"{self.misfits[unit]} in {_UNIT_NAMES[unit]}" for unit in OFFSET_UNITS)
        reason = f"of {self.spans} spans that depend on the unit, those that do not fit the words: {counts}"
        rivals = (unit for unit in OFFSET_UNITS if unit != chosen and self.misfits[unit] == self.misfits[chosen])
        return chosen, reason, tuple(unit for unit in rivals if frozenset((chosen, unit)) in self.differing)
