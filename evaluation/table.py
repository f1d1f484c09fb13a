"""Scores as a table for a terminal or a log file."""

from __future__ import annotations

from rich.console import Console
from rich.segment import Segment, Segments
from rich.table import Table

from musamma.evaluation.figures import Average, Counts, Losses, Scores

_FIGURES = ("P", "R", "F1", "support")
_WIDTH = 200


def print_scores(scores: Scores, console: Console) -> None:
    """Print the modes side by side, then the labels by the headline mode; P, R and F1 in per cent.

    Args:
        scores: what :func:`musamma.evaluation.score_documents` or ``score_tags`` gave.
        console: where to print; nothing depends on its width or on colour.
    """
    modes = _table("mode", *_FIGURES, "macro F1")
    for name, mode in scores.modes.items():
        modes.add_row(name, *_cells(mode.micro), _percent(mode.macro.f1))
    _print(modes, console)
    headline, per_label = next(iter(scores.modes.items()))
    labels = _table(f"label ({headline})", *_FIGURES, "tp", "fp", "fn")
    for label, counts in per_label.per_label.items():
        labels.add_row(label, *_cells(counts), *map(str, (counts.tp, counts.fp, counts.fn)))
    micro = per_label.micro
    labels.add_row("micro", *_cells(micro), *map(str, (micro.tp, micro.fp, micro.fn)))
    labels.add_row("macro", *_cells(per_label.macro), "", "", "")
    console.print()
    _print(labels, console)
    notes = [f"documents: {scores.documents}"]
    if scores.missing:
        notes.append(f"without a prediction, counted as empty: {scores.missing}")
    if strange := [label for label, counts in per_label.per_label.items() if not counts.support]:
        notes.append(f"predictions: labels that the gold has not: {', '.join(strange)}")
    notes += _notes("gold", scores.gold_losses) + _notes("predictions", scores.predicted_losses)
    console.print()
    for note in notes:
        console.print(note, soft_wrap=True, markup=False, highlight=False)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _print(table: Table, console: Console) -> None:
    # A narrow or unknown terminal must not cut figures off.
    for line in console.render_lines(table, console.options.update(width=_WIDTH), pad=False):
        console.print(Segments([*line, Segment.line()]), soft_wrap=True)


def _cells(figures: Counts | Average) -> list[str]:
    return [*map(_percent, (figures.precision, figures.recall, figures.f1)), str(figures.support)]


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.2f}"


def _notes(side: str, losses: Losses) -> list[str]:
    notes = []
    if losses.nested:
        notes.append(f"{side}: {losses.nested} names inside names, compared in no mode")
    if losses.shared_words:
        notes.append(f"{side}: {losses.shared_words} words that several names share")
    if losses.merged_whole_word:
        notes.append(f"{side}: {losses.merged_whole_word} names merged with another by whole words")
    if losses.dropped_iob:
        notes.append(f"{side}: {losses.dropped_iob} names without an IOB tag of their own")
    return notes
