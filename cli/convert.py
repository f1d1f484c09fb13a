"""``musamma convert``: convert annotation from one format to another and audit every change."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from musamma.data.errors import InputError
from musamma.data.files import check_outputs, write_json
from musamma.data.formats.options import FOLDER_FORMATS, FORMATS, TOOL_UNITS, ReadOptions, WriteOptions
from musamma.data.import_audit import FINDING_KINDS, ImportAudit
from musamma.data.labels import LABEL_MAPS, load_label_map

if TYPE_CHECKING:
    from musamma.data.document import Document


def convert(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A file, a folder, or hf:NAME\\[@CONFIG][:SPLIT].")],
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="A file, or a folder for brat, khabar and webanno.")],
    from_format: Annotated[
        str | None, typer.Option("--from", help=f"Format of INPUT, guessed if not given: {', '.join(FORMATS)}.")
    ] = None,
    to_format: Annotated[str | None, typer.Option("--to", help="Format of OUTPUT, by its suffix if not given.")] = None,
    labels: Annotated[
        str | None,
        typer.Option(help=f"Map labels: {', '.join(LABEL_MAPS)}, or a YAML or JSON file 'OLD: NEW or null'."),
    ] = None,
    overlaps: Annotated[
        Literal["error", "longest", "nested"],
        typer.Option(help="Overlapping spans: fail, keep the longest, or move inner ones to 'nested'."),
    ] = "error",
    max_loss: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Fail, and write nothing, if a larger share of spans is dropped or snapped."),
    ] = None,
    rejoin_clitics: Annotated[
        bool, typer.Option("--rejoin-clitics", help="CoNLL: join clitics that are tokens to their word (WikiFANE).")
    ] = False,
    audit_file: Annotated[
        Path | None, typer.Option("--audit", help="Write all changes, with their places, to this JSON file.")
    ] = None,
    sentences: Annotated[
        int, typer.Option(min=0, help="CoNLL: sentences per document; 0 for all up to -DOCSTART-.")
    ] = 1,
    tag_scheme: Annotated[
        Literal["auto", "iob1", "iob2", "bioes", "bilou"], typer.Option(help="CoNLL: the tag scheme of INPUT.")
    ] = "auto",
    strict_tags: Annotated[
        bool, typer.Option("--strict-tags", help="CoNLL: fail on invalid tags instead of repairing them.")
    ] = False,
    missing_tags: Annotated[
        Literal["error", "O"], typer.Option(help="CoNLL: a token without a tag is an error, or counts as O.")
    ] = "error",
    discontinuous: Annotated[
        Literal["cover", "drop"],
        typer.Option(help="brat, WebAnno TSV: cover discontinuous names from end to end, or drop them."),
    ] = "cover",
    offsets: Annotated[
        Literal["auto", "code-points", "utf16", "graphemes"],
        typer.Option(
            help="brat, doccano, Label Studio: the unit of offsets in INPUT; by default the tool's own, with doccano the one "
            "that fits."
        ),
    ] = "auto",
    predictions: Annotated[
        Literal["drop", "fallback", "only"],
        typer.Option(
            help="Label Studio: drop predictions, read those of tasks without a finished annotation, or only predictions."
        ),
    ] = "drop",
    write_offsets: Annotated[
        Literal["auto", "code-points", "utf16", "graphemes"],
        typer.Option(help="brat, doccano, Label Studio: the unit of offsets in OUTPUT; by default the tool's own."),
    ] = "auto",
    tasks_as: Annotated[
        Literal["auto", "annotations", "predictions"],
        typer.Option(
            "--as", help="Label Studio: write finished annotations, or predictions; by default predictions if scored."
        ),
    ] = "auto",
    model_version: Annotated[
        str, typer.Option("--model-version", help="Label Studio: the model that predictions name.")
    ] = "musamma",
    write_scheme: Annotated[
        Literal["iob1", "iob2", "bioes", "bilou"], typer.Option(help="CoNLL: the tag scheme of OUTPUT.")
    ] = "iob2",
    split_punctuation: Annotated[
        bool, typer.Option("--split-punctuation", help="CoNLL: write punctuation as separate tokens.")
    ] = False,
    nested_tags: Annotated[
        bool, typer.Option("--nested-tags", help="CoNLL: write names inside names as additional tags.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="brat, khabar, webanno: write to a folder with files in it; those of the same names are replaced.",
        ),
    ] = False,
) -> None:
    """Convert annotation from one format to another. All changes are counted on stderr."""
    from musamma.data.corpus_files import read_documents, write_documents

    read_options = ReadOptions(
        overlaps=overlaps,
        labels=None if labels is None else load_label_map(labels),
        scheme=tag_scheme,
        strict_tags=strict_tags,
        missing_tags=missing_tags,
        sentences=sentences,
        rejoin_clitics=rejoin_clitics,
        discontinuous=discontinuous,
        offsets=offsets,
        predictions=predictions,
    )
    write_options = WriteOptions(
        scheme=write_scheme,
        split_punctuation=split_punctuation,
        nested=nested_tags,
        offsets=write_offsets,
        tasks_as=tasks_as,
        model_version=model_version,
    )
    _check_paths(source, output, to_format, audit_file)
    _check_offsets(source, from_format, output, to_format, read_options, write_options)
    audit = ImportAudit(source=source)
    documents = read_documents(source, format=from_format, options=read_options, audit=audit)
    try:
        count = write_documents(
            with_progress(documents, "converting"),
            output,
            format=to_format,
            options=write_options,
            audit=audit,
            max_loss=max_loss,
            overwrite=overwrite,
        )
    finally:
        if audit_file is not None:
            write_json(audit.to_dict(), audit_file)
    _print_summary(count, output, audit)


def _check_offsets(
    source: str,
    from_format: str | None,
    output: str,
    to_format: str | None,
    read_options: ReadOptions,
    write_options: WriteOptions,
) -> None:
    """Check that a unit of offsets is given only for formats that leave a choice."""
    from musamma.data.corpus_files import choose_write_format, guess_format

    expected = f"one of {', '.join(TOOL_UNITS)}"
    if read_options.offsets != "auto" and (format := from_format or guess_format(source)) not in TOOL_UNITS:
        remedy = "for the unit of OUTPUT use --write-offsets"
        raise InputError(f"--offsets with INPUT in the format {format}", expected=expected, remedy=remedy)
    if write_options.offsets != "auto" and (format := choose_write_format(output, to_format)) not in TOOL_UNITS:
        raise InputError(f"--write-offsets with OUTPUT in the format {format}", expected=expected)


def _check_paths(source: str, output: str, to_format: str | None, audit_file: Path | None) -> None:
    """Check before anything is read that no output is an input, the other output, or in a folder that is being read."""
    from musamma.data.corpus_files import choose_write_format

    source_path, output_path = Path(os.path.realpath(source)), Path(os.path.realpath(output))
    if Path(source).exists() and source_path == output_path:
        raise InputError("INPUT and OUTPUT are the same", where=output, remedy="choose another OUTPUT")
    is_folder = choose_write_format(output, to_format) in FOLDER_FORMATS
    if source_path in output_path.parents and (is_folder or output_path.suffix in (".txt", ".ann")):
        raise InputError(
            f"OUTPUT is in the folder INPUT ({source}), where it would be read",
            where=output,
            remedy="choose another OUTPUT",
        )
    check_outputs([("output", None if is_folder else Path(output)), ("audit", audit_file)], [source])
    if audit_file is not None and is_folder and output_path == Path(os.path.realpath(audit_file)):
        raise InputError("OUTPUT and --audit are the same path", where=output, expected="an own path for each")


def with_progress(documents: Iterable[Document], description: str) -> Iterable[Document]:
    """Pass documents through and show their number on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        return documents
    from rich.progress import track

    return track(documents, description, console=Console(stderr=True), transient=True)


def _print_summary(count: int, output: str, audit: ImportAudit) -> None:
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    console.print(f"{count} documents, {audit.spans} spans, {audit.exact} of them exactly as in the input: {output}")
    if audit.offset_unit:
        console.print(f"  offsets in {audit.offset_unit}: {audit.offset_reason}")
    for kind, number in sorted(audit.kinds.items(), key=lambda item: (FINDING_KINDS[item[0]], item[0])):
        if number:
            examples = audit.find_examples(kind)
            example = f", e.g. {examples[0].describe()}" if examples else ""
            console.print(f"  {FINDING_KINDS[kind]}: {number} {kind}{example}")
