"""``musamma compare``: compare two systems on the same documents, with a test of significance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from musamma.data.files import check_outputs, write_json
from musamma.data.formats.options import ReadOptions
from musamma.evaluation.matching import ALL, MODES, NESTED, STRICT

if TYPE_CHECKING:
    from musamma.evaluation.counts import CountTable
    from musamma.evaluation.significance import Comparison

_LEVEL = 0.95
_SIDES = ("gold", "first", "second")
_COLUMNS = ("first", "second", "difference", "95% interval", "p")


def compare(
    gold: Annotated[str, typer.Argument(metavar="GOLD", help="Annotated documents in any supported format.")],
    first: Annotated[
        str, typer.Argument(metavar="PREDICTIONS_A", help="The predictions of the first system for these documents.")
    ],
    second: Annotated[
        str, typer.Argument(metavar="PREDICTIONS_B", help="The predictions of the second system for these documents.")
    ],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all comparisons to this file.")] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare this mode and its labels, besides strict; repeatable. By default all modes"
            f" ({', '.join(MODES)}) and the labels of strict."
        ),
    ] = None,
    resamples: Annotated[int, typer.Option(min=1, help="Number of resamples for p-values and intervals.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resampling.")] = 1,
    labels: Annotated[
        str | None, typer.Option(help="Rename labels first: the name of a map, or a YAML or JSON file.")
    ] = None,
    gold_labels: Annotated[
        str | None, typer.Option(help="Like --labels, for the gold only and instead of --labels.")
    ] = None,
    predicted_labels: Annotated[
        str | None, typer.Option(help="Like --labels, for both predictions only and instead of --labels.")
    ] = None,
    missing_as_empty: Annotated[
        bool, typer.Option("--allow-missing", help="Count documents without a prediction as documents without names.")
    ] = False,
    sentences: Annotated[
        int, typer.Option(min=0, help="CoNLL: number of sentences per document; 0 for the whole file.")
    ] = 1,
) -> None:
    """Compare the F1 of two systems on the same documents: the difference, its 95% interval and a p-value.

    Whole documents are resampled, since names of one document are not independent. The modes compare the outermost names. If the gold
    and both systems have names inside names, these are compared as a layer of their own, and together with the outermost ones.
    """
    from musamma.evaluation.evaluation_inputs import (
        LabelRenaming,
        count_evaluation_pair,
        naming_source,
        read_evaluation_pair,
    )
    from musamma.evaluation.significance import adjust_label_p_values, compare_systems, resampling_warning

    check_outputs([("json", json_file)], [gold, first, second])
    options = ReadOptions(sentences=sentences)
    tables: list[CountTable] = []
    dropped: dict[str, int] = {}
    for side, predictions in (("first", first), ("second", second)):
        gold_renaming = LabelRenaming.load(gold_labels or labels)
        predicted_renaming = LabelRenaming.load(predicted_labels or labels)
        pair = read_evaluation_pair(
            gold, predictions, gold_labels=gold_renaming, predicted_labels=predicted_renaming, options=options
        )
        with naming_source(predictions):
            tables.append(
                count_evaluation_pair(pair, modes=mode or MODES, layers=True, missing_as_empty=missing_as_empty)
            )
        dropped |= {"gold": gold_renaming.dropped, side: predicted_renaming.dropped}
    without_nested = _find_sides_without_nested(tables)
    if without_nested:
        tables = [table.without_modes([NESTED, ALL]) for table in tables]
    comparisons = compare_systems(tables[0], tables[1], resamples=resamples, level=_LEVEL, seed=seed)
    adjusted = adjust_label_p_values(comparisons)
    warning = resampling_warning(tables[0], sentences=pair.sentences)
    documents = len(tables[0].documents)
    shown_modes = tuple(dict.fromkeys(mode or (STRICT,))) + (() if without_nested else (NESTED,))
    typer.echo(f"first:  {first}\nsecond: {second}\n")
    _print_comparisons(comparisons, adjusted, shown_modes)
    typer.echo(f"\ndocuments: {documents}")
    typer.echo(f"difference: second minus first, points of F1; p: two-sided, {resamples} random swaps of documents")
    typer.echo("p (Holm): adjusted for all labels of the mode; modes are not adjusted, choose one beforehand")
    for side, count in dropped.items():
        if count:
            typer.echo(f"{side}: {count} names left out by the label map")
    if 0 < len(without_nested) < len(_SIDES):
        typer.echo(f"only outermost names are compared, as there are no nested ones in: {', '.join(without_nested)}")
    if warning:
        typer.echo(warning)
    by_row = {comparison.row: comparison for comparison in comparisons}
    for row in shown_modes:
        typer.echo(_format_verdict(by_row[row]))
    if json_file is not None:
        record = {
            "gold": gold, "first": first, "second": second, "documents": documents,
            "resamples": resamples, "seed": seed, "level": _LEVEL, "note": warning, "left_out_by_labels": dropped,
            "comparisons": [_to_record(comparison, adjusted) for comparison in comparisons],
        }  # fmt: skip
        write_json(record, json_file)


def _find_sides_without_nested(tables: Sequence[CountTable]) -> list[str]:
    """Return which of :data:`_SIDES` have no nested names."""
    first, second = (table.total(NESTED) for table in tables)
    counts = (first.support, first.predicted, second.predicted)
    return [side for side, count in zip(_SIDES, counts, strict=True) if not count]


def _print_comparisons(
    comparisons: Sequence[Comparison], adjusted: dict[str, float], shown_modes: Sequence[str]
) -> None:
    from musamma.evaluation.score_tables import build_table, print_table

    console = Console()
    totals = [comparison for comparison in comparisons if comparison.label is None]
    order = (*MODES, NESTED, ALL)
    totals.sort(key=lambda comparison: (order.index(comparison.mode), comparison.row))
    modes, layers = build_table("mode", *_COLUMNS), build_table("layer (strict)", *_COLUMNS)
    for comparison in totals:
        (modes if comparison.mode in MODES else layers).add_row(comparison.row, *_format_cells(comparison))
    print_table(modes, console)
    if layers.row_count:
        console.print()
        print_table(layers, console)
    for mode in shown_modes:
        labels = build_table(f"label ({mode})", *_COLUMNS, "p (Holm)")
        for comparison in sorted(comparisons, key=lambda comparison: comparison.row):
            if comparison.mode == mode and comparison.label is not None:
                adjusted_p = _format_p(adjusted[comparison.row])
                labels.add_row(Text(comparison.label), *_format_cells(comparison), adjusted_p)
        console.print()
        print_table(labels, console)


def _format_cells(comparison: Comparison) -> tuple[str, ...]:
    low, high = comparison.interval.low, comparison.interval.high
    return (
        f"{100 * comparison.first:.2f}",
        f"{100 * comparison.second:.2f}",
        f"{100 * comparison.difference:+.2f}",
        f"\\[{100 * low:+.2f}, {100 * high:+.2f}]",
        _format_p(comparison.p_value),
    )


def _format_verdict(comparison: Comparison) -> str:
    outcome = "the systems differ" if comparison.is_significant(_LEVEL) else "no difference is shown"
    level = round(1 - _LEVEL, 10)
    return f"{comparison.row}: at the level of {level} {outcome} (p = {_format_p(comparison.p_value)})"


def _format_p(p_value: float) -> str:
    return f"{p_value:.4f}" if p_value >= 0.0001 else f"{p_value:.0e}"


def _to_record(comparison: Comparison, adjusted: dict[str, float]) -> dict[str, Any]:
    record = comparison.to_dict()
    if comparison.row in adjusted:
        record["p_holm"] = adjusted[comparison.row]
    return record
