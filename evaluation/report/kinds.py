"""How the kinds of case are called and signed, where colour is not enough."""

from __future__ import annotations

from musamma.evaluation.matching import (
    CORRECT,
    MISSED,
    SPURIOUS,
    WRONG_BORDER,
    WRONG_LABEL,
    WRONG_LABEL_AND_BORDER,
    NamePair,
)
from musamma.evaluation.matching import (
    PROCLITIC_BORDER as PROCLITIC,
)

TITLES = {
    CORRECT: "correct",
    WRONG_LABEL: "wrong label",
    PROCLITIC: "proclitic only",
    WRONG_BORDER: "wrong border",
    WRONG_LABEL_AND_BORDER: "wrong label and border",
    MISSED: "missed",
    SPURIOUS: "spurious",
}

#: What a kind says to someone who has not read the manual.
MEANINGS = {
    CORRECT: "borders and label are those of the annotation",
    WRONG_LABEL: "right borders, another label",
    PROCLITIC: "right but for a proclitic at the start",
    WRONG_BORDER: "right label, other borders",
    WRONG_LABEL_AND_BORDER: "shares characters with a name, and nothing else is right",
    MISSED: "annotated, and nothing was predicted there",
    SPURIOUS: "predicted, and nothing is annotated there",
}

SIGNS = {
    CORRECT: "✓",
    WRONG_LABEL: "⇄",
    PROCLITIC: "⇥",
    WRONG_BORDER: "↔",
    WRONG_LABEL_AND_BORDER: "⇄↔",
    MISSED: "−",
    SPURIOUS: "+",
}


def labels(case: NamePair) -> tuple[str, ...]:
    """The gold and the predicted label of a case, or the one that both have or that is there."""
    found = [span.label for span in (case.gold, case.predicted) if span is not None]
    return tuple(dict.fromkeys(found))
