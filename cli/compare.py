"""``musamma compare``: two systems' predictions for the same documents, and whether they differ by more than chance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from musamma.data.files import write_json
from musamma.data.formats import ReadOptions
from musamma.evaluation import MODES
from musamma.evaluation import significance as resampling
from musamma.evaluation.counts import MACRO, CountTable
from musamma.evaluation.evaluation_pair import LabelRenaming, count_evaluation_pair, naming_source, read_evaluation_pair
from musamma.evaluation.matching import STRICT
from musamma.evaluation.score_tables import print_table, table_of
from musamma.evaluation.significance import Comparison

_LEVEL = 0.95
_HEADER = ("first", "second", "difference", "95% interval", "p")


def compare(
    gold: Annotated[str, typer.Argument(metavar="GOLD", help="Annotated documents, in any format that musamma reads.")],
    first: Annotated[
        str, typer.Argument(metavar="PREDICTIONS_A", help="What the first system found in the same documents.")
    ],
    second: Annotated[
        str, typer.Argument(metavar="PREDICTIONS_B", help="What the second system found in the same documents.")
    ],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all comparisons to this file.")] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Compare in this mode besides strict, label by label; repeatable. By default all: {', '.join(MODES)},"
            " and the labels in strict."
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=1, help="Resamples that p-values and intervals are taken from.")
    ] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resampling.")] = 1,
    labels: Annotated[
        str | None, typer.Option(help="Rename labels first: the name of a map, or a YAML or JSON file.")
    ] = None,
    gold_labels: Annotated[str | None, typer.Option(help="The same for the gold alone, in place of --labels.")] = None,
    predicted_labels: Annotated[
        str | None, typer.Option(help="The same for both predictions alone, in place of --labels.")
    ] = None,
    missing_as_empty: Annotated[
        bool, typer.Option("--allow-missing", help="Count documents without a prediction as empty ones.")
    ] = False,
    sentences: Annotated[
        int, typer.Option(min=0, help="CoNLL: sentences that make a document; 0 for all of a file.")
    ] = 1,
) -> None:
    """Compare the F1 of two systems on the same documents: the difference, its 95% interval and a p-value.

    Documents are resampled as a whole, for names of one document are missed together.
    """
    options = ReadOptions(sentences=sentences)
    chosen = tuple(dict.fromkeys(mode or (STRICT,)))
    tables: dict[str, CountTable] = {}
    left_out: dict[str, int] = {}
    for side, predictions in (("first", first), ("second", second)):
        ours, theirs = LabelRenaming.load(gold_labels or labels), LabelRenaming.load(predicted_labels or labels)
        sides = read_evaluation_pair(gold, predictions, gold_labels=ours, predicted_labels=theirs, options=options)
        with naming_source(predictions):
            tables[side] = count_evaluation_pair(sides, modes=mode or MODES, missing_as_empty=missing_as_empty)
        left_out |= {"gold": ours.dropped, side: theirs.dropped}
    comparisons = resampling.compare_systems(
        tables["first"], tables["second"], resamples=resamples, level=_LEVEL, seed=seed
    )
    adjusted = _adjusted(comparisons)
    remark = resampling.resampling_warning(tables["first"], sentences=sides.sentences)
    _print(comparisons, adjusted, chosen, (first, second))
    by_row = {comparison.row: comparison for comparison in comparisons}
    typer.echo(f"\ndocuments: {len(tables['first'].documents)}")
    typer.echo(f"difference: second less first, points of F1; p: two-sided, {resamples} random swaps of documents")
    typer.echo("p (Holm): adjusted for all labels of the mode; modes are not adjusted, choose one beforehand")
    for side, count in left_out.items():
        if count:
            typer.echo(f"{side}: {count} names left out by the label map")
    if remark:
        typer.echo(remark)
    for name in chosen:
        typer.echo(_verdict(by_row[name]))
    if json_file is not None:
        record = {
            "gold": gold, "first": first, "second": second, "documents": len(tables["first"].documents),
            "resamples": resamples, "seed": seed, "level": _LEVEL, "note": remark, "left_out_by_labels": left_out,
            "comparisons": [_record(comparison, adjusted) for comparison in comparisons],
        }  # fmt: skip
        write_json(record, json_file)


def _mode_and_label(row: str) -> tuple[str, str | None]:
    """Mode and label of a row; ``None`` for the rows of all labels together."""
    mode, _, label = row.partition("/")
    return mode, None if label in ("", MACRO) else label


def _adjusted(comparisons: Sequence[Comparison]) -> dict[str, float]:
    """The p-values of labels by row, adjusted for the labels of their mode."""
    families: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        mode, label = _mode_and_label(comparison.row)
        if label is not None:
            families.setdefault(mode, []).append(comparison)
    return {
        comparison.row: p_value
        for family in families.values()
        for comparison, p_value in zip(family, resampling.adjust_holm([c.p_value for c in family]), strict=True)
    }


def _record(comparison: Comparison, adjusted: dict[str, float]) -> dict[str, Any]:
    record = comparison.to_dict()
    if comparison.row in adjusted:
        record["p_holm"] = adjusted[comparison.row]
    return record


def _verdict(comparison: Comparison) -> str:
    level = round(1 - _LEVEL, 10)
    outcome = "the systems differ" if comparison.p_value < level else "no difference is shown"
    return f"{comparison.row}: at the level of {level} {outcome} (p = {_p(comparison.p_value)})"


def _print(
    comparisons: Sequence[Comparison], adjusted: dict[str, float], chosen: Iterable[str], names: tuple[str, str]
) -> None:
    typer.echo(f"first:  {names[0]}\nsecond: {names[1]}\n")
    console = Console()
    modes = table_of("mode", *_HEADER)
    for comparison in sorted((c for c in comparisons if c.row not in adjusted), key=_order):
        modes.add_row(comparison.row, *_cells(comparison))
    print_table(modes, console)
    for mode in chosen:
        labels = table_of(f"label ({mode})", *_HEADER, "p (Holm)")
        for comparison in sorted(comparisons, key=lambda comparison: comparison.row):
            own, label = _mode_and_label(comparison.row)
            if own == mode and label is not None:
                labels.add_row(Text(label), *_cells(comparison), _p(adjusted[comparison.row]))
        console.print()
        print_table(labels, console)


def _order(comparison: Comparison) -> tuple[int, str]:
    return MODES.index(_mode_and_label(comparison.row)[0]), comparison.row


def _cells(comparison: Comparison) -> tuple[str, ...]:
    low, high = comparison.interval.low, comparison.interval.high
    return (
        f"{100 * comparison.first:.2f}",
        f"{100 * comparison.second:.2f}",
        f"{100 * comparison.difference:+.2f}",
        f"\\[{100 * low:+.2f}, {100 * high:+.2f}]",
        _p(comparison.p_value),
    )


def _p(p_value: float) -> str:
    return f"{p_value:.4f}" if p_value >= 0.0001 else f"{p_value:.0e}"
