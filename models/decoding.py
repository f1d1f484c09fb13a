"""From logits to spans: constrained decoding over whole documents, and confidence."""

from __future__ import annotations

import numpy as np

from musamma.data.arabic import MAX_PROCLITIC_LETTERS, proclitic_offsets
from musamma.data.document import Span
from musamma.data.tags import TagSet
from musamma.data.windows import TokenizedDocument

#: Classes of the proclitic head: no letter, one, two.
PROCLITIC_CLASSES = MAX_PROCLITIC_LETTERS + 1


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log probabilities along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def find_best_tags(scores: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The best sequence of tags in which every tag may follow the one before (Viterbi, 1967).

    Args:
        scores: logits or log probabilities of every tag at every word: what is added to all of a word's changes
            nothing; (words, tags).
        allowed: :meth:`TagSet.allowed`; (tags + 1, tags).

    Returns:
        Tag ids; int64, (words,).
    """
    greedy = scores.argmax(axis=1)
    previous = np.concatenate([[len(allowed) - 1], greedy[:-1]])
    if allowed[previous, greedy].all():
        return greedy  # the best of all sequences is an allowed one
    penalty = np.where(allowed, 0.0, -np.inf)
    best = scores[0] + penalty[-1]
    # A text may have a million words.
    back = np.zeros(scores.shape, dtype=np.min_scalar_type(scores.shape[1]))
    for word in range(1, len(scores)):
        paths = best[:, None] + penalty[:-1]
        back[word] = paths.argmax(axis=0)
        # Kept near zero: a sum over a long text would round the differences away.
        best = paths.max(axis=0) - best.max() + scores[word]
    tags = np.empty(len(scores), dtype=np.int64)
    tags[-1] = best.argmax()
    for word in range(len(scores) - 1, 0, -1):
        tags[word - 1] = back[word, tags[word]]
    return tags


def decode(
    encoded: TokenizedDocument,
    tag_logits: np.ndarray,
    proclitic_logits: np.ndarray | None,
    tags: TagSet,
    *,
    tag_temperature: float = 1.0,
    proclitic_temperature: float = 1.0,
) -> list[Span]:
    """The names of a document.

    Temperatures act on scores alone. The best sequence is the same at every temperature, as what normalises a word's logits is
    shared by all sequences; not to rescale them before the search keeps it the same where rounding would decide.

    Args:
        encoded: the document.
        tag_logits: the classifier's logits of every word's first piece; (words, tags).
        proclitic_logits: the proclitic head's; (words, :data:`PROCLITIC_CLASSES`), or ``None`` without such a head.
        tags: the tag set.
        tag_temperature: what tag logits are divided by before they become probabilities.
        proclitic_temperature: the same for the proclitic head's.

    Returns:
        Spans without overlap, in order. ``score`` is the probability that the whole name is right, as far as the words' tags
        can say: the product of the probabilities of its tags, of the next word not going on with it, and of the border that
        was placed.
    """
    if not len(encoded.words):
        return []
    best = find_best_tags(tag_logits, tags.allowed_transitions())
    # Only names' words and the ones behind them are scored: most of a long text is neither.
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
        stop = np.searchsorted(outside, first)
        last = min(limit, outside[stop]) if stop < len(outside) else limit
        score = confidence[row[first] : row[last - 1] + 1].sum()
        if last < len(best):
            score += np.logaddexp.reduce(np.delete(scores[row[last]], best[first] + 1))
        start = int(encoded.words[first, 0])
        if proclitic_logits is not None:
            # Only borders that the word's letters allow are in question.
            offsets = proclitic_offsets(encoded.document.text, *encoded.words[first].tolist())
            borders = log_softmax(proclitic_logits[first, : len(offsets)].astype(np.float64) / proclitic_temperature)
            count = int(borders.argmax())
            start, score = offsets[count], score + borders[count]
        spans.append(
            Span(
                start,
                int(encoded.words[last - 1, 1]),
                tags.label_of(int(best[first])) or "",
                # Rounding may leave a sum of probabilities a little above 1.
                round(min(1.0, float(np.exp(score))), 6),
            )
        )
    return spans
