"""Batch tagging on a Ray cluster: Ray Data distributes shards to worker processes, each of which loads the model."""

from __future__ import annotations

import ipaddress
import logging
import os
import pickle
import socket
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from musamma.data.errors import InputError, not_installed, not_one_of, one_line, printable_path
from musamma.data.files import format_json
from musamma.data.import_audit import ImportAudit
from musamma.inference.batch_run import LoadedTagger, run_settings, tag_records
from musamma.inference.inputs import Inputs, Record, read_extra_columns
from musamma.inference.output_formats import build_output_format
from musamma.inference.progress_bar import ProgressBar
from musamma.inference.ray.parts_folder import PART_FORMATS, PartsFolder, sum_stats
from musamma.inference.ray.shards import SHARD_RECORDS, Shard, cut_shards, read_shard
from musamma.inference.resumable_file import ResumableFile
from musamma.inference.run_state import RunState, RunStats

#: Number of workers that one shard may crash before the run ends: by then its documents are the likely cause.
MAX_ATTEMPTS = 5

# Seconds within which the address of a cluster must accept a connection.
_CONNECT_SECONDS = 10.0
# Seconds within which a stopped thread of Ray Data ends. Ray Data itself waits for two, which a busy machine may exceed.
_THREAD_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """The cluster of a run, and the processes that the run uses there.

    Args:
        address: ``host:port`` of a Ray cluster. The default is ``RAY_ADDRESS``; if that is not set, the cluster to which this
            process is connected, else one that runs on this machine, else one started for this run. A process that is
            already connected to Ray cannot use another cluster, so a different address is an error.
        workers: number of worker processes; by default as many as the cluster has resources for.
        cpus: number of cores, and of threads, per worker.
        gpus: number of GPUs per worker.
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
    shard_size: int = SHARD_RECORDS,
    skip: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> tuple[RunStats, RunStats]:
    """Tag an input on a cluster, and write one file per shard to a folder.

    Args:
        inputs: the input; its ``output`` is the folder.
        load: loads the tagger; sent to each worker and called there.
        folder: the output. All nodes must share the storage of the output, the inputs and the model.
        cluster: the cluster and the resources to use.
        audit: counts what the output format cannot represent.
        progress_bar: shows the progress.
        shard_size: minimum number of records per shard.
        skip: write records that are not documents to the rejects instead of stopping at the first.
        resume: continue an unfinished run; starts from the beginning if there is none.
        overwrite: remove the output of an earlier run.

    Returns:
        The stats of the output as a whole, and those of the interrupted runs that this one resumes.

    Raises:
        InputError: a record is not a document, the folder or the cluster cannot be used, Ray is not installed, or a worker
            cannot load the model or reads other files.
        RuntimeError: a shard crashes its workers repeatedly, or Ray failed.
    """
    _check_options(folder, cluster)
    settings = run_settings(inputs, format=folder.format, compression=folder.compression) | {"shard size": shard_size}
    folder.check_start(settings, resume=resume, overwrite=overwrite)
    shards = list(cut_shards(inputs, size=shard_size, skip=skip))
    folder.start(settings, overwrite=overwrite)
    finished = folder.read_finished(shards)
    stats_by_shard = {number: state.stats for number, state in finished.items()}
    earlier_stats = sum_stats(stats_by_shard.values())
    tagger_settings = next((dict(state.settings) for state in finished.values()), None)
    config = WorkerConfig(
        inputs=inputs,
        load=load,
        folder=folder,
        working_folder=str(Path.cwd()),
        extra_columns=read_extra_columns(inputs) if folder.format == "parquet" else None,
        settings=tagger_settings,
        cpus=cluster.cpus,
    )
    shard_bytes = {
        shard.number: shard.bytes_read - (shards[shard.number - 1].bytes_read if shard.number else 0)
        for shard in shards
    }
    bytes_read = sum(shard_bytes[number] for number in stats_by_shard)
    try:
        missing = [shard for shard in shards if shard.number not in stats_by_shard]
        with closing(_tag_shards(missing, config, cluster)) as results:
            for number, state in results:
                if tagger_settings is None:
                    tagger_settings = dict(state.settings)
                if state.settings != tagger_settings:
                    folder.part_path(number).unlink()
                    check_same_settings(tagger_settings, state.settings)
                stats_by_shard[number] = state.stats
                bytes_read += shard_bytes[number]
                total = sum_stats(stats_by_shard.values())
                progress_bar.show(
                    read=bytes_read,
                    documents=total.documents - earlier_stats.documents,
                    names=total.names,
                    rejected=total.rejected,
                )
    except BaseException:
        if not stats_by_shard:
            folder.remove()
            with suppress(OSError):
                folder.path.rmdir()
        raise
    total = sum_stats(stats_by_shard[shard.number] for shard in shards)
    for kind, count in total.lost.items():
        audit.add(kind, count=count)
    folder.finish(total, shards=len(shards), settings=settings | (tagger_settings or {}))
    return total, earlier_stats


def _check_options(folder: PartsFolder, cluster: ClusterOptions) -> None:
    if find_spec("ray") is None:
        raise not_installed("ray", extra="ray", where="`engine='ray'`")
    if folder.format not in PART_FORMATS:
        raise not_one_of("format", folder.format, PART_FORMATS, where="`engine='ray'`")
    for name, count in (("`workers`", cluster.workers), ("cpus", cluster.cpus)):
        if count is not None and count < 1:
            raise InputError(f"{name} {count}", expected="1 or more")


def _tag_shards(
    shards: list[Shard], config: WorkerConfig, cluster: ClusterOptions
) -> Generator[tuple[int, RunState], None, None]:
    """Tag shards on the cluster. Yield the number and the state of each as it finishes."""
    if not shards:
        return
    with _connected_ray(cluster) as ray:
        from ray.data import ActorPoolStrategy

        workers = min(cluster.workers or _count_fitting_workers(ray, cluster), len(shards))
        rows = [{"shard": pickle.dumps(shard)} for shard in shards]
        # By default Ray Data restarts a worker that dies, on any node, and repeats its row without a limit; MAX_ATTEMPTS sets one.
        results = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            ShardWorker,
            fn_constructor_args=(config,),
            compute=ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus or None,
        )
        try:
            # Not `iter_rows`, which prefetches: its thread may call Ray after the connection is closed, which opens another.
            batches = results.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0)
            with closing(iter(batches)) as open_batches:
                for batch in open_batches:
                    yield _parse_result(orjson.loads(batch["result"][0].as_py()))
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            lines = str(cause).strip().splitlines()
            raise RuntimeError(f"Ray failed: {lines[-1] if lines else type(cause).__name__}") from error


def _parse_result(result: dict[str, Any]) -> tuple[int, RunState]:
    if "abandoned" in result:
        raise RuntimeError(result["abandoned"])
    if "input_error" in result:
        raise InputError(**result["input_error"])
    return result["number"], RunState(settings=result["settings"], stats=RunStats(**result["stats"]))


def _count_fitting_workers(ray: Any, cluster: ClusterOptions) -> int:
    """Return how many workers the cluster has resources for."""
    available = ray.cluster_resources()
    required = {"CPU": cluster.cpus, "GPU": cluster.gpus}
    for name, count in required.items():
        if count > available.get(name, 0):
            raise InputError(
                f"{available.get(name, 0):g} {name} in the cluster",
                expected=f"{count} per worker",
                remedy="add nodes, or set `workers` to wait for them",
            )
    return min(int(available[name] // count) for name, count in required.items() if count)


# In the worker processes.


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """The settings of every worker.

    Args:
        inputs: the input.
        load: loads the tagger.
        folder: the output.
        working_folder: the folder that relative paths refer to.
        extra_columns: the additional columns of the first input, for Parquet.
        settings: the tagger settings of the finished parts; ``None`` if there are no finished parts.
        cpus: number of threads of a worker.
    """

    inputs: Inputs
    load: Callable[[], LoadedTagger]
    folder: PartsFolder
    working_folder: str
    extra_columns: pa.Schema | None
    settings: Mapping[str, Any] | None
    cpus: int


class ShardWorker:
    """Tags shards one by one; loads the model once. Ray runs it as an actor."""

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self._loaded: LoadedTagger | None = None

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        """Tag the shard of a row and return its result.

        Errors of the input are returned as part of the result, because Ray would add a traceback to an exception.
        """
        result: dict[str, Any]
        try:
            shard: Shard = pickle.loads(row["shard"])
            state = self.tag(shard)
            result = {"number": shard.number, "settings": state.settings, "stats": asdict(state.stats)}
        except InputError as error:
            details = {key: getattr(error, key) for key in ("found", "where", "expected", "remedy")}
            result = {"input_error": details}
        except _AbandonedShard as error:
            result = {"abandoned": str(error)}
        return {"result": format_json(result)}

    def tag(self, shard: Shard) -> RunState:
        """Tag a shard and publish its part.

        Raises:
            InputError: the model cannot be loaded, its settings differ from those of the run, the records differ from those of
                the shard, or the output cannot be written.
        """
        with suppress(FileNotFoundError):  # A node may lack the folder: absolute paths do not need it.
            os.chdir(self.config.working_folder)
        folder = self.config.folder
        name = folder.part_path(shard.number).name
        if folder.count_attempts(shard.number) >= MAX_ATTEMPTS:
            first = shard.ranges[0]
            raise _AbandonedShard(
                f"{name} crashed {MAX_ATTEMPTS} workers: {printable_path(first.path)}, {shard.records:,} records from record "
                f"{first.first + 1:,} on; give workers more memory, or tag these records without `engine='ray'`"
            )
        audit = ImportAudit(source=name, limit=1)
        errors: list[InputError] = []
        try:
            attempt = folder.start_attempt(shard.number)
            output_format = build_output_format(
                folder.format, compression=folder.compression, audit=audit, table=self.config.extra_columns
            )
            with (
                ProgressBar(None) as progress_bar,
                ResumableFile(attempt / name) as output,
                closing(read_shard(shard, self.config.inputs)) as shard_records,
            ):
                records = _keep_first_error(shard_records, errors)
                stats = tag_records(
                    records, self._load, output, output_format, audit=audit, progress_bar=progress_bar, skip=True
                )
            if stats.digest != shard.digest:
                reason = f": {errors[0]}" if errors and not shard.rejected else ""
                raise InputError(
                    f"{socket.gethostname()} reads other records for {name} than the first reading found{reason}",
                    expected="the same files on every node, unchanged during the run",
                    remedy="put the inputs on storage that all nodes share, and continue with `resume=True`",
                )
            state = RunState(settings=_through_json(self._load().settings), stats=stats)
            folder.publish(shard.number, state, attempt)
        except OSError as error:
            raise InputError(
                str(error.strerror or error),
                where=f"{error.filename or folder.path} on {socket.gethostname()}",
                expected="a folder that all nodes can write to",
                remedy="free some space or choose another `output`",
            ) from error
        return state

    def _load(self) -> LoadedTagger:
        if self._loaded is None:
            os.environ["OMP_NUM_THREADS"] = str(self.config.cpus)
            self._loaded = self.config.load()
            if (torch := sys.modules.get("torch")) is not None:
                torch.set_num_threads(self.config.cpus)
            if self.config.settings is not None:
                check_same_settings(self.config.settings, _through_json(self._loaded.settings))
        return self._loaded


class _AbandonedShard(RuntimeError):
    """A shard that crashed too many workers."""


def check_same_settings(settings: Mapping[str, Any], worker_settings: Mapping[str, Any]) -> None:
    """Raise an :class:`InputError` if a worker's settings differ from those of the finished parts."""
    RunState(settings=settings, stats=RunStats()).check_settings(
        worker_settings, where=f"worker on {socket.gethostname()}"
    )


def _keep_first_error(records: Iterator[Record], errors: list[InputError]) -> Iterator[Record]:
    for record in records:
        if record.error is not None and not errors:
            errors.append(record.error)
        yield record


def _through_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they are read back from JSON, for comparison."""
    return dict(orjson.loads(orjson.dumps(dict(settings))))


# The connection to Ray.


@contextmanager
def _connected_ray(cluster: ClusterOptions) -> Iterator[Any]:
    """Connect to Ray, silence it and yield its module. Close the connection afterwards if it was opened here.

    Raises:
        InputError: nothing answers at the address, or this process is connected to another cluster.
    """
    environment_address = os.environ.get("RAY_ADDRESS") or None
    address = cluster.address or environment_address
    where = (
        "`address`" if address is None else f"`address={address!r}`" if cluster.address else f"RAY_ADDRESS={address}"
    )
    if address is not None and address.startswith("ray://"):
        raise InputError(
            "a ray:// address",
            where=where,
            expected="host:port of the cluster, from one of its nodes",
            remedy="run the command there, such as with ray job submit",
        )
    # Set before the import: Ray reads these then, and passes them on to the processes that it starts.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault(
        "RAY_DEDUP_LOGS_SKIP_REGEX", ".*"
    )  # else it prints messages of dead workers to standard output
    import ray
    import ray.data

    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    previous = context.enable_progress_bars, context.print_on_execution_start
    context.enable_progress_bars = context.print_on_execution_start = False
    opens_connection = not ray.is_initialized()
    try:
        if opens_connection:
            _connect(ray, cluster.address, address, where=where)
        else:
            _check_connection(ray, address, where=where)
        yield ray
    finally:
        context.enable_progress_bars, context.print_on_execution_start = previous
        if opens_connection:
            _join_ray_data_threads()
            ray.shutdown()


def _join_ray_data_threads() -> None:
    """Wait for the threads of Ray Data. One that calls Ray after the connection is closed would open another."""
    for thread in threading.enumerate():
        if thread.name.startswith(("StreamingExecutor-", "ray-data-")):
            thread.join(_THREAD_SECONDS)


def _connect(ray: Any, parameter: str | None, address: str | None, *, where: str) -> None:
    """Connect to the cluster at ``address``, which is ``parameter`` or ``RAY_ADDRESS``. Without either, find or start one."""
    try:
        # Tried here first: for many minutes, Ray would retry an address at which nothing answers.
        host, _, port = (address or "").rpartition(":")
        if host and port.isdigit():
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
        with _silenced_stderr():
            ray.init(address=parameter, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise InputError(
            f"no Ray cluster: {one_line(error)}",
            where=where,
            expected="host:port of a running cluster",
            remedy="start one with ray start --head, or leave out `address` to run on this machine",
        ) from error


def _check_connection(ray: Any, address: str | None, *, where: str) -> None:
    """Check that the existing connection is to the cluster at the address.

    Without an address, or with ``auto``, any connection will do.

    Raises:
        InputError: the connection is to another cluster.
    """
    connected = ray.get_runtime_context().gcs_address
    if address is None or address == "auto" or _is_same_address(address, connected):
        return
    raise InputError(
        f"this process is connected to the Ray cluster at {connected}",
        where=where,
        expected="that address, or no connection",
        remedy="call ray.shutdown() first, or leave out `address` to use that cluster",
    )


def _is_same_address(address: str, connected: str) -> bool:
    """Tell whether two addresses, ``host:port``, are the same port of the same machine."""
    host, _, port = address.rpartition(":")
    connected_host, _, connected_port = connected.rpartition(":")
    return port == connected_port and not _resolve(host).isdisjoint(_resolve(connected_host))


def _resolve(host: str) -> set[str]:
    """Return the IP addresses of a host. If one is a loopback address, add the address that Ray announces for this machine."""
    host = host.strip("[]")
    try:
        addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return {host}
    if any(ipaddress.ip_address(address).is_loopback for address in addresses):
        import ray.util

        addresses.add(ray.util.get_node_ip_address())
    return addresses


@contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Discard output to file descriptor 2, to which Ray's C++ code reports that logging is off."""
    original = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(original, 2)
        os.close(null)
        os.close(original)
