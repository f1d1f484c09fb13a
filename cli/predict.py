"""``musamma predict``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musamma.cli.shared_options import MinScores, Thresholds, parse_min_scores
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit

if TYPE_CHECKING:
    from musamma.inference.resumable_file import ResumableFile


class Engine(StrEnum):
    """Where predict tags."""

    local = "local"
    ray = "ray"


class OnError(StrEnum):
    """What predict does with a line that is no document."""

    fail = "fail"
    skip = "skip"


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Texts, JSONL, CSV or TSV (also .gz, .zst), Parquet, folders and patterns of them, or - for stdin.",
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="A folder, a hub id, or a model that comes with the project.")
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="File to write, or folder for brat; standard output by default."),
    ] = None,
    format: Annotated[
        Format | None, typer.Option("--format", "-f", help="By default from the output's suffix, jsonl without one.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1 ...; the GPU where there is one.")
    ] = None,
    batch_tokens: Annotated[int | None, typer.Option("--batch-tokens", min=1, help="Pieces a batch.")] = None,
    min_score: MinScores = None,
    thresholds: Thresholds = False,
    text_column: Annotated[
        str | None, typer.Option("--text-column", help="Column or JSON key that holds the text; text by default.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id-column", help="Column or JSON key that holds the id; id by default.")
    ] = None,
    on_error: Annotated[
        OnError,
        typer.Option("--on-error", help="At a line that is no document: stop, or put it into OUTPUT.rejects.jsonl."),
    ] = OnError.fail,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the output that an earlier run has left unfinished.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew, whatever an earlier run has left unfinished.")
    ] = False,
    engine: Annotated[
        Engine,
        typer.Option("--engine", help="Tag in this process, or spread over Ray; OUTPUT is a folder of parts then."),
    ] = Engine.local,
    address: Annotated[
        str | None, typer.Option("--address", help="Of the Ray cluster, or auto; by default one is started here.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes that tag on Ray; by default one a core.")
    ] = None,
    shard_size: Annotated[
        int | None, typer.Option("--shard-size", min=1, help="Records of a part on Ray, at least; 4,096 by default.")
    ] = None,
) -> None:
    """Find the names in articles: the same documents come out, with character-exact spans and scores."""
    target = None if output in (None, "-") else output
    chosen, packing = format_of(target, format)
    least, by_label = parse_min_scores(min_score or [])
    on_ray = {"--address": address, "--workers": workers, "--shard-size": shard_size}
    _check_call(target, chosen, on_error=on_error, resume=resume, overwrite=overwrite, engine=engine, on_ray=on_ray)
    if target is not None:
        keep_apart(inputs, target)

    from musamma.inference.batch_run import LoadedTagger, reject_bad_file_names, tag_records
    from musamma.inference.inputs import Inputs, first_table, read_inputs, total_bytes
    from musamma.inference.progress_bar import ProgressBar
    from musamma.inference.resumable_file import ResumableFile, StandardOutput
    from musamma.inference.run_state import RunStats
    from musamma.inference.writers import build_output_format, check_folder

    given = Inputs(names=tuple(inputs), text_column=text_column, id_column=id_column, output=target)
    if engine is Engine.ray and target is not None:
        predict_on_cluster(
            given,
            model,
            target,
            chosen,
            packing,
            tagging={
                "batch_tokens": batch_tokens,
                "min_score": least,
                "label_min_scores": by_label,
                "thresholds": thresholds,
            },
            address=address,
            workers=workers,
            device=device,
            size=shard_size,
            skip=on_error is OnError.skip,
            resume=resume,
            overwrite=overwrite,
        )
        return
    began = 0.0

    def load() -> LoadedTagger:
        # A wrong path is told of before torch and the model are loaded, as is a wrong output.
        from musamma.inference.tagger import Tagger

        nonlocal began
        tagger = Tagger(
            model,
            device=device,
            batch_tokens=batch_tokens,
            min_score=least,
            label_min_scores=by_label,
            thresholds=thresholds,
        )
        asked: dict[str, Any] = {"inputs": inputs, "text column": text_column, "id column": id_column}
        asked |= {"format": chosen.value, "packing": packing}
        settings = {} if target is None else asked | tagger.settings()
        began = time.monotonic()
        return LoadedTagger(tagger=tagger, settings=settings)

    audit = ImportAudit(source=target or "standard output", limit=1)
    if chosen is Format.brat:
        check_folder(Path(target or ""))
    written = build_output_format(
        chosen.value,
        packing=packing,
        audit=audit,
        table=first_table(given) if chosen is Format.parquet else None,
    )
    with (
        ProgressBar(total_bytes(given) if sys.stderr.isatty() else None) as progress_bar,
        closing(read_inputs(given)) as read,
    ):
        records = reject_bad_file_names(read) if chosen is Format.brat else read
        if target is None:
            before = RunStats()
            done = tag_records(records, load, StandardOutput(), written, audit=audit, progress_bar=progress_bar)
        else:
            with ResumableFile(Path(target), resume=resume, overwrite=overwrite) as part, _kept(part):
                before = part.stats
                skip = on_error is OnError.skip
                done = tag_records(records, load, part, written, audit=audit, progress_bar=progress_bar, skip=skip)
    seconds = time.monotonic() - began
    report(done, before, seconds=seconds, rejects=f"{target}.rejects.jsonl", audit=audit, format=chosen)


@contextmanager
def _kept(part: ResumableFile) -> Iterator[None]:
    """Where a run stops, say what of it is kept."""
    try:
        yield
    except (InputError, KeyboardInterrupt) as error:
        if not part.stats.records:
            raise
        kept = f"{part.stats.documents:,} documents are kept in {part.path}"
        if isinstance(error, KeyboardInterrupt):
            typer.echo(f"{kept}; --resume goes on from there", err=True)
            raise
        if "--overwrite" in str(error):
            raise
        remedy = f"{error.remedy}; {kept}" if error.remedy else kept
        if "--resume" not in remedy:
            remedy += ", and --resume goes on from there"
        raise InputError(error.found, where=error.where, expected=error.expected, remedy=remedy) from error


def _check_call(
    target: str | None,
    format: Format,
    *,
    on_error: OnError,
    resume: bool,
    overwrite: bool,
    engine: Engine,
    on_ray: Mapping[str, Any],
) -> None:
    """Fail where options cannot go together."""
    if resume and overwrite:
        raise InputError("--resume and --overwrite", expected="one of both")
    if engine is Engine.local and (only := [name for name, value in on_ray.items() if value is not None]):
        raise InputError(f"{only[0]} without --engine ray", expected="both", remedy="add --engine ray")
    if target is None:
        wrong = [
            *(["--engine ray"] if engine is Engine.ray else []),
            *(["--on-error skip"] if on_error is OnError.skip else []),
            *(["--resume"] if resume else []),
            *(["--overwrite"] if overwrite else []),
            *([f"--format {format.value}"] if format in (Format.parquet, Format.brat) else []),
        ]
        if wrong:
            raise InputError(f"{wrong[0]} to standard output", expected="a file to write", remedy="give an --output")
    elif engine is Engine.local and format is not Format.brat and Path(target).is_dir():
        raise InputError(
            "a folder",
            where=target,
            expected="a file to write",
            remedy="choose an --output that can be written, or give --format brat",
        )


if TYPE_CHECKING:
    from musamma.inference.batch_run import LoadedTagger
    from musamma.inference.inputs import Inputs


def predict_on_cluster(
    given: Inputs,
    model: str,
    target: str,
    format: Format,
    packing: str | None,
    *,
    tagging: Mapping[str, Any],
    address: str | None,
    workers: int | None,
    device: str | None,
    size: int | None,
    skip: bool,
    resume: bool,
    overwrite: bool,
) -> None:
    """Tag on Ray, into a folder of parts, and say what became of all that was read.

    Args:
        given: what to tag.
        model: a model that every worker finds under this name.
        target: the folder.
        format: the parts' format.
        packing: how they are packed.
        tagging: further arguments of the tagger.
        address: of the cluster; ``None`` starts one here.
        workers: processes that tag; by default one a core.
        device: ``cpu``, the default, or ``cuda``.
        size: records of a part, at least.
        skip: put lines that are no documents aside.
        resume: go on with the parts that are missing.
        overwrite: begin anew.
    """
    from musamma.inference.inputs import total_bytes
    from musamma.inference.progress_bar import ProgressBar
    from musamma.inference.ray.cluster import ClusterOptions, tag_on_cluster
    from musamma.inference.ray.parts_folder import PartsFolder
    from musamma.inference.ray.shards import SHARD_RECORDS

    where = device or "cpu"  # a worker sees no graphics card that it did not ask for
    if where not in ("cpu", "cuda"):
        raise InputError(f"--device {where} with --engine ray", expected="cpu, or cuda for a card a worker")

    def load() -> LoadedTagger:  # Ray sends it to the workers: nothing of it may be bound to this process
        from musamma.inference.batch_run import LoadedTagger
        from musamma.inference.tagger import Tagger

        tagger = Tagger(model, device=where, **tagging)
        return LoadedTagger(tagger=tagger, settings=tagger.settings())

    audit = ImportAudit(source=target, limit=1)
    began = time.monotonic()
    with ProgressBar(total_bytes(given) if sys.stderr.isatty() else None) as progress_bar, _kept_cluster(target):
        done, before = tag_on_cluster(
            given,
            load,
            PartsFolder(Path(target), format.value, packing),
            cluster=ClusterOptions(address=address, workers=workers, gpus=int(where == "cuda")),
            audit=audit,
            progress_bar=progress_bar,
            size=size or SHARD_RECORDS,
            skip=skip,
            resume=resume,
            overwrite=overwrite,
        )
    rejects = f"{target}/*.rejects.jsonl"
    report(done, before, seconds=time.monotonic() - began, rejects=rejects, audit=audit, format=format)


@contextmanager
def _kept_cluster(target: str) -> Iterator[None]:
    """Where a run is interrupted, say what of it is kept."""
    try:
        yield
    except KeyboardInterrupt:
        if (Path(target) / "_run.json").exists():
            typer.echo(f"whole parts are kept in {target}; --resume goes on with the others", err=True)
        raise


if TYPE_CHECKING:
    from musamma.inference.run_state import RunStats


class Format(StrEnum):
    """What predict writes."""

    jsonl = "jsonl"
    parquet = "parquet"
    conll = "conll"
    brat = "brat"
    html = "html"


_SUFFIXES = {
    ".jsonl": Format.jsonl,
    ".ndjson": Format.jsonl,
    ".parquet": Format.parquet,
    ".conll": Format.conll,
    ".html": Format.html,
}
_PACKINGS = {".gz": "gzip", ".zst": "zstd"}
_PACKED = (Format.jsonl, Format.conll)


def format_of(output: str | None, given: Format | None) -> tuple[Format, str | None]:
    """What to write, and how it is packed."""
    path = Path(output or "")
    packing = _PACKINGS.get(path.suffix.lower())
    suffix = Path(path.stem if packing else path.name).suffix.lower()
    if given is None and suffix and suffix not in _SUFFIXES:
        raise InputError(
            f"suffix {suffix!r}",
            where=output,
            expected=f"one of {', '.join(_SUFFIXES)}",
            remedy="name the file so, or give --format",
        )
    format = given or _SUFFIXES.get(suffix, Format.jsonl)
    if packing and format not in _PACKED:
        raise InputError(
            f"{format.value} packed as {path.suffix.lower()}",
            where=output,
            expected=f"no {path.suffix.lower()}, or one of {', '.join(_PACKED)}",
        )
    return format, packing


def keep_apart(inputs: list[str], output: str) -> None:
    """Fail where the output would take the place of an input, whose own annotation would be lost."""
    for name in inputs:
        if Path(name).is_file() and Path(name).resolve() == Path(output).resolve():
            raise InputError("an input is the output too", where=output, remedy="choose another --output")


def report(
    done: RunStats, before: RunStats, *, seconds: float, rejects: str, audit: ImportAudit, format: Format
) -> None:
    """Say on stderr what became of all that was read.

    Args:
        done: the whole run.
        before: what of it an earlier run has done.
        seconds: how long this one tagged.
        rejects: where lines are that were no documents.
        audit: what the format could not hold.
        format: the format.
    """
    rate = (done.words - before.words) / max(seconds, 1e-9)
    rejected = f"{done.rejected:,} rejected" + (f" ({rejects})" if done.rejected else "")
    typer.echo(f"{done.documents:,} documents, {done.names:,} names, {rejected}, {rate:,.0f} words/s", err=True)
    if done.left_out:
        typer.echo(f"{done.left_out} names below their threshold left out", err=True)
    if changes := ", ".join(f"{count} {kind}" for kind, count in sorted(audit.kinds.items()) if count):
        typer.echo(f"{audit.source}: {format.value} cannot hold all: {changes}; jsonl can", err=True)
