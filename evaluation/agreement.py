"""How far two annotators agree on the same texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sklearn.metrics import cohen_kappa_score

from musamma.data.arabic import word_offsets
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.evaluation.matching import CORRECT, NamePair, pair_names
from musamma.evaluation.metrics import Scorer, Scores
from musamma.evaluation.pairing import pair_documents

_OUTSIDE = "O"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two annotations of the same texts, compared.

    Args:
        scores: the second annotation scored against the first. F1 is the same the other way round.
        kappa: Cohen's kappa (1960) over the labels of all words, ``O`` for a word outside every name.
        kappa_names: the same over the words that stand in a name of either annotation, where ``O`` cannot inflate it.
        words: how many words there are.
        disagreements: every name that the other side has not, or has otherwise.
    """

    scores: Scores
    kappa: float
    kappa_names: float
    words: int
    disagreements: tuple[NamePair, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """The figures and the disagreements, as JSON."""
        kinds = Counter(case.kind for case in self.disagreements)
        return {
            "documents": self.scores.documents,
            "words": self.words,
            "kappa": self.kappa,
            "kappa_names": self.kappa_names,
            "span_f1": self.scores.strict.micro.f1,
            "scores": self.scores.to_dict(),
            "kinds": dict(kinds),
            "disagreements": [case.to_dict() for case in self.disagreements],
        }


def measure_agreement(first: Iterable[Document], second: Iterable[Document]) -> Agreement:
    """Compare two annotations of the same documents, matched by id; documents that the second has not are left out.

    Raises:
        InputError: a document of the second is not in the first, differs in its text, or an id comes twice; nothing to compare.
    """
    scorer = Scorer()
    ours: list[str] = []
    theirs: list[str] = []
    cases: list[NamePair] = []
    others = {document.id: document for document in second}
    shared = (document for document in first if document.id in others)
    for one, other in pair_documents(shared, others.values()):
        if other is None:
            continue
        scorer.add(one, other)
        words = word_offsets(one.text)
        ours += word_labels(words, one.spans)
        theirs += word_labels(words, other.spans)
        cases += (case for case in pair_names(one, other.spans) if case.kind != CORRECT)
    if not ours:
        raise InputError("no word in the documents of both", expected="two annotations of the same documents")
    pairs = list(zip(ours, theirs, strict=True))
    named = [pair for pair in pairs if pair != (_OUTSIDE, _OUTSIDE)]
    return Agreement(scorer.scores(), _kappa(pairs), _kappa(named), len(pairs), tuple(cases))


def word_labels(words: list[tuple[int, int]], spans: Iterable[Span]) -> list[str]:
    """The label of every word, by the first name that reaches into it; ``O`` outside names.

    Args:
        words: start and end of every word, in code points, sorted.
        spans: names, sorted, without overlap.
    """
    labels = [_OUTSIDE] * len(words)
    index = 0
    for span in spans:
        while index < len(words) and words[index][1] <= span.start:
            index += 1
        at = index
        while at < len(words) and words[at][0] < span.end:
            if labels[at] == _OUTSIDE:
                labels[at] = span.label
            at += 1
    return labels


def _kappa(pairs: list[tuple[str, str]]) -> float:
    # No word, or one label throughout, leaves chance nothing to explain: 0/0, which is perfect agreement.
    if all(one == other for one, other in pairs):
        return 1.0
    return float(cohen_kappa_score(*map(list, zip(*pairs, strict=True))))
