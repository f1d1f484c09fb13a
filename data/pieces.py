"""Pieces of raw texts as arrays; a long text is cut a section at a time, so that it takes the memory of a section.

What a tokenizer and its normaliser note down about a text takes some hundred bytes a character: a gigabyte for 10 MB.
Sections overlap, and are joined where both were cut the same for a while, so that the pieces are the whole text's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from transformers import PreTrainedTokenizerBase

#: Characters of a section.
SECTION = 1 << 17
#: Characters that two sections share on either side of their border.
MARGIN = 1 << 10
# Pieces that must agree where two sections are joined.
_RUN = 16
# Characters that the tokenizer is given at a time, so that it can use all cores.
_CALL = 1 << 20

#: Gives each text's piece ids, and their start and end in it.
Tokenize = Callable[[list[str]], Iterable[tuple[Sequence[int], Sequence[tuple[int, int]]]]]


@dataclass(frozen=True, slots=True)
class Pieces:
    """The pieces of a text.

    Args:
        ids: piece ids; int64, (pieces,).
        offsets: start and end in the text, in code points; int64, (pieces, 2).
    """

    ids: np.ndarray
    offsets: np.ndarray

    def __getitem__(self, part: slice) -> Pieces:
        return Pieces(self.ids[part], self.offsets[part])


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
    """Each text's piece ids, without special tokens, and their start and end in it."""
    encoding = tokenizer(
        texts,
        add_special_tokens=False,
        truncation=False,
        padding=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        # A text that happens to hold "[SEP]" holds five characters, not an instruction.
        split_special_tokens=True,
        verbose=False,
    )
    return zip(encoding["input_ids"], encoding["offset_mapping"], strict=True)


def cut(texts: Iterable[str], tokenize: Tokenize, *, section: int = SECTION, margin: int = MARGIN) -> Iterator[Pieces]:
    """The pieces of every text, in order.

    Args:
        texts: raw texts.
        tokenize: the tokenizer, without special tokens.
        section: characters of a section; a text of no more is cut as a whole.
        margin: characters that two sections share on either side of their border, at most a quarter of a section.
    """
    short: list[str] = []
    size = 0
    for text in texts:
        if len(text) > section:
            yield from _arrays(tokenize, short)
            yield _by_sections(text, tokenize, section, margin)
            short, size = [], 0
            continue
        short.append(text)
        size += len(text)
        if size >= _CALL:
            yield from _arrays(tokenize, short)
            short, size = [], 0
    yield from _arrays(tokenize, short)


def _arrays(tokenize: Tokenize, texts: list[str]) -> Iterator[Pieces]:
    for ids, offsets in tokenize(texts) if texts else ():
        yield Pieces(np.array(ids, dtype=np.int64), np.array(offsets, dtype=np.int64).reshape(-1, 2))


def _by_sections(text: str, tokenize: Tokenize, section: int, margin: int) -> Pieces:
    # The last section is a little longer rather than too short to be joined.
    borders = [*range(0, len(text) - margin, section), len(text)]
    stretches = [(max(0, start - margin), min(len(text), end + margin)) for start, end in pairwise(borders)]
    joined: list[Pieces] = []
    at_once = max(1, _CALL // section)
    for first in range(0, len(stretches), at_once):
        some = stretches[first : first + at_once]
        for (start, _), pieces in zip(some, _arrays(tokenize, [text[a:b] for a, b in some]), strict=True):
            pieces.offsets[:] += start
            if joined:
                seam = _seam(joined[-1], pieces, start + margin)
                if seam is None:
                    # A tokenizer that looks far ahead or back, or next to nothing but white space.
                    return next(_arrays(tokenize, [text]))
                joined[-1], pieces = joined[-1][: seam[0]], pieces[seam[1] :]
            joined.append(pieces)
    return Pieces(np.concatenate([part.ids for part in joined]), np.concatenate([part.offsets for part in joined]))


def _seam(left: Pieces, right: Pieces, border: int) -> tuple[int, int] | None:
    """Where two sections agree behind their border: how many pieces to take of the left, and to leave of the right."""
    starts = right.offsets[:, 0]
    for kept in range(int(np.searchsorted(left.offsets[:, 0], border)), len(left.ids) - _RUN + 1):
        left_out = int(np.searchsorted(starts, left.offsets[kept, 0]))
        one, other = left[kept : kept + _RUN], right[left_out : left_out + _RUN]
        if np.array_equal(one.ids, other.ids) and np.array_equal(one.offsets, other.offsets):
            return kept, left_out
    return None
