"""``musamma push``: upload a checkpoint or a corpus to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from musamma.data.errors import InputError


def push(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A checkpoint; with --corpus a corpus.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository; created if it is missing.")],
    corpus: Annotated[bool, typer.Option("--corpus", help="Upload a corpus, as a dataset.")] = False,
    export: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="An export of the checkpoint to upload with it; repeatable."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files and upload nothing.")] = False,
) -> None:
    """Upload a checkpoint with its card, or a corpus, to the Hugging Face hub in one commit.

    Needs an access token: log in with `hf auth login`, or set HF_TOKEN.
    """
    from musamma.models import hub_upload

    if corpus and export:
        raise InputError("`export` with `corpus`", expected="an export beside a checkpoint")
    upload = (
        hub_upload.collect_corpus(folder, repository)
        if corpus
        else hub_upload.collect_checkpoint(folder, repository, exports=export or ())
    )
    if dry_run:
        from musamma.evaluation.score_tables import build_table, print_table

        console = Console()
        table = build_table("file", "bytes")
        for file in upload.files:
            table.add_row(file.path, f"{file.size:,}")
        print_table(table, console)
        total = sum(file.size for file in upload.files)
        scores = f", {upload.scores} scores in the model-index of the card" if upload.kind == "model" else ""
        typer.echo(
            f"\n{upload.kind} {repository}: {len(upload.files)} files, {total:,} bytes{scores}; nothing is uploaded"
        )
        return
    typer.echo(hub_upload.push(upload, private=private))
