"""``musamma pack`` and ``musamma unpack``: a checkpoint with 8-bit weights for distribution, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pack(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder that musamma train wrote.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The folder to write, named like the model.")],
    gold: Annotated[
        str | None,
        typer.Option(
            metavar="GOLD", help="Documents to measure F1 on, before and after; by default Khabar's test part."
        ),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Rename the labels of GOLD first: the name of a map, or a YAML or JSON file.")
    ] = None,
    max_f1_change: Annotated[
        float,
        typer.Option(
            min=0,
            help="Write nothing if strict micro F1, without or with nested names, changes by more than this many points of 100.",
        ),
    ] = 0.1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier packed checkpoint.")] = False,
) -> None:
    """Write a checkpoint with 8-bit weights and a model card, for distribution with a program.

    Prints the F1 of both. `musamma predict --model OUTPUT` tags with it, `encoder: OUTPUT` fine-tunes from it.
    """
    from musamma.inference.progress_bar import show_progress
    from musamma.training.checkpoint_packing import pack_checkpoint

    record = pack_checkpoint(
        run, output, gold=gold, labels=labels, max_f1_change=max_f1_change, overwrite=overwrite, progress=show_progress
    )
    typer.echo(
        f"F1 {100 * record.before:.2f} before, {100 * record.after:.2f} after on {record.documents} documents with "
        f"{record.names:,} names of {record.gold}; {100 * record.agreeing:.2f}% of the names found agree"
    )
    if (nested := record.nested) is not None:
        scores = f"F1 {100 * nested.before:.2f} before, {100 * nested.after:.2f} after on {nested.names:,} names; "
        typer.echo(f"nested names: {scores if nested.names else ''}{100 * nested.agreeing:.2f}% of those found agree")
    typer.echo(
        f"{record.bytes_before / 1e6:.1f} MB of weights before, {record.bytes_after / 1e6:.1f} MB after\n"
        f"written to {output}"
    )


def unpack(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A packed checkpoint: a folder, a name or a hub id.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The folder to write, new or empty.")],
) -> None:
    """Write a packed checkpoint, such as nawah-ner, as a plain Hugging Face checkpoint in float32."""
    from musamma.models.packed_weights import unpack as unpack_checkpoint

    unpack_checkpoint(model, output)
    typer.echo(f"written to {output}")
