"""Tables of scores for a terminal or a log file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from musamma.evaluation.counts import Counts
from musamma.evaluation.matching import NESTED
from musamma.evaluation.metrics import Average, Losses, Scores
from musamma.evaluation.partial_credit import SEMEVAL_STRICT, PartialCounts
from musamma.evaluation.seeds import SeedScores, Spread
from musamma.evaluation.significance import Intervals

_COLUMNS = ("P", "R", "F1", "support")
_INTERVAL_NOTE = "[low, high]: 95% confidence interval of F1, bootstrap over documents"
_WIDTH = 1000


def print_scores(
    scores: Scores,
    console: Console,
    *,
    intervals: Mapping[str, Intervals] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Print scores by mode, by layer if names are nested, and by label in the first mode.

    Args:
        scores: the result of :func:`musamma.evaluation.score_documents` or ``score_tags``. P, R and F1 are in per cent.
        console: where to print; its width and colours do not matter.
        intervals: the result of :func:`musamma.evaluation.significance.bootstrap_intervals`; those of F1 are printed.
        notes: lines below the tables.
    """
    bounds = intervals or {}
    modes = build_table("mode", *_COLUMNS, "macro F1")
    for name, mode in scores.modes.items():
        macro = _format_f1(mode.macro.f1, bounds.get(f"{name}/macro"))
        modes.add_row(name, *_cells(mode.micro, bounds.get(name)), macro)
    for name, partial in scores.partial.items():
        if name != SEMEVAL_STRICT:  # The same scores as the strict mode.
            modes.add_row(f"semeval_{name}", *_cells(partial.micro), "")
    print_table(modes, console)
    if len(scores.layers) > 1:
        layers = build_table("layer (strict)", *_COLUMNS, "macro F1")
        for name, layer in scores.layers.items():
            layers.add_row(name, *_cells(layer.micro), _format_percent(layer.macro.f1))
        console.print()
        print_table(layers, console)
    first_mode, per_label = next(iter(scores.modes.items()))
    labels = build_table(f"label ({first_mode})", *_COLUMNS, "tp", "fp", "fn")
    for label, counts in per_label.per_label.items():
        cells = _cells(counts, bounds.get(f"{first_mode}/{label}"))
        labels.add_row(Text(label), *cells, *map(str, (counts.tp, counts.fp, counts.fn)))
    micro = per_label.micro
    labels.add_row("micro", *_cells(micro, bounds.get(first_mode)), *map(str, (micro.tp, micro.fp, micro.fn)))
    labels.add_row("macro", *_cells(per_label.macro, bounds.get(f"{first_mode}/macro")), "", "", "")
    console.print()
    print_table(labels, console)
    console.print()
    _print_notes([*_remarks(scores, interval=bool(bounds)), *notes], console)


def print_runs(
    runs: Sequence[str],
    scores: Sequence[Scores],
    seed_scores: SeedScores,
    console: Console,
    *,
    intervals: Sequence[Mapping[str, Intervals] | None] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Print micro F1 by run and mode, then mean and standard deviation by mode and by label, in per cent.

    Args:
        runs: the names of the runs.
        scores: the scores of each run.
        seed_scores: their mean and standard deviation.
        console: where to print.
        intervals: those of each run, as in :func:`print_scores`.
        notes: lines below the tables; repeated lines are printed once.
    """
    bounds = [run_intervals or {} for run_intervals in intervals or [None] * len(runs)]
    each = build_table("run (F1)", *seed_scores.modes)
    for name, run, run_bounds in zip(runs, scores, bounds, strict=True):
        each.add_row(Text(name), *(_format_f1(m.micro.f1, run_bounds.get(mode)) for mode, m in run.modes.items()))
    print_table(each, console)
    modes = build_table(f"mode ({seed_scores.runs} runs)", *_COLUMNS, "macro F1")
    for name, mode in seed_scores.modes.items():
        modes.add_row(name, *_spread_cells(mode.micro), _format_spread(mode.macro.mean.f1, mode.macro.sd.f1))
    console.print()
    print_table(modes, console)
    first_mode, mode_spread = next(iter(seed_scores.modes.items()))
    labels = build_table(f"label ({first_mode})", *_COLUMNS)
    for label, row in {**mode_spread.per_label, "micro": mode_spread.micro, "macro": mode_spread.macro}.items():
        labels.add_row(Text(label), *_spread_cells(row))
    console.print()
    print_table(labels, console)
    console.print()
    lines = [f"documents: {scores[0].documents}", "±: sample standard deviation over runs"]
    if any(bounds):
        lines.append(_INTERVAL_NOTE)
    # Remarks on the gold are the same for every run.
    for name, run in zip(runs, scores, strict=True):
        _, *remarks = _remarks(run, interval=False)
        lines += (remark if remark.startswith("gold:") else f"{name}: {remark}" for remark in remarks)
    _print_notes(list(dict.fromkeys([*lines, *notes])), console)


def _remarks(scores: Scores, *, interval: bool) -> list[str]:
    """Return the lines a reader of the scores must know."""
    notes = [f"documents: {scores.documents}"]
    if interval:
        notes.append(_INTERVAL_NOTE)
    if scores.missing:
        notes.append(f"without a prediction, counted as empty: {scores.missing}")
    per_label = next(iter(scores.modes.values())).per_label
    if unknown := [label for label, counts in per_label.items() if not counts.support]:
        notes.append(f"predictions: labels the gold does not have: {', '.join(unknown)}")
    if NESTED in scores.layers and not scores.layers[NESTED].micro.support:
        notes.append("gold: no nested names; where they are not annotated, the layers nested and all say nothing")
    return (
        notes + _describe_losses("gold", scores.gold_losses) + _describe_losses("predictions", scores.predicted_losses)
    )


def _print_notes(notes: Sequence[str], console: Console) -> None:
    for note in notes:
        console.print(note, soft_wrap=True, markup=False, highlight=False)


def build_table(first: str, *others: str) -> Table:
    """Build an empty table without lines: a column of names, and right-aligned columns of numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def print_table(table: Table, console: Console) -> None:
    """Print a table at full width: a narrow or unknown terminal must not cut off numbers."""
    for line in console.render_lines(table, console.options.update(width=_WIDTH), pad=False):
        console.print(Segments([*line, Segment.line()]), soft_wrap=True)


def _cells(scores: Counts | PartialCounts | Average, interval: Intervals | None = None) -> list[str]:
    f1 = _format_f1(scores.f1, interval)
    return [_format_percent(scores.precision), _format_percent(scores.recall), f1, str(scores.support)]


def _spread_cells(spread: Spread) -> list[str]:
    mean, sd = spread.mean, spread.sd
    pairs = (mean.precision, sd.precision), (mean.recall, sd.recall), (mean.f1, sd.f1)
    return [*(_format_spread(*pair) for pair in pairs), str(spread.support)]


def _format_percent(ratio: float) -> str:
    return f"{100 * ratio:.2f}"


def _format_spread(mean: float, sd: float) -> str:
    return f"{_format_percent(mean)} ± {_format_percent(sd)}"


def _format_f1(f1: float, interval: Intervals | None) -> str:
    if interval is None:
        return _format_percent(f1)
    return f"{_format_percent(f1)} [{_format_percent(interval.f1.low)}, {_format_percent(interval.f1.high)}]"


def _describe_losses(side: str, losses: Losses) -> list[str]:
    notes = []
    if losses.shared_words:
        notes.append(f"{side}: {losses.shared_words} words that several names share")
    if losses.merged_whole_word:
        notes.append(f"{side}: {losses.merged_whole_word} names merged with another by whole words")
    if losses.dropped_iob:
        notes.append(f"{side}: {losses.dropped_iob} names without a separate IOB tag")
    return notes
