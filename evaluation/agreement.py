"""Agreement of two annotators on the same texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sklearn.metrics import cohen_kappa_score

from musamma.data.arabic import word_offsets
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.tags import OUTSIDE
from musamma.evaluation.document_pairing import pair_documents
from musamma.evaluation.matching import CORRECT, NamePair, pair_names
from musamma.evaluation.metrics import Scorer, Scores


@dataclass(frozen=True, slots=True)
class Agreement:
    """The comparison of two annotations of the same texts.

    Args:
        scores: the second annotation scored against the first. F1 is the same with the sides exchanged.
        kappa: Cohen's kappa (1960) over the labels of all words, ``O`` for a word outside every name.
        kappa_names: the same over the words inside a name of either annotation, so that the many ``O`` do not inflate it.
        words: number of words.
        disagreements: every name that the other side lacks or has with another label or other borders.
    """

    scores: Scores
    kappa: float
    kappa_names: float
    words: int
    disagreements: tuple[NamePair, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the figures and the disagreements as JSON."""
        kinds = Counter(pair.kind for pair in self.disagreements)
        return {
            "documents": self.scores.documents,
            "words": self.words,
            "kappa": self.kappa,
            "kappa_names": self.kappa_names,
            "span_f1": self.scores.strict.micro.f1,
            "scores": self.scores.to_dict(),
            "kinds": dict(kinds),
            "disagreements": [pair.to_dict() for pair in self.disagreements],
        }


def measure_agreement(first: Iterable[Document], second: Iterable[Document]) -> Agreement:
    """Compare two annotations of the same documents, matched by id. Documents that the second lacks are left out.

    Raises:
        InputError: a document of the second is not in the first or has another text, an id is repeated, or the shared
            documents have no word.
    """
    scorer = Scorer()
    first_labels: list[str] = []
    second_labels: list[str] = []
    disagreements: list[NamePair] = []
    second_documents = {document.id: document for document in second}
    shared = (document for document in first if document.id in second_documents)
    for first_document, second_document in pair_documents(shared, second_documents.values()):
        if second_document is None:
            continue
        scorer.add(first_document, second_document)
        words = word_offsets(first_document.text)
        first_labels += label_words(words, first_document.spans)
        second_labels += label_words(words, second_document.spans)
        disagreements += (pair for pair in pair_names(first_document, second_document.spans) if pair.kind != CORRECT)
    if not first_labels:
        raise InputError("no word in the documents of both", expected="two annotations of the same documents")
    labels = list(zip(first_labels, second_labels, strict=True))
    in_names = [pair for pair in labels if pair != (OUTSIDE, OUTSIDE)]
    return Agreement(scorer.scores(), _kappa(labels), _kappa(in_names), len(labels), tuple(disagreements))


def label_words(words: list[tuple[int, int]], spans: Iterable[Span]) -> list[str]:
    """Return the label of the first name that touches each word; ``O`` outside names.

    Args:
        words: start and end of every word, in code points, sorted.
        spans: names, sorted, without overlap.
    """
    labels = [OUTSIDE] * len(words)
    first = 0
    for span in spans:
        while first < len(words) and words[first][1] <= span.start:
            first += 1
        index = first
        while index < len(words) and words[index][0] < span.end:
            if labels[index] == OUTSIDE:
                labels[index] = span.label
            index += 1
    return labels


def _kappa(labels: list[tuple[str, str]]) -> float:
    # If there are no words, or all have the same label, kappa would be 0/0; complete agreement is 1.
    if all(first == second for first, second in labels):
        return 1.0
    return float(cohen_kappa_score(*map(list, zip(*labels, strict=True))))
