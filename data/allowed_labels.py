"""Annotation that is coarser than a model's labels, or leaves some of them out: the labels that it allows.

A corpus may have one label where the model has several (``LOC`` for countries, seas and airports), and may not annotate names that
the model marks (peoples, events). Its annotation then does not say which tag a word has, but which tags it may have. Training on it
maximises the summed probability of these tags: the marginal likelihood of partial annotation (Tsuboi et al., 2008).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from musamma.data.arabic import WORD_PATTERN, is_proclitic
from musamma.data.document import Document, Span
from musamma.data.tags import OUTSIDE, TagSet

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class AllowedLabels:
    """The labels of a model that the labels of a corpus allow.

    Args:
        table: for a label of the corpus, the labels that a name with it may have in the model. ``O`` among them says that it
            may be no name there. A label outside the table allows itself. Under ``O`` stand the labels that the corpus does not
            annotate; ``O`` itself, which may stand among them, says nothing more.
        whole_words: whether the corpus annotates whole words, so that its names include the proclitics before them.
        labels: the labels of the corpus; of two that allow a predicted label, the one of the same name is preferred.
    """

    table: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    whole_words: bool = False
    labels: frozenset[str] = frozenset()

    def of(self, label: str) -> tuple[str, ...]:
        """Return the labels that a label of the corpus allows."""
        return self.table.get(label, (label,))

    @property
    def unannotated(self) -> tuple[str, ...]:
        """The labels that the corpus does not annotate."""
        return tuple(label for label in self.table.get(OUTSIDE, ()) if label != OUTSIDE)

    @property
    def is_complete(self) -> bool:
        """True if the corpus is annotated just as the model tags: every label allows itself alone."""
        return not self.table and not self.whole_words

    def model_labels(self, labels: Iterable[str]) -> set[str]:
        """Return all labels of the model that the corpus allows, if it has these labels."""
        allowed = {new for label in labels for new in self.of(label)} | set(self.unannotated)
        return allowed - {OUTSIDE}

    def tag_sets(self, corpus: TagSet, model: TagSet) -> np.ndarray:
        """Return the tags of the model that each tag of the corpus allows.

        ``B-`` allows ``B-`` and ``I-`` allows ``I-``, of the allowed labels. ``O`` allows both of the labels that are not
        annotated: the words of a text are taken as independent, so that an inside tag after an outside one is allowed, too.
        Decoding rules such sequences out.

        Returns:
            Bool, (tags of the corpus, tags of the model).
        """
        import numpy as np  # here, because formats and scoring do without it

        allowed = np.zeros((len(corpus), len(model)), dtype=bool)
        allowed[0, 0] = True
        for label in self.unannotated:
            allowed[0, [model.begin(label), model.inside(label)]] = True
        for label in corpus.labels:
            for new in self.of(label):
                allowed[corpus.begin(label), 0 if new == OUTSIDE else model.begin(new)] = True
                allowed[corpus.inside(label), 0 if new == OUTSIDE else model.inside(new)] = True
        return allowed

    def align(self, gold: Document, predicted: Document) -> tuple[Document, Document]:
        """Rewrite annotation and prediction, so that scoring compares only what the corpus annotates.

        A predicted name with the borders of an annotated one whose label allows its label takes that label. Other predicted
        names are left out if the corpus does not annotate their label; the rest take the label of the corpus that allows theirs.
        An annotated name that may be no name is left out, and so is a prediction that finds it. With ``whole_words``, a predicted
        name that begins after the proclitics of a word begins where the word does. Names inside names are left out.

        Args:
            gold: a document of the corpus.
            predicted: the same text with the names of a model.
        """
        if self.is_complete:
            return gold, predicted
        spans = _begin_with_words(gold.text, predicted.spans) if self.whole_words else predicted.spans
        by_borders = {(span.start, span.end): span.label for span in gold.spans}
        aligned: list[Span] = []
        for span in spans:
            label = by_borders.get((span.start, span.end))
            if label is not None and span.label in self.of(label):
                if OUTSIDE not in self.of(label):
                    aligned.append(replace(span, label=label))
            elif span.label not in self.unannotated:
                aligned.append(replace(span, label=self._corpus_label(span.label)))
        annotated = (span for span in gold.spans if OUTSIDE not in self.of(span.label))
        return replace(gold, spans=tuple(annotated), nested=()), replace(predicted, spans=tuple(aligned), nested=())

    def _corpus_label(self, label: str) -> str:
        """Return the label of the corpus that allows a label of the model, if possible of the same name; by default that label."""
        if label in self.labels and label in self.of(label):
            return label
        candidates = (old for old, allowed in self.table.items() if old != OUTSIDE and label in allowed)
        return next(candidates, label)


def _begin_with_words(text: str, spans: Sequence[Span]) -> tuple[Span, ...]:
    """Extend the names that begin after the proclitics of a word to the start of the word, unless a name is there."""
    extended: list[Span] = []
    words = [match.span() for match in WORD_PATTERN.finditer(text)]
    index = 0
    for span in spans:
        while index < len(words) and words[index][1] <= span.start:
            index += 1
        start = words[index][0] if index < len(words) else span.start
        free = not extended or extended[-1].end <= start
        extended.append(replace(span, start=start) if free and is_proclitic(text[start : span.start]) else span)
    return tuple(extended)
