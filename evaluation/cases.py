"""What became of every name: each gold and each predicted name in one case, alone or paired with the name it was taken for."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from musamma.data.document import Document, Span
from musamma.data.words import PROCLITICS, is_letter

CORRECT, LABEL, PROCLITIC, BORDER, LABEL_AND_BORDER = "correct", "label", "proclitic", "border", "label_and_border"
MISSED, SPURIOUS = "missed", "spurious"

#: The kinds of case, from right to wrong; of two possible partners a name takes the one whose kind comes first.
KINDS = (CORRECT, LABEL, PROCLITIC, BORDER, LABEL_AND_BORDER, MISSED, SPURIOUS)


@dataclass(frozen=True, slots=True)
class Case:
    """A gold name and the predicted name that was paired with it; one of them is ``None`` where there is no partner.

    Args:
        document: the document's id.
        kind: one of :data:`KINDS`. ``proclitic``: right but for proclitic letters at the start; ``border``: the right
            label, sharing a character; ``label``: the right borders.
        gold: the annotated name.
        predicted: the predicted name.
    """

    document: str
    kind: str
    gold: Span | None
    predicted: Span | None

    @property
    def position(self) -> int:
        """Where the case begins in the text."""
        return min(span.start for span in (self.gold, self.predicted) if span is not None)

    def to_dict(self) -> dict[str, Any]:
        """The case as a JSON object."""
        sides = {"gold": self.gold, "predicted": self.predicted}
        return {
            "document": self.document,
            "kind": self.kind,
            **{name: span.to_dict() for name, span in sides.items() if span is not None},
        }


def match(gold: Document, predicted: Sequence[Span]) -> list[Case]:
    """Pair the names of a document with the names predicted for it, one to one.

    Exact pairs are made first, then those of the other kinds in the order of :data:`KINDS`, with the larger common part
    first, then the earlier one.

    Args:
        gold: the annotated document; its outermost names are compared.
        predicted: names of the same text, sorted, without overlap.

    Returns:
        The cases in the order of the text; every name of either side stands in exactly one.
    """
    pairs = sorted(
        (KINDS.index(kind), -common, ours, theirs)
        for ours, theirs, kind, common in _candidates(gold.text, gold.spans, predicted)
    )
    partner_of: dict[int, int] = {}
    taken: set[int] = set()
    cases = []
    for rank, _, ours, theirs in pairs:
        if ours not in partner_of and theirs not in taken:
            partner_of[ours] = theirs
            taken.add(theirs)
            cases.append(Case(gold.id, KINDS[rank], gold.spans[ours], predicted[theirs]))
    cases += [Case(gold.id, MISSED, span, None) for index, span in enumerate(gold.spans) if index not in partner_of]
    cases += [Case(gold.id, SPURIOUS, None, span) for index, span in enumerate(predicted) if index not in taken]
    return sorted(cases, key=lambda case: (case.position, KINDS.index(case.kind)))


def differs_by_proclitic(text: str, one: Span, other: Span) -> bool:
    """Whether two names end together and the longer one has nothing but proclitic letters (و ف ب ل ك س) before the other."""
    if one.end != other.end or one.start == other.start:
        return False
    between = text[min(one.start, other.start) : max(one.start, other.start)]
    letters = unicodedata.normalize("NFKC", "".join(filter(is_letter, between)))
    return bool(letters) and PROCLITICS.fullmatch(letters) is not None


def _candidates(text: str, gold: Sequence[Span], predicted: Sequence[Span]) -> Iterator[tuple[int, int, str, int]]:
    """Index of the gold name, of the predicted name, kind of case and common characters, of all that share a character."""
    first = 0
    for ours, span in enumerate(gold):
        while first < len(predicted) and predicted[first].end <= span.start:
            first += 1
        for theirs in range(first, len(predicted)):
            other = predicted[theirs]
            if other.start >= span.end:
                break
            yield ours, theirs, _kind(text, span, other), min(span.end, other.end) - max(span.start, other.start)


def _kind(text: str, gold: Span, predicted: Span) -> str:
    same = (gold.start, gold.end) == (predicted.start, predicted.end)
    if gold.label != predicted.label:
        return LABEL if same else LABEL_AND_BORDER
    if same:
        return CORRECT
    return PROCLITIC if differs_by_proclitic(text, gold, predicted) else BORDER
