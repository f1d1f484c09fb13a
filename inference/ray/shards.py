"""Shards: the records of an input cut into ranges, which can be read and tagged apart from each other.

A shard is some of the groups that :func:`musamma.inference.batch_run.group_records` makes of the whole input, so its documents share their
batches with the same others wherever they are tagged, and what comes out is the same to the last digit of a score.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import pyarrow as pa

from musamma.data.errors import InputError
from musamma.inference.batch_run import GROUP_SIZE, group_records
from musamma.inference.inputs import (
    PACKINGS,
    File,
    Identifiers,
    Inputs,
    input_files,
    kind,
    opened,
    read_file,
    read_inputs,
)
from musamma.inference.readers import InputStream, json_record
from musamma.inference.records import Record, duplicate, numbered_lines
from musamma.inference.run_state import update_digest
from musamma.inference.tables import read_parquet_rows

#: Records of a shard: what a worker that dies has done in vain at most, some minutes of one core.
SHARD_RECORDS = 16 * GROUP_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Records of an input that follow each other, in whole groups.

    Args:
        number: its place among all shards, from 0.
        pieces: where its records are.
        records: how many there are.
        rejected: how many of them are no documents.
        taken: of those whose id came before, in this shard or another: the place in the shard, from 0, and where it came.
        digest: the fingerprint of the records.
        read: bytes of all inputs that have been read with it.
    """

    number: int
    pieces: tuple[FileRange, ...]
    records: int
    rejected: int
    taken: tuple[tuple[int, str], ...]
    digest: str
    read: int


def cut_shards(inputs: Inputs, *, size: int = SHARD_RECORDS, skip: bool = False) -> Iterator[Shard]:
    """The shards of an input. They depend on what it holds and on ``size`` alone.

    Reads all of it, as a run without shards does, so that ids are compared across shards and what is no document is met before
    any is tagged.

    Args:
        inputs: what is to be tagged; its ``output`` is the folder that is going to be written.
        size: records of a shard, at least; its last group is never cut.
        skip: count lines that are no documents, instead of stopping at the first.

    Raises:
        InputError: a record is no document, and is not to be skipped; there is nothing at all, or standard input.
    """
    if size < 1:
        raise InputError(f"shards of {size:,} records", expected="1 or more")
    cutter = _ShardCutter(inputs)
    number = count = rejected = read = 0
    digest = ""
    with closing(cutter.records()) as records:
        for group in group_records(records, skip=skip):
            digest = update_digest(digest, group)
            count += len(group)
            rejected += sum(record.error is not None for record in group)
            read = group[-1].read
            if count >= size:
                yield cutter.shard(number, count, rejected=rejected, digest=digest, read=read)
                number, count, rejected, digest = number + 1, 0, 0, ""
    if count:
        yield cutter.shard(number, count, rejected=rejected, digest=digest, read=read)
    elif not number:
        next(read_inputs(inputs))  # Nothing at all: an error, whose one text is there.


def read_shard(shard: Shard, inputs: Inputs) -> Generator[Record, None, None]:
    """The records of a shard, as a run through the whole input meets them.

    Raises:
        InputError: a table has no column of texts.
    """
    places = dict(shard.taken)
    for index, record in enumerate(record for piece in shard.pieces for record in read_file_range(piece, inputs)):
        yield duplicate(record, places[index]) if index in places and record.document is not None else record


@dataclass(slots=True)
class _ShardCutter:
    """Reads an input and keeps where it has come to."""

    inputs: Inputs
    pieces: list[FileRange] = field(default_factory=list)
    taken: list[tuple[int, str]] = field(default_factory=list)
    count: int = 0
    _open: FileRange | None = None

    def records(self) -> Generator[Record, None, None]:
        """All records of the input."""
        base = 0
        with closing(Identifiers()) as seen:
            for file in self._files():
                self._close()
                after = self._open = FileRange(path=str(file.path), stem=file.stem)
                for record in read_file(file, base, self.inputs):
                    if record.document is not None and (place := seen.taken(record.document.id, record.where)):
                        self.taken.append((self.count, place))
                        record = duplicate(record, place)
                    self.count += 1
                    # A shard may have been cut since the record before.
                    at = self._open or after
                    self._open = at = replace(at, count=at.count + 1)
                    after = replace(
                        at,
                        first=at.first + at.count,
                        behind=record.line or at.behind,
                        offset=record.read - base,
                        count=0,
                    )
                    yield record
                base += file.path.stat().st_size
        self._close()

    def shard(self, number: int, records: int, *, rejected: int, digest: str, read: int) -> Shard:
        """What has been read since the last shard."""
        self._close()
        made = Shard(
            number=number,
            pieces=tuple(self.pieces),
            records=records,
            rejected=rejected,
            taken=tuple(self.taken),
            digest=digest,
            read=read,
        )
        self.pieces, self.taken, self.count = [], [], 0
        return made

    def _close(self) -> None:
        if self._open is not None and self._open.count:
            self.pieces.append(self._open)
        self._open = None

    def _files(self) -> Iterator[File]:
        folder = None if self.inputs.output is None else Path(self.inputs.output).resolve()
        for name in self.inputs.names:
            if name == "-":
                raise InputError(
                    "standard input", expected="files, which every worker can read", remedy="write it to one"
                )
            for file in input_files(name, None):
                if folder is not None and file.path.resolve().is_relative_to(folder):
                    raise InputError(
                        "an input lies in the output's folder", where=str(file.path), remedy="choose another --output"
                    )
                yield file


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRange:
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


def read_file_range(piece: FileRange, inputs: Inputs) -> Iterator[Record]:
    """The records of a piece; fewer where the file has become shorter."""
    return islice(_read_from(piece, inputs), piece.count)


def _read_from(piece: FileRange, inputs: Inputs) -> Iterator[Record]:
    """The records of a file from the first of a piece on."""
    path = Path(piece.path)
    file = File(path, piece.stem)
    readers = {".jsonl": _read_lines_from, ".ndjson": _read_lines_from, ".parquet": _read_rows_from}
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


def _read_lines_from(source: InputStream, piece: FileRange) -> Iterator[Record]:
    lines: Iterable[tuple[int, bytes]]
    if Path(piece.path).suffix.lower() in PACKINGS:
        lines = islice(numbered_lines(source.stream), piece.behind, None)
    else:
        source.stream.seek(piece.offset)
        lines = ((piece.behind + number, line) for number, line in numbered_lines(source.stream))
    for number, line in lines:
        if line.strip():
            yield json_record(line, number, source, default_id=None)


def _read_rows_from(source: InputStream, piece: FileRange) -> Iterator[Record]:
    return read_parquet_rows(source, first=piece.first)
