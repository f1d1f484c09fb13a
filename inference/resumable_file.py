"""The output of a run while it is unfinished: what is written, its journal, and the lines that were rejected."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

from musamma.data.errors import InputError
from musamma.inference.inputs import REJECTS
from musamma.inference.records import Record
from musamma.inference.run_state import RunState, RunStats, read_state, sync_folder, write_state
from musamma.inference.writers import OutputFormat


class Output(Protocol):
    """Where a run writes to."""

    stats: RunStats

    def begin(self, settings: Mapping[str, Any], layout: OutputFormat) -> None:
        """Take a run up, or go on with it."""

    def reject(self, records: list[Record]) -> None:
        """Keep lines that are no documents."""

    def append(self, data: bytes, stats: RunStats) -> None:
        """Keep tagged documents, with what has been done by now."""

    def finish(self, layout: OutputFormat) -> None:
        """Make the whole of it."""


class StandardOutput:
    """Standard output, which nothing can be taken back from."""

    def __init__(self) -> None:
        self.stats = RunStats()

    def begin(self, settings: Mapping[str, Any], layout: OutputFormat) -> None:
        """Write the head."""
        sys.stdout.buffer.write(layout.head)

    def reject(self, records: list[Record]) -> None:
        """There is no place for rejects; a run to standard output stops at the first."""

    def append(self, data: bytes, stats: RunStats) -> None:
        """Write at once, for whoever reads on."""
        self.stats = stats
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def finish(self, layout: OutputFormat) -> None:
        """Write the tail."""
        sys.stdout.buffer.write(layout.tail)
        sys.stdout.buffer.flush()


class ResumableFile:
    """``OUTPUT.part`` with its journal ``OUTPUT.part.json``; of rejected lines, ``OUTPUT.rejects.jsonl.part``.

    As a context it closes them. A run that fails before the first documents are written leaves nothing behind.

    Args:
        target: the file or folder that there will be at the end.
        resume: go on with what an earlier run has left; from the start where it left nothing.
        overwrite: remove what an earlier run has left.

    Raises:
        InputError: there is something left and neither was asked for, or it cannot be gone on with or written.
    """

    def __init__(self, target: Path, *, resume: bool = False, overwrite: bool = False) -> None:
        self.target = target
        self.path, self.journal = _beside(target, ".part"), _beside(target, ".part.json")
        self.rejects = _beside(target, REJECTS)
        self._rejects_part = _beside(self.rejects, ".part")
        self._file: BinaryIO | None = None
        self._rejects_file: BinaryIO | None = None
        self._settings: Mapping[str, Any] = {}
        self._before: RunState | None = None
        if overwrite:
            self._remove()
        if resume and self.journal.exists() and self.path.exists():
            self._before = read_state(self.journal)
            if self.path.stat().st_size < self._before.stats.bytes:
                raise InputError(
                    f"{self.path.stat().st_size:,} bytes",
                    where=str(self.path),
                    expected=f"the {self._before.stats.bytes:,} of its journal",
                    remedy="begin anew with --overwrite",
                )
        elif self.path.exists() and not (resume and not self.path.stat().st_size):
            raise InputError(
                "an unfinished output" + (" without its journal" if resume else ""),
                where=str(self.path),
                expected="none",
                remedy="begin anew with --overwrite"
                + ("" if resume else ", or go on with it with --resume and what it was begun with"),
            )
        elif resume and target.exists():
            raise InputError(
                "the output is there and whole",
                where=str(target),
                expected=f"an unfinished {self.path.name}",
                remedy="--overwrite tags everything again",
            )
        self.stats = self._before.stats if self._before else RunStats()

    def __enter__(self) -> ResumableFile:
        with self._writing(self.target):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("r+b" if self._before else "wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._file, self._rejects_file):
            if file is not None and not file.closed:
                try:
                    file.close()
                except OSError:
                    # What could not be flushed is behind what the journal tells of.
                    continue
        if error is not None and not self.stats.records:
            self._remove()

    def begin(self, settings: Mapping[str, Any], layout: OutputFormat) -> None:
        """Compare the settings with those of the run before, and cut the output behind its last whole group; or write the head.

        Raises:
            InputError: they differ, or the output cannot be written.
        """
        self._settings = settings
        if self._before:
            self._before.check_settings(settings, where=str(self.journal))
            with self._writing(self.path):
                self._opened.truncate(self.stats.bytes)
                self._opened.seek(self.stats.bytes)
        else:
            # First, so that what is written is never without its journal.
            with self._writing(self.path):
                write_state(RunState(settings=self._settings, stats=self.stats), self.journal)
        if not self.stats.bytes:
            self.append(layout.head, self.stats)

    def reject(self, records: list[Record]) -> None:
        """Keep lines that are no documents. A resumed run meets those of the run before again."""
        with self._writing(self._rejects_part):
            if self._rejects_file is None and records:
                self._rejects_file = self._rejects_part.open("wb")
            if self._rejects_file is not None:
                self._rejects_file.writelines(record.to_reject() for record in records)

    def append(self, data: bytes, stats: RunStats) -> None:
        """Have data on disk, and then the journal that tells of them."""
        with self._writing(self.path):
            self._opened.write(data)
            for file in (self._file, self._rejects_file):
                if file is not None:
                    file.flush()
                    os.fsync(file.fileno())
            stats = replace(stats, bytes=self._opened.tell())
            write_state(RunState(settings=self._settings, stats=stats), self.journal)
        self.stats = stats

    def finish(self, layout: OutputFormat) -> None:
        """Write the tail, and make the output that was asked for of all; only now is it under its name."""
        with self._writing(self.path):
            # Members and frames are whole in themselves: their tail is for an output without any.
            self._opened.write(layout.tail if layout.head or not self.stats.bytes else b"")
            self._opened.flush()
            os.fsync(self._opened.fileno())
            self._opened.close()
            if self._rejects_file is None:
                self.rejects.unlink(missing_ok=True)  # those of the output that is replaced
            else:
                self._rejects_file.close()
                self._rejects_part.replace(self.rejects)
            layout.finish(self.path, self.target)
            sync_folder(self.target.parent)
            self.journal.unlink()

    @property
    def _opened(self) -> BinaryIO:
        assert self._file is not None, "used outside its context"
        return self._file

    def _remove(self) -> None:
        for path in (self.path, self.journal, _beside(self.journal, ".new"), self._rejects_part):
            try:
                path.unlink(missing_ok=True)
            except OSError:
                continue  # such as a file in the place of its folder, which is told of when it is written

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = (
                "make room, and go on with --resume" if self.stats.records else "choose an --output that can be written"
            )
            raise InputError(str(error.strerror or error), where=str(error.filename or path), remedy=remedy) from error


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
