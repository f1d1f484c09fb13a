"""Errors one can see: wrong names in their context, labels taken for labels, forms that cost most, annotation to look at again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import regex

from musamma.data.arabic import PROCLITIC_PATTERN, strip_marks
from musamma.data.consistency import find_ambiguous_forms, find_missed_forms
from musamma.data.document import Document, Span
from musamma.evaluation.matching import (
    CORRECT,
    MISSED,
    PAIR_KINDS,
    SPURIOUS,
    WRONG_BORDER,
    WRONG_LABEL,
    WRONG_LABEL_AND_BORDER,
    NamePair,
)
from musamma.evaluation.matching import (
    PROCLITIC_BORDER as PROCLITIC,
)

#: The kinds of case that are errors.
ERROR_KINDS = tuple(kind for kind in PAIR_KINDS if kind != CORRECT)


@dataclass(frozen=True, slots=True)
class ErrorExample:
    """An error in its context, every character as given.

    Args:
        document: the document's id.
        kind: one of :data:`ERROR_KINDS`.
        gold: the annotated name; ``None`` for a spurious one.
        predicted: the predicted name; ``None`` for a missed one.
        surface_gold: the characters of the annotated name; empty where there is none.
        surface_predicted: the same of the predicted one.
        before: up to :data:`musamma.evaluation.error_analysis.CONTEXT_LENGTH` characters before the first of the two.
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
class ConfusionMatrix:
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
class ErrorAnalysis:
    """What went wrong.

    Args:
        kinds: how many cases there are of every kind, in the order of :data:`musamma.evaluation.matching.PAIR_KINDS`.
        examples: all errors by kind, in the order of the cases; no kind without one.
        confusion: labels taken for labels.
        costly: forms with an error, most errors first.
        suspects: annotation to look at again, see :func:`musamma.evaluation.error_analysis.find_suspect_annotations`.
    """

    kinds: Mapping[str, int]
    examples: Mapping[str, tuple[ErrorExample, ...]]
    confusion: ConfusionMatrix
    costly: tuple[CostlyForm, ...]
    suspects: tuple[SuspectAnnotation, ...]

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


def analyse_errors(pairs: Iterable[tuple[Document, Document | None]], cases: Sequence[NamePair]) -> ErrorAnalysis:
    """What went wrong in a set of documents.

    Args:
        pairs: the documents as annotated and as predicted.
        cases: all cases of these documents, see :func:`musamma.evaluation.matching.pair_names`.
    """
    documents = {gold.id: gold for gold, _ in pairs}
    kinds = Counter(case.kind for case in cases)
    examples: dict[str, list[ErrorExample]] = {kind: [] for kind in ERROR_KINDS if kinds[kind]}
    for case in cases:
        if case.kind != CORRECT:
            examples[case.kind].append(_example(documents[case.document].text, case))
    return ErrorAnalysis(
        kinds={kind: kinds[kind] for kind in PAIR_KINDS},
        examples={kind: tuple(found) for kind, found in examples.items()},
        confusion=build_confusion_matrix(cases),
        costly=find_costly_forms(documents, cases),
        suspects=find_suspect_annotations(documents, cases),
    )


def build_confusion_matrix(cases: Iterable[NamePair]) -> ConfusionMatrix:
    """Count the labels of both sides of every case."""
    counts = Counter((_label(case.gold), _label(case.predicted)) for case in cases)
    labels = tuple(sorted({label for pair in counts for label in pair if label is not None}))
    place: dict[str | None, int] = {label: index for index, label in enumerate((*labels, None))}
    matrix = np.zeros((len(place), len(place)), dtype=np.int64)
    for (gold, predicted), count in counts.items():
        matrix[place[gold], place[predicted]] = count
    return ConfusionMatrix(labels, matrix)


def find_costly_forms(documents: Mapping[str, Document], cases: Iterable[NamePair]) -> tuple[CostlyForm, ...]:
    """The forms with an error: most errors first, then the fewest occurrences, then by the alphabet.

    Args:
        documents: the annotated documents by id.
        cases: their cases.
    """
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        span = case.gold or case.predicted
        assert span is not None
        forms[strip_marks(documents[case.document].surface(span))][case.kind] += 1
    found = [
        CostlyForm(
            surface,
            errors=kinds.total() - kinds[CORRECT],
            missed=kinds[MISSED],
            spurious=kinds[SPURIOUS],
            wrong_label=kinds[WRONG_LABEL] + kinds[WRONG_LABEL_AND_BORDER],
            wrong_border=kinds[PROCLITIC] + kinds[WRONG_BORDER],
            occurrences=kinds.total(),
        )
        for surface, kinds in forms.items()
    ]
    return tuple(
        sorted((form for form in found if form.errors), key=lambda form: (-form.errors, form.occurrences, form.surface))
    )


def _example(text: str, case: NamePair) -> ErrorExample:
    gold, predicted = case.gold, case.predicted
    end = max(span.end for span in (gold, predicted) if span is not None)
    before, after = surroundings(text, case.start, end)
    ours, theirs = (text[span.start : span.end] if span is not None else "" for span in (gold, predicted))
    return ErrorExample(case.document, case.kind, gold, predicted, ours, theirs, before, after)


def _label(span: Span | None) -> str | None:
    return span.label if span is not None else None


def _with_spans(record: ErrorExample | SuspectAnnotation) -> dict[str, Any]:
    spans = {"gold": record.gold, "predicted": record.predicted}
    return asdict(record) | {side: None if span is None else span.to_dict() for side, span in spans.items()}


#: Characters of context on either side.
CONTEXT_LENGTH = 40

#: How much of a form's occurrences must carry one label for the others to be suspect.
USUAL_SHARE = 0.75

#: Shorter forms are not looked for behind proclitics: too many words are written alike.
MIN_LETTERS = 3

_INSIDE = r"[\p{L}\p{M}\p{N}]"


@dataclass(frozen=True, slots=True)
class SuspectAnnotation:
    """A place where the annotation may be wrong; evidence for a reader, not an error.

    Args:
        document: the document's id.
        reason: why, in words.
        gold: what is annotated there; ``None`` for nothing.
        predicted: what was predicted there; ``None`` for nothing.
        score: the prediction's score, if there is one.
        surface: the characters in question: the predicted name, or the form that is annotated otherwise elsewhere.
        before: up to :data:`CONTEXT_LENGTH` characters before them, as given.
        after: the same after them.
    """

    document: str
    reason: str
    gold: Span | None
    predicted: Span | None
    score: float | None
    surface: str
    before: str
    after: str


def find_suspect_annotations(
    documents: Mapping[str, Document], cases: Sequence[NamePair]
) -> tuple[SuspectAnnotation, ...]:
    """Places where the annotation may be wrong, the most probable first, each once.

    First come predictions that contradict the annotation with confidence, by score: a score is confident if it is no lower
    than the mean score of the correct predictions of its label (of all labels, where it has none), so that a system that is
    sure of everything is not believed in everything; after the thresholds of confident learning (Northcutt et al. 2021). A
    predicted name that is annotated inside another one is no contradiction. Then come places of forms that carry one label in
    at least :data:`USUAL_SHARE` of their occurrences, and there another one or none, by that share. Without scores there are these
    alone.

    Args:
        documents: the annotated documents by id.
        cases: their cases.
    """
    found = {
        id(case): _confident(documents[case.document], case)
        for case in sorted(_contradictions(documents, cases), key=lambda case: -(_score(case) or 0.0))
    }
    of_document: dict[str, list[NamePair]] = defaultdict(list)
    for case in cases:
        of_document[case.document].append(case)
    odd = sorted(
        chain(_labelled_otherwise(documents), _not_annotated(documents)), key=lambda odd: (-odd.share, -odd.times)
    )
    others = []
    for place in odd:
        here = next((case for case in of_document[place.document.id] if place.is_in(case)), None)
        if id(here) in found:
            both = found[id(here)]
            found[id(here)] = replace(both, reason=f"{both.reason}; {place.reason}")
        else:
            predicted = here.predicted if here is not None else None
            others.append(_suspect(place.document, place.reason, (place.start, place.end), place.gold, predicted))
    return (*found.values(), *others)


class _Odd(NamedTuple):
    """A place where a form stands otherwise than mostly: it carries ``label`` in ``times`` of ``total`` places."""

    document: Document
    start: int
    end: int
    gold: Span | None
    label: str
    times: int
    total: int

    @property
    def share(self) -> float:
        return self.times / self.total

    @property
    def reason(self) -> str:
        here = "not" if self.gold is None else self.gold.label
        return f"the form is annotated {self.label} in {self.times} of {self.total} places, here {here}"

    def is_in(self, case: NamePair) -> bool:
        if self.gold is not None:
            return case.gold == self.gold
        return case.predicted is not None and case.predicted.start < self.end and self.start < case.predicted.end


def _contradictions(documents: Mapping[str, Document], cases: Sequence[NamePair]) -> Iterator[NamePair]:
    right: dict[str, list[float]] = defaultdict(list)
    for case in cases:
        if case.kind == CORRECT and case.predicted is not None and case.predicted.score is not None:
            right[case.predicted.label].append(case.predicted.score)
    if not right:
        return
    overall = fmean(chain.from_iterable(right.values()))
    least = {label: fmean(scores) for label, scores in right.items()}
    for case in cases:
        score = _score(case)
        if case.kind == CORRECT or case.predicted is None or score is None:
            continue
        inner = {span.key for span in documents[case.document].nested}
        if score >= least.get(case.predicted.label, overall) and case.predicted.key not in inner:
            yield case


def _labelled_otherwise(documents: Mapping[str, Document]) -> Iterator[_Odd]:
    usual = {}
    for form in find_ambiguous_forms(documents.values()):
        label, ids = next(iter(form.tagged.items()))
        usual[form.surface] = label, len(ids), sum(map(len, form.tagged.values()))
    for document in documents.values():
        for span in document.spans:
            label, times, total = usual.get(strip_marks(document.surface(span)), (span.label, 0, 1))
            if label != span.label and times >= USUAL_SHARE * total:
                yield _Odd(document, span.start, span.end, span, label, times, total)


def _not_annotated(documents: Mapping[str, Document]) -> Iterator[_Odd]:
    covered = {
        document.id: {at for span in (*document.spans, *document.nested) for at in range(span.start, span.end)}
        for document in documents.values()
    }
    # The longest first: where a form holds another one, the place is the longer one's.
    for form in sorted(find_missed_forms(list(documents.values())), key=lambda form: -len(form.surface)):
        label, ids = next(iter(form.tagged.items()))
        total = sum(map(len, form.tagged.values())) + len(form.missed)
        if len(ids) < USUAL_SHARE * total:
            continue
        pattern = _occurrences(form.surface)
        for identifier in dict.fromkeys(form.missed):
            for start, end in (match.span(1) for match in pattern.finditer(documents[identifier].text)):
                if covered[identifier].isdisjoint(range(start, end)):
                    covered[identifier].update(range(start, end))
                    yield _Odd(documents[identifier], start, end, None, label, len(ids), total)


def _occurrences(surface: str) -> regex.Pattern[str]:
    """Finds a form as whole words, also behind proclitics unless it is too short; the form is the first group."""
    written = regex.escape(surface)
    if surface.startswith("ال"):  # Behind a lam the article has no alef: للجيش.
        written += f"|(?<=ل){regex.escape(surface[1:])}"
    before = PROCLITIC_PATTERN.pattern if len(surface) >= MIN_LETTERS else ""
    return regex.compile(rf"(?<!{_INSIDE})(?:{before})({written})(?!{_INSIDE})")


def _confident(document: Document, case: NamePair) -> SuspectAnnotation:
    predicted, gold = case.predicted, case.gold
    assert predicted is not None
    reason = f"predicted {predicted.label} with score {predicted.score:.3f}, "
    if gold is None:
        reason += "not annotated"
    else:
        reason += f"annotated {gold.label}" if gold.label != predicted.label else "annotated"
        reason += "" if case.kind == WRONG_LABEL else " with other borders"
    return _suspect(document, reason, (predicted.start, predicted.end), gold, predicted)


def _suspect(
    document: Document, reason: str, place: tuple[int, int], gold: Span | None, predicted: Span | None
) -> SuspectAnnotation:
    start, end = place
    return SuspectAnnotation(
        document.id,
        reason,
        gold,
        predicted,
        predicted.score if predicted is not None else None,
        document.text[start:end],
        *surroundings(document.text, start, end),
    )


def surroundings(text: str, start: int, end: int) -> tuple[str, str]:
    """Up to :data:`CONTEXT_LENGTH` characters before ``text[start:end]``, and after it."""
    return text[max(0, start - CONTEXT_LENGTH) : start], text[end : end + CONTEXT_LENGTH]


def _score(case: NamePair) -> float | None:
    return case.predicted.score if case.predicted is not None else None
