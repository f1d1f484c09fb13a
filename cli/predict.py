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

from musamma.cli.cluster import predict_on_cluster
from musamma.cli.output import Format, format_of, keep_apart, report
from musamma.cli.scores import MinScores, Thresholds, least_scores
from musamma.data.audit import ImportAudit
from musamma.data.errors import InputError

if TYPE_CHECKING:
    from musamma.inference.part import Part


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
    least, by_label = least_scores(min_score or [])
    on_ray = {"--address": address, "--workers": workers, "--shard-size": shard_size}
    _check_call(target, chosen, on_error=on_error, resume=resume, overwrite=overwrite, engine=engine, on_ray=on_ray)
    if target is not None:
        keep_apart(inputs, target)

    from musamma.inference.batch import Loaded, named_as_files, tag_records
    from musamma.inference.journal import Account
    from musamma.inference.part import Part, Stream
    from musamma.inference.progress import Meter
    from musamma.inference.sources import Inputs, first_table, read_inputs, total_bytes
    from musamma.inference.writers import check_folder, layout

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

    def load() -> Loaded:
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
        return Loaded(tagger=tagger, settings=settings)

    audit = ImportAudit(source=target or "standard output", limit=1)
    if chosen is Format.brat:
        check_folder(Path(target or ""))
    written = layout(
        chosen.value,
        packing=packing,
        audit=audit,
        table=first_table(given) if chosen is Format.parquet else None,
    )
    with Meter(total_bytes(given) if sys.stderr.isatty() else None) as meter, closing(read_inputs(given)) as read:
        records = named_as_files(read) if chosen is Format.brat else read
        if target is None:
            before = Account()
            done = tag_records(records, load, Stream(), written, audit=audit, meter=meter)
        else:
            with Part(Path(target), resume=resume, overwrite=overwrite) as part, _kept(part):
                before = part.account
                skip = on_error is OnError.skip
                done = tag_records(records, load, part, written, audit=audit, meter=meter, skip=skip)
    seconds = time.monotonic() - began
    report(done, before, seconds=seconds, rejects=f"{target}.rejects.jsonl", audit=audit, format=chosen)


@contextmanager
def _kept(part: Part) -> Iterator[None]:
    """Where a run stops, say what of it is kept."""
    try:
        yield
    except (InputError, KeyboardInterrupt) as error:
        if not part.account.records:
            raise
        kept = f"{part.account.documents:,} documents are kept in {part.path}"
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
