"""Spans of exports that give the surface of each name, which shows the unit of their offsets.

Programs in a browser or in Java count UTF-16 units, in which most emoji count twice. The offsets of a text are read in code
points, or in UTF-16 units if more of its surfaces are found there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from musamma.data.import_audit import ImportAudit
from musamma.data.offset_units import TextOffsets
from musamma.data.span_repair import CandidateSpan


@dataclass(frozen=True, slots=True)
class SurfaceSpan:
    """A span of a file with its surface.

    Args:
        start, end: the borders, in the unit of the file.
        label: the label.
        surface: the characters of the name, as the file gives them; ``None`` if it does not.
        where: file and line.
    """

    start: int
    end: int
    label: str
    surface: str | None
    where: str


def read_surface_spans(
    text: str, spans: Sequence[SurfaceSpan], *, document: str, where: str, audit: ImportAudit
) -> tuple[CandidateSpan, ...]:
    """Convert the spans of a text to code points; one whose surface is not found at its offsets has an issue.

    Args:
        text: the text.
        spans: its spans.
        document: the document's id.
        where: file and line of the text.
        audit: a text whose offsets are UTF-16 units is counted.
    """
    candidates = [_build_candidate(text, span, span.start, span.end) for span in spans]
    if not any(candidate.issue for candidate in candidates):
        return tuple(candidates)
    offsets = TextOffsets(text, "utf16")

    def to_code_points(offset: int) -> int:
        point = offsets.to_code_points(offset)
        # An offset inside a character is put outside the text, so that the span is dropped and counted.
        return len(text) + 1 if point is None else point

    converted = [_build_candidate(text, span, to_code_points(span.start), to_code_points(span.end)) for span in spans]
    if _count_issues(converted) >= _count_issues(candidates):
        return tuple(candidates)
    detail = "offsets are UTF-16 units, as the surfaces show"
    audit.add("converted_offsets", document=document, where=where, detail=detail)
    return tuple(converted)


def _build_candidate(text: str, span: SurfaceSpan, start: int, end: int) -> CandidateSpan:
    issue, detail = None, ""
    if span.surface is not None and not (0 <= start <= end <= len(text) and text[start:end] == span.surface):
        issue, detail = "surface_mismatch", f"the file says {span.surface[:40]!r}"
    return CandidateSpan(start, end, span.label, None, span.where, issue, detail)


def _count_issues(candidates: Sequence[CandidateSpan]) -> int:
    return sum(candidate.issue is not None for candidate in candidates)
