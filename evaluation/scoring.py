"""Scoring: what was predicted against what was annotated, in several modes at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.evaluation.chunks import lenient_chunks, strict_chunks
from musamma.evaluation.figures import STRICT, Counts, Losses, ModeScores, Scores
from musamma.evaluation.pairing import pair_documents
from musamma.evaluation.widening import Widened, widen_spans

WHOLE_WORD, IOB2_STRICT, CONLLEVAL, OVERLAP = "whole_word", "iob2_strict", "conlleval", "overlap"

#: The modes: character-exact (always scored), exact by whole words, two readings of IOB2 tags, any overlap.
MODES = (STRICT, WHOLE_WORD, IOB2_STRICT, CONLLEVAL, OVERLAP)


class Tally:
    """Names counted by label: those found, those predicted, those in the gold."""

    def __init__(self) -> None:
        self._found: Counter[str] = Counter()
        self._predicted: Counter[str] = Counter()
        self._gold: Counter[str] = Counter()

    def add_sets(self, gold: set[tuple[int, int, str]], predicted: set[tuple[int, int, str]]) -> None:
        """Count two sets of chunks (start, end, label); what is in both is found."""
        self.add(
            (chunk[2] for chunk in gold),
            (chunk[2] for chunk in predicted),
            (chunk[2] for chunk in gold & predicted),
        )

    def add(self, gold: Iterable[str], predicted: Iterable[str], found: Iterable[str]) -> None:
        """Count the labels of gold, predicted and found names."""
        self._gold.update(gold)
        self._predicted.update(predicted)
        self._found.update(found)

    def scores(self) -> ModeScores:
        """The figures so far."""
        return ModeScores(
            {
                label: Counts(tp := self._found[label], self._predicted[label] - tp, self._gold[label] - tp)
                for label in sorted(self._gold.keys() | self._predicted.keys())
            }
        )


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
        self._tallies = {mode: Tally() for mode in MODES if mode in wanted}
        self._documents = self._missing = 0
        self._gold_losses = self._predicted_losses = Losses()

    def add(self, gold: Document, prediction: Document | None) -> None:
        """Score one document; ``None`` for a prediction that is missing and counts as empty."""
        predicted = prediction.spans if prediction is not None else ()
        self._documents += 1
        self._missing += prediction is None
        gold_widened, predicted_widened = (
            widen_spans(gold.text, gold.spans),
            widen_spans(gold.text, predicted),
        )
        self._gold_losses += _losses(gold.spans, gold.nested, gold_widened)
        self._predicted_losses += _losses(
            predicted, prediction.nested if prediction is not None else (), predicted_widened
        )
        for mode, tally in self._tallies.items():
            if mode == STRICT:
                tally.add_sets({span.key for span in gold.spans}, {span.key for span in predicted})
            elif mode == WHOLE_WORD:
                tally.add_sets(gold_widened.whole_word, predicted_widened.whole_word)
            elif mode == OVERLAP:
                found = overlapping(gold.spans, predicted)
                tally.add((s.label for s in gold.spans), (s.label for s in predicted), found)
            else:
                # Tags made from spans are valid IOB2, which the strict and the lenient reading agree on.
                tally.add_sets(set(gold_widened.iob), set(predicted_widened.iob))

    def scores(self) -> Scores:
        """The figures of all documents so far."""
        return Scores(
            modes={mode: tally.scores() for mode, tally in self._tallies.items()},
            documents=self._documents,
            missing=self._missing,
            gold_losses=self._gold_losses,
            predicted_losses=self._predicted_losses,
        )


class TagScorer:
    """Scores sentences of IOB2 tags as they come, by both readings; holds counts only."""

    def __init__(self) -> None:
        self._strict, self._lenient = Tally(), Tally()
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
        gold: the annotated documents. Names inside names (``nested``) are counted as a loss and not compared.
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


def overlapping(gold: Sequence[Span], predicted: Sequence[Span]) -> list[str]:
    """The largest one-to-one matching of gold and predicted names that share a label and a character.

    Args:
        gold: names, sorted, without overlap.
        predicted: the same.

    Returns:
        The label of every pair.
    """
    found = []
    waiting: dict[str, list[Span]] = {}
    for span in predicted:
        waiting.setdefault(span.label, []).append(span)
    position = dict.fromkeys(waiting, 0)
    # Neither side overlaps itself, so taking the leftmost partner each time gives as many pairs as can be.
    for span in gold:
        candidates = waiting.get(span.label, [])
        index = position.get(span.label, 0)
        while index < len(candidates) and candidates[index].end <= span.start:
            index += 1
        if index < len(candidates) and candidates[index].start < span.end:
            found.append(span.label)
            index += 1
        if candidates:
            position[span.label] = index
    return found


def _losses(spans: Sequence[Span], nested: Sequence[Span], widened: Widened) -> Losses:
    return Losses(
        nested=len(nested),
        shared_words=widened.shared_words,
        dropped_iob=len(spans) - len(widened.iob),
        merged_whole_word=len(spans) - len(widened.whole_word),
    )
