"""Report for a pull request: tables in GitHub's Markdown, without the texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import regex

from musamma.evaluation.report import score_rows as rows
from musamma.evaluation.report.escaping import escape_plain
from musamma.evaluation.report.score_rows import (
    ScoreCell,
    ScoreRow,
    format_count,
    format_interval,
    format_percent,
    format_thousands,
)
from musamma.evaluation.report.wording import (
    KIND_TITLES,
    LAYER_MEANINGS,
    MODE_MEANINGS,
    SCHEMA_MEANINGS,
    dimension_title,
)

if TYPE_CHECKING:
    from musamma.evaluation.analysis import Analysis

#: Maximum number of forms in the table of costly ones.
MAX_FORMS = 15

_SCORES = ("P", "R", "F1")
_MEANING = "what counts"
# ASCII signs that can start markup, a link or a mention; an underscore inside a word does not.
_MARKUP_SIGNS = regex.compile(r"[!-~&&[^\p{L}\p{N}\-,'()%+/;_]]|(?<![\p{L}\p{N}])_|_(?![\p{L}\p{N}])", regex.VERSION1)


def render_markdown(analysis: Analysis) -> str:
    """Render the report as Markdown.

    Text from the data (names, labels, ids, the system) becomes code whose Markdown signs are entities: it cannot end a
    cell, mention a person, link, or become markup.
    """
    return "\n".join(_lines(analysis)).rstrip() + "\n"


def escape_markdown(text: str) -> str:
    """Escape text from the data for any place in Markdown."""
    return f"<code>{_MARKUP_SIGNS.sub(lambda match: f'&#{ord(match[0])};', escape_plain(text))}</code>"


def _lines(analysis: Analysis) -> Iterator[str]:
    yield f"## Evaluation of {escape_markdown(analysis.system)}"
    yield ""
    yield from _summary(analysis)
    yield ""
    yield from _score_table("Scores by what counts as right", "mode", rows.mode_rows(analysis), meanings=MODE_MEANINGS)
    if losses := rows.describe_losses(analysis):
        yield " ".join(losses)
        yield ""
    yield from _score_table(
        "Scores by label", "label (strict)", [*rows.label_rows(analysis), *rows.total_rows(analysis)]
    )
    if layers := rows.layer_rows(analysis):
        yield from _score_table("Names inside names", "layer (strict)", layers, meanings=LAYER_MEANINGS)
    if analysis.scores.partial:
        yield from _partial_credit(analysis)
    yield from _slices(analysis)
    if (reliability := analysis.reliability) is not None:
        yield (
            f"Expected calibration error {reliability.ece:.3f} (equal mass {reliability.ace:.3f}), "
            f"Brier score {reliability.brier:.3f}, "
        )
        yield f"over {format_count(reliability.count, 'predicted name')}."
        yield ""
    yield from _errors(analysis)


def _summary(analysis: Analysis) -> Iterator[str]:
    overall = rows.overall_row(analysis)
    scores = ", ".join(f"{name} **{_score(cell)}**" for name, cell in zip(_SCORES, overall.cells, strict=True))
    names = format_count(overall.scores.support, "annotated name")
    yield f"Strict {scores}: {names} in {format_count(analysis.scores.documents, 'document')}."
    if analysis.scores.missing:
        yield f"{format_count(analysis.scores.missing, 'document')} had no prediction, which counts as an empty one."
    if analysis.intervals:
        yield f"In brackets: intervals, from {format_thousands(analysis.resamples)} resamples of whole documents."
    if analysis.note:
        yield f"On the intervals: {analysis.note}."


def _partial_credit(analysis: Analysis) -> Iterator[str]:
    yield "### Partial credit (SemEval-2013)"
    yield ""
    head = ("schema", *_SCORES, "correct", "incorrect", "partial", "missed", "spurious", _MEANING)
    schemas = [(schema, scores.micro) for schema, scores in analysis.scores.partial.items()]
    yield from _table(
        head,
        (
            (
                escape_markdown(schema),
                *map(format_percent, (counts.precision, counts.recall, counts.f1)),
                *map(
                    format_thousands,
                    (counts.correct, counts.incorrect, counts.partial, counts.missed, counts.spurious),
                ),
                SCHEMA_MEANINGS.get(schema, ""),
            )
            for schema, counts in schemas
        ),
    )


def _slices(analysis: Analysis) -> Iterator[str]:
    omitted = 0
    for dimension, slices in rows.slice_rows(analysis).items():
        shown = [row for row in slices if row.enough]
        omitted += len(slices) - len(shown)
        if shown:
            title = dimension_title(dimension)[0]
            yield from _score_table(
                escape_markdown(dimension) if title == dimension else title, "slice (strict)", shown
            )
    if omitted:
        yield f"{format_count(omitted, 'slice')} with too few names left out."
        yield ""


def _errors(analysis: Analysis) -> Iterator[str]:
    yield "### Errors by kind"
    yield ""
    kinds = analysis.errors.kinds
    total = max(1, sum(kinds.values()))
    yield from _table(
        ("kind", "names", "share"),
        ((KIND_TITLES[kind], format_thousands(count), f"{100 * count / total:.1f} %") for kind, count in kinds.items()),
    )
    if forms := analysis.errors.costly[:MAX_FORMS]:
        yield "### Names with most errors"
        yield ""
        yield from _table(
            ("name", "errors", "missed", "spurious", "wrong label", "wrong border", "occurrences"),
            (
                (escape_markdown(form.surface), str(form.errors), str(form.missed), str(form.spurious),
                 str(form.wrong_label), str(form.wrong_border), str(form.occurrences))
                for form in forms
            ),
        )  # fmt: skip


def _score_table(
    title: str, first_column: str, score_rows: Sequence[ScoreRow], *, meanings: Mapping[str, str] | None = None
) -> Iterator[str]:
    yield f"### {title}"
    yield ""
    yield from _table(
        (first_column, *_SCORES, "annotated", *([_MEANING] if meanings else [])),
        (
            (
                escape_markdown(row.name),
                *map(_score, row.cells),
                format_thousands(row.scores.support),
                *([meanings.get(row.name, "")] if meanings else []),
            )
            for row in score_rows
        ),
    )


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a table: numbers aligned right, the first column and :data:`_MEANING` left."""
    yield _table_line(head)
    yield _table_line(("---", *("---" if name == _MEANING else "---:" for name in head[1:])))
    yield from map(_table_line, lines)
    yield ""


def _table_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _score(cell: ScoreCell) -> str:
    if not cell.enough:
        return "too few"
    return format_percent(cell.value) + (f" ({format_interval(cell.interval)})" if cell.interval else "")
