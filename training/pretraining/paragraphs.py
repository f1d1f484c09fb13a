"""Paragraphs of raw text as pieces, cut where they are longer than a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice

import numpy as np
from transformers import PreTrainedTokenizerBase

from musamma.data.document import Document
from musamma.data.encoding import Encoder
from musamma.data.errors import InputError
from musamma.data.pieces import cut, tokenize
from musamma.training.pretraining.masking import Special
from musamma.training.pretraining.units import piece_borders

_BATCH = 512


class ParagraphEncoder:
    """Cuts paragraphs into pieces and rows' worth of them.

    Args:
        tokenizer: a fast tokenizer with Musamma's normaliser.
        length: the most pieces, special tokens included.
        clitics: whether proclitics are units of their own.

    Raises:
        InputError: the tokenizer is slow, or has no mask token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, length: int, clitics: bool) -> None:
        if tokenizer.mask_token_id is None:
            raise InputError(
                "the tokenizer has no mask token",
                where=str(tokenizer.name_or_path),
                remedy="choose an encoder that was pre-trained with masks",
            )
        encoder = Encoder(tokenizer, max_length=length, overlap=0)
        (window,) = encoder.encode(Document("", "ا")).windows
        before = int(window.positions[0])
        self.special = Special(before, length - encoder.capacity - before)
        self._prefix = window.input_ids[: self.special.before]
        self._suffix = window.input_ids[len(window.input_ids) - self.special.behind :]
        self._tokenizer, self._capacity, self._clitics = tokenizer, encoder.capacity, clitics

    def encode(self, lines: Iterable[str]) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
        """Each line's segments, in order; none for a line that normalises to nothing.

        A line that is longer than a row is cut before the last word that begins in it, a longer word wherever the row
        ends.

        Returns:
            Of each segment the ids, special tokens included, and which of them begin a unit; (pieces,) both.
        """
        stream = iter(lines)
        while batch := list(islice(stream, _BATCH)):
            for text, pieces in zip(batch, cut(batch, partial(tokenize, self._tokenizer)), strict=True):
                yield list(self._segments(text, pieces.ids, pieces.offsets))

    def _segments(self, text: str, ids: np.ndarray, offsets: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        words, units = piece_borders(text, offsets, clitics=self._clitics)
        starts = np.flatnonzero(words)
        first = 0
        while first < len(ids):
            last = min(first + self._capacity, len(ids))
            if last < len(ids):
                before = starts[(starts > first) & (starts <= last)]
                last = int(before[-1]) if len(before) else last
            inner = units[first:last].copy()
            inner[0] = True
            around = np.ones(len(self._prefix), dtype=bool), np.ones(len(self._suffix), dtype=bool)
            yield (
                np.concatenate([self._prefix, ids[first:last], self._suffix]),
                np.concatenate([around[0], inner, around[1]]),
            )
            first = last
