"""Repair of imported spans: invalid borders, duplicates and overlaps are mended, and every change is audited."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from musamma.data.document import Document, Span, parse_spans
from musamma.data.errors import InputError
from musamma.data.import_audit import FINDING_KINDS, ImportAudit


@dataclass(frozen=True, slots=True)
class CandidateSpan:
    """A span as it stands in a file, valid or not.

    Args:
        start, end, label, score: as in :class:`Span`.
        where: file and line of the annotation, if it has its own.
        issue: a kind of audit finding that the reader noticed; a kind of the category ``dropped`` drops the span.
        detail: the issue in words.
    """

    start: int
    end: int
    label: str
    score: float | None = None
    where: str = ""
    issue: str | None = None
    detail: str = ""

    @property
    def key(self) -> tuple[int, int, str]:
        """Start, end and label."""
        return self.start, self.end, self.label


@dataclass(frozen=True, slots=True)
class RawDocument:
    """A document as it stands in a file.

    Args:
        id, text, meta: as in :class:`Document`.
        spans: the spans.
        nested: the spans that the file marks as nested.
        where: file and line.
    """

    id: str
    text: str
    spans: tuple[CandidateSpan, ...] = ()
    nested: tuple[CandidateSpan, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    @classmethod
    def from_document(cls, document: Document, *, where: str) -> RawDocument:
        """Wrap a valid document, so that it is audited like any other."""
        spans, nested = map(_to_candidates, (document.spans, document.nested))
        return cls(document.id, document.text, spans, nested, document.meta, where)

    @classmethod
    def from_dict(cls, record: Any, *, where: str) -> RawDocument:
        """Convert a JSON object like that of :meth:`Document.from_dict`, whose spans may be invalid.

        Raises:
            InputError: a key is unknown, missing or has the wrong type.
        """
        keys = ("spans", "nested")
        without_spans = (
            {key: value for key, value in record.items() if key not in keys} if isinstance(record, dict) else record
        )
        document = Document.from_dict(without_spans, where=where)
        spans, nested = (
            _to_candidates(parse_spans(record.get(key), key, where, label_with_spaces=True)) for key in keys
        )
        return cls(document.id, document.text, spans, nested, document.meta, where)


def repair_spans(raw: RawDocument, *, overlaps: str, audit: ImportAudit) -> Document:
    """Build the valid document of a raw one.

    White space at the borders is removed. A span outside the text or without visible characters is dropped. Duplicates are
    merged.

    Args:
        raw: the raw document.
        overlaps: treatment of overlapping spans. ``error`` raises. ``longest`` keeps the longest (of equally long ones the
            first) and drops the others. ``nested`` moves spans inside a retained one to ``nested`` and drops spans that cross a
            retained one.
        audit: counts the changes.

    Raises:
        InputError: spans overlap and ``overlaps`` is ``error``.
    """
    audit.documents += 1
    audit.spans += len(raw.spans) + len(raw.nested)
    seen: set[tuple[int, int, str]] = set()
    spans = _snap_and_merge(raw, raw.spans, seen, audit)
    nested = _snap_and_merge(raw, raw.nested, seen, audit)
    outer, inner = _resolve_overlaps(raw, spans, overlaps, audit)
    inner += _place_nested(raw, outer, nested, audit)
    for name in (*outer, *inner):
        if name.issue is None:
            audit.exact += 1
        else:
            _report(raw, name, name.issue, name.detail, audit)
    return Document(raw.id, raw.text, _to_spans(outer), _to_spans(inner), raw.meta)


def split_nested(spans: Iterable[Span]) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Separate outermost spans from those that lie inside or cross an earlier one."""
    outer: list[Span] = []
    inner: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        (inner if outer and span.start < outer[-1].end else outer).append(span)
    return tuple(outer), tuple(inner)


def _to_candidates(spans: Iterable[Span]) -> tuple[CandidateSpan, ...]:
    return tuple(CandidateSpan(span.start, span.end, span.label, span.score) for span in spans)


def _to_spans(candidates: Sequence[CandidateSpan]) -> tuple[Span, ...]:
    return tuple(Span(c.start, c.end, c.label, c.score) for c in candidates)


def _report(raw: RawDocument, name: CandidateSpan, kind: str, detail: str, audit: ImportAudit) -> None:
    start, end = max(0, name.start), max(0, min(name.end, name.start + 60))
    described = f"[{name.start}, {name.end}) {name.label} {raw.text[start:end]!r}: {detail}"
    audit.add(kind, document=raw.id, where=name.where or raw.where, detail=described)


def _snap_and_merge(
    raw: RawDocument, candidates: Sequence[CandidateSpan], seen: set[tuple[int, int, str]], audit: ImportAudit
) -> list[CandidateSpan]:
    """Return the candidates with visible characters, without white space at the borders, each once. Adds to ``seen``."""
    unique = []
    for candidate in candidates:
        name = _snap(raw, candidate, audit)
        if name is None:
            continue
        if name.key in seen:
            _report(raw, name, "duplicate", "came before", audit)
            continue
        seen.add(name.key)
        unique.append(name)
    return unique


def _snap(raw: RawDocument, name: CandidateSpan, audit: ImportAudit) -> CandidateSpan | None:
    if name.issue is not None and FINDING_KINDS[name.issue] == "dropped":
        _report(raw, name, name.issue, name.detail, audit)
        return None
    if not 0 <= name.start <= name.end <= len(raw.text):
        reason = "reversed" if name.start > name.end else f"not within the text's {len(raw.text)} characters"
        _report(raw, name, "outside", reason, audit)
        return None
    surface = raw.text[name.start : name.end]
    if not surface.strip():
        _report(raw, name, "empty", "no characters but whitespace", audit)
        return None
    start = name.end - len(surface.lstrip())
    end = start + len(surface.strip())
    if (start, end) == (name.start, name.end):
        return name
    # A span counts once, even with two issues; the one that the reader noticed is more serious, so it counts.
    issue, detail = name.issue or "whitespace", name.detail or f"was [{name.start}, {name.end}), with whitespace"
    return replace(name, start=start, end=end, issue=issue, detail=detail)


def _resolve_overlaps(
    raw: RawDocument, names: Sequence[CandidateSpan], overlaps: str, audit: ImportAudit
) -> tuple[list[CandidateSpan], list[CandidateSpan]]:
    """Return the spans to retain, which do not overlap, longer ones chosen first; and those moved to ``nested``."""
    retained: list[CandidateSpan] = []
    moved: list[CandidateSpan] = []
    for name in sorted(names, key=_longest_first):
        rival, position = _find_overlap(retained, name)
        if rival is None:
            retained.insert(position, name)
            continue
        described = f"[{rival.start}, {rival.end}) {rival.label} {raw.text[rival.start : rival.end]!r}"
        if overlaps == "error":
            surface = raw.text[name.start : name.end]
            raise InputError(
                f"spans [{name.start}, {name.end}) {name.label} {surface!r} and {described} overlap",
                where=", ".join(filter(None, (name.where or raw.where, f"document {raw.id!r}"))),
                expected="spans without overlap",
                remedy="keep one of them with `overlaps='longest'`, or both with `overlaps='nested'`",
            )
        if overlaps == "nested" and _is_inside(name, rival):
            moved.append(name)
            _report(raw, name, "nested", f"inside {described}", audit)
        else:
            kind = "overlap" if overlaps == "longest" else "crossing"
            _report(raw, name, kind, f"overlaps {described}", audit)
    return retained, moved


def _place_nested(
    raw: RawDocument, outer: list[CandidateSpan], nested: Sequence[CandidateSpan], audit: ImportAudit
) -> list[CandidateSpan]:
    """Return the nested names inside an outer one. Add a name without an outer one to ``outer``; drop a crossing one."""
    inner = []
    for name in sorted(nested, key=_longest_first):
        rival, position = _find_overlap(outer, name)
        if rival is None:
            outer.insert(position, name)
            _report(raw, name, "promoted", "marked as nested, but not inside a name", audit)
        elif _is_inside(name, rival):
            inner.append(name)
        else:
            _report(raw, name, "crossing", "marked as nested, but crosses a name", audit)
    return inner


def _longest_first(name: CandidateSpan) -> tuple[int, int]:
    return name.start - name.end, name.start


def _find_overlap(names: Sequence[CandidateSpan], name: CandidateSpan) -> tuple[CandidateSpan | None, int]:
    """Return the first of ``names`` that overlaps ``name``, and the position of ``name`` among them.

    ``names`` are sorted and do not overlap each other.
    """
    position = bisect_right(names, name.start, key=lambda other: other.start)
    neighbours = names[max(0, position - 1) : position + 1]
    return next((n for n in neighbours if n.start < name.end and name.start < n.end), None), position


def _is_inside(name: CandidateSpan, outer: CandidateSpan) -> bool:
    return outer.start <= name.start and name.end <= outer.end
