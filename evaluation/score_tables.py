"""Scores as a table for a terminal or a log file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from musamma.evaluation.counts import Counts
from musamma.evaluation.metrics import Average, Losses, Scores
from musamma.evaluation.partial_credit import SEMEVAL_STRICT, PartialCounts
from musamma.evaluation.seeds import SeedScores, Spread
from musamma.evaluation.significance import Intervals

_FIGURES = ("P", "R", "F1", "support")
_INTERVAL_NOTE = "[low, high]: 95% confidence interval of F1, bootstrap over documents"
_WIDTH = 1000


def print_scores(
    scores: Scores,
    console: Console,
    *,
    intervals: Mapping[str, Intervals] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Print the modes side by side, then the layers where names hold names, then the labels by the headline mode.

    Args:
        scores: what :func:`musamma.evaluation.score_documents` or ``score_tags`` gave. P, R and F1 are printed in per cent.
        console: where to print; nothing depends on its width or on colour.
        intervals: of what :func:`musamma.evaluation.significance.bootstrap` gave, those of F1 are printed behind it.
        notes: lines for the end.
    """
    bounds = intervals or {}
    modes = table_of("mode", *_FIGURES, "macro F1")
    for name, mode in scores.modes.items():
        macro = _with_interval(mode.macro.f1, bounds.get(f"{name}/macro"))
        modes.add_row(name, *_cells(mode.micro, bounds.get(name)), macro)
    for name, partial in scores.partial.items():
        if name != SEMEVAL_STRICT:  # Its figures are those of the strict mode.
            modes.add_row(f"semeval_{name}", *_cells(partial.micro), "")
    print_table(modes, console)
    if len(scores.layers) > 1:
        layers = table_of("layer (strict)", *_FIGURES, "macro F1")
        for name, layer in scores.layers.items():
            layers.add_row(name, *_cells(layer.micro), _percent(layer.macro.f1))
        console.print()
        print_table(layers, console)
    headline, per_label = next(iter(scores.modes.items()))
    labels = table_of(f"label ({headline})", *_FIGURES, "tp", "fp", "fn")
    for label, counts in per_label.per_label.items():
        cells = _cells(counts, bounds.get(f"{headline}/{label}"))
        labels.add_row(Text(label), *cells, *map(str, (counts.tp, counts.fp, counts.fn)))
    micro = per_label.micro
    labels.add_row("micro", *_cells(micro, bounds.get(headline)), *map(str, (micro.tp, micro.fp, micro.fn)))
    labels.add_row("macro", *_cells(per_label.macro, bounds.get(f"{headline}/macro")), "", "", "")
    console.print()
    print_table(labels, console)
    console.print()
    _print_notes([*_remarks(scores, interval=bool(bounds)), *notes], console)


def print_runs(
    runs: Sequence[str],
    scores: Sequence[Scores],
    together: SeedScores,
    console: Console,
    *,
    intervals: Sequence[Mapping[str, Intervals] | None] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Print the micro F1 of several runs mode by mode, then mean and standard deviation by mode and by label, in per cent.

    Args:
        runs: the names of the runs.
        scores: their scores.
        together: their spread.
        console: where to print.
        intervals: one a run, as in :func:`print_scores`.
        notes: lines for the end; what is said of several runs is printed once.
    """
    bounds = [found or {} for found in intervals or [None] * len(runs)]
    each = table_of("run (F1)", *together.modes)
    for name, run, found in zip(runs, scores, bounds, strict=True):
        each.add_row(Text(name), *(_with_interval(m.micro.f1, found.get(mode)) for mode, m in run.modes.items()))
    print_table(each, console)
    modes = table_of(f"mode ({together.runs} runs)", *_FIGURES, "macro F1")
    for name, mode in together.modes.items():
        modes.add_row(name, *_spread_cells(mode.micro), _plus_minus(mode.macro.mean.f1, mode.macro.sd.f1))
    console.print()
    print_table(modes, console)
    headline, figures = next(iter(together.modes.items()))
    labels = table_of(f"label ({headline})", *_FIGURES)
    for label, row in {**figures.per_label, "micro": figures.micro, "macro": figures.macro}.items():
        labels.add_row(Text(label), *_spread_cells(row))
    console.print()
    print_table(labels, console)
    console.print()
    lines = [f"documents: {scores[0].documents}", "±: sample standard deviation over runs"]
    if any(bounds):
        lines.append(_INTERVAL_NOTE)
    # What is to be known of the gold is the same for every run.
    for name, run in zip(runs, scores, strict=True):
        _, *remarks = _remarks(run, interval=False)
        lines += (remark if remark.startswith("gold:") else f"{name}: {remark}" for remark in remarks)
    _print_notes(list(dict.fromkeys([*lines, *notes])), console)


def _remarks(scores: Scores, *, interval: bool) -> list[str]:
    """What has to be known to read the figures."""
    notes = [f"documents: {scores.documents}"]
    if interval:
        notes.append(_INTERVAL_NOTE)
    if scores.missing:
        notes.append(f"without a prediction, counted as empty: {scores.missing}")
    per_label = next(iter(scores.modes.values())).per_label
    if strange := [label for label, counts in per_label.items() if not counts.support]:
        notes.append(f"predictions: labels that the gold has not: {', '.join(strange)}")
    return notes + _losses("gold", scores.gold_losses) + _losses("predictions", scores.predicted_losses)


def _print_notes(notes: Sequence[str], console: Console) -> None:
    for note in notes:
        console.print(note, soft_wrap=True, markup=False, highlight=False)


def table_of(first: str, *others: str) -> Table:
    """An empty table without lines: a column of names, and columns of figures that end together."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def print_table(table: Table, console: Console) -> None:
    """Print a table whole: a narrow or unknown terminal must not cut figures off."""
    for line in console.render_lines(table, console.options.update(width=_WIDTH), pad=False):
        console.print(Segments([*line, Segment.line()]), soft_wrap=True)


def _cells(figures: Counts | PartialCounts | Average, interval: Intervals | None = None) -> list[str]:
    f1 = _with_interval(figures.f1, interval)
    return [_percent(figures.precision), _percent(figures.recall), f1, str(figures.support)]


def _spread_cells(figures: Spread) -> list[str]:
    mean, sd = figures.mean, figures.sd
    pairs = (mean.precision, sd.precision), (mean.recall, sd.recall), (mean.f1, sd.f1)
    return [*(_plus_minus(*pair) for pair in pairs), str(figures.support)]


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.2f}"


def _plus_minus(mean: float, sd: float) -> str:
    return f"{_percent(mean)} ± {_percent(sd)}"


def _with_interval(f1: float, interval: Intervals | None) -> str:
    if interval is None:
        return _percent(f1)
    return f"{_percent(f1)} [{_percent(interval.f1.low)}, {_percent(interval.f1.high)}]"


def _losses(side: str, losses: Losses) -> list[str]:
    notes = []
    if losses.shared_words:
        notes.append(f"{side}: {losses.shared_words} words that several names share")
    if losses.merged_whole_word:
        notes.append(f"{side}: {losses.merged_whole_word} names merged with another by whole words")
    if losses.dropped_iob:
        notes.append(f"{side}: {losses.dropped_iob} names without an IOB tag of their own")
    return notes
