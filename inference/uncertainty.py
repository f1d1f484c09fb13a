"""Measures of uncertainty: how much a model, or several models together, would learn from the annotation of a text.

Every measure has a value for each word; that of a text is their mean, so that length alone does not count. Higher values stand for
less certain texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from musamma.data.document import Document
from musamma.data.errors import InputError, not_one_of
from musamma.data.tags import TagSet
from musamma.models.decoding import find_best_tags, log_softmax

#: The measures, each with its value for a word.
MEASURES: Mapping[str, str] = {
    # The normalised log probability of Shen et al. 2018, "Deep active learning for named entity recognition".
    "confidence": "negative log probability of the tag in the best sequence",
    "margin": "one minus the difference between the two highest tag probabilities",
    "entropy": "entropy of the tag probabilities, in nats",
    "names": "one minus the score of the name that starts in the word; 0 for other words",
    # Its mean is the information about the models in a tag: Houlsby et al. 2011, "Bayesian active learning".
    "disagreement": "entropy of the mean of several models' tag probabilities minus the mean of their entropies, in nats",
}

_SHOWN_WORDS = 3
_SHOWN_CHARACTERS = 30


def choose_measure(measure: str | None, models: int) -> str:
    """Return the measure to use: by default the disagreement of several models, and the confidence of one.

    Raises:
        InputError: there is no such measure, or it needs several models.
    """
    if measure is None:
        return "disagreement" if models > 1 else "confidence"
    if measure not in MEASURES:
        raise not_one_of("measure", measure, MEASURES)
    if measure == "disagreement" and models < 2:
        raise InputError(
            "`measure='disagreement'` with one model",
            expected="two or more, such as the seeds of a run",
            remedy=f"give more models, or a `measure` among {', '.join(name for name in MEASURES if name != measure)}",
        )
    return measure


def tag_probabilities(logits: np.ndarray, *, temperature: float = 1.0) -> np.ndarray:
    """Return the probabilities of the tags of every word; float64, (words, tags)."""
    return np.exp(log_softmax(logits.astype(np.float64) / temperature))


def measure_words(
    probabilities: np.ndarray, document: Document, words: np.ndarray, tag_set: TagSet, *, measure: str
) -> np.ndarray:
    """Compute a measure for every word.

    Args:
        probabilities: tag probabilities by model; float64, (models, words, tags). All measures but the disagreement use the
            mean of the models.
        document: the document with the names that were found in it, for ``names``.
        words: start and end of every word; int64, (words, 2).
        tag_set: the tag set.
        measure: one of :data:`MEASURES`.

    Returns:
        Float64, (words,).
    """
    mean = probabilities.mean(axis=0)
    count = len(words)
    if not count:
        return np.zeros(0)
    match measure:
        case "confidence":
            logs = np.log(np.maximum(mean, np.finfo(np.float64).tiny))
            return -logs[np.arange(count), find_best_tags(logs, tag_set.allowed_transitions())]
        case "margin":
            second, first = np.sort(mean, axis=1)[:, -2:].T
            return 1.0 - (first - second)
        case "entropy":
            return entropy(mean)
        case "names":
            values = np.zeros(count)
            # A name starts inside its first word if a proclitic precedes it.
            starts = np.searchsorted(words[:, 1], [span.start for span in document.spans], side="right")
            for start, span in zip(starts, document.spans, strict=True):
                if start < count:
                    values[start] += 1.0 - (span.score or 0.0)
            return values
        case "disagreement":
            # Never negative, apart from rounding.
            return np.maximum(entropy(mean) - entropy(probabilities).mean(axis=0), 0.0)
        case _:
            raise not_one_of("measure", measure, MEASURES)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy along the last axis, in nats."""
    logs = np.log(np.where(probabilities > 0.0, probabilities, 1.0))
    return -(probabilities * logs).sum(axis=-1)


def describe_words(
    text: str, words: np.ndarray, values: np.ndarray, probabilities: np.ndarray, tags: Sequence[str]
) -> str:
    """Name the words with the highest values, each with its two most probable tags.

    Args:
        text: the text.
        words: start and end of every word; int64, (words, 2).
        values: a measure of every word; (words,).
        probabilities: tag probabilities, the mean of all models; (words, tags).
        tags: the tags by id.

    Returns:
        Such as ``الحود (B-GPE 0.51, O 0.44), بصيبص (O 0.60, B-PER 0.31)``; empty if no value is above 0.
    """
    # Stable, so that of equal words the first ones are shown.
    highest = np.argsort(-values, kind="stable")[:_SHOWN_WORDS]
    described = []
    for word in highest[values[highest] > 0.0]:
        likely = np.argsort(-probabilities[word], kind="stable")[:2]
        shares = ", ".join(f"{tags[tag]} {probabilities[word, tag]:.2f}" for tag in likely)
        start, end = words[word]
        described.append(f"{text[start : min(end, start + _SHOWN_CHARACTERS)]} ({shares})")
    return ", ".join(described)
