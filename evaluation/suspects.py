"""Annotation to look at again: places where the gold, not the system, may be wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from statistics import fmean
from typing import NamedTuple

import regex

from musamma.data.consistency import forms_missed, forms_tagged_two_ways
from musamma.data.document import Document, Span
from musamma.data.words import PROCLITICS, folded
from musamma.evaluation.cases import CORRECT, LABEL, Case

#: Characters of context on either side.
CONTEXT = 40

#: How much of a form's occurrences must carry one label for the others to be suspect.
MOSTLY = 0.75

#: Shorter forms are not looked for behind proclitics: too many words are written alike.
LEAST_LETTERS = 3

_INSIDE = r"[\p{L}\p{M}\p{N}]"


@dataclass(frozen=True, slots=True)
class Suspect:
    """A place where the annotation may be wrong; evidence for a reader, not an error.

    Args:
        document: the document's id.
        reason: why, in words.
        gold: what is annotated there; ``None`` for nothing.
        predicted: what was predicted there; ``None`` for nothing.
        score: the prediction's score, if there is one.
        surface: the characters in question: the predicted name, or the form that is annotated otherwise elsewhere.
        before: up to :data:`CONTEXT` characters before them, as given.
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


def suspects(documents: Mapping[str, Document], cases: Sequence[Case]) -> tuple[Suspect, ...]:
    """Places where the annotation may be wrong, the most probable first, each once.

    First come predictions that contradict the annotation with confidence, by score: a score is confident if it is no lower
    than the mean score of the correct predictions of its label (of all labels, where it has none), so that a system that is
    sure of everything is not believed in everything; after the thresholds of confident learning (Northcutt et al. 2021). A
    predicted name that is annotated inside another one is no contradiction. Then come places of forms that carry one label in
    at least :data:`MOSTLY` of their occurrences, and there another one or none, by that share. Without scores there are these
    alone.

    Args:
        documents: the annotated documents by id.
        cases: their cases.
    """
    found = {
        id(case): _confident(documents[case.document], case)
        for case in sorted(_contradictions(documents, cases), key=lambda case: -(_score(case) or 0.0))
    }
    of_document: dict[str, list[Case]] = defaultdict(list)
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

    def is_in(self, case: Case) -> bool:
        if self.gold is not None:
            return case.gold == self.gold
        return case.predicted is not None and case.predicted.start < self.end and self.start < case.predicted.end


def _contradictions(documents: Mapping[str, Document], cases: Sequence[Case]) -> Iterator[Case]:
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
    for form in forms_tagged_two_ways(documents.values()):
        label, ids = next(iter(form.tagged.items()))
        usual[form.surface] = label, len(ids), sum(map(len, form.tagged.values()))
    for document in documents.values():
        for span in document.spans:
            label, times, total = usual.get(folded(document.surface(span)), (span.label, 0, 1))
            if label != span.label and times >= MOSTLY * total:
                yield _Odd(document, span.start, span.end, span, label, times, total)


def _not_annotated(documents: Mapping[str, Document]) -> Iterator[_Odd]:
    covered = {
        document.id: {at for span in (*document.spans, *document.nested) for at in range(span.start, span.end)}
        for document in documents.values()
    }
    # The longest first: where a form holds another one, the place is the longer one's.
    for form in sorted(forms_missed(list(documents.values())), key=lambda form: -len(form.surface)):
        label, ids = next(iter(form.tagged.items()))
        total = sum(map(len, form.tagged.values())) + len(form.missed)
        if len(ids) < MOSTLY * total:
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
    before = PROCLITICS.pattern if len(surface) >= LEAST_LETTERS else ""
    return regex.compile(rf"(?<!{_INSIDE})(?:{before})({written})(?!{_INSIDE})")


def _confident(document: Document, case: Case) -> Suspect:
    predicted, gold = case.predicted, case.gold
    assert predicted is not None
    reason = f"predicted {predicted.label} with score {predicted.score:.3f}, "
    if gold is None:
        reason += "not annotated"
    else:
        reason += f"annotated {gold.label}" if gold.label != predicted.label else "annotated"
        reason += "" if case.kind == LABEL else " with other borders"
    return _suspect(document, reason, (predicted.start, predicted.end), gold, predicted)


def _suspect(
    document: Document, reason: str, place: tuple[int, int], gold: Span | None, predicted: Span | None
) -> Suspect:
    start, end = place
    return Suspect(
        document.id,
        reason,
        gold,
        predicted,
        predicted.score if predicted is not None else None,
        document.text[start:end],
        *surroundings(document.text, start, end),
    )


def surroundings(text: str, start: int, end: int) -> tuple[str, str]:
    """Up to :data:`CONTEXT` characters before ``text[start:end]``, and after it."""
    return text[max(0, start - CONTEXT) : start], text[end : end + CONTEXT]


def _score(case: Case) -> float | None:
    return case.predicted.score if case.predicted is not None else None
