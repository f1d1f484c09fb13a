"""Shards: the records of an input, split into ranges that can be read and tagged independently.

A shard consists of whole groups as :func:`musamma.inference.batch_run.group_records` forms them over the whole input. Each
document is therefore batched with the same documents on any machine, and its scores are identical to the last digit.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from musamma.data.errors import InputError
from musamma.data.input_files import InputFile
from musamma.inference.batch_run import GROUP_SIZE, group_records
from musamma.inference.inputs import (
    Inputs,
    Record,
    SeenIds,
    find_input_files,
    read_input_file,
    read_inputs,
    reject_duplicate,
)
from musamma.inference.run_state import update_digest

#: Default number of records per shard. If a worker dies, at most this work is lost: some minutes of one core.
SHARD_RECORDS = 16 * GROUP_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRange:
    """Consecutive records of one file.

    Args:
        path: the file.
        stem: the base of ids for records without one.
        first: number of records of the file before these.
        after_line: line or row of the last record before these; 0 at the start of the file.
        offset: uncompressed bytes of the file before these.
        count: number of records.
    """

    path: str
    stem: str
    first: int = 0
    after_line: int = 0
    offset: int = 0
    count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Consecutive records of an input, in whole groups.

    Args:
        number: index of the shard, from 0.
        ranges: where its records are.
        records: number of records.
        rejected: number of these records that are not documents.
        duplicates: each record whose id occurred before, in this shard or an earlier one, as its index in the shard and the
            place of the first occurrence.
        digest: digest of the records.
        bytes_read: bytes of all inputs up to the end of this shard.
    """

    number: int
    ranges: tuple[FileRange, ...]
    records: int
    rejected: int
    duplicates: tuple[tuple[int, str], ...]
    digest: str
    bytes_read: int


def cut_shards(inputs: Inputs, *, size: int = SHARD_RECORDS, skip: bool = False) -> Iterator[Shard]:
    """Yield the shards of an input. They depend only on its content and on ``size``.

    The whole input is read, as in a run without shards, so that ids are compared across shards and records that are not
    documents are found before any document is tagged.

    Args:
        inputs: the input; its ``output`` is the folder that will be written.
        size: minimum number of records per shard; the last group of a shard is never cut.
        skip: count records that are not documents instead of stopping at the first.

    Raises:
        InputError: a record is not a document and ``skip`` is false, there are no records, or the input is standard input.
    """
    if size < 1:
        raise InputError(f"shards of {size:,} records", expected="1 or more")
    cutter = _ShardCutter(inputs)
    number = count = rejected = bytes_read = 0
    digest = ""
    with closing(cutter.read_records()) as records:
        for group in group_records(records, skip=skip):
            digest = update_digest(digest, group)
            count += len(group)
            rejected += sum(record.error is not None for record in group)
            bytes_read = group[-1].bytes_read
            if count >= size:
                yield cutter.cut(number, count, rejected=rejected, digest=digest, bytes_read=bytes_read)
                number, count, rejected, digest = number + 1, 0, 0, ""
    if count:
        yield cutter.cut(number, count, rejected=rejected, digest=digest, bytes_read=bytes_read)
    elif not number:
        next(read_inputs(inputs))  # raises the error of an input without records


@dataclass(slots=True)
class _ShardCutter:
    """Reads an input and keeps track of the ranges read since the last shard."""

    inputs: Inputs
    ranges: list[FileRange] = field(default_factory=list)
    duplicates: list[tuple[int, str]] = field(default_factory=list)
    count: int = 0
    _open: FileRange | None = None

    def read_records(self) -> Generator[Record, None, None]:
        """Yield all records of the input."""
        base = 0
        with closing(SeenIds()) as seen_ids:
            for file in self._files():
                self._close_range()
                following = self._open = FileRange(path=str(file.path), stem=file.stem)
                for record in read_input_file(file, self.inputs, base=base):
                    if record.document is not None and (first := seen_ids.add(record.document.id, record.where)):
                        self.duplicates.append((self.count, first))
                        record = reject_duplicate(record, first)
                    self.count += 1
                    # No range is open if a shard was cut since the record before.
                    current = self._open or following
                    self._open = current = replace(current, count=current.count + 1)
                    following = replace(
                        current,
                        first=current.first + current.count,
                        after_line=record.line or current.after_line,
                        offset=record.bytes_read - base,
                        count=0,
                    )
                    yield record
                base += file.size
        self._close_range()

    def cut(self, number: int, records: int, *, rejected: int, digest: str, bytes_read: int) -> Shard:
        """Return the shard of all records read since the last one."""
        self._close_range()
        shard = Shard(
            number=number,
            ranges=tuple(self.ranges),
            records=records,
            rejected=rejected,
            duplicates=tuple(self.duplicates),
            digest=digest,
            bytes_read=bytes_read,
        )
        self.ranges, self.duplicates, self.count = [], [], 0
        return shard

    def _close_range(self) -> None:
        if self._open is not None and self._open.count:
            self.ranges.append(self._open)
        self._open = None

    def _files(self) -> Iterator[InputFile]:
        folder = None if self.inputs.output is None else Path(self.inputs.output).resolve()
        for name in self.inputs.names:
            if name == "-":
                raise InputError(
                    "standard input", expected="files, which every worker can read", remedy="write it to a file first"
                )
            for file in find_input_files(name, None):
                if folder is not None and file.target.is_relative_to(folder):
                    raise InputError(
                        "an input lies in the output's folder", where=str(file.path), remedy="choose another `output`"
                    )
                yield file


def read_shard(shard: Shard, inputs: Inputs) -> Generator[Record, None, None]:
    """Yield the records of a shard as a run through the whole input reads them.

    Raises:
        InputError: a table has no text column.
    """
    duplicates = dict(shard.duplicates)
    records = (record for file_range in shard.ranges for record in read_file_range(file_range, inputs))
    for index, record in enumerate(records):
        is_duplicate = index in duplicates and record.document is not None
        yield reject_duplicate(record, duplicates[index]) if is_duplicate else record


def read_file_range(file_range: FileRange, inputs: Inputs) -> Iterator[Record]:
    """Return the records of a range; fewer if the file has become shorter."""
    records = read_input_file(
        InputFile(Path(file_range.path), file_range.stem),
        inputs,
        after=file_range.first,
        after_line=file_range.after_line,
        offset=file_range.offset,
    )
    return islice(records, file_range.count)
