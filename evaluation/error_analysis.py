"""Errors in detail: wrong names in context, confused labels, the forms with most errors, annotation that may be wrong."""

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
    PROCLITIC_BORDER,
    SPURIOUS,
    WRONG_BORDER,
    WRONG_LABEL,
    WRONG_LABEL_AND_BORDER,
    NamePair,
)

#: The kinds of pairs that are errors.
ERROR_KINDS = tuple(kind for kind in PAIR_KINDS if kind != CORRECT)

#: Number of characters of context before and after a name.
CONTEXT_LENGTH = 40

#: Share of a form's occurrences that must have one label for the other occurrences to be suspect.
USUAL_SHARE = 0.75

#: Minimum number of characters of a form to search for it after proclitics: shorter forms look like too many other words.
MIN_LETTERS = 3

_WORD_CHARACTER = r"[\p{L}\p{M}\p{N}]"


@dataclass(frozen=True, slots=True)
class ErrorExample:
    """An error in its context, with all characters of the text.

    Args:
        document: the document's id.
        kind: one of :data:`ERROR_KINDS`.
        gold: the annotated name; ``None`` for a spurious one.
        predicted: the predicted name; ``None`` for a missed one.
        surface_gold: the characters of the annotated name; empty if there is none.
        surface_predicted: the characters of the predicted name; empty if there is none.
        before: up to :data:`CONTEXT_LENGTH` characters before the first of the two names.
        after: up to as many characters after the last. The two names share a character, so no text is between them.
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
    """Gold labels against predicted labels, regardless of borders.

    Args:
        labels: the labels of both sides, sorted.
        matrix: int64, (labels + 1, labels + 1): rows are gold labels, columns are predicted labels; the last row and column stand for no name. A row adds up to
            the gold names of its label, a column to the predicted names. The diagonal holds the names with the right label,
            including those with other borders.
    """

    labels: tuple[str, ...]
    matrix: np.ndarray


@dataclass(frozen=True, slots=True)
class CostlyForm:
    """A form and its errors; ``errors`` is the sum of the four kinds.

    Args:
        surface: the form without vowel signs and tatweel, as annotated, or as predicted if nothing is annotated.
        errors: its pairs that are not correct.
        missed: annotated names without a prediction.
        spurious: predicted names without an annotation.
        wrong_label: names with another label, including those with other borders as well.
        wrong_border: names with the right label and other borders.
        occurrences: all pairs of the form, correct or not.
    """

    surface: str
    errors: int
    missed: int
    spurious: int
    wrong_label: int
    wrong_border: int
    occurrences: int


@dataclass(frozen=True, slots=True)
class SuspectAnnotation:
    """An annotation that may be wrong: a hint for a reader, not a proven error.

    Args:
        document: the document's id.
        reason: why it is suspect, in words.
        gold: the annotated name; ``None`` if there is none.
        predicted: the predicted name; ``None`` if there is none.
        score: the score of the prediction, if it has one.
        surface: the characters in question: the predicted name, or the form that is annotated differently elsewhere.
        before: up to :data:`CONTEXT_LENGTH` characters before them, as they are in the text.
        after: up to as many characters after them.
    """

    document: str
    reason: str
    gold: Span | None
    predicted: Span | None
    score: float | None
    surface: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ErrorAnalysis:
    """The errors on a set of documents.

    Args:
        kinds: number of pairs of every kind, in the order of :data:`musamma.evaluation.matching.PAIR_KINDS`.
        examples: all errors by kind, in the order of the pairs; kinds without an error are left out.
        confusion: the confused labels.
        costly: forms with an error, most errors first.
        suspects: annotation that may be wrong, see :func:`find_suspect_annotations`.
    """

    kinds: Mapping[str, int]
    examples: Mapping[str, tuple[ErrorExample, ...]]
    confusion: ConfusionMatrix
    costly: tuple[CostlyForm, ...]
    suspects: tuple[SuspectAnnotation, ...]

    def to_dict(self, *, limit: int = 50) -> dict[str, Any]:
        """Return JSON, with at most ``limit`` forms, suspects and examples of a kind; examples are evenly spread."""
        examples = {kind: every[:: -(-len(every) // limit)] for kind, every in self.examples.items()}
        return {
            "kinds": dict(self.kinds),
            "confusion": {"labels": list(self.confusion.labels), "matrix": self.confusion.matrix.tolist()},
            "costly": [asdict(form) for form in self.costly[:limit]],
            "suspects": [_to_record(suspect) for suspect in self.suspects[:limit]],
            "examples": {kind: [_to_record(example) for example in sample] for kind, sample in examples.items()},
            "totals": {"costly": len(self.costly), "suspects": len(self.suspects)},
        }


def analyse_errors(
    document_pairs: Iterable[tuple[Document, Document | None]], pairs: Sequence[NamePair]
) -> ErrorAnalysis:
    """Analyse the errors on a set of documents.

    Args:
        document_pairs: the annotated and predicted documents.
        pairs: all pairs of names of these documents, see :func:`musamma.evaluation.matching.pair_names`.
    """
    documents = {gold.id: gold for gold, _ in document_pairs}
    kinds = Counter(pair.kind for pair in pairs)
    examples: dict[str, list[ErrorExample]] = {kind: [] for kind in ERROR_KINDS if kinds[kind]}
    for pair in pairs:
        if pair.kind != CORRECT:
            examples[pair.kind].append(_example(documents[pair.document].text, pair))
    return ErrorAnalysis(
        kinds={kind: kinds[kind] for kind in PAIR_KINDS},
        examples={kind: tuple(every) for kind, every in examples.items()},
        confusion=build_confusion_matrix(pairs),
        costly=find_costly_forms(documents, pairs),
        suspects=find_suspect_annotations(documents, pairs),
    )


def build_confusion_matrix(pairs: Iterable[NamePair]) -> ConfusionMatrix:
    """Count the gold label and the predicted label of every pair."""
    counts = Counter((_label(pair.gold), _label(pair.predicted)) for pair in pairs)
    labels = tuple(sorted({label for both in counts for label in both if label is not None}))
    position: dict[str | None, int] = {label: index for index, label in enumerate((*labels, None))}
    matrix = np.zeros((len(position), len(position)), dtype=np.int64)
    for (gold, predicted), count in counts.items():
        matrix[position[gold], position[predicted]] = count
    return ConfusionMatrix(labels, matrix)


def find_costly_forms(documents: Mapping[str, Document], pairs: Iterable[NamePair]) -> tuple[CostlyForm, ...]:
    """Return the forms with an error: most errors first, then fewest occurrences, then in alphabetical order.

    Args:
        documents: the annotated documents by id.
        pairs: the pairs of their names.
    """
    kinds_of: dict[str, Counter[str]] = defaultdict(Counter)
    for pair in pairs:
        span = pair.gold or pair.predicted
        assert span is not None
        kinds_of[strip_marks(documents[pair.document].surface(span))][pair.kind] += 1
    forms = [
        CostlyForm(
            surface,
            errors=kinds.total() - kinds[CORRECT],
            missed=kinds[MISSED],
            spurious=kinds[SPURIOUS],
            wrong_label=kinds[WRONG_LABEL] + kinds[WRONG_LABEL_AND_BORDER],
            wrong_border=kinds[PROCLITIC_BORDER] + kinds[WRONG_BORDER],
            occurrences=kinds.total(),
        )
        for surface, kinds in kinds_of.items()
    ]
    return tuple(
        sorted((form for form in forms if form.errors), key=lambda form: (-form.errors, form.occurrences, form.surface))
    )


def find_suspect_annotations(
    documents: Mapping[str, Document], pairs: Sequence[NamePair]
) -> tuple[SuspectAnnotation, ...]:
    """Find annotations that may be wrong, the most probable first, each once.

    First come predictions that contradict the annotation with confidence, by score. A score is confident if it is at least
    the mean score of the correct predictions of its label (of all labels, if its label has none), so that a system with high
    scores everywhere does not make everything suspect; after the thresholds of confident learning (Northcutt et al. 2021). A
    predicted name that is annotated inside another name is no contradiction. Then come occurrences of forms that have one
    label in at least :data:`USUAL_SHARE` of their occurrences, and here another label or none, by that share. Without scores
    there are only these.

    Args:
        documents: the annotated documents by id.
        pairs: the pairs of their names.
    """
    contradictions = sorted(_contradictions(documents, pairs), key=lambda pair: -(_score(pair) or 0.0))
    suspects = {id(pair): _suspect_contradiction(documents[pair.document], pair) for pair in contradictions}
    pairs_of: dict[str, list[NamePair]] = defaultdict(list)
    for pair in pairs:
        pairs_of[pair.document].append(pair)
    occurrences = sorted(
        chain(_labelled_differently(documents), _not_annotated(documents)),
        key=lambda occurrence: (-occurrence.share, -occurrence.usual),
    )
    unusual = []
    for occurrence in occurrences:
        pair_here = next((pair for pair in pairs_of[occurrence.document.id] if occurrence.is_in(pair)), None)
        if id(pair_here) in suspects:
            contradiction = suspects[id(pair_here)]
            reason = f"{contradiction.reason}; {occurrence.reason}"
            suspects[id(pair_here)] = replace(contradiction, reason=reason)
        else:
            predicted = pair_here.predicted if pair_here is not None else None
            offsets = occurrence.start, occurrence.end
            unusual.append(_suspect(occurrence.document, occurrence.reason, offsets, occurrence.gold, predicted))
    return (*suspects.values(), *unusual)


class _UnusualOccurrence(NamedTuple):
    """An occurrence of a form that has ``label`` in ``usual`` of ``total`` occurrences, but not in this one."""

    document: Document
    start: int
    end: int
    gold: Span | None
    label: str
    usual: int
    total: int

    @property
    def share(self) -> float:
        return self.usual / self.total

    @property
    def reason(self) -> str:
        here = "not" if self.gold is None else self.gold.label
        return f"the form is annotated {self.label} in {self.usual} of {self.total} places, here {here}"

    def is_in(self, pair: NamePair) -> bool:
        if self.gold is not None:
            return pair.gold == self.gold
        return pair.predicted is not None and pair.predicted.start < self.end and self.start < pair.predicted.end


def _contradictions(documents: Mapping[str, Document], pairs: Sequence[NamePair]) -> Iterator[NamePair]:
    """Yield the errors whose prediction has a confident score."""
    correct_scores: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        if pair.kind == CORRECT and pair.predicted is not None and pair.predicted.score is not None:
            correct_scores[pair.predicted.label].append(pair.predicted.score)
    if not correct_scores:
        return
    overall = fmean(chain.from_iterable(correct_scores.values()))
    confident = {label: fmean(scores) for label, scores in correct_scores.items()}
    for pair in pairs:
        score = _score(pair)
        if pair.kind == CORRECT or pair.predicted is None or score is None:
            continue
        nested = {span.key for span in documents[pair.document].nested}
        if score >= confident.get(pair.predicted.label, overall) and pair.predicted.key not in nested:
            yield pair


def _labelled_differently(documents: Mapping[str, Document]) -> Iterator[_UnusualOccurrence]:
    usual_label = {}
    for form in find_ambiguous_forms(documents.values()):
        label, ids = next(iter(form.tagged.items()))
        usual_label[form.surface] = label, len(ids), sum(map(len, form.tagged.values()))
    for document in documents.values():
        for span in document.spans:
            surface = strip_marks(document.surface(span))
            label, usual, total = usual_label.get(surface, (span.label, 0, 1))
            if label != span.label and usual >= USUAL_SHARE * total:
                yield _UnusualOccurrence(document, span.start, span.end, span, label, usual, total)


def _not_annotated(documents: Mapping[str, Document]) -> Iterator[_UnusualOccurrence]:
    covered = {
        document.id: {offset for span in document.all_spans for offset in range(span.start, span.end)}
        for document in documents.values()
    }
    # Longest forms first: an occurrence of a form inside a longer form counts for the longer one only.
    for form in sorted(find_missed_forms(list(documents.values())), key=lambda form: -len(form.surface)):
        label, ids = next(iter(form.tagged.items()))
        total = sum(map(len, form.tagged.values())) + len(form.missed)
        if len(ids) < USUAL_SHARE * total:
            continue
        pattern = _occurrence_pattern(form.surface)
        for document_id in dict.fromkeys(form.missed):
            for start, end in (match.span(1) for match in pattern.finditer(documents[document_id].text)):
                if covered[document_id].isdisjoint(range(start, end)):
                    covered[document_id].update(range(start, end))
                    yield _UnusualOccurrence(documents[document_id], start, end, None, label, len(ids), total)


def _occurrence_pattern(surface: str) -> regex.Pattern[str]:
    """Return a pattern of a form as whole words, also after proclitics unless it is too short; group 1 is the form."""
    form = regex.escape(surface)
    if surface.startswith("ال"):  # After a lam the article has no alef: للجيش.
        form += f"|(?<=ل){regex.escape(surface[1:])}"
    proclitics = PROCLITIC_PATTERN.pattern if len(surface) >= MIN_LETTERS else ""
    return regex.compile(rf"(?<!{_WORD_CHARACTER})(?:{proclitics})({form})(?!{_WORD_CHARACTER})")


def _suspect_contradiction(document: Document, pair: NamePair) -> SuspectAnnotation:
    predicted, gold = pair.predicted, pair.gold
    assert predicted is not None
    reason = f"predicted {predicted.label} with score {predicted.score:.3f}, "
    if gold is None:
        reason += "not annotated"
    else:
        reason += f"annotated {gold.label}" if gold.label != predicted.label else "annotated"
        reason += "" if pair.kind == WRONG_LABEL else " with other borders"
    return _suspect(document, reason, (predicted.start, predicted.end), gold, predicted)


def _suspect(
    document: Document, reason: str, offsets: tuple[int, int], gold: Span | None, predicted: Span | None
) -> SuspectAnnotation:
    start, end = offsets
    return SuspectAnnotation(
        document.id,
        reason,
        gold,
        predicted,
        predicted.score if predicted is not None else None,
        document.text[start:end],
        *_context(document.text, start, end),
    )


def _example(text: str, pair: NamePair) -> ErrorExample:
    gold, predicted = pair.gold, pair.predicted
    end = max(span.end for span in (gold, predicted) if span is not None)
    before, after = _context(text, pair.start, end)
    surface_gold, surface_predicted = (
        text[span.start : span.end] if span is not None else "" for span in (gold, predicted)
    )
    return ErrorExample(pair.document, pair.kind, gold, predicted, surface_gold, surface_predicted, before, after)


def _context(text: str, start: int, end: int) -> tuple[str, str]:
    """Return up to :data:`CONTEXT_LENGTH` characters before and after ``text[start:end]``."""
    return text[max(0, start - CONTEXT_LENGTH) : start], text[end : end + CONTEXT_LENGTH]


def _label(span: Span | None) -> str | None:
    return span.label if span is not None else None


def _score(pair: NamePair) -> float | None:
    return pair.predicted.score if pair.predicted is not None else None


def _to_record(item: ErrorExample | SuspectAnnotation) -> dict[str, Any]:
    spans = {"gold": item.gold, "predicted": item.predicted}
    return asdict(item) | {side: None if span is None else span.to_dict() for side, span in spans.items()}
