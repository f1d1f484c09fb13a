"""From the spans that a file claims to a valid document: borders, duplicates and overlaps, every change audited."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from musamma.data.document import Document, Span, parse_spans
from musamma.data.errors import InputError
from musamma.data.import_audit import FINDING_KINDS, ImportAudit

OVERLAPS = ("error", "longest", "nested")


@dataclass(frozen=True, slots=True)
class CandidateSpan:
    """A span as a file has it, true or not.

    Args:
        start, end, label, score: as in :class:`Span`.
        where: the annotation's own file and line, where it has one.
        issue: what the reader noticed, a kind of the audit; a kind of category ``dropped`` drops the span.
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
    """A document as a reader found it; ``nested`` holds spans that the file itself marks as inner ones."""

    id: str
    text: str
    spans: tuple[CandidateSpan, ...] = ()
    nested: tuple[CandidateSpan, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    @classmethod
    def of(cls, document: Document, *, where: str) -> RawDocument:
        """A valid document, to be audited like any other."""
        spans, nested = map(_candidates, (document.spans, document.nested))
        return cls(document.id, document.text, spans, nested, document.meta, where)

    @classmethod
    def from_dict(cls, record: Any, *, where: str) -> RawDocument:
        """Build a raw document from a JSON object like that of :meth:`Document.from_dict`; spans may be wrong.

        Raises:
            InputError: a key is unknown, missing or of another type.
        """
        keys = ("spans", "nested")
        bare = {key: value for key, value in record.items() if key not in keys} if isinstance(record, dict) else record
        document = Document.from_dict(bare, where=where)
        spans, nested = (_candidates(parse_spans(record.get(key), key, where, label_with_spaces=True)) for key in keys)
        return cls(document.id, document.text, spans, nested, document.meta, where)


def _candidates(spans: Iterable[Span]) -> tuple[CandidateSpan, ...]:
    return tuple(CandidateSpan(span.start, span.end, span.label, span.score) for span in spans)


def repair_spans(raw: RawDocument, *, overlaps: str, audit: ImportAudit) -> Document:
    """The valid document of a raw one.

    Whitespace at a border is snapped off, a span outside the text or without characters dropped, a duplicate merged.
    Of overlapping spans, ``overlaps`` says what happens: ``error`` fails; ``longest`` keeps the longest, of equal ones the
    first, and drops the others; ``nested`` moves those inside a kept span to ``nested`` and drops those that cross one.

    Raises:
        InputError: spans overlap and ``overlaps`` is ``error``.
    """
    audit.documents += 1
    audit.spans += len(raw.spans) + len(raw.nested)
    seen: dict[tuple[int, int, str], CandidateSpan] = {}
    spans = _unique(raw, raw.spans, seen, audit)
    nested = _unique(raw, raw.nested, seen, audit)
    kept, moved = _resolve(raw, spans, overlaps, audit)
    kept, inner = _place_nested(raw, kept, nested, audit)
    for name in (*kept, *moved, *inner):
        if name.issue is None:
            audit.exact += 1
        else:
            _report(raw, name, name.issue, name.detail, audit)
    return Document(raw.id, raw.text, _spans(kept), _spans([*moved, *inner]), raw.meta)


def split_nested(spans: Iterable[Span]) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Outermost spans, and those that lie inside or across an earlier one."""
    outer: list[Span] = []
    inner: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        (inner if outer and span.start < outer[-1].end else outer).append(span)
    return tuple(outer), tuple(inner)


def _spans(candidates: Sequence[CandidateSpan]) -> tuple[Span, ...]:
    return tuple(Span(c.start, c.end, c.label, c.score) for c in candidates)


def _report(raw: RawDocument, name: CandidateSpan, kind: str, detail: str, audit: ImportAudit) -> None:
    start, end = max(0, name.start), max(0, min(name.end, name.start + 60))
    described = f"[{name.start}, {name.end}) {name.label} {raw.text[start:end]!r}: {detail}"
    audit.add(kind, document=raw.id, where=name.where or raw.where, detail=described)


def _unique(
    raw: RawDocument,
    candidates: Sequence[CandidateSpan],
    seen: dict[tuple[int, int, str], CandidateSpan],
    audit: ImportAudit,
) -> list[CandidateSpan]:
    """The candidates with characters of their own, snapped, each once."""
    kept = []
    for given in candidates:
        name = _snap(raw, given, audit)
        if name is None:
            continue
        if name.key in seen:
            _report(raw, name, "duplicate", "came before", audit)
            continue
        seen[name.key] = name
        kept.append(name)
    return kept


def _snap(raw: RawDocument, name: CandidateSpan, audit: ImportAudit) -> CandidateSpan | None:
    if name.issue is not None and FINDING_KINDS[name.issue] == "dropped":
        _report(raw, name, name.issue, name.detail, audit)
        return None
    if not 0 <= name.start <= name.end <= len(raw.text):
        _report(raw, name, "outside", f"not within the text's {len(raw.text)} characters", audit)
        return None
    surface = raw.text[name.start : name.end]
    if not surface.strip():
        _report(raw, name, "empty", "no characters but whitespace", audit)
        return None
    start = name.end - len(surface.lstrip())
    end = start + len(surface.strip())
    if (start, end) == (name.start, name.end):
        return name
    # One span counts once, whatever is wrong with it; the reader's own finding is the graver one.
    issue, detail = name.issue or "whitespace", name.detail or f"was [{name.start}, {name.end}), with whitespace"
    return replace(name, start=start, end=end, issue=issue, detail=detail)


def _resolve(
    raw: RawDocument, names: Sequence[CandidateSpan], overlaps: str, audit: ImportAudit
) -> tuple[list[CandidateSpan], list[CandidateSpan]]:
    """Spans without overlap, longest first served, and those moved to ``nested``."""
    kept: list[CandidateSpan] = []
    moved: list[CandidateSpan] = []
    for name in sorted(names, key=lambda n: (n.start - n.end, n.start)):
        place = bisect_right(kept, name.start, key=lambda k: k.start)
        rivals = [k for k in kept[max(0, place - 1) : place + 1] if k.start < name.end and name.start < k.end]
        if not rivals:
            kept.insert(place, name)
            continue
        rival = rivals[0]
        described = f"[{rival.start}, {rival.end}) {rival.label} {raw.text[rival.start : rival.end]!r}"
        if overlaps == "error":
            surface = raw.text[name.start : name.end]
            raise InputError(
                f"spans [{name.start}, {name.end}) {name.label} {surface!r} and {described} overlap",
                where=", ".join(filter(None, (name.where or raw.where, f"document {raw.id!r}"))),
                expected="spans without overlap",
                remedy="choose what to keep with musamma convert --overlaps longest or nested",
            )
        if overlaps == "nested" and rival.start <= name.start and name.end <= rival.end:
            moved.append(name)
            _report(raw, name, "nested", f"inside {described}", audit)
        else:
            kind = "overlap" if overlaps == "longest" else "crossing"
            _report(raw, name, kind, f"overlaps {described}", audit)
    return kept, moved


def _place_nested(
    raw: RawDocument, kept: list[CandidateSpan], nested: Sequence[CandidateSpan], audit: ImportAudit
) -> tuple[list[CandidateSpan], list[CandidateSpan]]:
    """Nested names stay inside a kept span; one whose outer name is gone becomes a span itself."""
    inner = []
    for name in sorted(nested, key=lambda n: (n.start - n.end, n.start)):
        place = bisect_right(kept, name.start, key=lambda k: k.start)
        rivals = [k for k in kept[max(0, place - 1) : place + 1] if k.start < name.end and name.start < k.end]
        if not rivals:
            kept.insert(place, name)
            _report(raw, name, "promoted", "marked as nested, but in no name", audit)
        elif rivals[0].start <= name.start and name.end <= rivals[0].end:
            inner.append(name)
        else:
            _report(raw, name, "crossing", "marked as nested, but crosses a name", audit)
    return kept, inner
