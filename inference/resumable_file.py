"""Outputs of a batch run: a file that an interrupted run can be resumed from, and streams such as standard output."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

from musamma.data.errors import InputError, not_writable
from musamma.data.files import FILE, fsync_folder, lock_descriptor, open_stream, path_kind, resolve_link
from musamma.inference.inputs import REJECTS_SUFFIX, Record
from musamma.inference.output_formats import OutputFormat
from musamma.inference.run_state import (
    START_OVER,
    RunState,
    RunStats,
    complete_output,
    read_state,
    unfinished_output,
    write_state,
)

CHOOSE_OUTPUT = "choose an `output` that can be written"


class Output(Protocol):
    """The destination of a run.

    Attributes:
        stats: the stats of what this run and the interrupted runs that it resumes have written.
    """

    stats: RunStats

    def begin_or_resume(self, settings: Mapping[str, Any], output_format: OutputFormat) -> None:
        """Start the output, or continue an unfinished one."""

    def reject(self, records: list[Record]) -> None:
        """Store records that are not documents."""

    def append(self, data: bytes, stats: RunStats) -> None:
        """Store encoded documents together with the stats up to them."""

    def finish(self, output_format: OutputFormat) -> None:
        """Complete the output."""


class StreamOutput:
    """Standard output, a FIFO, a device or an open descriptor. It cannot be resumed and stores no rejected records.

    Args:
        path: the stream; ``None`` for standard output. It is opened when the output begins.

    Raises:
        InputError: the stream cannot be opened or written. Errors of standard output are raised as they are.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.stats = RunStats()
        self._path = path
        self._stream: BinaryIO | None = None

    def __enter__(self) -> StreamOutput:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path is not None and self._stream is not None:
            with suppress(OSError):  # Reported when it was written.
                self._stream.close()

    def begin_or_resume(self, settings: Mapping[str, Any], output_format: OutputFormat) -> None:
        """Write the head."""
        self._write(output_format.head)

    def reject(self, records: list[Record]) -> None:
        """Do nothing: a run to a stream stops at the first rejected record."""

    def append(self, data: bytes, stats: RunStats) -> None:
        """Write and flush, so that the next program of a pipeline can proceed."""
        self.stats = stats
        self._write(data)

    def finish(self, output_format: OutputFormat) -> None:
        """Write the tail."""
        self._write(output_format.tail)

    def _write(self, data: bytes) -> None:
        if self._path is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            return
        try:
            if self._stream is None:
                self._stream = open_stream(self._path)
            self._stream.write(data)
            self._stream.flush()
        except OSError as error:
            raise not_writable(self._path, error, remedy=CHOOSE_OUTPUT) from error


class ResumableFile:
    """An output file or folder that is written as ``OUTPUT.part`` and renamed when it is complete.

    The state of the run is saved in ``OUTPUT.part.json``, rejected records in ``OUTPUT.rejects.jsonl.part``. Use it as a
    context manager, which closes these files. A run that fails before its first documents are written leaves none of them.
    A link stays: the file to which it leads is written, and the other files are beside that file. ``OUTPUT.part`` is locked while
    it is written.

    Args:
        target: the finished file or folder.
        resume: continue an unfinished output; start from the beginning if there is none.
        overwrite: delete an unfinished output.

    Attributes:
        path: ``OUTPUT.part``.
        state_path: ``OUTPUT.part.json``.
        rejects_path: ``OUTPUT.rejects.jsonl``.
        stats: the stats of what this run and the interrupted runs that it resumes have written.

    Raises:
        InputError: there is an unfinished output and neither option is given, another run is writing it, or it cannot be
            resumed or written.
    """

    def __init__(self, target: Path, *, resume: bool = False, overwrite: bool = False) -> None:
        self.stats = RunStats()
        with self._reporting(target):
            target = resolve_link(target, remedy=CHOOSE_OUTPUT)
        self.target = target
        self.path, self.state_path, self.rejects_path = (
            _beside(target, s) for s in (".part", ".part.json", REJECTS_SUFFIX)
        )
        self._rejects_part = _beside(self.rejects_path, ".part")
        self._file: BinaryIO | None = None
        self._rejects_file: BinaryIO | None = None
        self._settings: Mapping[str, Any] = {}
        with self._reporting(self.path):
            self._check_part()
            if overwrite:
                self._delete()
            self._previous = self._read_previous(resume=resume)
        if self._previous:
            self.stats = self._previous.stats

    def _check_part(self) -> None:
        """Check that a file in the place of the unfinished output is a file that no other run is writing."""
        if not os.path.lexists(self.path):
            return
        if self.path.is_symlink() or path_kind(self.path) != FILE:
            raise InputError(
                "a link" if self.path.is_symlink() else str(path_kind(self.path)),
                where=str(self.path),
                expected="nothing, or the unfinished output of a run",
                remedy=f"delete it, or {CHOOSE_OUTPUT}",
            )
        with self.path.open("rb") as file:
            lock_descriptor(file.fileno(), self.path)

    def _read_previous(self, *, resume: bool) -> RunState | None:
        """Read the state of the interrupted run; ``None`` if this run starts from the beginning."""
        if resume and self.state_path.exists() and self.path.exists():
            state = read_state(self.state_path)
            if self.path.stat().st_size < state.stats.bytes:
                raise InputError(
                    f"{self.path.stat().st_size:,} bytes",
                    where=str(self.path),
                    expected=f"the {state.stats.bytes:,} bytes that {self.state_path.name} records",
                    remedy=START_OVER,
                )
            return state
        # A run killed while it loads the model leaves an empty file and no state: nothing to lose.
        if self.path.exists() and not (resume and not self.path.stat().st_size):
            raise unfinished_output(self.path, missing_state=self.state_path.name if resume else None)
        if resume and self.target.exists():
            raise complete_output(self.target, expected=f"an unfinished {self.path.name}")
        return None

    def __enter__(self) -> ResumableFile:
        with self._reporting(self.target):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Not truncated, because another run may have started since the check: its file is locked.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            self._file = os.fdopen(os.open(self.path, flags, 0o666), "r+b")
            try:
                lock_descriptor(self._file.fileno(), self.path)
                status = os.fstat(self._file.fileno())
                # Or the other run has ended, and the file has its final name now.
                if not os.path.samestat(status, self.path.stat()) or (status.st_size and not self._previous):
                    raise unfinished_output(self.path)
            except BaseException:
                self._file.close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._file, self._rejects_file):
            if file is not None and not file.closed:
                try:
                    file.close()
                except OSError:
                    # Bytes that could not be flushed are beyond the length in the saved state.
                    continue
        if error is not None and not self.stats.records:
            self._delete()

    def begin_or_resume(self, settings: Mapping[str, Any], output_format: OutputFormat) -> None:
        """Write the head. If an output is resumed, cut it after its last complete group instead.

        Raises:
            InputError: the settings differ from those of the interrupted run, or the output cannot be written.
        """
        self._settings = settings
        if self._previous:
            self._previous.check_settings(settings, where=str(self.state_path))
            with self._reporting(self.path):
                self._open_file.truncate(self.stats.bytes)
                self._open_file.seek(self.stats.bytes)
        else:
            # Written before the head, so that an output on disk always has a state.
            with self._reporting(self.path):
                write_state(RunState(settings=settings, stats=self.stats), self.state_path)
        if not self.stats.bytes:
            self.append(output_format.head, self.stats)

    def reject(self, records: list[Record]) -> None:
        """Store records that are not documents. A resuming run stores those of the interrupted run again."""
        with self._reporting(self._rejects_part):
            if self._rejects_file is None and records:
                self._rejects_file = self._rejects_part.open("wb")
            if self._rejects_file is not None:
                self._rejects_file.writelines(record.to_reject() for record in records)

    def append(self, data: bytes, stats: RunStats) -> None:
        """Flush data to disk, then save the state that includes them."""
        with self._reporting(self.path):
            self._open_file.write(data)
            for file in (self._file, self._rejects_file):
                if file is not None:
                    file.flush()
                    os.fsync(file.fileno())
            stats = replace(stats, bytes=self._open_file.tell())
            write_state(RunState(settings=self._settings, stats=stats), self.state_path)
        self.stats = stats

    def finish(self, output_format: OutputFormat) -> None:
        """Write the tail, convert the file to its final form and give it its final name."""
        with self._reporting(self.path):
            # Without a head, the tail is only for an output that would be empty: a gzip file has at least one member.
            self._open_file.write(output_format.tail if output_format.head or not self.stats.bytes else b"")
            self._open_file.flush()
            os.fsync(self._open_file.fileno())
            if os.name != "posix":  # There an open file has no lock and cannot be renamed.
                self._open_file.close()
            if self._rejects_file is None:
                self.rejects_path.unlink(missing_ok=True)  # It belongs to the output that is replaced.
            else:
                self._rejects_file.close()
                self._rejects_part.replace(self.rejects_path)
            output_format.finish(self.path, self.target)
            fsync_folder(self.target.parent)
            self.state_path.unlink()
            self._open_file.close()

    @property
    def _open_file(self) -> BinaryIO:
        assert self._file is not None, "used outside its context"
        return self._file

    def _delete(self) -> None:
        for path in (self.path, self.state_path, _beside(self.state_path, ".new"), self._rejects_part):
            try:
                path.unlink(missing_ok=True)
            except OSError:
                continue  # For example a file in place of the parent folder; opening the output reports it.

    @contextmanager
    def _reporting(self, path: Path) -> Iterator[None]:
        """Raise errors of the file system as :class:`InputError`."""
        try:
            yield
        except OSError as error:
            remedy = CHOOSE_OUTPUT
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) and self.stats.records:
                remedy = "free some space, and continue with `resume=True`"
            raise not_writable(path, error, remedy=remedy) from error


def unfinished_part(target: Path) -> tuple[Path, RunStats] | None:
    """Return the path and the stats of the unfinished output of an interrupted run, or ``None`` if there is none.

    Args:
        target: the finished file or folder, which does not exist yet.

    Raises:
        InputError: the state of the run cannot be read.
    """
    target = resolve_link(target)
    state_path = _beside(target, ".part.json")
    if not state_path.exists():
        return None
    stats = read_state(state_path).stats
    return (_beside(target, ".part"), stats) if stats.records else None


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
