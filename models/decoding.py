"""Decoding logits to names: the best tag sequence, the border after a proclitic, and the score of each name."""

from __future__ import annotations

import numpy as np

from musamma.data.arabic import MAX_PROCLITIC_LETTERS, proclitic_offsets
from musamma.data.document import Span
from musamma.data.tags import TagSet
from musamma.data.windows import TokenizedDocument

#: Classes of the proclitic head: no letter, one, two.
PROCLITIC_CLASSES = MAX_PROCLITIC_LETTERS + 1


def decode(
    tokenized: TokenizedDocument,
    tag_logits: np.ndarray,
    proclitic_logits: np.ndarray | None,
    tag_set: TagSet,
    *,
    tag_temperature: float = 1.0,
    proclitic_temperature: float = 1.0,
) -> list[Span]:
    """Decode the names of a document.

    Temperatures affect scores only. The best sequence is the same at every temperature, because the normaliser of a word's
    logits is shared by all sequences; the search uses unscaled logits, so that rounding cannot change it.

    Args:
        tokenized: the document.
        tag_logits: tag logits of the first piece of every word; (words, tags).
        proclitic_logits: proclitic logits of the same pieces; (words, :data:`PROCLITIC_CLASSES`), or ``None`` without that
            head.
        tag_set: the tag set.
        tag_temperature: divisor of the tag logits before they become probabilities.
        proclitic_temperature: divisor of the proclitic logits.

    Returns:
        Spans without overlap, in order. ``score`` estimates the probability that the whole name is right: the product of the probabilities of its tags, of the next word not continuing it, and of its first border.
    """
    if not len(tokenized.words):
        return []
    best = find_best_tags(tag_logits, tag_set.allowed_transitions())
    # Only the words of names and the words after them are scored: most words of a long text are neither.
    scored = best != 0
    scored[1:] |= scored[:-1].copy()
    row = np.cumsum(scored) - 1
    scores = log_softmax(tag_logits[scored].astype(np.float64) / tag_temperature)
    confidence = scores[np.arange(len(scores)), best[scored]]
    begins = np.flatnonzero(best % 2 == 1)
    outside = np.flatnonzero(best == 0)
    spans = []
    for index, first in enumerate(begins):
        limit = begins[index + 1] if index + 1 < len(begins) else len(best)
        next_outside = np.searchsorted(outside, first)
        stop = min(limit, outside[next_outside]) if next_outside < len(outside) else limit
        score = confidence[row[first] : row[stop - 1] + 1].sum()
        if stop < len(best):
            score += np.logaddexp.reduce(np.delete(scores[row[stop]], best[first] + 1))
        start = int(tokenized.words[first, 0])
        if proclitic_logits is not None:
            start, border_score = choose_proclitic_border(
                tokenized, int(first), proclitic_logits[first], temperature=proclitic_temperature
            )
            score = score + border_score
        spans.append(
            Span(
                start,
                int(tokenized.words[stop - 1, 1]),
                tag_set.label_of(int(best[first])) or "",
                # Rounding may leave a sum of probabilities slightly above 1.
                round(min(1.0, float(np.exp(score))), 6),
            )
        )
    return spans


def choose_proclitic_border(
    tokenized: TokenizedDocument, word: int, logits: np.ndarray, *, temperature: float = 1.0
) -> tuple[int, float]:
    """Choose where a name begins in its first word: at the word's start or after one or two proclitic letters.

    Only borders that the word's letters allow are considered.

    Args:
        tokenized: the document.
        word: index of the name's first word.
        logits: proclitic logits of that word; (:data:`PROCLITIC_CLASSES`,).
        temperature: divisor of the logits.

    Returns:
        The offset in the text, and the border's log probability.
    """
    offsets = proclitic_offsets(tokenized.document.text, *tokenized.words[word].tolist())
    scores = log_softmax(logits[: len(offsets)].astype(np.float64) / temperature)
    letters = int(scores.argmax())
    return offsets[letters], scores[letters]


def find_best_tags(scores: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Find the best sequence of tags in which every tag may follow the one before (Viterbi, 1967).

    Args:
        scores: logits or log probabilities of every tag at every word; (words, tags). A constant added to all scores of a
            word changes nothing.
        allowed: :meth:`TagSet.allowed_transitions`; (tags + 1, tags).

    Returns:
        Tag ids; int64, (words,).
    """
    greedy = scores.argmax(axis=1)
    previous = np.concatenate([[len(allowed) - 1], greedy[:-1]])
    if allowed[previous, greedy].all():
        return greedy  # the best sequence without constraints is allowed
    penalty = np.where(allowed, 0.0, -np.inf)
    best = scores[0] + penalty[-1]
    # The smallest integer type saves memory: a text may have a million words.
    back = np.zeros(scores.shape, dtype=np.min_scalar_type(scores.shape[1]))
    for word in range(1, len(scores)):
        paths = best[:, None] + penalty[:-1]
        back[word] = paths.argmax(axis=0)
        # The scores are kept near zero: in a sum over a long text, rounding would lose the differences.
        best = paths.max(axis=0) - best.max() + scores[word]
    tags = np.empty(len(scores), dtype=np.int64)
    tags[-1] = best.argmax()
    for word in range(len(scores) - 1, 0, -1):
        tags[word - 1] = back[word, tags[word]]
    return tags


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log probabilities along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
