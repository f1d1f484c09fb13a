"""The scores of several systems on the same documents, as a table with remarks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from predicted_names import CHANGES_KEY
from rich import box
from rich.table import Table

from musamma.data.document import Document
from musamma.evaluation.counts import CountTable, count_table
from musamma.evaluation.document_pairing import pair_documents
from musamma.evaluation.evaluation_inputs import LabelRenaming
from musamma.evaluation.matching import CONLLEVAL, OVERLAP, PROCLITIC, STRICT, WHOLE_WORD
from musamma.evaluation.significance import Intervals, bootstrap_intervals

#: The scoring modes of the table.
TABLE_MODES = (STRICT, PROCLITIC, WHOLE_WORD, CONLLEVAL, OVERLAP)

COLUMNS = ("system", "words/s", "strict P", "strict R", *(f"{mode} F1" for mode in TABLE_MODES))


@dataclass(frozen=True, slots=True, eq=False)
class SystemScores:
    """The scores of one system: a row of the table.

    Args:
        name: its name.
        counts: correct, predicted and gold names, by document and mode.
        intervals: by row of ``counts``.
        speed: words per second of tagging; ``None`` if the system was not run.
        changes: counts of what was changed or cut in its predictions, by kind.
        left_out: number of names left out by its label map.
    """

    name: str
    counts: CountTable
    intervals: Mapping[str, Intervals]
    speed: float | None
    changes: Counter[str]
    left_out: int

    def format_f1(self, mode: str) -> str:
        """Format the F1 of a mode with its interval, in per cent."""
        bounds = self.intervals[mode].f1
        return f"{100 * self.counts.total(mode).f1:.1f} [{100 * bounds.low:.1f}, {100 * bounds.high:.1f}]"

    def format_cells(self) -> list[str]:
        """Format the row of the table, one cell per entry of :data:`COLUMNS`."""
        strict = self.counts.total(STRICT)
        speed = "" if self.speed is None else f"{self.speed:,.0f}"
        scores = [f"{100 * strict.precision:.1f}", f"{100 * strict.recall:.1f}"]
        return [self.name, speed, *scores, *map(self.format_f1, TABLE_MODES)]

    def remarks(self) -> Iterator[str]:
        """Yield what a reader of the row has to know."""
        if self.changes:
            yield f"{self.name}: " + ", ".join(f"{count} {kind}" for kind, count in sorted(self.changes.items()))
        if self.left_out:
            yield f"{self.name}: {self.left_out} names left out by the label map"
        totals = {row.partition("/")[2]: self.counts.total(row) for row in self.counts.labels_of(STRICT)}
        if not_in_gold := [label for label, total in totals.items() if not total.support]:
            yield f"{self.name}: labels that are not in the gold: {', '.join(not_in_gold)}"
        if not_predicted := [label for label, total in totals.items() if not total.predicted]:
            yield f"{self.name}: gold labels that are never predicted: {', '.join(not_predicted)}"


def score_system(
    name: str,
    gold: Sequence[Document],
    predictions: Iterable[Document],
    *,
    renaming: LabelRenaming,
    resamples: int,
    speed: float | None = None,
) -> SystemScores:
    """Score the predictions of a system.

    Args:
        name: its name.
        gold: the annotated documents.
        predictions: the same documents with the predicted names.
        renaming: of the predicted labels.
        resamples: bootstrap resamples for the intervals.
        speed: words per second.

    Raises:
        InputError: as :func:`musamma.evaluation.document_pairing.pair_documents`, or a label is not in the map.
    """
    predicted = list(renaming.rename_documents(predictions))
    counts = count_table(pair_documents(gold, predicted), modes=TABLE_MODES)
    changes = sum((Counter(document.meta.get(CHANGES_KEY, {})) for document in predicted), Counter())
    return SystemScores(
        name, counts, bootstrap_intervals(counts, resamples=resamples), speed, changes, renaming.dropped
    )


def build_table(rows: Sequence[SystemScores], *, title: str) -> Table:
    """Build the table for a terminal."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row.format_cells())
    return table


def format_markdown_table(rows: Sequence[SystemScores], remarks: Iterable[str], *, title: str) -> str:
    """Format the table and its remarks as Markdown."""
    lines = [COLUMNS, ["---", *["---:"] * (len(COLUMNS) - 1)], *(row.format_cells() for row in rows)]
    text = "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
    return f"{title}\n\n{text}\n\n" + "".join(f"- {remark}\n" for remark in remarks)
