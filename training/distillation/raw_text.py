"""Raw text for distillation: stretches of running text, spaced evenly over the files, cut into windows without overlap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.input_files import read_lines, require_text
from musamma.data.windows import DocumentTokenizer

# Words of a stretch: several windows of consecutive paragraphs, which are read as an article is.
_STRETCH_WORDS = 1_000


@dataclass(frozen=True, slots=True)
class RawText:
    """The raw text of a run.

    Args:
        stretches: stretches of consecutive paragraphs.
        words: number of words in them, separated by white space.
    """

    stretches: tuple[str, ...]
    words: int

    def digest(self) -> str:
        """Return a digest of the stretches."""
        hashed = blake2b(digest_size=16)
        for stretch in self.stretches:
            hashed.update(stretch.encode() + b"\0")
        return hashed.hexdigest()


def read_raw_text(files: Sequence[str | Path], *, words: int | None = None) -> RawText:
    """Read stretches of text files, spaced evenly. At most about twice the text that is taken is in memory.

    Args:
        files: UTF-8 text with one paragraph a line: plain, ``.gz`` or ``.zst``.
        words: number of words to take; by default all.

    Raises:
        InputError: a file is missing, empty, damaged or not UTF-8, or the files have no words.
    """
    require_text(files)
    kept: list[tuple[str, int]] = []
    size, spacing = 0, 1
    for number, stretch in enumerate(_read_stretches(files)):
        if number % spacing:
            continue
        kept.append(stretch)
        size += stretch[1]
        if words is not None and size > 2 * words:
            kept, spacing = kept[::2], 2 * spacing
            size = sum(count for _, count in kept)
    if not kept:
        raise InputError("no words", where=", ".join(map(str, files)), expected="raw text, one paragraph a line")
    if words is not None and size > words:
        count = max(1, round(len(kept) * words / size))
        kept = [kept[index] for index in np.linspace(0, len(kept) - 1, count).round().astype(int)]
    return RawText(tuple(text for text, _ in kept), sum(count for _, count in kept))


def _read_stretches(files: Iterable[str | Path]) -> Iterator[tuple[str, int]]:
    """Yield consecutive paragraphs of each file, joined, with the number of their words."""
    for file in files:
        lines: list[str] = []
        words = 0
        for line in read_lines([file]):
            lines.append(line)
            words += len(line.split())
            if words >= _STRETCH_WORDS:
                yield "\n".join(lines), words
                lines, words = [], 0
        if words:
            yield "\n".join(lines), words


class RawWindows(Dataset):
    """The windows of raw text: rows with the piece ids and whether a piece is the first of a word.

    Args:
        text: the text.
        tokenizer: the tokenizer; the overlap of its windows is not used.
    """

    def __init__(self, text: RawText, tokenizer: DocumentTokenizer) -> None:
        cutter = DocumentTokenizer(
            tokenizer.backend, max_length=tokenizer.max_length, overlap=0, padding_id=tokenizer.padding_id
        )
        documents = (Document(str(number), stretch) for number, stretch in enumerate(text.stretches))
        windows = (window for item in cutter.tokenize_all(documents) for window in item.windows)
        self._rows = [(window.input_ids.astype(np.int32), window.positions.astype(np.int32)) for window in windows]
        #: Number of pieces of each window.
        self.lengths = [len(ids) for ids, _ in self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        ids, positions = self._rows[index]
        words = np.zeros(len(ids), dtype=bool)
        words[positions] = True
        return {"input_ids": ids, "words": words}
