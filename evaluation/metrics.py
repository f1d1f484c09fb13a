"""Scores of predicted documents: precision, recall and F1 in several modes at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from musamma.data.document import Document, Span
from musamma.evaluation.counts import Counts, LabelTally
from musamma.evaluation.document_pairing import pair_documents
from musamma.evaluation.matching import (
    ALL,
    MODES,
    NESTED,
    OUTERMOST,
    STRICT,
    Matches,
    match_by_mode,
    match_layers,
    select_modes,
)
from musamma.evaluation.partial_credit import PartialScores, PartialTally
from musamma.evaluation.word_boundaries import WordAlignedNames


@dataclass(frozen=True, slots=True)
class Average:
    """Unweighted means over labels; ``support`` is the number of gold names of all labels."""

    precision: float
    recall: float
    f1: float
    support: int

    def to_dict(self) -> dict[str, float | int]:
        """Return the metrics as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ModeScores:
    """The scores of one mode.

    Args:
        per_label: counts of every label of the gold or the predictions, sorted by label.
    """

    per_label: Mapping[str, Counts]

    @property
    def micro(self) -> Counts:
        """All labels counted together."""
        return sum(self.per_label.values(), Counts())

    @property
    def macro(self) -> Average:
        """The mean over labels, including those without gold names, as in seqeval; 0.0 if there is no label."""
        rows = list(self.per_label.values()) or [Counts()]
        return Average(
            precision=float(np.mean([row.precision for row in rows])),
            recall=float(np.mean([row.recall for row in rows])),
            f1=float(np.mean([row.f1 for row in rows])),
            support=self.micro.support,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return micro, macro and per-label metrics as JSON."""
        labels = {label: counts.to_dict() for label, counts in self.per_label.items()}
        return {"micro": self.micro.to_dict(), "macro": self.macro.to_dict(), "per_label": labels}


@dataclass(frozen=True, slots=True)
class Losses:
    """Names of one side that a mode could not represent.

    Args:
        nested: nested names, which are scored as a layer instead of in the modes; see :class:`Scores`.
        shared_words: whitespace-separated words that hold characters of more than one name.
        dropped_iob: names missing from the IOB2 tags: an earlier name has the tag of one of their words, or they cover no
            word.
        merged_whole_word: names that became equal to another one when both were extended to whole words.
    """

    nested: int = 0
    shared_words: int = 0
    dropped_iob: int = 0
    merged_whole_word: int = 0

    @classmethod
    def count(cls, spans: Sequence[Span], nested: Sequence[Span], words: WordAlignedNames) -> Losses:
        """Count the losses of one side of a document.

        Args:
            spans: its outermost names.
            nested: its nested names.
            words: the outermost names by whole words.
        """
        return cls(
            nested=len(nested),
            shared_words=words.shared_words,
            dropped_iob=len(spans) - len(words.iob2),
            merged_whole_word=len(spans) - len(words.whole_word),
        )

    def __add__(self, other: Losses) -> Losses:
        return Losses(
            self.nested + other.nested,
            self.shared_words + other.shared_words,
            self.dropped_iob + other.dropped_iob,
            self.merged_whole_word + other.merged_whole_word,
        )

    def to_dict(self) -> dict[str, int]:
        """Return the counts as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of a system in every requested mode.

    Args:
        modes: scores by mode, see :data:`musamma.evaluation.MODES`.
        documents: number of gold documents (of sentences, if tags alone were scored).
        missing: gold documents without a prediction, scored as if no name had been predicted.
        gold_losses: gold names that a mode could not represent.
        predicted_losses: predicted names that a mode could not represent.
        partial: partial credit by schema, see :data:`musamma.evaluation.partial_credit.SCHEMAS`; empty if tags alone were
            scored.
        layers: strict scores by layer: ``outermost``, the names the modes score; if either side has nested names also
            ``nested``, these alone, and ``all``, both together. Empty if tags alone were scored.
    """

    modes: Mapping[str, ModeScores]
    documents: int
    missing: int = 0
    gold_losses: Losses = field(default_factory=Losses)
    predicted_losses: Losses = field(default_factory=Losses)
    partial: Mapping[str, PartialScores] = field(default_factory=dict)
    layers: Mapping[str, ModeScores] = field(default_factory=dict)

    @property
    def strict(self) -> ModeScores:
        """The character-exact scores, the headline. ``KeyError`` if tags alone were scored."""
        return self.modes[STRICT]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON: the strict scores at the top level, the other modes under their names."""
        record: dict[str, Any] = self.strict.to_dict() if STRICT in self.modes else {}
        record |= {name: scores.to_dict() for name, scores in self.modes.items() if name != STRICT}
        if self.partial:
            record["semeval"] = {name: scores.to_dict() for name, scores in self.partial.items()}
        if self.layers:
            record["layers"] = {name: scores.to_dict() for name, scores in self.layers.items()}
        return record | {
            "documents": self.documents,
            "missing": self.missing,
            "losses": {"gold": self.gold_losses.to_dict(), "predictions": self.predicted_losses.to_dict()},
        }


class Scorer:
    """Scores documents one by one and keeps only counts.

    Args:
        modes: some of :data:`MODES`; ``strict`` is always scored.

    Raises:
        InputError: a mode is unknown.
    """

    def __init__(self, *, modes: Iterable[str] = MODES) -> None:
        self._tallies = {mode: LabelTally() for mode in select_modes(modes)}
        self._partial = PartialTally()
        self._nested, self._all = LabelTally(), LabelTally()
        self._documents = self._missing = 0
        self._gold_losses = self._predicted_losses = Losses()

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes that are scored, in the order of :data:`MODES`."""
        return tuple(self._tallies)

    def add(self, gold: Document, prediction: Document | None) -> None:
        """Score one document; a missing prediction is ``None`` and counts as empty."""
        predicted = prediction.spans if prediction is not None else ()
        self.add_matches(gold, prediction, match_by_mode(gold.text, gold.spans, predicted, modes=self.modes))

    def add_matches(self, gold: Document, prediction: Document | None, matches: Matches) -> None:
        """Score one document whose outermost names were compared in the modes of this scorer."""
        predicted, predicted_nested = (prediction.spans, prediction.nested) if prediction is not None else ((), ())
        self._documents += 1
        self._missing += prediction is None
        for mode, labels in matches.modes.items():
            self._tallies[mode].add(*labels)
        self._partial.add(matches.unmatched_gold, matches.unmatched_predicted)
        if gold.nested or predicted_nested:
            layers = match_layers(gold, prediction)
            self._nested.add(*layers[NESTED])
            self._all.add(*layers[ALL])
        else:
            self._all.add(*matches.modes[STRICT])
        self._gold_losses += Losses.count(gold.spans, gold.nested, matches.gold_words)
        self._predicted_losses += Losses.count(predicted, predicted_nested, matches.predicted_words)

    def scores(self) -> Scores:
        """Return the scores of all documents so far."""
        modes = {mode: ModeScores(tally.counts()) for mode, tally in self._tallies.items()}
        layers = {OUTERMOST: modes[STRICT]}
        if nested := self._nested.counts():
            layers |= {NESTED: ModeScores(nested), ALL: ModeScores(self._all.counts())}
        return Scores(
            modes=modes,
            documents=self._documents,
            missing=self._missing,
            gold_losses=self._gold_losses,
            predicted_losses=self._predicted_losses,
            partial=self._partial.scores(modes[STRICT].per_label),
            layers=layers,
        )


def score_documents(
    gold: Iterable[Document],
    predictions: Iterable[Document],
    *,
    modes: Iterable[str] = MODES,
    missing_as_empty: bool = False,
) -> Scores:
    """Score predicted documents against gold documents of the same id.

    Both are streamed; see :func:`musamma.evaluation.document_pairing.pair_documents` for what is kept in memory.

    Args:
        gold: the annotated documents. The modes compare the outermost names; nested names are scored as a layer.
        predictions: the predicted documents, in any order, on the same texts.
        modes: some of :data:`MODES`; ``strict`` is always scored.
        missing_as_empty: count gold documents without a prediction as predicted without names.

    Raises:
        InputError: a document is missing, unknown to the gold, repeated or different in its text; a mode is unknown.
    """
    scorer = Scorer(modes=modes)
    for document, prediction in pair_documents(gold, predictions, missing_as_empty=missing_as_empty):
        scorer.add(document, prediction)
    return scorer.scores()
