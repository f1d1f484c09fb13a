"""The report for a pull request: tables in GitHub's Markdown, without the texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import regex

from musamma.evaluation.report.figure_rows import (
    LAYERS,
    MODES,
    SCHEMAS,
    Cell,
    Row,
    between,
    counted,
    dimension_title,
    headline,
    label_rows,
    layer_rows,
    mode_rows,
    percent,
    remarks,
    slice_rows,
    thousands,
    total_rows,
)
from musamma.evaluation.report.hidden_characters import plain
from musamma.evaluation.report.kinds import TITLES

if TYPE_CHECKING:
    from musamma.evaluation.analysis import Analysis

#: The most forms of the table of costly ones.
MOST_FORMS = 15

_FIGURES = ("P", "R", "F1")
_WORDS = "what counts"
# ASCII signs that can begin markup, a link or a mention; an underscore inside a word begins nothing.
_SIGNS = regex.compile(r"[!-~&&[^\p{L}\p{N}\-,'()%+/;_]]|(?<![\p{L}\p{N}])_|_(?![\p{L}\p{N}])", regex.VERSION1)


def markdown(analysis: Analysis) -> str:
    """The whole report as Markdown.

    All that comes from the data (names, labels, ids, the system) stands as code, with the signs of Markdown as entities:
    it cannot end a cell, mention a person, link, or become markup.
    """
    return "\n".join(_lines(analysis)).rstrip() + "\n"


def code(text: str) -> str:
    """A text from the data, for any place in Markdown."""
    return f"<code>{_SIGNS.sub(lambda found: f'&#{ord(found[0])};', plain(text))}</code>"


def _lines(analysis: Analysis) -> Iterator[str]:
    scores = analysis.scores
    total = headline(analysis)
    yield f"## Evaluation of {code(analysis.system)}"
    yield ""
    figures = ", ".join(f"{name} **{_figure(cell)}**" for name, cell in zip(_FIGURES, total.cells, strict=True))
    size = f"{counted(total.figures.support, 'annotated name')} in {counted(scores.documents, 'document')}"
    yield f"Strict {figures}: {size}."
    if scores.missing:
        yield f"{counted(scores.missing, 'document')} had no prediction, which counts as an empty one."
    if analysis.intervals:
        yield f"In brackets: intervals, from {thousands(analysis.resamples)} resamples of whole documents."
    if analysis.note:
        yield f"On the intervals: {analysis.note}."
    yield ""
    yield from _table("Scores by what counts as right", "mode", mode_rows(analysis), meanings=MODES)
    if told := remarks(analysis):
        yield " ".join(told)
        yield ""
    yield from _table("Scores by label", "label (strict)", [*label_rows(analysis), *total_rows(analysis)])
    if layers := layer_rows(analysis):
        yield from _table("Names inside names", "layer (strict)", layers, meanings=LAYERS)
    if analysis.scores.partial:
        yield "### Partial credit (SemEval-2013)"
        yield ""
        yield from _grid(
            ("schema", *_FIGURES, "correct", "incorrect", "partial", "missed", "spurious", _WORDS),
            (
                (code(schema), percent(own.precision), percent(own.recall), percent(own.f1), thousands(own.correct),
                 thousands(own.incorrect), thousands(own.partial), thousands(own.missed), thousands(own.spurious),
                 SCHEMAS.get(schema, ""))
                for schema, own in ((schema, counted.micro) for schema, counted in analysis.scores.partial.items())
            ),
        )  # fmt: skip
    yield from _slices(analysis)
    if (trust := analysis.reliability) is not None:
        yield f"Expected calibration error {trust.ece:.3f} (equal mass {trust.ace:.3f}), Brier score {trust.brier:.3f}, "
        yield f"over {counted(trust.count, 'predicted name')}."
        yield ""
    yield "### Errors by kind"
    yield ""
    whole = max(1, sum(analysis.errors.kinds.values()))
    counts = analysis.errors.kinds.items()
    yield from _grid(
        ("kind", "names", "share"), ((TITLES[kind], thousands(n), f"{100 * n / whole:.1f} %") for kind, n in counts)
    )
    if forms := analysis.errors.costly[:MOST_FORMS]:
        yield "### Names with most errors"
        yield ""
        yield from _grid(
            ("name", "errors", "missed", "spurious", "wrong label", "wrong border", "occurrences"),
            (
                (code(form.surface), str(form.errors), str(form.missed), str(form.spurious), str(form.wrong_label),
                 str(form.wrong_border), str(form.occurrences))
                for form in forms
            ),
        )  # fmt: skip


def _slices(analysis: Analysis) -> Iterator[str]:
    hidden = 0
    for dimension, rows in slice_rows(analysis).items():
        enough = [row for row in rows if row.enough]
        hidden += len(rows) - len(enough)
        if enough:
            title = dimension_title(dimension)[0]
            yield from _table(code(dimension) if title == dimension else title, "slice (strict)", enough)
    if hidden:
        yield f"{counted(hidden, 'slice')} with too few names left out."
        yield ""


def _table(title: str, first: str, rows: Sequence[Row], *, meanings: Mapping[str, str] | None = None) -> Iterator[str]:
    known = meanings or {}
    yield f"### {title}"
    yield ""
    yield from _grid(
        (first, *_FIGURES, "annotated", *([_WORDS] if meanings else [])),
        (
            (code(row.name), *map(_figure, row.cells), thousands(row.figures.support),
             *([known.get(row.name, "")] if meanings else []))
            for row in rows
        ),
    )  # fmt: skip


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table; its figures end together, what stands in the first column and under :data:`_WORDS` begins together."""
    yield _row(head)
    yield _row(("---", *("---" if name == _WORDS else "---:" for name in head[1:])))
    yield from map(_row, rows)
    yield ""


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figure(cell: Cell) -> str:
    if not cell.enough:
        return "too few"
    return percent(cell.value) + (f" ({between(cell.interval)})" if cell.interval else "")
