"""The output folder of a run on a cluster: one part per shard, the state of the parts, and the steps from start to finish."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from musamma.data.errors import InputError, not_writable
from musamma.data.files import format_json, fsync_folder
from musamma.inference.inputs import REJECTS_SUFFIX
from musamma.inference.ray.shards import Shard
from musamma.inference.run_state import RunState, RunStats, complete_output, read_state, unfinished_output, write_state

PART_FORMATS = ("jsonl", "parquet", "conll")
SUCCESS_FILE = "_SUCCESS.json"
_SUFFIXES = {None: "", "gzip": ".gz", "zstd": ".zst"}


@dataclass(frozen=True, slots=True)
class PartsFolder:
    """A folder of ``part-00000.jsonl`` and so on, with their rejects and, until the run is finished, ``_run.json`` and ``_run/``.

    A part gets its name when it is complete and its state has been written: a part that exists is finished. Each attempt to make
    a part writes to a separate folder, so two workers that make the same part do not interfere.

    Args:
        path: the folder.
        format: one of :data:`PART_FORMATS`.
        compression: ``gzip``, ``zstd`` or ``None``.
    """

    path: Path
    format: str
    compression: str | None = None

    # Files of the folder.

    def part_path(self, number: int) -> Path:
        """Return the file for the documents of a shard."""
        return self.path / f"part-{number:05d}.{self.format}{_SUFFIXES[self.compression]}"

    def rejects_path(self, number: int) -> Path:
        """Return the file for the records of a shard that are not documents."""
        return self.path / f"part-{number:05d}{REJECTS_SUFFIX}"

    def state_path(self, number: int) -> Path:
        """Return the file for the state of a part; removed when the run is finished."""
        return self._run_folder / f"part-{number:05d}.json"

    @property
    def _run_path(self) -> Path:
        return self.path / "_run.json"

    @property
    def _run_folder(self) -> Path:
        return self.path / "_run"

    def _entries(self) -> list[Path]:
        return list(self.path.iterdir()) if self.path.is_dir() else []

    # Start and resume.

    def check_start(self, settings: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        """Check that a run can start here or resume the interrupted one. Writes nothing.

        Args:
            settings: the settings that a resuming run must share with the interrupted one.
            resume: continue an unfinished run; start from the beginning if there is none.
            overwrite: remove the output of an earlier run.

        Raises:
            InputError: the folder holds something that neither option allows for, or the settings differ.
        """
        where = str(self.path)
        if self.path.exists() and not self.path.is_dir():
            raise InputError("a file", where=where, expected="a folder to write", remedy="choose another `output`")
        if any(not entry.name.startswith(("_run", "part-", SUCCESS_FILE)) for entry in self._entries()):
            raise InputError(
                "a folder with other files in it",
                where=where,
                expected="a new folder",
                remedy="choose another `output`",
            )
        if overwrite:
            return
        if (self.path / SUCCESS_FILE).exists():
            raise complete_output(self.path, expected="an unfinished output" if resume else "a new folder")
        if self._run_path.exists() and resume:
            read_state(self._run_path).check_settings(settings, where=str(self._run_path))
        elif self._entries():
            raise unfinished_output(self.path, missing_state=self._run_path.name if resume else None)

    def start(self, settings: Mapping[str, Any], *, overwrite: bool) -> None:
        """Start a run or resume the interrupted one, after :meth:`check_start`.

        Raises:
            InputError: the folder cannot be written.
        """
        try:
            if overwrite:
                self.remove()
            self.path.mkdir(parents=True, exist_ok=True)
            write_state(RunState(settings=settings, stats=RunStats()), self._run_path)
            self._run_folder.mkdir(exist_ok=True)
            for attempt in self._run_folder.glob("attempt-*"):
                shutil.rmtree(attempt)
        except OSError as error:
            raise not_writable(self.path, error, remedy="choose an `output` that can be written") from error

    def read_finished(self, shards: Iterable[Shard]) -> dict[int, RunState]:
        """Return the states of the finished parts by number; all were made with the same settings.

        Raises:
            InputError: a part was made from other records than those of its shard.
        """
        finished: dict[int, RunState] = {}
        for shard in shards:
            part = self.part_path(shard.number)
            if not part.exists() or not self.state_path(shard.number).exists():
                continue
            state = read_state(self.state_path(shard.number))
            if state.stats.digest != shard.digest:
                raise InputError(
                    f"the input of {part.name} has changed",
                    where="`resume=True`",
                    expected="the same input; only records that are not tagged yet may change",
                    remedy="give the same input, or start again with `overwrite=True`",
                )
            if finished and state.settings != next(iter(finished.values())).settings:
                part.unlink()  # the run was stopped before it could report the difference, so the part is made again
                continue
            finished[shard.number] = state
        return finished

    # Parts.

    def start_attempt(self, number: int) -> Path:
        """Create and return a new folder in which to make a part."""
        path = self._run_folder / f"attempt-{number:05d}-{uuid4().hex}"
        path.mkdir(parents=True)
        return path

    def count_attempts(self, number: int | None = None) -> int:
        """Return the number of unfinished attempts at a part, or at all parts."""
        return sum(1 for _ in self._run_folder.glob(f"attempt-{'*' if number is None else f'{number:05d}-*'}"))

    def publish(self, number: int, state: RunState, attempt: Path) -> None:
        """Move a part from the folder of its attempt to its final name, after its state and rejects.

        Raises:
            OSError: a file cannot be moved.
        """
        part = attempt / self.part_path(number).name
        new_state = attempt / "journal.json"
        write_state(state, new_state)
        new_state.replace(self.state_path(number))
        fsync_folder(self._run_folder)
        rejects = part.with_name(part.name + REJECTS_SUFFIX)
        if rejects.exists():
            rejects.replace(self.rejects_path(number))
        part.replace(self.part_path(number))
        fsync_folder(self.path)
        shutil.rmtree(attempt, ignore_errors=True)

    # The end of a run.

    def finish(self, stats: RunStats, *, shards: int, settings: Mapping[str, Any]) -> None:
        """Write ``_SUCCESS.json`` and remove the state of the run.

        Args:
            stats: the stats of all parts.
            shards: number of parts.
            settings: the settings that the parts were made with.
        """
        content = asdict(stats) | {"shards": shards, "retried": self.count_attempts(), "settings": dict(settings)}
        for key in ("bytes", "digest"):  # These are defined only for single parts.
            del content[key]
        new = self._run_folder / SUCCESS_FILE
        new.write_bytes(format_json(content))
        new.replace(self.path / SUCCESS_FILE)
        fsync_folder(self.path)
        self._run_path.unlink()
        shutil.rmtree(self._run_folder, ignore_errors=True)

    def remove(self) -> None:
        """Remove all files of a run, finished or not."""
        # The file that marks the parts as complete goes first: an interruption then leaves an unfinished output.
        for path in (self.path / SUCCESS_FILE, *self.path.glob("part-[0-9]*")):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._run_folder, ignore_errors=True)
        for path in self.path.glob("_run.json*"):
            path.unlink()


def sum_stats(parts: Iterable[RunStats]) -> RunStats:
    """Return the sum of the stats of several parts, without ``bytes`` and ``digest``."""
    total = RunStats()
    names = [item.name for item in fields(RunStats) if item.name not in ("lost", "digest", "bytes")]
    for stats in parts:
        lost = dict(total.lost)
        for kind, count in stats.lost.items():
            lost[kind] = lost.get(kind, 0) + count
        total = replace(total, lost=lost, **{name: getattr(total, name) + getattr(stats, name) for name in names})
    return total
