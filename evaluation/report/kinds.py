"""How the kinds of case are called and signed, where colour is not enough."""

from __future__ import annotations

from musamma.evaluation.matching import (
    BORDER,
    CORRECT,
    LABEL,
    LABEL_AND_BORDER,
    MISSED,
    SPURIOUS,
    NamePair,
)
from musamma.evaluation.matching import (
    PROCLITIC_CASES as PROCLITIC,
)

TITLES = {
    CORRECT: "correct",
    LABEL: "wrong label",
    PROCLITIC: "proclitic only",
    BORDER: "wrong border",
    LABEL_AND_BORDER: "wrong label and border",
    MISSED: "missed",
    SPURIOUS: "spurious",
}

#: What a kind says to someone who has not read the manual.
MEANINGS = {
    CORRECT: "borders and label are those of the annotation",
    LABEL: "right borders, another label",
    PROCLITIC: "right but for a proclitic at the start",
    BORDER: "right label, other borders",
    LABEL_AND_BORDER: "shares characters with a name, and nothing else is right",
    MISSED: "annotated, and nothing was predicted there",
    SPURIOUS: "predicted, and nothing is annotated there",
}

SIGNS = {
    CORRECT: "✓",
    LABEL: "⇄",
    PROCLITIC: "⇥",
    BORDER: "↔",
    LABEL_AND_BORDER: "⇄↔",
    MISSED: "−",
    SPURIOUS: "+",
}


def labels(case: NamePair) -> tuple[str, ...]:
    """The gold and the predicted label of a case, or the one that both have or that is there."""
    found = [span.label for span in (case.gold, case.predicted) if span is not None]
    return tuple(dict.fromkeys(found))
