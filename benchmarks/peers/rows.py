"""A table of systems: what each of them scored on the same documents, with what has to be known to read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from offsets import CHANGES
from rich import box
from rich.table import Table

from musamma.data.document import Document
from musamma.evaluation.counts import CountTable, count_table
from musamma.evaluation.evaluation_pair import LabelRenaming
from musamma.evaluation.matching import CONLLEVAL, OVERLAP, PROCLITIC, STRICT, WHOLE_WORD
from musamma.evaluation.pairing import pair_documents
from musamma.evaluation.significance import Intervals, bootstrap

#: The modes of the table.
SHOWN = (STRICT, PROCLITIC, WHOLE_WORD, CONLLEVAL, OVERLAP)

HEAD = ("system", "words/s", "strict P", "strict R", *(f"{mode} F1" for mode in SHOWN))


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """What is known of a system.

    Args:
        name: its name.
        counts: names found, predicted and annotated, by document and mode.
        intervals: by row of ``counts``.
        speed: words a second while it tagged; ``None`` where it was not run here.
        changes: what was changed or cut on the way to its names, by kind.
        left_out: names that its label map left out.
    """

    name: str
    counts: CountTable
    intervals: Mapping[str, Intervals]
    speed: float | None
    changes: Counter[str]
    left_out: int

    def f1(self, mode: str) -> str:
        """F1 of a mode with its interval, in per cent."""
        bounds = self.intervals[mode].f1
        return f"{100 * self.counts.total(mode).f1:.1f} [{100 * bounds.low:.1f}, {100 * bounds.high:.1f}]"

    def cells(self) -> list[str]:
        """The system's line of the table, one cell for each of :data:`HEAD`."""
        strict = self.counts.total(STRICT)
        speed = "" if self.speed is None else f"{self.speed:,.0f}"
        return [self.name, speed, f"{100 * strict.precision:.1f}", f"{100 * strict.recall:.1f}", *map(self.f1, SHOWN)]

    def remarks(self) -> Iterator[str]:
        """What has to be known to read the line."""
        if self.changes:
            yield f"{self.name}: " + ", ".join(f"{count} {kind}" for kind, count in sorted(self.changes.items()))
        if self.left_out:
            yield f"{self.name}: {self.left_out} names left out by the label map"
        totals = {row.partition("/")[2]: self.counts.total(row) for row in self.counts.labels_of(STRICT)}
        if foreign := [label for label, total in totals.items() if not total.support]:
            yield f"{self.name}: labels that the gold has not: {', '.join(foreign)}"
        if absent := [label for label, total in totals.items() if not total.predicted]:
            yield f"{self.name}: gold labels that it never gives: {', '.join(absent)}"


def score(
    name: str,
    gold: Sequence[Document],
    predictions: Iterable[Document],
    *,
    renaming: LabelRenaming,
    resamples: int,
    speed: float | None = None,
) -> Row:
    """A system's row.

    Args:
        name: its name.
        gold: the annotated documents.
        predictions: the same documents as the system has them.
        renaming: of the system's labels.
        resamples: of the intervals.
        speed: words a second.

    Raises:
        InputError: as :func:`musamma.evaluation.pairing.pair_documents`, or a label is not in the map.
    """
    predicted = list(renaming.rename_documents(predictions))
    counts = count_table(pair_documents(gold, predicted), modes=SHOWN)
    changes = sum((Counter(document.meta.get(CHANGES, {})) for document in predicted), Counter())
    return Row(name, counts, bootstrap(counts, resamples=resamples), speed, changes, renaming.dropped)


def screen(rows: Sequence[Row], *, title: str) -> Table:
    """The table for a terminal."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(HEAD):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row.cells())
    return table


def markdown(rows: Sequence[Row], remarks: Iterable[str], *, title: str) -> str:
    """The table and what has to be known to read it, as Markdown."""
    lines = [HEAD, ["---", *["---:"] * (len(HEAD) - 1)], *(row.cells() for row in rows)]
    text = "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
    return f"{title}\n\n{text}\n\n" + "".join(f"- {remark}\n" for remark in remarks)
