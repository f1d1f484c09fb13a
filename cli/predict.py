"""``musamma predict``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musamma.cli.shared_options import (
    BatchTokens,
    Device,
    IdColumn,
    MinScores,
    Model,
    OnError,
    RulesFile,
    TextColumn,
    Thresholds,
    parse_min_scores,
    report_lost,
    report_unread_files,
)
from musamma.data.errors import InputError, not_writable
from musamma.data.files import resolve_link, stream_kind
from musamma.data.import_audit import ImportAudit
from musamma.models.model_names import DEFAULT_MODEL

if TYPE_CHECKING:
    from musamma.inference.batch_run import LoadedTagger
    from musamma.inference.inputs import Inputs
    from musamma.inference.name_rules import Rules
    from musamma.inference.progress_bar import ProgressBar
    from musamma.inference.run_state import RunStats


class Format(StrEnum):
    """Output formats."""

    jsonl = "jsonl"
    parquet = "parquet"
    conll = "conll"
    brat = "brat"
    html = "html"


class Engine(StrEnum):
    """Where the tagging runs: in this process or on a Ray cluster."""

    local = "local"
    ray = "ray"


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Texts, JSONL, CSV or TSV (also .gz, .zst), Parquet, folders and patterns of them, or - for stdin.",
        ),
    ],
    model: Model = DEFAULT_MODEL,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="File to write, or folder for brat; standard output by default."),
    ] = None,
    format: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="By default chosen by the output's suffix; jsonl without one."),
    ] = None,
    device: Device = None,
    batch_tokens: BatchTokens = None,
    min_score: MinScores = None,
    thresholds: Thresholds = False,
    rules: RulesFile = None,
    text_column: TextColumn = None,
    id_column: IdColumn = None,
    on_error: Annotated[
        OnError,
        typer.Option("--on-error", help="At a line that is not a document: stop, or move it to OUTPUT.rejects.jsonl."),
    ] = OnError.fail,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the unfinished output of an earlier run.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start over, and delete the unfinished output of an earlier run.")
    ] = False,
    engine: Annotated[
        Engine,
        typer.Option("--engine", help="Tag in this process, or on a Ray cluster; OUTPUT is then a folder of parts."),
    ] = Engine.local,
    address: Annotated[
        str | None,
        typer.Option("--address", help="Address of the Ray cluster, or auto; by default one is started here."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Number of tagging processes on Ray; by default one per core."),
    ] = None,
    shard_size: Annotated[
        int | None, typer.Option("--shard-size", min=1, help="Minimum records per part on Ray; 4,096 by default.")
    ] = None,
) -> None:
    """Find the names in articles; writes the same documents with character-exact spans and scores."""
    target = None if output in (None, "-") else output
    stream = None if target is None else _stream_kind(target)
    minimum, by_label = parse_min_scores(min_score or [])
    _check_options(
        target=target,
        stream=stream,
        skip=on_error is OnError.skip,
        resume=resume,
        overwrite=overwrite,
        engine=engine,
        ray_options={"--address": address, "--workers": workers, "--shard-size": shard_size},
    )

    # Imported here, as elsewhere in this module: `musamma --help` must not wait for libraries.
    from musamma.inference.batch_run import load_tagger
    from musamma.inference.inputs import Inputs, count_input_bytes
    from musamma.inference.output_formats import choose_format
    from musamma.inference.progress_bar import ProgressBar

    chosen, compression = choose_format(target, format and format.value)
    if target is not None and Path(target).is_symlink() and not stream:
        target = str(resolve_link(Path(target)))  # The messages name the files that are written.
    source = Inputs(names=tuple(inputs), text_column=text_column, id_column=id_column, output=target)
    job = _Job(
        source=source,
        load=partial(
            load_tagger,
            model,
            device=device,
            batch_tokens=batch_tokens,
            min_score=minimum,
            label_min_scores=by_label,
            thresholds=thresholds,
            rules=None if rules is None else _load_rules(rules),
            with_settings=target is not None,
        ),
        format=chosen,
        compression=compression,
        audit=ImportAudit(source=target or "standard output", limit=1),
        skip=on_error is OnError.skip,
        resume=resume,
        overwrite=overwrite,
    )
    with ProgressBar(count_input_bytes(source) if sys.stderr.isatty() else None) as progress_bar:
        if engine is Engine.ray:
            result = _tag_on_ray(job, progress_bar, device, address=address, workers=workers, shard_size=shard_size)
            rejects = f"{target}/*.rejects.jsonl"
        else:
            result = _tag_here(job, progress_bar)
            rejects = f"{target}.rejects.jsonl"
    _report(result, job, rejects=rejects)
    report_unread_files(source)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """The work of a call, whichever engine does it.

    Args:
        source: the inputs and the output.
        load: loads the tagger; further options may be given.
        format: the output format.
        compression: ``gzip``, ``zstd`` or ``None``.
        audit: counts what the format cannot hold.
        skip, resume, overwrite: as of :func:`musamma.inference.batch_run.tag_inputs`.
    """

    source: Inputs
    load: Callable[..., LoadedTagger]
    format: str
    compression: str | None
    audit: ImportAudit
    skip: bool
    resume: bool
    overwrite: bool


@dataclass(frozen=True, slots=True)
class _Result:
    """The result of a run.

    Args:
        stats: the stats of the output as a whole.
        earlier_stats: the stats of the interrupted runs that this one resumes.
        seconds: the time for which this run tagged.
    """

    stats: RunStats
    earlier_stats: RunStats
    seconds: float


def _load_rules(path: Path) -> Rules:
    """Read a file of rules. Without one, what reads it is not loaded."""
    from musamma.inference.rule_file import load_rules

    return load_rules(path)


def _tag_here(job: _Job, progress_bar: ProgressBar) -> _Result:
    """Tag in this process; the time counts from when the model is loaded."""
    from musamma.inference.batch_run import tag_inputs

    began = time.monotonic()

    def load_and_restart_clock() -> LoadedTagger:
        nonlocal began
        tagger = job.load()
        began = time.monotonic()
        return tagger

    with _reporting_kept_documents(job.source.output):
        stats, earlier_stats = tag_inputs(
            job.source,
            load_and_restart_clock,
            format=job.format,
            compression=job.compression,
            audit=job.audit,
            progress_bar=progress_bar,
            skip=job.skip,
            resume=job.resume,
            overwrite=job.overwrite,
        )
    return _Result(stats, earlier_stats, time.monotonic() - began)


def _tag_on_ray(
    job: _Job,
    progress_bar: ProgressBar,
    device: str | None,
    *,
    address: str | None,
    workers: int | None,
    shard_size: int | None,
) -> _Result:
    """Tag on a Ray cluster, into a folder of parts."""
    from musamma.inference.ray.cluster import ClusterOptions, tag_on_cluster
    from musamma.inference.ray.parts_folder import PartsFolder
    from musamma.inference.ray.shards import SHARD_RECORDS

    assert job.source.output is not None, "the options are checked"
    began = time.monotonic()
    folder = Path(job.source.output)
    device = device or "cpu"  # A Ray worker sees only the GPUs it has reserved.
    if device not in ("cpu", "cuda"):
        raise InputError(f"--device {device} with --engine ray", expected="cpu, or cuda for one GPU per worker")
    with _reporting_kept_parts(folder):
        stats, earlier_stats = tag_on_cluster(
            job.source,
            partial(job.load, device=device),
            PartsFolder(folder, job.format, job.compression),
            cluster=ClusterOptions(address=address, workers=workers, gpus=int(device == "cuda")),
            audit=job.audit,
            progress_bar=progress_bar,
            shard_size=shard_size or SHARD_RECORDS,
            skip=job.skip,
            resume=job.resume,
            overwrite=job.overwrite,
        )
    return _Result(stats, earlier_stats, time.monotonic() - began)


def _check_options(
    *,
    target: str | None,
    stream: str | None,
    skip: bool,
    resume: bool,
    overwrite: bool,
    engine: Engine,
    ray_options: Mapping[str, Any],
) -> None:
    """Check that the options can be combined."""
    if resume and overwrite:
        raise InputError("--resume and --overwrite", expected="only one of them")
    if engine is Engine.local and (given := [name for name, value in ray_options.items() if value is not None]):
        raise InputError(f"{given[0]} without --engine ray", expected="both", remedy="add --engine ray")
    if target is None or stream:
        destination = f"{target}, {stream}" if stream else "standard output"
        need_file = {
            "--engine ray": engine is Engine.ray,
            "--on-error skip": skip,
            "--resume": resume,
            "--overwrite": overwrite,
        }
        for option, is_given in need_file.items():
            if is_given:
                remedy = "choose another --output" if stream else "give an --output"
                raise InputError(f"{option} to {destination}", expected="a file to write", remedy=remedy)


def _stream_kind(target: str) -> str | None:
    """Return what the output is if it can only be written from start to end, like standard output."""
    try:
        return stream_kind(Path(target))
    except OSError as error:
        raise not_writable(target, error, remedy="choose an --output that can be written") from error


@contextmanager
def _reporting_kept_documents(target: str | None) -> Iterator[None]:
    """Print after Ctrl-C how many documents are kept."""
    try:
        yield
    except KeyboardInterrupt:
        from musamma.inference.resumable_file import unfinished_part

        if target is not None and (part := unfinished_part(Path(target))) is not None:
            path, stats = part
            typer.echo(f"{stats.documents:,} documents are kept in {path}; --resume continues from there", err=True)
        raise


@contextmanager
def _reporting_kept_parts(folder: Path) -> Iterator[None]:
    """Print after Ctrl-C that finished parts are kept."""
    try:
        yield
    except KeyboardInterrupt:
        if (folder / "_run.json").exists():
            typer.echo(f"finished parts are kept in {folder}; --resume continues with the others", err=True)
        raise


def _report(result: _Result, job: _Job, *, rejects: str) -> None:
    """Print the result of a run, and where its rejected records are, on stderr."""
    stats = result.stats
    rate = (stats.words - result.earlier_stats.words) / max(result.seconds, 1e-9)
    rejected = f"{stats.rejected:,} rejected" + (f" ({rejects})" if stats.rejected else "")
    typer.echo(f"{stats.documents:,} documents, {stats.names:,} names, {rejected}, {rate:,.0f} words/s", err=True)
    if stats.left_out:
        typer.echo(f"{stats.left_out} names below their threshold left out", err=True)
    report_lost(job.audit, job.format)
