"""A worker of a run on a cluster: holds the model, and tags shards one after the other."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from socket import gethostname
from typing import Any

import orjson
import pyarrow as pa

from musamma.data.audit import ImportAudit
from musamma.data.errors import InputError
from musamma.inference.batch import Loaded, tag_records
from musamma.inference.folder import Folder
from musamma.inference.journal import Account, Journal
from musamma.inference.part import Part
from musamma.inference.progress import Meter
from musamma.inference.records import Record
from musamma.inference.shards import Shard, read_shard
from musamma.inference.sources import Inputs
from musamma.inference.writers import layout

#: Workers that one shard may bring down before the run is given up: its documents are then what kills them.
ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every worker has to know.

    Args:
        inputs: what is tagged.
        load: gives the tagger.
        folder: where to write.
        base: the folder that relative paths are meant from.
        table: further columns of the first input.
        settings: what the parts that are there were made with; ``None`` where there are none.
        cpus: threads of a worker.
    """

    inputs: Inputs
    load: Callable[[], Loaded]
    folder: Folder
    base: str
    table: pa.Schema | None
    settings: Mapping[str, Any] | None
    cpus: int


class Worker:
    """Tags shards, one after the other, with the model that it holds; what Ray makes an actor of."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._loaded: Loaded | None = None

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        """Tag a shard: one row in, one row out. Errors of the input come back as rows: Ray would show where they were raised."""
        try:
            shard: Shard = pickle.loads(row["shard"])
            journal = self.tag(shard)
            told = {"number": shard.number, "settings": journal.settings, "account": journal.account}
        except InputError as error:
            told = {"found": error.found, "where": error.where, "expected": error.expected, "remedy": error.remedy}
        except _Given as error:
            told = {"failed": str(error)}
        return {"told": orjson.dumps(told)}

    def tag(self, shard: Shard) -> Journal:
        """Tag a shard and publish it.

        Raises:
            InputError: the model cannot be loaded, its settings are not those of the run, the records are not those of the shard,
                or the output cannot be written.
        """
        with suppress(FileNotFoundError):  # Absolute paths can do without.
            os.chdir(self.job.base)
        folder = self.job.folder
        name = folder.part(shard.number).name
        if folder.attempts(shard.number) >= ATTEMPTS:
            raise _Given(
                f"{name} has brought {ATTEMPTS} workers down: {shard.pieces[0].path}, {shard.records:,} records from "
                f"number {shard.pieces[0].first + 1:,} on; give workers more memory, or tag these without --engine ray"
            )
        audit = ImportAudit(source=name, limit=1)
        errors: list[InputError] = []
        try:
            attempt = folder.attempt(shard.number)
            written = layout(folder.format, packing=folder.packing, audit=audit, table=self.job.table)
            with (
                Meter(None) as meter,
                Part(attempt / name) as part,
                closing(read_shard(shard, self.job.inputs)) as read,
            ):
                records = _watched(read, errors)
                account = tag_records(records, self._load, part, written, audit=audit, meter=meter, skip=True)
            if account.digest != shard.digest:
                seen = f": {errors[0]}" if errors and not shard.rejected else ""
                raise InputError(
                    f"{gethostname()} reads other records for {name} than were read first{seen}",
                    expected="the same files on every node, unchanged while the run lasts",
                    remedy="put inputs on storage that all nodes share, and go on with --resume",
                )
            journal = Journal(settings=_plain(self._load().settings), account=account)
            folder.publish(shard.number, journal, attempt)
        except OSError as error:
            raise InputError(
                str(error.strerror or error),
                where=f"{error.filename or folder.path} on {gethostname()}",
                expected="a folder that all nodes can write to",
                remedy="make room or choose another --output",
            ) from error
        return journal

    def _load(self) -> Loaded:
        if self._loaded is None:
            os.environ["OMP_NUM_THREADS"] = str(self.job.cpus)
            self._loaded = self.job.load()
            if (torch := sys.modules.get("torch")) is not None:
                torch.set_num_threads(self.job.cpus)
            if self.job.settings is not None:
                check_alike(self.job.settings, _plain(self._loaded.settings))
        return self._loaded


class _Given(RuntimeError):
    """A shard that is given up."""


def check_alike(settings: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Compare a worker's settings with those of the parts that are there."""
    Journal(settings=settings, account=Account()).check(own, where=f"worker on {gethostname()}")


def _watched(records: Iterator[Record], errors: list[InputError]) -> Iterator[Record]:
    for record in records:
        if record.error is not None and not errors:
            errors.append(record.error)
        yield record


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they come back from JSON, to compare them."""
    return dict(orjson.loads(orjson.dumps(dict(settings))))
