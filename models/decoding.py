"""Decoding logits to names and nested names: the best tag sequence, the border after a proclitic, and the score of each name."""

from __future__ import annotations

from collections.abc import Sequence

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


def decode_nested(
    tokenized: TokenizedDocument,
    outer: Sequence[Span],
    nested_logits: np.ndarray,
    proclitic_logits: np.ndarray | None,
    tag_set: TagSet,
    *,
    nested_temperature: float = 1.0,
    proclitic_temperature: float = 1.0,
) -> list[Span]:
    """Decode the names inside names, one level deep.

    A nested name in the first word of its outer name starts where that name does; another one may start after a proclitic of its own.

    Args:
        tokenized: the document.
        outer: its outermost names, as :func:`decode` returns them.
        nested_logits: logits of the tags of nested names at the first piece of every word; (words, nested tags).
        proclitic_logits: as of :func:`decode`.
        tag_set: the tag set of nested names.
        nested_temperature: divisor of the nested logits before they become probabilities.
        proclitic_temperature: divisor of the proclitic logits.

    Returns:
        Spans without overlap, in order, each inside an outer name and shorter than it. ``score`` estimates the probability that both
        the outer name and this one are right, so it is not above the outer name's score.
    """
    if not outer:
        return []
    words = tokenized.words
    firsts = np.searchsorted(words[:, 1], [span.start for span in outer], side="right").tolist()
    stops = np.searchsorted(words[:, 0], [span.end for span in outer], side="left").tolist()
    marked = np.concatenate([[0], np.cumsum(nested_logits.argmax(axis=1) != 0)])
    allowed = _transitions_inside_a_name(tag_set)
    spans = []
    for name, first, stop in zip(outer, firsts, stops, strict=True):
        # Most names hold none: if O is the best tag of every word, it is the best sequence.
        if stop - first < 2 or marked[first] == marked[stop]:
            continue
        logits = nested_logits[first:stop]
        best = find_best_tags_inside_a_name(logits, allowed)
        scores = log_softmax(logits.astype(np.float64) / nested_temperature)
        for begin in np.flatnonzero(best % 2 == 1).tolist():
            end = begin + 1
            while end < len(best) and best[end] == best[begin] + 1:
                end += 1
            score = scores[np.arange(begin, end), best[begin:end]].sum()
            if end < len(best):
                score += np.logaddexp.reduce(np.delete(scores[end], best[begin] + 1))
            start = name.start if begin == 0 else int(words[first + begin, 0])
            if begin and proclitic_logits is not None:
                start, border_score = choose_proclitic_border(
                    tokenized, first + begin, proclitic_logits[first + begin], temperature=proclitic_temperature
                )
                score = score + border_score
            probability = min(1.0, float(np.exp(score))) * (1.0 if name.score is None else name.score)
            label = tag_set.label_of(int(best[begin])) or ""
            spans.append(Span(start, int(words[first + end - 1, 1]), label, round(probability, 6)))
    return spans


def find_best_tags_inside_a_name(scores: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Find the best sequence of tags of nested names in which no nested name covers all words of the outer name.

    For each label, a further tag stands for a nested name that has covered every word so far. The last word cannot have it.

    Args:
        scores: logits of every tag at the words of the outer name, at least two; (words, tags).
        allowed: the transitions, with the further tags; (tags + labels + 1, tags + labels).

    Returns:
        Tag ids without the further tags; int64, (words,).
    """
    tags = scores.shape[1]
    extended = np.concatenate([scores, scores[:, 2::2]], axis=1)
    extended[0, tags:] = scores[0, 1::2]
    extended[-1, tags:] = -np.inf
    best = find_best_tags(extended, allowed)
    covering = best >= tags
    best[covering] = 2 * (best[covering] - tags) + 2
    if covering[0]:
        best[0] -= 1
    return best


def _transitions_inside_a_name(tag_set: TagSet) -> np.ndarray:
    """Return the transitions for :func:`find_best_tags_inside_a_name`; bool, (tags + labels + 1, tags + labels)."""
    tags, labels = len(tag_set), len(tag_set.labels)
    plain = tag_set.allowed_transitions()
    allowed = np.zeros((tags + labels + 1, tags + labels), dtype=bool)
    allowed[:tags, :tags] = plain[:tags]
    # After such a name another one may begin, or none.
    allowed[tags:-1, :tags] = plain[0]
    allowed[tags:-1, tags:] = np.eye(labels, dtype=bool)
    allowed[-1, 0] = True
    allowed[-1, tags:] = True
    return allowed


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
