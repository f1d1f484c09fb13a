"""The audit of an import: what happened to every span of a file, and which other information was not kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from musamma.data.errors import ThresholdError

#: Kinds of findings, and the category of each: ``dropped`` (the span was removed), ``snapped`` (its borders were changed),
#: ``doubtful`` (kept, but the file contradicts itself), ``overlapping`` (kept as a nested name), ``merged`` (a duplicate) or
#: ``note`` (no span was changed).
FINDING_KINDS: dict[str, str] = {
    "outside": "dropped",
    "empty": "dropped",
    "overlap": "dropped",
    "crossing": "dropped",
    "split_character": "dropped",
    "discontinuous_dropped": "dropped",
    "unread_annotation": "dropped",
    "other_text": "dropped",
    "no_label": "dropped",
    "empty_name": "dropped",
    "unmapped": "note",
    "token_taken": "dropped",
    "no_token": "dropped",
    "whitespace": "snapped",
    "discontinuous": "snapped",
    "split_cluster": "snapped",
    "surface_mismatch": "doubtful",
    "doubtful_offsets": "doubtful",
    "nested": "overlapping",
    "promoted": "note",
    "duplicate": "merged",
    "duplicate_id": "note",
    "repaired_tag": "note",
    "missing_tag": "note",
    "direction_mark": "note",
    "empty_token": "note",
    "comment_line": "note",
    "ignored_column": "note",
    "ignored_annotation": "note",
    "no_annotation": "note",
    "prediction_taken": "note",
    "not_accepted": "note",
    "partial_annotation": "note",
    "converted_offsets": "note",
    "clitic_joined": "note",
    "clitic_apart": "note",
    "clitic_respelt": "note",
    "proclitic_outside": "note",
    "widened": "snapped",
    "lost_nested": "dropped",
    "lost_score": "note",
    "lost_meta": "note",
    "lost_id": "note",
    "lost_rule": "note",
}
#: Categories that count as a loss.
LOSS_CATEGORIES = ("dropped", "snapped", "doubtful")


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of an import.

    Args:
        kind: a key of :data:`FINDING_KINDS`.
        document: the document's id; empty if there is no document yet.
        where: file and line, as far as known.
        detail: the finding in words, with offsets and surface.
    """

    kind: str
    document: str
    where: str
    detail: str

    @property
    def is_loss(self) -> bool:
        """True if a span was dropped or snapped, or is doubtful."""
        return FINDING_KINDS[self.kind] in LOSS_CATEGORIES

    def describe(self) -> str:
        """Describe the finding for a message: its place and detail."""
        return f"{self.where or self.document}: {self.detail}"

    def to_dict(self) -> dict[str, str]:
        """Convert to a JSON object."""
        return {"kind": self.kind, "document": self.document, "where": self.where, "detail": self.detail}


@dataclass
class ImportAudit:
    """Counts and examples of the findings of an import, updated while the documents are read.

    Args:
        source: what is read.
        limit: maximum number of findings of a kind that are listed; all are counted.
        documents: number of documents.
        spans: number of annotated spans in the file, nested ones included.
        exact: number of spans kept unchanged, in the output too where one is written.
        offset_unit: the unit of the file's offsets, if the format leaves a choice.
        offset_reason: the reason it was taken.
    """

    source: str = ""
    limit: int = 1000
    documents: int = 0
    spans: int = 0
    exact: int = 0
    offset_unit: str = ""
    offset_reason: str = ""
    kinds: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: str, *, document: str = "", where: str = "", detail: str = "", count: int = 1) -> None:
        """Count a finding, and list it if it has a ``detail``."""
        if kind not in FINDING_KINDS:
            raise KeyError(kind)
        if not count:
            return
        if detail and self.kinds[kind] < self.limit:
            self.findings.append(Finding(kind, document, where, detail))
        self.kinds[kind] += count

    def add_in_writing(
        self, kind: str, *, document: str = "", where: str = "", detail: str = "", count: int = 1
    ) -> None:
        """Count a finding about spans that are being written. One that drops or changes them reduces the number of exact ones."""
        self.add(kind, document=document, where=where, detail=detail, count=count)
        if FINDING_KINDS[kind] in LOSS_CATEGORIES:
            self.exact = max(0, self.exact - count)

    def count_category(self, category: str) -> int:
        """Number of findings of a category."""
        return sum(count for kind, count in self.kinds.items() if FINDING_KINDS[kind] == category)

    def find_examples(self, kind: str) -> list[Finding]:
        """The listed findings of a kind."""
        return [finding for finding in self.findings if finding.kind == kind]

    @property
    def lost(self) -> int:
        """Number of spans dropped, snapped or doubtful."""
        return sum(map(self.count_category, LOSS_CATEGORIES))

    @property
    def loss(self) -> float:
        """Share of the file's spans that were dropped or snapped or are doubtful, in [0, 1]."""
        return self.lost / self.spans if self.spans else 0.0

    def check_loss(self, max_loss: float) -> None:
        """Check that the loss is at most ``max_loss``.

        Raises:
            ThresholdError: :attr:`loss` is larger; names the counts and a first example.
        """
        if self.loss <= max_loss:
            return
        counts = [(self.count_category(category), category) for category in LOSS_CATEGORIES]
        listed = ", ".join(f"{count} {category}" for count, category in counts if count)
        first = next((finding for finding in self.findings if finding.is_loss), None)
        example = f"; first: {first.describe()}" if first else ""
        raise ThresholdError(
            f"{self.source or 'input'}: {self.lost} of {self.spans} spans ({self.loss:.2%}) were not kept as they are "
            f"({listed}), above `max_loss={max_loss:g}`{example}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON object."""
        offsets = {"offsets": {"unit": self.offset_unit, "reason": self.offset_reason}} if self.offset_unit else {}
        return {
            "source": self.source,
            "documents": self.documents,
            "spans": self.spans,
            "exact": self.exact,
            **offsets,
            **{name: self.count_category(name) for name in ("snapped", "dropped", "doubtful", "overlapping", "merged")},
            "loss": self.loss,
            "kinds": dict(sorted(self.kinds.items())),
            "findings": [finding.to_dict() for finding in self.findings],
        }
