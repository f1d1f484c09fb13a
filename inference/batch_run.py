"""Batch inference: records in, tagged documents out, group by group, so that a run can stop anywhere and go on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.files import document_path
from musamma.data.import_audit import ImportAudit
from musamma.inference.progress_bar import ProgressBar
from musamma.inference.records import Record
from musamma.inference.resumable_file import Output
from musamma.inference.run_state import RunStats, update_digest
from musamma.inference.writers import OutputFormat

#: Records that are tagged, written and noted together; fewer where they are long.
GROUP_SIZE = 256
#: Bytes of such a group, but for its last record.
GROUP_BYTES = 4 * 2**20


class GroupTagger(Protocol):
    """What is needed of a tagger."""

    def tag_groups(self, group_records: Iterable[list[Document]]) -> Iterator[tuple[list[Document], int]]:
        """Groups of documents with the names found in them, in order, and how many names were left out for their score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTagger:
    """A tagger, and all that decides what comes out.

    Args:
        tagger: the tagger.
        settings: what a resumed run must share with the one before, by a name that users know.
    """

    tagger: GroupTagger
    settings: Mapping[str, Any]


def tag_records(
    records: Iterable[Record],
    load: Callable[[], LoadedTagger],
    output: Output,
    layout: OutputFormat,
    *,
    audit: ImportAudit,
    progress_bar: ProgressBar,
    skip: bool = False,
) -> RunStats:
    """Tag what was read and write it. What a run before has done is read again and compared, but not tagged again.

    Args:
        records: what was read; always from the first on.
        load: gives the tagger, called when the first group has been read.
        output: where to write.
        layout: how.
        audit: where the layout counts what it cannot hold.
        progress_bar: shows how far it has come.
        skip: put lines that are no documents aside, instead of stopping at the first.

    Returns:
        What was done, by this run and the ones that it goes on from.

    Raises:
        InputError: a record is no document, the settings or the records are not those of the run before, or the output
            cannot be written. Whole groups stay written.
    """
    before = stats = output.stats
    for kind, count in before.lost.items():
        audit.add(kind, count=count)
    run = _Reading(records, load, output, layout, skip=skip)
    loaded = run.start()
    tagged_groups = loaded.tagger.tag_groups(run.to_tag()) if loaded else iter(())
    for tagged, left_out in tagged_groups:
        group, digest = run.pending.popleft()
        data = layout.encode(tagged)
        stats = stats.with_group(group, tagged, digest=digest, left_out=left_out)
        output.append(data, replace(stats, lost={kind: count for kind, count in audit.kinds.items() if count}))
        stats = output.stats
        progress_bar.show(
            read=group[-1].read,
            documents=stats.documents - before.documents,
            names=stats.names,
            rejected=stats.rejected,
        )
    if run.error is not None:
        raise run.error
    output.finish(layout)
    return stats


class _Reading:
    """The groups of records as they are read, a few ahead of the one that is written.

    Attributes:
        pending: groups that are being tagged, each with the fingerprint of all records up to its last.
        error: what ended the reading before its time; what was read before is tagged and written first.
    """

    def __init__(
        self,
        records: Iterable[Record],
        load: Callable[[], LoadedTagger],
        output: Output,
        layout: OutputFormat,
        *,
        skip: bool,
    ) -> None:
        self._groups, self._load, self._output, self._layout = group_records(records, skip=skip), load, output, layout
        self._before = output.stats
        self._first: list[Record] | None = None
        self.pending: deque[tuple[list[Record], str]] = deque()
        self.error: InputError | None = None

    def start(self) -> LoadedTagger | None:
        """The tagger, loaded when the first group has been read; ``None`` if there is none."""
        self._first = next(self._groups, None)
        if self._first is None:
            if self._before.records:
                raise _changed(self._before)
            return None
        loaded = self._load()
        self._output.begin(loaded.settings, self._layout)
        return loaded

    def to_tag(self) -> Iterator[list[Document]]:
        """The documents of every group that a run before has not done; its groups are compared with what it read."""
        try:
            before, seen, digest = self._before, 0, ""
            for group in chain([self._first or []], self._groups):
                seen, digest = seen + len(group), update_digest(digest, group)
                self._output.reject([record for record in group if record.error is not None])
                if seen <= before.records:
                    if seen == before.records and digest != before.digest:
                        raise _changed(before)
                    continue
                if seen - len(group) < before.records:
                    raise _changed(before)
                self.pending.append((group, digest))
                yield [record.document for record in group if record.document is not None]
            if seen < before.records:
                raise _changed(before)
        except InputError as error:
            self.error = error


def group_records(records: Iterable[Record], *, skip: bool = False) -> Iterator[list[Record]]:
    """Records in groups, which depend on nothing but the records.

    Raises:
        InputError: a record is no document, and is not to be skipped.
    """
    group: list[Record] = []
    size = 0
    for record in records:
        if record.error is not None and not skip:
            raise record.error
        group.append(record)
        size += len(record.raw)
        if len(group) == GROUP_SIZE or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def reject_bad_file_names(records: Iterable[Record]) -> Iterator[Record]:
    """The records; a document whose id cannot be the name of a file becomes an error."""
    for record in records:
        if record.document is not None:
            try:
                document_path(Path(), record.document.id)
            except InputError as error:
                found = InputError(error.found, where=record.where, expected=error.expected, remedy=error.remedy)
                record = replace(record, document=None, error=found)
        yield record


def _changed(before: RunStats) -> InputError:
    return InputError(
        f"the first {before.records:,} documents of the input are not those that the run was begun with",
        where="--resume",
        expected="the same input; only what has not been read yet may change",
        remedy="give the same input, or begin anew with --overwrite",
    )
