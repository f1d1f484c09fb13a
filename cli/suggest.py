"""``musamma suggest``."""

from __future__ import annotations

import sys
from contextlib import closing
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musamma.cli.shared_options import (
    BatchTokens,
    Device,
    IdColumn,
    OnError,
    TextColumn,
    report_lost,
    report_unread_files,
)
from musamma.data.errors import InputError
from musamma.data.files import check_output_file
from musamma.data.import_audit import ImportAudit
from musamma.models.model_names import DEFAULT_MODEL

if TYPE_CHECKING:
    from musamma.inference.suggestions import Suggestions


class TaskFormat(StrEnum):
    """Formats of tasks, which hold the reason of each one."""

    jsonl = "jsonl"
    labelstudio = "labelstudio"
    doccano = "doccano"


class Measure(StrEnum):
    """Measures of uncertainty."""

    confidence = "confidence"
    margin = "margin"
    entropy = "entropy"
    names = "names"
    disagreement = "disagreement"


def suggest(
    pool: Annotated[
        list[str],
        typer.Argument(metavar="POOL...", help="Texts that are not annotated: all inputs that musamma predict reads."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Tasks to write: .json for Label Studio, .jsonl for JSON lines.")
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help=f"A folder, hub id or included model; by default {DEFAULT_MODEL}. Repeat it for several seeds.",
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of texts to choose.")] = 50,
    format: Annotated[
        TaskFormat | None, typer.Option("--format", "-f", help="By default chosen by the output's suffix.")
    ] = None,
    measure: Annotated[
        Measure | None,
        typer.Option("--measure", help="Uncertainty per word; disagreement for several models, else confidence."),
    ] = None,
    diversity: Annotated[
        float, typer.Option("--diversity", help="From 0 (the most uncertain texts) to 1 (the least similar ones).")
    ] = 0.3,
    min_words: Annotated[int, typer.Option("--min-words", min=1, help="Leave out shorter texts.")] = 5,
    annotated: Annotated[
        list[str] | None,
        typer.Option(
            "--annotated", metavar="FILE", help="Annotated documents, to choose other texts than these; repeatable."
        ),
    ] = None,
    text_column: TextColumn = None,
    id_column: IdColumn = None,
    on_error: Annotated[
        OnError, typer.Option("--on-error", help="At a line that is not a document: stop, or count it and go on.")
    ] = OnError.fail,
    device: Device = None,
    batch_tokens: BatchTokens = None,
) -> None:
    """Choose the texts from which a model would learn most, and write them with predicted names for annotation."""
    # Imported here: `musamma --help` must not wait for libraries.
    from musamma.data.corpus_files import WriteOptions, choose_write_format, write_documents
    from musamma.inference.diverse_selection import check_diversity
    from musamma.inference.inputs import Inputs, count_input_bytes, read_inputs
    from musamma.inference.progress_bar import ProgressBar
    from musamma.inference.suggestions import load_scorer, read_annotated
    from musamma.inference.suggestions import suggest as choose_texts
    from musamma.inference.uncertainty import choose_measure

    models = model or [DEFAULT_MODEL]
    chosen = choose_write_format(output, format and format.value)
    if chosen not in {item.value for item in TaskFormat}:
        raise InputError(
            f"a file for {chosen}, which cannot hold the reasons",
            where=str(output),
            expected=".json for Label Studio, .jsonl for JSON lines, or a `format`",
        )
    check_output_file(output)
    check_diversity(diversity)
    choose_measure(measure and measure.value, len(models))
    source = Inputs(names=tuple(pool), text_column=text_column, id_column=id_column, output=str(output))
    with (
        ProgressBar(count_input_bytes(source) if sys.stderr.isatty() else None) as bar,
        closing(read_inputs(source)) as records,
    ):
        suggestions = choose_texts(
            records,
            partial(
                load_scorer,
                models,
                measure=measure and measure.value,
                vectors=diversity > 0,
                device=device,
                batch_tokens=batch_tokens,
            ),
            count=count,
            diversity=diversity,
            min_words=min_words,
            annotated=read_annotated(annotated or ()),
            skip=on_error is OnError.skip,
            progress_bar=bar,
        )
    audit = ImportAudit(source=str(output), limit=1)
    written = write_documents(
        suggestions.documents,
        output,
        format=chosen,
        # Also tasks in which no name was found.
        options=WriteOptions(tasks_as="predictions", model_version=models[0]),
        audit=audit,
    )
    _report(suggestions, written, output=output, count=count, min_words=min_words)
    report_lost(audit, chosen)
    report_unread_files(source)


def _report(suggestions: Suggestions, written: int, *, output: Path, count: int, min_words: int) -> None:
    """Print on stderr how many texts were chosen, and what became of the others.

    Args:
        suggestions: the result.
        written: number of texts written.
        output: the file.
        count: number of texts asked for.
        min_words: minimum number of words of a text.
    """
    typer.echo(f"{written:,} of {suggestions.pool:,} texts by {suggestions.measure}: {output}", err=True)
    if suggestions.pool < count:
        typer.echo(f"the pool has {suggestions.pool:,} texts to choose from, fewer than {count:,}", err=True)
    if suggestions.near_copies:
        typer.echo(f"{suggestions.near_copies:,} of them are near copies: the pool has no others left", err=True)
    if suggestions.copies:
        typer.echo(f"{suggestions.copies:,} texts left out that are annotated already or occur twice", err=True)
    if suggestions.short:
        typer.echo(f"{suggestions.short:,} texts of fewer than {min_words} words left out", err=True)
    if suggestions.rejected:
        typer.echo(f"{suggestions.rejected:,} records are not documents, e.g. {suggestions.first_reject}", err=True)
