"""A tagging run spread over a cluster: Ray Data deals out the shards, actors that hold the model tag them."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from socket import gethostname
from typing import Any

import orjson
import pyarrow as pa

from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from musamma.inference.batch_run import LoadedTagger, run_settings, tag_records
from musamma.inference.inputs import Inputs, first_table
from musamma.inference.progress_bar import ProgressBar
from musamma.inference.ray.parts_folder import PART_FORMATS, PartsFolder, sum_stats
from musamma.inference.ray.shards import SHARD_RECORDS, Shard, cut_shards, read_shard
from musamma.inference.records import Record
from musamma.inference.resumable_file import ResumableFile
from musamma.inference.run_state import RunState, RunStats
from musamma.inference.writers import build_output_format

# In which a cluster's address has to answer.
_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """Where to run.

    Args:
        address: of a Ray cluster; by default the one in ``RAY_ADDRESS``, one that was started here, or one that is started for this run.
        workers: how many processes hold the model; by default as many as there is room for.
        cpus: cores, and threads, of each.
        gpus: graphics cards of each.
    """

    address: str | None = None
    workers: int | None = None
    cpus: int = 1
    gpus: int = 0


def tag_on_cluster(
    inputs: Inputs,
    load: Callable[[], LoadedTagger],
    folder: PartsFolder,
    *,
    cluster: ClusterOptions,
    audit: ImportAudit,
    progress_bar: ProgressBar,
    size: int = SHARD_RECORDS,
    skip: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> tuple[RunStats, RunStats]:
    """Tag the input on a cluster, a file of the folder for each shard of it.

    Args:
        inputs: what is to be tagged; its ``output`` is the folder.
        load: gives the tagger; called by each worker, which it is sent to.
        folder: where to write; like the inputs and the model, on storage that all nodes share.
        cluster: where to run.
        audit: where to count what the format cannot hold.
        progress_bar: shows how far it has come.
        size: records of a shard.
        skip: put lines that are no documents aside, instead of stopping at the first.
        resume: go on with what an earlier run has left; from the start where it left nothing.
        overwrite: remove what an earlier run has left.

    Returns:
        What was done in all, and by the runs before.

    Raises:
        InputError: a record is no document, the folder or the cluster cannot be used, ray is not installed, or a worker cannot
            load the model or sees other files.
        RuntimeError: a shard brings its workers down again and again, or Ray gave up.
    """
    if find_spec("ray") is None:
        raise InputError("ray is not installed", where="--engine ray", remedy="pip install 'musamma[ray]'")
    if folder.format not in PART_FORMATS:
        raise InputError(f"--engine ray with --format {folder.format}", expected=f"one of {', '.join(PART_FORMATS)}")
    for name, count in (("--workers", cluster.workers), ("cpus", cluster.cpus)):
        if count is not None and count < 1:
            raise InputError(f"{name} {count}", expected="1 or more")
    asked = run_settings(inputs, format=folder.format, packing=folder.packing) | {"shard size": size}
    folder.check(asked, resume=resume, overwrite=overwrite)
    shards = list(cut_shards(inputs, size=size, skip=skip))
    folder.open(asked, overwrite=overwrite)
    journals = folder.done(shards)
    before = sum_stats(journal.stats for journal in journals.values())
    settings = next((dict(journal.settings) for journal in journals.values()), None)
    bytes_of = {shard.number: shard.read - (shards[shard.number - 1].read if shard.number else 0) for shard in shards}
    job = WorkerConfig(
        inputs=inputs,
        load=load,
        folder=folder,
        base=str(Path.cwd()),
        table=first_table(inputs) if folder.format == "parquet" else None,
        settings=settings,
        cpus=cluster.cpus,
    )
    stats_by_shard = {number: journal.stats for number, journal in journals.items()}
    read = sum(bytes_of[number] for number in stats_by_shard)
    missing = [shard for shard in shards if shard.number not in stats_by_shard]
    try:
        with closing(_tag_shards(missing, job, cluster)) as results:
            for number, journal in results:
                if settings is None:
                    settings = dict(journal.settings)
                if journal.settings != settings:
                    folder.part(number).unlink()
                    check_same_settings(settings, journal.settings)
                stats_by_shard[number] = journal.stats
                read += bytes_of[number]
                done = sum_stats(stats_by_shard.values())
                progress_bar.show(
                    read=read,
                    documents=done.documents - before.documents,
                    names=done.names,
                    rejected=done.rejected,
                )
    except BaseException:
        if not stats_by_shard:
            folder.remove()
            with suppress(OSError):
                folder.path.rmdir()
        raise
    done = sum_stats(stats_by_shard[shard.number] for shard in shards)
    for kind, count in done.lost.items():
        audit.add(kind, count=count)
    folder.finish(done, shards=len(shards), settings=asked | (settings or {}))
    return done, before


def _tag_shards(
    shards: list[Shard], job: WorkerConfig, cluster: ClusterOptions
) -> Generator[tuple[int, RunState], None, None]:
    """Have shards tagged; number and journal of each, as they are done."""
    if not shards:
        return
    with _ray_connection(cluster) as ray:
        from ray.data import ActorPoolStrategy

        workers = min(cluster.workers or _count_fitting_workers(ray, cluster), len(shards))
        rows = [{"shard": pickle.dumps(shard)} for shard in shards]
        # An actor that dies is started again, somewhere, and what it was given is done again: Ray Data's default, without end.
        told = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            ShardWorker,
            fn_constructor_args=(job,),
            compute=ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus or None,
        )
        try:
            for row in told.iter_rows():
                yield _parse_result(orjson.loads(row["told"]))
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            lines = str(cause).strip().splitlines()
            raise RuntimeError(f"Ray gave up: {lines[-1] if lines else type(cause).__name__}") from error


def _parse_result(told: dict[str, Any]) -> tuple[int, RunState]:
    if "failed" in told:
        raise RuntimeError(told["failed"])
    if "found" in told:
        raise InputError(told["found"], where=told["where"], expected=told["expected"], remedy=told["remedy"])
    return told["number"], RunState(settings=told["settings"], stats=RunStats(**told["stats"]))


@contextmanager
def _ray_connection(cluster: ClusterOptions) -> Iterator[Any]:
    """Ray, quiet; what was started or connected here is left at the end."""
    if (cluster.address or os.environ.get("RAY_ADDRESS", "")).startswith("ray://"):
        raise InputError(
            "a ray:// address",
            where="--address",
            expected="host:port of the cluster, from one of its nodes",
            remedy="run the command there, such as with ray job submit",
        )
    # Read when Ray is imported and handed to what it starts.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")  # of workers that died, on standard output
    import ray
    import ray.data

    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    shown = context.enable_progress_bars, context.print_on_execution_start
    context.enable_progress_bars = context.print_on_execution_start = False
    ours = not ray.is_initialized()
    try:
        if ours:
            try:
                _check_address_answers(cluster.address)
                with _silenced_stderr():
                    ray.init(
                        address=cluster.address,
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                    )
            except (ConnectionError, ValueError, RuntimeError, OSError) as error:
                raise InputError(
                    f"no Ray cluster: {' '.join(str(error).split())}",
                    where=f"--address {cluster.address}",
                    expected="host:port of one that runs",
                    remedy="start it with ray start --head, or leave --address out to run here",
                ) from error
        yield ray
    finally:
        context.enable_progress_bars, context.print_on_execution_start = shown
        if ours:
            ray.shutdown()


def _check_address_answers(address: str | None) -> None:
    """Fail where nobody answers: Ray would go on trying for many minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_SECONDS).close()


@contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Nothing on stderr, from libraries in C++ neither: Ray's says there that it has been told to be quiet."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


def _count_fitting_workers(ray: Any, cluster: ClusterOptions) -> int:
    """How many workers there is room for."""
    there = ray.cluster_resources()
    wanted = {"CPU": cluster.cpus, "GPU": cluster.gpus}
    for name, count in wanted.items():
        if count > there.get(name, 0):
            raise InputError(
                f"{there.get(name, 0):g} {name} in the cluster",
                expected=f"{count} a worker",
                remedy="add nodes, or give --workers to wait for them",
            )
    return min(int(there[name] // count) for name, count in wanted.items() if count)


#: Workers that one shard may bring down before the run is given up: its documents are then what kills them.
MAX_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
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
    load: Callable[[], LoadedTagger]
    folder: PartsFolder
    base: str
    table: pa.Schema | None
    settings: Mapping[str, Any] | None
    cpus: int


class ShardWorker:
    """Tags shards, one after the other, with the model that it holds; what Ray makes an actor of."""

    def __init__(self, job: WorkerConfig) -> None:
        self.job = job
        self._loaded: LoadedTagger | None = None

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        """Tag a shard: one row in, one row out. Errors of the input come back as rows: Ray would show where they were raised."""
        try:
            shard: Shard = pickle.loads(row["shard"])
            journal = self.tag(shard)
            told = {"number": shard.number, "settings": journal.settings, "stats": journal.stats}
        except InputError as error:
            told = {"found": error.found, "where": error.where, "expected": error.expected, "remedy": error.remedy}
        except _AbandonedShard as error:
            told = {"failed": str(error)}
        return {"told": orjson.dumps(told)}

    def tag(self, shard: Shard) -> RunState:
        """Tag a shard and publish it.

        Raises:
            InputError: the model cannot be loaded, its settings are not those of the run, the records are not those of the shard,
                or the output cannot be written.
        """
        with suppress(FileNotFoundError):  # Absolute paths can do without.
            os.chdir(self.job.base)
        folder = self.job.folder
        name = folder.part(shard.number).name
        if folder.attempts(shard.number) >= MAX_ATTEMPTS:
            raise _AbandonedShard(
                f"{name} has brought {MAX_ATTEMPTS} workers down: {shard.pieces[0].path}, {shard.records:,} records from "
                f"number {shard.pieces[0].first + 1:,} on; give workers more memory, or tag these without --engine ray"
            )
        audit = ImportAudit(source=name, limit=1)
        errors: list[InputError] = []
        try:
            attempt = folder.attempt(shard.number)
            written = build_output_format(folder.format, packing=folder.packing, audit=audit, table=self.job.table)
            with (
                ProgressBar(None) as progress_bar,
                ResumableFile(attempt / name) as part,
                closing(read_shard(shard, self.job.inputs)) as read,
            ):
                records = _collect_first_error(read, errors)
                stats = tag_records(
                    records, self._load, part, written, audit=audit, progress_bar=progress_bar, skip=True
                )
            if stats.digest != shard.digest:
                seen = f": {errors[0]}" if errors and not shard.rejected else ""
                raise InputError(
                    f"{gethostname()} reads other records for {name} than were read first{seen}",
                    expected="the same files on every node, unchanged while the run lasts",
                    remedy="put inputs on storage that all nodes share, and go on with --resume",
                )
            journal = RunState(settings=_through_json(self._load().settings), stats=stats)
            folder.publish(shard.number, journal, attempt)
        except OSError as error:
            raise InputError(
                str(error.strerror or error),
                where=f"{error.filename or folder.path} on {gethostname()}",
                expected="a folder that all nodes can write to",
                remedy="make room or choose another --output",
            ) from error
        return journal

    def _load(self) -> LoadedTagger:
        if self._loaded is None:
            os.environ["OMP_NUM_THREADS"] = str(self.job.cpus)
            self._loaded = self.job.load()
            if (torch := sys.modules.get("torch")) is not None:
                torch.set_num_threads(self.job.cpus)
            if self.job.settings is not None:
                check_same_settings(self.job.settings, _through_json(self._loaded.settings))
        return self._loaded


class _AbandonedShard(RuntimeError):
    """A shard that is given up."""


def check_same_settings(settings: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Compare a worker's settings with those of the parts that are there."""
    RunState(settings=settings, stats=RunStats()).check_settings(own, where=f"worker on {gethostname()}")


def _collect_first_error(records: Iterator[Record], errors: list[InputError]) -> Iterator[Record]:
    for record in records:
        if record.error is not None and not errors:
            errors.append(record.error)
        yield record


def _through_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they come back from JSON, to compare them."""
    return dict(orjson.loads(orjson.dumps(dict(settings))))
