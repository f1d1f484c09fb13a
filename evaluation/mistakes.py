"""Errors one can see: wrong names in their context, labels taken for labels, forms that cost most, annotation to look at again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from musamma.data.document import Document, Span
from musamma.data.words import folded
from musamma.evaluation.cases import BORDER, CORRECT, KINDS, LABEL, LABEL_AND_BORDER, MISSED, PROCLITIC, SPURIOUS, Case
from musamma.evaluation.suspects import Suspect, surroundings, suspects

#: The kinds of case that are errors.
ERRORS = tuple(kind for kind in KINDS if kind != CORRECT)


@dataclass(frozen=True, slots=True)
class Example:
    """An error in its context, every character as given.

    Args:
        document: the document's id.
        kind: one of :data:`ERRORS`.
        gold: the annotated name; ``None`` for a spurious one.
        predicted: the predicted name; ``None`` for a missed one.
        surface_gold: the characters of the annotated name; empty where there is none.
        surface_predicted: the same of the predicted one.
        before: up to :data:`musamma.evaluation.suspects.CONTEXT` characters before the first of the two.
        after: the same after the last. Two names of one example share a character, so there is nothing between them.
    """

    document: str
    kind: str
    gold: Span | None
    predicted: Span | None
    surface_gold: str
    surface_predicted: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """Which label was taken for which, whatever the borders.

    Args:
        labels: the labels of both sides, sorted.
        matrix: int64, (labels + 1, labels + 1): rows gold, columns predicted, the last of each for no name at all. A row adds
            up to the gold names of its label, a column to the predicted ones. On the diagonal stand names with the right
            label, also those with other borders.
    """

    labels: tuple[str, ...]
    matrix: np.ndarray


@dataclass(frozen=True, slots=True)
class CostlyForm:
    """A form and the errors on it; ``errors`` is the sum of the four kinds.

    Args:
        surface: the form without vowel signs and tatweel, as annotated, or as predicted where nothing is annotated.
        errors: its cases that are not correct.
        missed: of them, annotated names that nothing was predicted for.
        spurious: predicted names that nothing was annotated for.
        wrong_label: names with another label, also where the borders differ as well.
        wrong_border: names with the right label and other borders.
        occurrences: all cases of the form, right and wrong.
    """

    surface: str
    errors: int
    missed: int
    spurious: int
    wrong_label: int
    wrong_border: int
    occurrences: int


@dataclass(frozen=True, slots=True)
class Mistakes:
    """What went wrong.

    Args:
        kinds: how many cases there are of every kind, in the order of :data:`musamma.evaluation.cases.KINDS`.
        examples: all errors by kind, in the order of the cases; no kind without one.
        confusion: labels taken for labels.
        costly: forms with an error, most errors first.
        suspects: annotation to look at again, see :func:`musamma.evaluation.suspects.suspects`.
    """

    kinds: Mapping[str, int]
    examples: Mapping[str, tuple[Example, ...]]
    confusion: Confusion
    costly: tuple[CostlyForm, ...]
    suspects: tuple[Suspect, ...]

    def to_dict(self, *, most: int = 50) -> dict[str, Any]:
        """JSON; at most ``most`` examples of a kind, evenly spread over all of them, and as many forms and suspects."""
        spread = {kind: found[:: -(-len(found) // most)] for kind, found in self.examples.items()}
        return {
            "kinds": dict(self.kinds),
            "confusion": {"labels": list(self.confusion.labels), "matrix": self.confusion.matrix.tolist()},
            "costly": [asdict(form) for form in self.costly[:most]],
            "suspects": [_with_spans(suspect) for suspect in self.suspects[:most]],
            "examples": {kind: [_with_spans(example) for example in found] for kind, found in spread.items()},
            "totals": {"costly": len(self.costly), "suspects": len(self.suspects)},
        }


def mistakes(pairs: Iterable[tuple[Document, Document | None]], cases: Sequence[Case]) -> Mistakes:
    """What went wrong in a set of documents.

    Args:
        pairs: the documents as annotated and as predicted.
        cases: all cases of these documents, see :func:`musamma.evaluation.cases.match`.
    """
    documents = {gold.id: gold for gold, _ in pairs}
    kinds = Counter(case.kind for case in cases)
    examples: dict[str, list[Example]] = {kind: [] for kind in ERRORS if kinds[kind]}
    for case in cases:
        if case.kind != CORRECT:
            examples[case.kind].append(_example(documents[case.document].text, case))
    return Mistakes(
        kinds={kind: kinds[kind] for kind in KINDS},
        examples={kind: tuple(found) for kind, found in examples.items()},
        confusion=confusion(cases),
        costly=costly_forms(documents, cases),
        suspects=suspects(documents, cases),
    )


def confusion(cases: Iterable[Case]) -> Confusion:
    """Count the labels of both sides of every case."""
    counts = Counter((_label(case.gold), _label(case.predicted)) for case in cases)
    labels = tuple(sorted({label for pair in counts for label in pair if label is not None}))
    place: dict[str | None, int] = {label: index for index, label in enumerate((*labels, None))}
    matrix = np.zeros((len(place), len(place)), dtype=np.int64)
    for (gold, predicted), count in counts.items():
        matrix[place[gold], place[predicted]] = count
    return Confusion(labels, matrix)


def costly_forms(documents: Mapping[str, Document], cases: Iterable[Case]) -> tuple[CostlyForm, ...]:
    """The forms with an error: most errors first, then the fewest occurrences, then by the alphabet.

    Args:
        documents: the annotated documents by id.
        cases: their cases.
    """
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        span = case.gold or case.predicted
        assert span is not None
        forms[folded(documents[case.document].surface(span))][case.kind] += 1
    found = [
        CostlyForm(
            surface,
            errors=kinds.total() - kinds[CORRECT],
            missed=kinds[MISSED],
            spurious=kinds[SPURIOUS],
            wrong_label=kinds[LABEL] + kinds[LABEL_AND_BORDER],
            wrong_border=kinds[PROCLITIC] + kinds[BORDER],
            occurrences=kinds.total(),
        )
        for surface, kinds in forms.items()
    ]
    return tuple(
        sorted((form for form in found if form.errors), key=lambda form: (-form.errors, form.occurrences, form.surface))
    )


def _example(text: str, case: Case) -> Example:
    gold, predicted = case.gold, case.predicted
    end = max(span.end for span in (gold, predicted) if span is not None)
    before, after = surroundings(text, case.position, end)
    ours, theirs = (text[span.start : span.end] if span is not None else "" for span in (gold, predicted))
    return Example(case.document, case.kind, gold, predicted, ours, theirs, before, after)


def _label(span: Span | None) -> str | None:
    return span.label if span is not None else None


def _with_spans(record: Example | Suspect) -> dict[str, Any]:
    spans = {"gold": record.gold, "predicted": record.predicted}
    return asdict(record) | {side: None if span is None else span.to_dict() for side, span in spans.items()}
