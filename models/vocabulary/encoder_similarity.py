"""Comparison of two encoders and their tokenizers on held-out lines: fertility, and hidden states word by word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedModel

from musamma.models.vocabulary.word_vocabulary import ARABIC_WORD, split_words

#: One line in this many is held out of the counting.
HELD_OUT_EVERY = 50
_MAX_LINES, _MAX_PIECES = 64, 128


class LineSplit:
    """A split of a stream of lines into lines to count and an even sample of held-out lines.

    Args:
        max_held_out: maximum number of held-out lines.
        progress: called every 10,000 lines with the number of lines passed on.

    Attributes:
        held_out: the held-out lines, from all parts of the stream.
        num_counted: number of lines passed on.
        num_seen: number of all lines.
    """

    def __init__(self, max_held_out: int, progress: Callable[[int], None] | None = None) -> None:
        self.max_held_out, self.progress, self.step = max_held_out, progress, HELD_OUT_EVERY
        self.held_out: list[str] = []
        self.num_counted = self.num_seen = 0

    def skip_held_out(self, lines: Iterable[str]) -> Iterator[str]:
        """Yield the lines that are not held out."""
        for line in lines:
            self.num_seen += 1
            if self.num_seen % self.step:
                self.num_counted += 1
                if self.progress and self.num_counted % 10_000 == 0:
                    self.progress(self.num_counted)
                yield line
                continue
            self.held_out.append(line)
            if len(self.held_out) > self.max_held_out:
                # Drop every other line, so that the sample stays even. Dropped lines are not counted either.
                self.held_out, self.step = self.held_out[1::2], 2 * self.step


@dataclass(frozen=True, slots=True)
class Fertility:
    """Fertility of two tokenizers on the held-out lines of one text, before and after.

    Args:
        lines: number of held-out lines.
        pieces_per_word_before, pieces_per_word_after: words are separated by white space; special pieces do not count.
        one_piece_before, one_piece_after: share of the Arabic words that are one piece.
        cut_finer: share of all words and signs that have more pieces than before.
        unknown_before, unknown_after: number of unknown pieces.
        offsets_exact: share of the lines in which each word has the same offsets as before and its pieces cover it in order.
    """

    lines: int
    pieces_per_word_before: float
    pieces_per_word_after: float
    one_piece_before: float
    one_piece_after: float
    cut_finer: float
    unknown_before: int
    unknown_after: int
    offsets_exact: float


@dataclass(frozen=True, slots=True)
class EncoderSimilarity:
    """Similarity of hidden states: cosines between a word's mean last hidden states before and after.

    A mean over nothing is ``None``.

    Args:
        lines: number of compared held-out lines, none longer than 128 pieces.
        words: number of words and signs in them.
        changed: share of them that have other pieces than before.
        changed_words: mean cosine of the words with other pieces.
        other_words: mean cosine of the other words, whose neighbours changed.
        sentences: mean cosine of the mean over a line's words.
        chance: mean cosine of a word with the next one, both before, as a baseline for the other cosines.
        old_cuts: number of lines whose old pieces were all retained; the new encoder was also given these old pieces.
        hidden_difference: largest difference of a hidden state on those lines; 0 is expected of weights in float32.
    """

    lines: int
    words: int
    changed: float
    changed_words: float | None
    other_words: float | None
    sentences: float | None
    chance: float | None
    old_cuts: int
    hidden_difference: float


def measure_fertility(
    tokenizers: tuple[Tokenizer, Tokenizer], lines: Sequence[str], unknown: tuple[int, int]
) -> Fertility:
    """Compare how two tokenizers cut lines into pieces.

    Args:
        tokenizers: old and new, with the same normaliser and pre-tokenizer.
        lines: at least one line.
        unknown: ids of the unknown piece, -1 if there is none.
    """
    pieces, unknown_pieces, whole_words = [0, 0], [0, 0], [0, 0]
    arabic_words = words = cut_finer = exact_lines = 0
    for line in lines:
        line_words = split_words(tokenizers[0], line)
        pair = [tokenizer.encode(line, add_special_tokens=False) for tokenizer in tokenizers]
        sizes = [np.bincount(_word_numbers(encoding), minlength=len(line_words)) for encoding in pair]
        is_arabic = np.array([ARABIC_WORD.fullmatch(word) is not None for word in line_words], bool)
        for side in (0, 1):
            pieces[side] += len(pair[side].ids)
            unknown_pieces[side] += pair[side].ids.count(unknown[side])
            whole_words[side] += int((sizes[side][: len(line_words)][is_arabic] == 1).sum())
        arabic_words += int(is_arabic.sum())
        words += len(line_words)
        cut_finer += int((sizes[1] > sizes[0]).sum())
        exact_lines += _word_offsets(pair[0]) == _word_offsets(pair[1])
    spaced_words = max(sum(len(line.split()) for line in lines), 1)
    return Fertility(
        lines=len(lines),
        pieces_per_word_before=pieces[0] / spaced_words,
        pieces_per_word_after=pieces[1] / spaced_words,
        one_piece_before=whole_words[0] / max(arabic_words, 1),
        one_piece_after=whole_words[1] / max(arabic_words, 1),
        cut_finer=cut_finer / max(words, 1),
        unknown_before=unknown_pieces[0],
        unknown_after=unknown_pieces[1],
        offsets_exact=exact_lines / len(lines),
    )


def measure_similarity(
    encoders: tuple[PreTrainedModel, PreTrainedModel],
    tokenizers: tuple[Tokenizer, Tokenizer],
    lines: Sequence[str],
    new_ids: Mapping[int, int],
    *,
    max_lines: int = _MAX_LINES,
) -> EncoderSimilarity:
    """Compare the hidden states of two encoders on lines, each with its own tokenizer.

    Args:
        encoders: old and new, in float32.
        tokenizers: old and new.
        lines: an even sample of at most ``max_lines`` is compared.
        new_ids: old piece id -> new one, of the retained pieces.
        max_lines: maximum number of lines.
    """
    pairs = [tuple(tokenizer.encode(line) for tokenizer in tokenizers) for line in lines]
    short = [
        (old, new)
        for old, new in pairs
        if len(old.ids) <= _MAX_PIECES and len(new.ids) <= _MAX_PIECES and any(i is not None for i in old.word_ids)
    ]
    sample = short[:: max(1, len(short) // max_lines)][:max_lines]
    changed, same, sentences, chance = [], [], [], []
    difference, old_cuts = 0.0, 0
    for pair in sample:
        states = [hidden_states(encoder, encoding.ids) for encoder, encoding in zip(encoders, pair, strict=True)]
        old, new = (_pool_words(encoding, state) for encoding, state in zip(pair, states, strict=True))
        translated = [new_ids.get(i, -1) for i in pair[0].ids]
        if -1 not in translated:
            old_cuts += 1
            difference = max(difference, max_magnitude(hidden_states(encoders[1], translated) - states[0]))
        cosines = torch.cosine_similarity(old, new, dim=-1)
        unchanged = torch.tensor([a == b for a, b in zip(*(_word_pieces(one) for one in pair), strict=True)])
        changed.append(cosines[~unchanged])
        same.append(cosines[unchanged])
        sentences.append(torch.cosine_similarity(old.mean(0), new.mean(0), dim=0)[None])
        chance.append(torch.cosine_similarity(old[1:], old[:-1], dim=-1))
    changed_words = sum(map(len, changed))
    words = changed_words + sum(map(len, same))
    return EncoderSimilarity(
        lines=len(sample),
        words=words,
        changed=changed_words / max(words, 1),
        changed_words=_mean(changed),
        other_words=_mean(same),
        sentences=_mean(sentences),
        chance=_mean(chance),
        old_cuts=old_cuts,
        hidden_difference=difference,
    )


@torch.inference_mode()
def hidden_states(encoder: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """Compute the last hidden states of one line, (pieces, hidden). A long line is cut to 128 pieces."""
    states: torch.Tensor = encoder(input_ids=torch.tensor([ids[:_MAX_PIECES]])).last_hidden_state[0]
    return states


def max_magnitude(states: torch.Tensor) -> float:
    """Return the largest absolute value; NaN counts as infinite."""
    # NaN must fail the comparison, but max() on floats would let it pass.
    return float(states.abs().nan_to_num(nan=torch.inf).max())


def _word_numbers(line: Encoding) -> list[int]:
    """Return the word number of each piece, without special pieces."""
    return [word for word in line.word_ids if word is not None]


def _word_offsets(line: Encoding) -> dict[int, tuple[int, int] | None]:
    """Return start and end of each word; ``None`` for a word whose pieces overlap or go backwards."""
    offsets: dict[int, tuple[int, int] | None] = {}
    for word, (start, end) in zip(line.word_ids, line.offsets, strict=True):
        if word is None:
            continue
        previous = offsets.get(word, (start, start))
        # A character that the normaliser turns into two may belong to two pieces.
        ordered = previous is not None and previous[0] <= start <= end and previous[1] <= end
        offsets[word] = (previous[0], end) if ordered and previous is not None else None
    return offsets


def _word_pieces(line: Encoding) -> list[list[str]]:
    """Return the pieces of each word that has any."""
    pieces: dict[int, list[str]] = {}
    for word, piece in zip(line.word_ids, line.tokens, strict=True):
        if word is not None:
            pieces.setdefault(word, []).append(piece)
    return list(pieces.values())


def _pool_words(line: Encoding, states: torch.Tensor) -> torch.Tensor:
    """Return the mean state of each word that has a piece, (words, hidden)."""
    positions = [i for i, word in enumerate(line.word_ids) if word is not None]
    numbers = torch.tensor(_word_numbers(line)).unique_consecutive(return_inverse=True)[1]
    summed = torch.zeros(int(numbers.max()) + 1, states.shape[-1]).index_add_(0, numbers, states[positions])
    return summed / numbers.bincount()[:, None]


def _mean(parts: list[torch.Tensor]) -> float | None:
    values = [value for part in parts for value in part.tolist()]
    return sum(values) / len(values) if values else None
