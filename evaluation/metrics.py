"""Scoring: what was predicted against what was annotated, in several modes at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from operator import itemgetter

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.evaluation.conll_tags import lenient_chunks, strict_chunks
from musamma.evaluation.counts import STRICT, Counts, Losses, ModeScores, Scores
from musamma.evaluation.matching import CONLLEVAL, IOB2_STRICT, MODES, SpanKey, WordAlignedNames, match_names
from musamma.evaluation.pairing import pair_documents
from musamma.evaluation.partial_credit import PartialTally

#: The layers of annotation with names inside names: the outermost names, those inside them, and both together.
OUTERMOST, NESTED, ALL = "outermost", "nested", "all"

#: Labels that wait before they are counted: a call of ``Counter.update`` for a few takes longer than the counting.
_BATCH = 1000

_label = itemgetter(2)


class LabelTally:
    """Names counted by label: those found, those predicted, those in the gold."""

    def __init__(self) -> None:
        self._counters: tuple[Counter[str], Counter[str], Counter[str]] = Counter(), Counter(), Counter()
        self._waiting: tuple[list[str], list[str], list[str]] = [], [], []

    def add_sets(self, gold: set[SpanKey], predicted: set[SpanKey]) -> None:
        """Count two sets of chunks (start, end, label); what is in both is found."""
        self.add(map(_label, gold), map(_label, predicted), map(_label, gold & predicted))

    def add(self, gold: Iterable[str], predicted: Iterable[str], found: Iterable[str]) -> None:
        """Count the labels of gold, predicted and found names."""
        for waiting, labels in zip(self._waiting, (gold, predicted, found), strict=True):
            waiting.extend(labels)
            if len(waiting) > _BATCH:
                self._count()

    def scores(self) -> ModeScores:
        """The figures so far."""
        self._count()
        gold, predicted, found = self._counters
        return ModeScores(
            {
                label: Counts(tp := found[label], predicted[label] - tp, gold[label] - tp)
                for label in sorted(gold.keys() | predicted.keys())
            }
        )

    def _count(self) -> None:
        for counter, waiting in zip(self._counters, self._waiting, strict=True):
            counter.update(waiting)
            waiting.clear()


class Scorer:
    """Scores documents as they come; holds counts only.

    Args:
        modes: the modes to score, of :data:`MODES`; ``strict`` is always scored.

    Raises:
        InputError: a mode is unknown.
    """

    def __init__(self, *, modes: Iterable[str] = MODES) -> None:
        wanted = {STRICT, *modes}
        if unknown := sorted(wanted - set(MODES)):
            raise InputError(f"mode {unknown[0]!r}", expected=f"one of {', '.join(MODES)}")
        self._tallies = {mode: LabelTally() for mode in MODES if mode in wanted}
        self._partial = PartialTally()
        self._nested, self._all = LabelTally(), LabelTally()
        self._documents = self._missing = 0
        self._gold_losses = self._predicted_losses = Losses()

    def add(self, gold: Document, prediction: Document | None) -> None:
        """Score one document; ``None`` for a prediction that is missing and counts as empty."""
        predicted, inner = (prediction.spans, prediction.nested) if prediction is not None else ((), ())
        self._documents += 1
        self._missing += prediction is None
        matches = match_names(gold.text, gold.spans, predicted, modes=self._tallies)
        for mode, labels in matches.modes.items():
            self._tallies[mode].add(*labels)
        self._partial.add(matches.gold_rest, matches.predicted_rest)
        if gold.nested or inner:
            self._nested.add_sets(_keys(gold.nested), _keys(inner))
            self._all.add_sets(_keys(gold.spans) | _keys(gold.nested), _keys(predicted) | _keys(inner))
        else:
            self._all.add(*matches.modes[STRICT])
        self._gold_losses += _losses(gold.spans, gold.nested, matches.gold_widened)
        self._predicted_losses += _losses(predicted, inner, matches.predicted_widened)

    def scores(self) -> Scores:
        """The figures of all documents so far."""
        modes = {mode: tally.scores() for mode, tally in self._tallies.items()}
        layers = {OUTERMOST: modes[STRICT]}
        if (nested := self._nested.scores()).per_label:
            layers |= {NESTED: nested, ALL: self._all.scores()}
        return Scores(
            modes=modes,
            documents=self._documents,
            missing=self._missing,
            gold_losses=self._gold_losses,
            predicted_losses=self._predicted_losses,
            partial=self._partial.scores(modes[STRICT]),
            layers=layers,
        )


class TagScorer:
    """Scores sentences of IOB2 tags as they come, by both readings; holds counts only."""

    def __init__(self) -> None:
        self._strict, self._lenient = LabelTally(), LabelTally()
        self._sentences = 0

    def add(self, gold: Sequence[str], predicted: Sequence[str], *, where: str) -> None:
        """Score one sentence; ``where`` names it in an error.

        Raises:
            InputError: the sides differ in length, or a tag is not IOB2.
        """
        if len(gold) != len(predicted):
            raise InputError(
                f"{len(gold)} gold tags and {len(predicted)} predicted ones",
                where=where,
                expected="one a word on both sides",
            )
        try:
            self._strict.add_sets(set(strict_chunks(gold)), set(strict_chunks(predicted)))
            self._lenient.add_sets(set(lenient_chunks(gold)), set(lenient_chunks(predicted)))
        except InputError as error:
            raise InputError(error.found, where=where, expected=error.expected, remedy=error.remedy) from None
        self._sentences += 1

    def scores(self) -> Scores:
        """The figures so far; ``documents`` is the number of sentences."""
        modes = {IOB2_STRICT: self._strict.scores(), CONLLEVAL: self._lenient.scores()}
        return Scores(modes=modes, documents=self._sentences)


def score_documents(
    gold: Iterable[Document],
    predictions: Iterable[Document],
    *,
    modes: Iterable[str] = MODES,
    missing_as_empty: bool = False,
) -> Scores:
    """Score predictions against the gold, matched by id.

    Both are streamed; see :func:`musamma.evaluation.pairing.pair_documents` for what is held.

    Args:
        gold: the annotated documents. The modes compare the outermost names; names inside names (``nested``) are scored
            as a layer of their own.
        predictions: the predicted documents, in any order, on the same texts.
        modes: the modes to score, of :data:`MODES`; ``strict`` is always scored.
        missing_as_empty: count gold documents without a prediction as documents in which nothing was found.

    Raises:
        InputError: a document is missing, surplus, comes twice or differs in its text; a mode is unknown.
    """
    scorer = Scorer(modes=modes)
    for document, prediction in pair_documents(gold, predictions, missing_as_empty=missing_as_empty):
        scorer.add(document, prediction)
    return scorer.scores()


def score_tags(gold: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]) -> Scores:
    """Score sequences of IOB2 tags as they stand, whether valid or not.

    Args:
        gold: the tags of every sentence, one a word: ``O``, ``B-label`` or ``I-label``.
        predicted: the same for the same sentences in the same order.

    Returns:
        The figures of two modes: ``iob2_strict``, where an ``I-`` that continues nothing is no name, and
        ``conlleval``, where it opens one. ``documents`` is the number of sentences.

    Raises:
        InputError: the two sides differ in sentences or words, or a tag is not IOB2.
    """
    scorer = TagScorer()
    for number, (ours, theirs) in enumerate(zip_longest(gold, predicted), 1):
        where = f"sentence {number}"
        if ours is None or theirs is None:
            side = "gold" if ours is None else "predicted"
            raise InputError(
                f"the {side} tags end after {number - 1} sentences",
                where=where,
                expected="as many on both sides",
            )
        scorer.add(ours, theirs, where=where)
    return scorer.scores()


def _keys(spans: Sequence[Span]) -> set[SpanKey]:
    return {span.key for span in spans}


def _losses(spans: Sequence[Span], nested: Sequence[Span], widened: WordAlignedNames) -> Losses:
    return Losses(
        nested=len(nested),
        shared_words=widened.shared_words,
        dropped_iob=len(spans) - len(widened.iob),
        merged_whole_word=len(spans) - len(widened.whole_word),
    )
