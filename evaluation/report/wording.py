"""Titles and explanations shown in a report."""

from __future__ import annotations

from musamma.evaluation.matching import (
    CORRECT,
    MISSED,
    PROCLITIC_BORDER,
    SPURIOUS,
    WRONG_BORDER,
    WRONG_LABEL,
    WRONG_LABEL_AND_BORDER,
)

#: Condition for a correct name, by mode.
MODE_MEANINGS = {
    "strict": "first character, last character and label are right",
    "proclitic": "the same, but for prefixed letters (و ف ب ل ك س) at the start",
    "whole_word": "label and borders are right by whole words, proclitics included",
    "iob2_strict": "its IOB2 tags, one per word, are right and valid as they stand",
    "conlleval": "its IOB2 tags are right by the rules of the CoNLL shared tasks, valid or not",
    "overlap": "label right, and at least one character in common",
}

#: Scored parts of a name, by schema of SemEval-2013.
SCHEMA_MEANINGS = {
    "strict": "borders and label",
    "exact": "borders, whatever the label",
    "partial": "borders; half a point for an overlap",
    "type": "label; any overlap counts",
}

#: Contents of a layer of nested names.
LAYER_MEANINGS = {
    "outermost": "names outside other names: the ones the modes score",
    "nested": "names inside names",
    "all": "names of every layer",
}

#: Title and explanation of each built-in slice dimension; other dimensions are keys of the documents' meta.
DIMENSION_TITLES = {
    "label": ("Label", ""),
    "seen": (
        "Seen in training",
        "Whether the name, letter by letter, is a name in the training data: with this label, or only with another one.",
    ),
    "proclitic": ("Behind a prefix", "Whether a conjunction or preposition (و ف ب ل ك س) is written onto the name."),
    "length": ("Length of the name", "In words."),
    "frequency": ("Times in training", "How often the name, letter by letter, is a name in the training data."),
    "position": ("Position in the document", "Whether the name begins in the first tenth of the text."),
    "document_length": ("Length of the document", "In words."),
}


def dimension_title(dimension: str) -> tuple[str, str]:
    """Return the title and explanation of a slice dimension."""
    return DIMENSION_TITLES.get(dimension, (dimension, "A key of the documents' meta."))


#: Title of each kind of name pair.
KIND_TITLES = {
    CORRECT: "correct",
    WRONG_LABEL: "wrong label",
    PROCLITIC_BORDER: "proclitic only",
    WRONG_BORDER: "wrong border",
    WRONG_LABEL_AND_BORDER: "wrong label and border",
    MISSED: "missed",
    SPURIOUS: "spurious",
}

#: Explanation of each kind, for readers who do not know the manual.
KIND_MEANINGS = {
    CORRECT: "borders and label are those of the annotation",
    WRONG_LABEL: "right borders, another label",
    PROCLITIC_BORDER: "right but for a proclitic at the start",
    WRONG_BORDER: "right label, other borders",
    WRONG_LABEL_AND_BORDER: "shares characters with a name; borders and label are wrong",
    MISSED: "annotated, and nothing was predicted there",
    SPURIOUS: "predicted, and nothing is annotated there",
}

#: Sign of each kind, for readers who cannot tell the colours apart.
KIND_SIGNS = {
    CORRECT: "✓",
    WRONG_LABEL: "⇄",
    PROCLITIC_BORDER: "⇥",
    WRONG_BORDER: "↔",
    WRONG_LABEL_AND_BORDER: "⇄↔",
    MISSED: "−",
    SPURIOUS: "+",
}
