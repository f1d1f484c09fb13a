"""The account of an import: what became of every span that a file held, and of every tag, mark and field that was not kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from musamma.data.errors import ThresholdError

#: What a finding means for the spans. Categories: ``dropped`` (the span is gone), ``snapped`` (kept with other borders),
#: ``doubtful`` (kept, but the file contradicts itself), ``overlapping`` (kept as a nested name), ``merged`` (came twice),
#: ``note`` (no span was touched).
FINDING_KINDS: dict[str, str] = {
    "outside": "dropped",
    "empty": "dropped",
    "overlap": "dropped",
    "crossing": "dropped",
    "split_character": "dropped",
    "discontinuous_dropped": "dropped",
    "unmapped": "note",
    "token_taken": "dropped",
    "no_token": "dropped",
    "whitespace": "snapped",
    "discontinuous": "snapped",
    "surface_mismatch": "doubtful",
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
    "clitic_joined": "note",
    "clitic_apart": "note",
    "clitic_respelt": "note",
    "proclitic_outside": "note",
    "widened": "note",
    "lost_nested": "note",
    "lost_score": "note",
    "lost_meta": "note",
    "lost_id": "note",
}
LOSS_CATEGORIES = ("dropped", "snapped", "doubtful")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an import met.

    Args:
        kind: a key of :data:`FINDING_KINDS`.
        document: the document's id, empty where there is none yet.
        where: file and line, as far as known.
        detail: what was found, with offsets and surface.
    """

    kind: str
    document: str
    where: str
    detail: str

    def to_dict(self) -> dict[str, str]:
        """The finding as a JSON object."""
        return {"kind": self.kind, "document": self.document, "where": self.where, "detail": self.detail}


@dataclass
class ImportAudit:
    """Counts and examples of one import, filled while it is streamed.

    Args:
        source: what was read.
        limit: how many findings of a kind are listed; all are counted.
        documents: documents that came out.
        spans: annotated spans that the file held, nested ones included.
        exact: spans kept as they were.
    """

    source: str = ""
    limit: int = 1000
    documents: int = 0
    spans: int = 0
    exact: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: str, *, document: str = "", where: str = "", detail: str = "", count: int = 1) -> None:
        """Count ``kind``; a finding with a ``detail`` is listed, too."""
        if kind not in FINDING_KINDS:
            raise KeyError(kind)
        if not count:
            return
        if detail and self.kinds[kind] < self.limit:
            self.findings.append(Finding(kind, document, where, detail))
        self.kinds[kind] += count

    def category(self, name: str) -> int:
        """How many findings are of a category."""
        return sum(count for kind, count in self.kinds.items() if FINDING_KINDS[kind] == name)

    @property
    def lost(self) -> int:
        """Spans dropped, snapped or doubtful."""
        return sum(map(self.category, LOSS_CATEGORIES))

    @property
    def loss(self) -> float:
        """Share of the file's spans that was dropped, snapped or is doubtful, in [0, 1]."""
        return self.lost / self.spans if self.spans else 0.0

    def check_loss(self, max_loss: float) -> None:
        """Fail where more was lost than the user allows.

        Raises:
            ThresholdError: :attr:`loss` is above ``max_loss``; names the counts and a first example.
        """
        if self.loss <= max_loss:
            return
        counts = ", ".join(f"{self.category(name)} {name}" for name in LOSS_CATEGORIES if self.category(name))
        first = next((f for f in self.findings if FINDING_KINDS[f.kind] in LOSS_CATEGORIES), None)
        example = f"; first: {first.where or first.document}: {first.detail}" if first else ""
        raise ThresholdError(
            f"{self.source or 'input'}: {self.lost} of {self.spans} spans ({self.loss:.2%}) were not kept as they are "
            f"({counts}), above --max-loss {max_loss:g}{example}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The audit as a JSON object."""
        return {
            "source": self.source,
            "documents": self.documents,
            "spans": self.spans,
            "exact": self.exact,
            **{name: self.category(name) for name in ("snapped", "dropped", "doubtful", "overlapping", "merged")},
            "loss": self.loss,
            "kinds": dict(sorted(self.kinds.items())),
            "findings": [finding.to_dict() for finding in self.findings],
        }
