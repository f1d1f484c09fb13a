"""How a text is cut by two tokenizers, and how near the hidden states of their encoders are, word by word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedModel

from musamma.models.vocabulary.word_vocabulary import ARABIC_WORD, split_words

#: One line in so many is held out of the counting.
HELD_OUT_EVERY = 50
_LINES, _PIECES = 64, 128


@dataclass(frozen=True, slots=True)
class Fertility:
    """How the held-out lines of one text are cut, before and after.

    Args:
        lines: held-out lines.
        pieces_per_word_before, pieces_per_word_after: words are what white space separates; no special pieces.
        one_piece_before, one_piece_after: share of the Arabic words that are one piece.
        cut_finer: share of all words and signs that are more pieces than before.
        unknown_before, unknown_after: unknown pieces.
        offsets_exact: share of the lines where each word has the offsets that it had, and its pieces cover it in order.
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
    """How near the hidden states are: cosines of the mean of a word's last hidden states, before and after.

    A mean over nothing is ``None``.

    Args:
        lines: held-out lines that were compared, none longer than 128 pieces.
        words: words and signs in them.
        changed: share of those that are cut otherwise than before.
        changed_words: mean cosine of the words that are cut otherwise.
        other_words: mean cosine of all others; their neighbours changed.
        sentences: mean cosine of the mean over a line's words.
        chance: mean cosine of a word with the next one, both before: what to read the others by.
        old_cuts: lines whose old pieces all stayed, which the new encoder was given cut as before.
        hidden_difference: largest difference of a hidden state on those; 0 is what to expect of weights in float32.
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
    """Cut lines with the old and the new tokenizer and compare.

    Args:
        tokenizers: old and new, of the same words.
        lines: at least one.
        unknown: ids of the unknown piece, -1 where there is none.
    """
    pieces, unknowns, whole = [0, 0], [0, 0], [0, 0]
    arabic = words = finer = exact = 0
    for line in lines:
        names = split_words(tokenizers[0], line)
        pair = [one.encode(line, add_special_tokens=False) for one in tokenizers]
        sizes = [np.bincount(_words(one), minlength=len(names)) for one in pair]
        is_arabic = np.array([ARABIC_WORD.fullmatch(name) is not None for name in names], bool)
        for side in (0, 1):
            pieces[side] += len(pair[side].ids)
            unknowns[side] += pair[side].ids.count(unknown[side])
            whole[side] += int((sizes[side][: len(names)][is_arabic] == 1).sum())
        arabic += int(is_arabic.sum())
        words += len(names)
        finer += int((sizes[1] > sizes[0]).sum())
        exact += _word_offsets(pair[0]) == _word_offsets(pair[1])
    spaced = max(sum(len(line.split()) for line in lines), 1)
    return Fertility(
        lines=len(lines),
        pieces_per_word_before=pieces[0] / spaced,
        pieces_per_word_after=pieces[1] / spaced,
        one_piece_before=whole[0] / max(arabic, 1),
        one_piece_after=whole[1] / max(arabic, 1),
        cut_finer=finer / max(words, 1),
        unknown_before=unknowns[0],
        unknown_after=unknowns[1],
        offsets_exact=exact / len(lines),
    )


def measure_similarity(
    models: tuple[PreTrainedModel, PreTrainedModel],
    tokenizers: tuple[Tokenizer, Tokenizer],
    lines: Sequence[str],
    new_ids: Mapping[int, int],
    *,
    most: int = _LINES,
) -> EncoderSimilarity:
    """Compare the hidden states of two encoders on lines that each cuts in its own way.

    Args:
        models: old and new, in float32.
        tokenizers: theirs.
        lines: an even sample of at most ``most`` is compared.
        new_ids: old piece id -> new one, of the pieces that stayed.
        most: the most lines.
    """
    short = [pair for line in lines if len((pair := tuple(one.encode(line) for one in tokenizers))[0].ids) <= _PIECES]
    short = [pair for pair in short if len(pair[1].ids) <= _PIECES and any(i is not None for i in pair[0].word_ids)]
    sample = short[:: max(1, len(short) // most)][:most]
    changed, same, sentences, chance = [], [], [], []
    difference, old_cuts = 0.0, 0
    for pair in sample:
        states = [hidden_states(model, one.ids) for model, one in zip(models, pair, strict=True)]
        old, new = (_pooled(one, state) for one, state in zip(pair, states, strict=True))
        kept = [new_ids.get(i, -1) for i in pair[0].ids]
        if -1 not in kept:
            old_cuts += 1
            difference = max(difference, largest(hidden_states(models[1], kept) - states[0]))
        cosines = torch.cosine_similarity(old, new, dim=-1)
        alike = torch.tensor([a == b for a, b in zip(*(_pieces(one) for one in pair), strict=True)])
        changed.append(cosines[~alike])
        same.append(cosines[alike])
        sentences.append(torch.cosine_similarity(old.mean(0), new.mean(0), dim=0)[None])
        chance.append(torch.cosine_similarity(old[1:], old[:-1], dim=-1))
    cut_otherwise = sum(map(len, changed))
    words = cut_otherwise + sum(map(len, same))
    return EncoderSimilarity(
        lines=len(sample),
        words=words,
        changed=cut_otherwise / max(words, 1),
        changed_words=_mean(changed),
        other_words=_mean(same),
        sentences=_mean(sentences),
        chance=_mean(chance),
        old_cuts=old_cuts,
        hidden_difference=difference,
    )


def _words(line: Encoding) -> list[int]:
    """The number of each piece's word, special pieces left out."""
    return [word for word in line.word_ids if word is not None]


def _word_offsets(line: Encoding) -> dict[int, tuple[int, int] | None]:
    """Start and end of each word; ``None`` for one whose pieces overlap or go back."""
    found: dict[int, tuple[int, int] | None] = {}
    for word, (start, end) in zip(line.word_ids, line.offsets, strict=True):
        if word is None:
            continue
        before = found.get(word, (start, start))
        # A character that the normaliser makes two of may belong to two pieces.
        ordered = before is not None and before[0] <= start <= end and before[1] <= end
        found[word] = (before[0], end) if ordered and before is not None else None
    return found


def _pieces(line: Encoding) -> list[list[str]]:
    """The pieces of each word that has any."""
    cut: dict[int, list[str]] = {}
    for word, piece in zip(line.word_ids, line.tokens, strict=True):
        if word is not None:
            cut.setdefault(word, []).append(piece)
    return list(cut.values())


def _pooled(line: Encoding, states: torch.Tensor) -> torch.Tensor:
    """Mean state of each word that has a piece, shape (words, hidden)."""
    places = [i for i, word in enumerate(line.word_ids) if word is not None]
    numbers = torch.tensor(_words(line)).unique_consecutive(return_inverse=True)[1]
    summed = torch.zeros(int(numbers.max()) + 1, states.shape[-1]).index_add_(0, numbers, states[places])
    return summed / numbers.bincount()[:, None]


def _mean(parts: list[torch.Tensor]) -> float | None:
    values = [value for part in parts for value in part.tolist()]
    return sum(values) / len(values) if values else None


class LineSplit:
    """Parts a stream of lines into those to count and an even sample to prove on.

    Args:
        most: the most lines to hold out.
        progress: called now and then with the number of lines that were passed on.

    Attributes:
        lines: what was held out, from all parts of the stream.
        counted: how many lines were passed on.
        seen: how many there were.
    """

    def __init__(self, most: int, progress: Callable[[int], None] | None = None) -> None:
        self.most, self.progress, self.step = most, progress, HELD_OUT_EVERY
        self.lines: list[str] = []
        self.counted = self.seen = 0

    def rest(self, lines: Iterable[str]) -> Iterator[str]:
        """The lines that are not held out."""
        for line in lines:
            self.seen += 1
            if self.seen % self.step:
                self.counted += 1
                if self.progress and self.counted % 10_000 == 0:
                    self.progress(self.counted)
                yield line
                continue
            self.lines.append(line)
            if len(self.lines) > self.most:
                # Every other one goes: the sample stays even, and what goes is still not counted.
                self.lines, self.step = self.lines[1::2], 2 * self.step


@torch.inference_mode()
def hidden_states(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """Last hidden states of one line, shape (pieces, hidden); a long line is cut."""
    states: torch.Tensor = model(input_ids=torch.tensor([ids[:_PIECES]])).last_hidden_state[0]
    return states


def largest(states: torch.Tensor) -> float:
    """The largest absolute number among hidden states; what is no number counts as infinite."""
    # A state that is no number must fail the comparison, which max() on floats would let pass.
    return float(states.abs().nan_to_num(nan=torch.inf).max())
