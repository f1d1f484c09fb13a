"""A folder of outputs, one of each shard: what of it is done, and what becomes of it when all is."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from musamma.data.errors import InputError
from musamma.data.files import fsync_folder
from musamma.inference.inputs import REJECTS
from musamma.inference.ray.shards import Shard
from musamma.inference.run_state import RunState, RunStats, complete_output, read_state, unfinished_output, write_state

_SUFFIXES = {None: "", "gzip": ".gz", "zstd": ".zst"}
PART_FORMATS = ("jsonl", "parquet", "conll")
SUCCESS_FILE = "_SUCCESS.json"


@dataclass(frozen=True, slots=True)
class PartsFolder:
    """``part-00000.jsonl`` and so on, with their rejects beside them and, until all are there, ``_run.json`` and ``_run/``.

    A part appears under its name when it is whole, and after the journal that tells of it: what is there is done. Whoever makes
    one writes to a folder of its own first, so that two that make the same part do not meet.

    Args:
        path: the folder.
        format: ``jsonl``, ``parquet`` or ``conll``.
        packing: ``gzip``, ``zstd`` or ``None``.
    """

    path: Path
    format: str
    packing: str | None = None

    def part(self, number: int) -> Path:
        """Where the documents of a shard go."""
        return self.path / f"part-{number:05d}.{self.format}{_SUFFIXES[self.packing]}"

    def rejects(self, number: int) -> Path:
        """Where its lines that are no documents go."""
        return self.path / f"part-{number:05d}{REJECTS}"

    def journal(self, number: int) -> Path:
        """What tells of it until all are there."""
        return self._work / f"part-{number:05d}.json"

    def check(self, asked: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        """See whether a run can begin here, or go on with the one before. Nothing is written.

        Args:
            asked: what a resumed run must share with the one before.
            resume: go on with what an earlier run has left; from the start where it left nothing.
            overwrite: whatever an earlier run has left will be removed.

        Raises:
            InputError: what is there is not asked for, or was begun with something else.
        """
        where = str(self.path)
        if self.path.exists() and not self.path.is_dir():
            raise InputError("a file", where=where, expected="a folder to write", remedy="choose another --output")
        if any(not entry.name.startswith(("_run", "part-", SUCCESS_FILE)) for entry in self._entries()):
            raise InputError(
                "a folder with other files in it",
                where=where,
                expected="a folder to be made",
                remedy="choose another --output",
            )
        if overwrite:
            return
        if (self.path / SUCCESS_FILE).exists():
            raise complete_output(self.path, expected="an unfinished output" if resume else "a new folder")
        if self._begun.exists() and resume:
            read_state(self._begun).check_settings(asked, where=str(self._begun))
        elif self._entries():
            raise unfinished_output(self.path, missing_state=self._begun.name if resume else None)

    def open(self, asked: Mapping[str, Any], *, overwrite: bool) -> None:
        """Begin a run, or go on with the one before, as :meth:`check` allowed.

        Raises:
            InputError: it cannot be written.
        """
        try:
            if overwrite:
                self.remove()
            self.path.mkdir(parents=True, exist_ok=True)
            write_state(RunState(settings=asked, stats=RunStats()), self._begun)
            self._work.mkdir(exist_ok=True)
            for attempt in self._work.glob("attempt-*"):
                shutil.rmtree(attempt)
        except OSError as error:
            raise InputError(
                str(error.strerror or error),
                where=str(error.filename or self.path),
                remedy="choose an --output that can be written",
            ) from error

    def done(self, shards: Iterable[Shard]) -> dict[int, RunState]:
        """The journals of the parts that are there, by number; all of them made with the same settings.

        Raises:
            InputError: one was made of other records than those of its shard.
        """
        found: dict[int, RunState] = {}
        for shard in shards:
            if not self.part(shard.number).exists() or not self.journal(shard.number).exists():
                continue
            journal = read_state(self.journal(shard.number))
            if journal.stats.digest != shard.digest:
                raise InputError(
                    f"the input of {self.part(shard.number).name} is not what it was made of",
                    where="--resume",
                    expected="the same input; only what has not been tagged yet may change",
                    remedy="give the same input, or begin anew with --overwrite",
                )
            if found and journal.settings != next(iter(found.values())).settings:
                self.part(shard.number).unlink()  # A run that was stopped before it could tell of it.
                continue
            found[shard.number] = journal
        return found

    def attempt(self, number: int) -> Path:
        """A new folder to make a part in."""
        path = self._work / f"attempt-{number:05d}-{uuid4().hex}"
        path.mkdir(parents=True)
        return path

    def attempts(self, number: int | None = None) -> int:
        """How many of them were left unfinished."""
        return sum(1 for _ in self._work.glob(f"attempt-{'*' if number is None else f'{number:05d}-*'}"))

    def publish(self, number: int, journal: RunState, attempt: Path) -> None:
        """Put a part that was made in a folder of its own under its name.

        Raises:
            OSError: it cannot be moved.
        """
        made = attempt / self.part(number).name
        told = attempt / "journal.json"
        write_state(journal, told)
        told.replace(self.journal(number))
        fsync_folder(self._work)
        rejects = made.with_name(made.name + REJECTS)
        if rejects.exists():
            rejects.replace(self.rejects(number))
        made.replace(self.part(number))
        fsync_folder(self.path)
        shutil.rmtree(attempt, ignore_errors=True)

    def finish(self, stats: RunStats, *, shards: int, settings: Mapping[str, Any]) -> None:
        """Say that all parts are there, and remove what told of them."""
        content = asdict(stats) | {"shards": shards, "retried": self.attempts(), "settings": dict(settings)}
        for key in ("bytes", "digest"):  # of single parts
            del content[key]
        new = self._work / SUCCESS_FILE
        new.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        new.replace(self.path / SUCCESS_FILE)
        fsync_folder(self.path)
        self._begun.unlink()
        shutil.rmtree(self._work, ignore_errors=True)

    @property
    def _begun(self) -> Path:
        return self.path / "_run.json"

    @property
    def _work(self) -> Path:
        return self.path / "_run"

    def remove(self) -> None:
        """Remove all that a run has left, or written."""
        # What tells that parts are whole goes first: a stop in between leaves an unfinished output.
        for path in (self.path / SUCCESS_FILE, *self.path.glob("part-[0-9]*")):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._work, ignore_errors=True)
        for path in self.path.glob("_run.json*"):
            path.unlink()

    def _entries(self) -> list[Path]:
        return list(self.path.iterdir()) if self.path.is_dir() else []


def sum_stats(all_stats: Iterable[RunStats]) -> RunStats:
    """The all_stats of several parts as one, but for bytes and fingerprint."""
    whole = RunStats()
    summed = [item.name for item in fields(RunStats) if item.name not in ("lost", "digest", "bytes")]
    for stats in all_stats:
        lost = dict(whole.lost)
        for kind, count in stats.lost.items():
            lost[kind] = lost.get(kind, 0) + count
        whole = replace(whole, lost=lost, **{name: getattr(whole, name) + getattr(stats, name) for name in summed})
    return whole
