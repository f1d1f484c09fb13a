"""Pieces of a file: the records behind a place in it, without those before it where the format allows that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa

from musamma.inference.readers import Opened, json_record
from musamma.inference.records import Record, numbered_lines
from musamma.inference.sources import PACKINGS, File, Inputs, kind, opened, read_file
from musamma.inference.tables import read_parquet_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Records of one file that follow each other.

    Args:
        path: the file.
        stem: what ids are made of where it has none.
        first: how many of its records are before these.
        behind: line or row of the last of those; 0 at the start of the file.
        offset: bytes of the file, unpacked, before these.
        count: how many there are.
    """

    path: str
    stem: str
    first: int = 0
    behind: int = 0
    offset: int = 0
    count: int = 0


def read_piece(piece: Piece, inputs: Inputs) -> Iterator[Record]:
    """The records of a piece; fewer where the file has become shorter."""
    return islice(_behind(piece, inputs), piece.count)


def _behind(piece: Piece, inputs: Inputs) -> Iterator[Record]:
    """The records of a file from the first of a piece on."""
    path = Path(piece.path)
    file = File(path, piece.stem)
    readers = {".jsonl": _lines_behind, ".ndjson": _lines_behind, ".parquet": _rows_behind}
    read = readers.get(kind(path)) if piece.first else None
    done = 0
    if read is not None:
        try:
            with opened(file, 0, inputs) as source:
                for record in read(source, piece):
                    done += 1
                    yield record
            return
        except (OSError, pa.ArrowException):
            pass  # Read from its start, it gives the record that tells of it.
    yield from islice(read_file(file, 0, inputs), piece.first + done, None)


def _lines_behind(source: Opened, piece: Piece) -> Iterator[Record]:
    lines: Iterable[tuple[int, bytes]]
    if Path(piece.path).suffix.lower() in PACKINGS:
        lines = islice(numbered_lines(source.stream), piece.behind, None)
    else:
        source.stream.seek(piece.offset)
        lines = ((piece.behind + number, line) for number, line in numbered_lines(source.stream))
    for number, line in lines:
        if line.strip():
            yield json_record(line, number, source, default_id=None)


def _rows_behind(source: Opened, piece: Piece) -> Iterator[Record]:
    return read_parquet_rows(source, first=piece.first)
