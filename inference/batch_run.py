"""Batch inference: read records, tag them and write them group by group, so that an interrupted run can be resumed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from musamma.data.document import Document
from musamma.data.errors import InputError, not_writable, printable_path
from musamma.data.files import FOLDER, check_output_file, document_path, path_kind, stream_kind
from musamma.data.import_audit import ImportAudit
from musamma.inference.inputs import Inputs, Record, find_input_files, read_extra_columns, read_inputs
from musamma.inference.name_rules import Rules
from musamma.inference.output_formats import OutputFormat, build_output_format, check_brat_folder
from musamma.inference.progress_bar import ProgressBar
from musamma.inference.resumable_file import CHOOSE_OUTPUT, Output, ResumableFile, StreamOutput
from musamma.inference.run_state import START_OVER, RunStats, update_digest

#: Maximum number of records in a group. A group is tagged, written and recorded as one step.
GROUP_SIZE = 256
#: A group ends with the record that reaches this number of bytes.
GROUP_BYTES = 4 * 2**20

# Formats that are converted when the output is complete, and so cannot go to standard output.
_FILES_ONLY = ("parquet", "brat")


class GroupTagger(Protocol):
    """The part of a tagger that a batch run uses."""

    def tag_groups(self, groups: Iterable[list[Document]]) -> Iterator[tuple[list[Document], int]]:
        """Tag groups of documents, in order. Yield each with the number of names left out because of their score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTagger:
    """A tagger with its settings.

    Args:
        tagger: the tagger.
        settings: all settings that affect its output, by the names that users know. A resuming run must have the same.
        nested: whether it finds nested names.
    """

    tagger: GroupTagger
    settings: Mapping[str, Any]
    nested: bool = False


def load_tagger(
    model: str,
    *,
    device: str | None = None,
    batch_tokens: int | None = None,
    min_score: float = 0.0,
    label_min_scores: Mapping[str, float] | None = None,
    thresholds: bool = False,
    rules: Rules | None = None,
    with_settings: bool = True,
) -> LoadedTagger:
    """Load a :class:`musamma.inference.Tagger` for a batch run.

    Args:
        model, device, batch_tokens, min_score, label_min_scores, thresholds, rules: see :class:`musamma.inference.Tagger`.
        with_settings: include its settings, for which all files of the model are read once more.
    """
    # Imported here so that errors in inputs and outputs are reported before torch is loaded, which takes seconds.
    from musamma.inference.tagger import Tagger

    tagger = Tagger(
        model,
        device=device,
        batch_tokens=batch_tokens,
        min_score=min_score,
        label_min_scores=label_min_scores,
        thresholds=thresholds,
        rules=rules,
    )
    return LoadedTagger(
        tagger=tagger, settings=tagger.settings() if with_settings else {}, nested=bool(tagger.nested_labels)
    )


def run_settings(inputs: Inputs, *, format: str, compression: str | None) -> dict[str, Any]:
    """Return the settings of a run apart from those of its tagger. A resuming run must have the same."""
    return {
        "inputs": [*map(printable_path, inputs.names)],
        "text column": inputs.text_column,
        "id column": inputs.id_column,
        "format": format,
        "packing": compression,
    }


def tag_inputs(
    inputs: Inputs,
    load: Callable[[], LoadedTagger],
    *,
    format: str,
    compression: str | None,
    audit: ImportAudit,
    progress_bar: ProgressBar,
    skip: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> tuple[RunStats, RunStats]:
    """Tag inputs in this process and write them to ``inputs.output``, or to standard output if that is ``None``.

    A FIFO, a device or an open descriptor such as ``/dev/stderr`` is written like standard output.

    Args:
        inputs: the inputs and the output.
        load: loads the tagger; called once, when the first group of records has been read.
        format: the format to write, see :func:`musamma.inference.output_formats.build_output_format`.
        compression: ``gzip``, ``zstd`` or ``None``.
        audit: counts what the format cannot hold.
        progress_bar: shows the progress.
        skip: store records that are not documents in ``OUTPUT.rejects.jsonl`` instead of stopping at the first one.
        resume: continue an unfinished output; start from the beginning if there is none.
        overwrite: delete an unfinished output.

    Returns:
        The stats of the output as a whole, and those of the interrupted runs that this one resumes.

    Raises:
        InputError: an input, the output or the model cannot be used, or a record is not a document.
    """
    check_output(inputs, format=format, needs_file=skip or resume or overwrite)
    table = read_extra_columns(inputs) if format == "parquet" else None
    output_format = build_output_format(format, compression=compression, audit=audit, table=table)
    with closing(read_inputs(inputs)) as all_records:
        records = reject_bad_file_names(all_records) if format == "brat" else all_records
        if inputs.output is None or stream_kind(Path(inputs.output)):
            with StreamOutput(Path(inputs.output) if inputs.output else None) as stream:
                stats = tag_records(records, load, stream, output_format, audit=audit, progress_bar=progress_bar)
            return stats, RunStats()
        settings = run_settings(inputs, format=format, compression=compression)
        with (
            ResumableFile(Path(inputs.output), resume=resume, overwrite=overwrite) as output,
            _with_resume_remedy(output),
        ):
            earlier_stats = output.stats
            stats = tag_records(
                records,
                load,
                output,
                output_format,
                audit=audit,
                progress_bar=progress_bar,
                settings=settings,
                skip=skip,
            )
            return stats, earlier_stats


def check_output(inputs: Inputs, *, format: str, needs_file: bool = False) -> None:
    """Check that the output can be written in a format and does not replace an input.

    Args:
        inputs: the inputs and the output.
        format: the format.
        needs_file: whether the run is to be resumed, or stores rejected records.

    Raises:
        InputError: the output cannot be written in the format, or it replaces an input.
    """
    if inputs.output is None:
        if format in _FILES_ONLY:
            raise InputError(
                f"`format={format!r}` to standard output", expected="a file to write", remedy="give an `output`"
            )
        return
    path = Path(inputs.output)
    try:
        stream, kind = stream_kind(path), path_kind(path)
    except OSError as error:
        raise not_writable(path, error, remedy=CHOOSE_OUTPUT) from error
    if stream:
        if format in _FILES_ONLY or needs_file:
            raise InputError(
                f"{stream}, which can only be written from start to end",
                where=inputs.output,
                expected=f"a file to write, for `format={format!r}`"
                if format in _FILES_ONLY
                else "a file to write, for a run that can be resumed or stores rejected records",
                remedy=CHOOSE_OUTPUT,
            )
        return
    for name in inputs.names:
        if Path(name).is_file():  # Files in folders are checked when the folder is read.
            next(find_input_files(name, inputs.output))
    if format == "brat":
        check_brat_folder(path)
    elif kind == FOLDER or inputs.output.endswith(os.sep):
        raise InputError(
            "a folder",
            where=inputs.output,
            expected="a file to write",
            remedy=f"{CHOOSE_OUTPUT}, or give `format='brat'`",
        )
    else:
        check_output_file(path, remedy=CHOOSE_OUTPUT)


def tag_records(
    records: Iterable[Record],
    load: Callable[[], LoadedTagger],
    output: Output,
    output_format: OutputFormat,
    *,
    audit: ImportAudit,
    progress_bar: ProgressBar,
    settings: Mapping[str, Any] | None = None,
    skip: bool = False,
) -> RunStats:
    """Tag records and write them. Records that an interrupted run has written are compared with it, but not tagged again.

    Args:
        records: all records, from the first one on.
        load: loads the tagger; called once, when the first group of records has been read.
        output: the destination.
        output_format: the format; for a tagger that finds nested names, its variant for them.
        audit: receives the counts of what the format cannot hold, including those of the interrupted run.
        progress_bar: shows the progress.
        settings: the settings that a resuming run must share, in addition to those of the tagger.
        skip: pass records that are not documents to ``output.reject`` instead of stopping at the first one.

    Returns:
        The stats of the output as a whole.

    Raises:
        InputError: a record is not a document, the settings or the records differ from those of the interrupted run, or
            the output cannot be written. Groups that were written completely stay written.
    """
    earlier_stats = stats = output.stats
    for kind, count in earlier_stats.lost.items():
        audit.add(kind, count=count)
    reader = _GroupReader(records, load, output, output_format, settings=settings or {}, skip=skip)
    loaded = reader.start()
    tagged_groups = loaded.tagger.tag_groups(reader.new_groups()) if loaded else iter(())
    for tagged, left_out in tagged_groups:
        group, digest = reader.pending.popleft()
        data = reader.output_format.encode(tagged)
        stats = stats.with_group(group, tagged, digest=digest, left_out=left_out)
        output.append(data, replace(stats, lost={kind: count for kind, count in audit.kinds.items() if count}))
        stats = output.stats
        progress_bar.show(
            read=group[-1].bytes_read,
            documents=stats.documents - earlier_stats.documents,
            names=stats.names,
            rejected=stats.rejected,
        )
    if reader.error is not None:
        raise reader.error
    output.finish(reader.output_format)
    return stats


class _GroupReader:
    """Reads groups of records, a few ahead of the group being written.

    Attributes:
        pending: groups being tagged, each with the digest of all records up to the last one of the group.
        error: the error that ended the reading early; raise it after the groups read before it are written.
        output_format: the format to write; chosen when the tagger is loaded.
    """

    def __init__(
        self,
        records: Iterable[Record],
        load: Callable[[], LoadedTagger],
        output: Output,
        output_format: OutputFormat,
        *,
        settings: Mapping[str, Any],
        skip: bool,
    ) -> None:
        self._groups, self._load, self._settings = group_records(records, skip=skip), load, settings
        self._output, self.output_format = output, output_format
        self._earlier_stats = output.stats
        self._first: list[Record] | None = None
        self.pending: deque[tuple[list[Record], str]] = deque()
        self.error: InputError | None = None

    def start(self) -> LoadedTagger | None:
        """Read the first group, load the tagger and begin the output; ``None`` if there are no records."""
        self._first = next(self._groups, None)
        if self._first is None:
            if self._earlier_stats.records:
                raise _input_changed(self._earlier_stats)
            return None
        loaded = self._load()
        if loaded.nested and self.output_format.for_nested is not None:
            self.output_format = self.output_format.for_nested
        self._output.begin_or_resume({**self._settings, **loaded.settings}, self.output_format)
        return loaded

    def new_groups(self) -> Iterator[list[Document]]:
        """Yield the documents of the groups that the interrupted run did not write; compare the groups that it wrote."""
        try:
            earlier_stats, records_read, digest = self._earlier_stats, 0, ""
            for group in chain([self._first or []], self._groups):
                records_read, digest = records_read + len(group), update_digest(digest, group)
                self._output.reject([record for record in group if record.error is not None])
                if records_read <= earlier_stats.records:
                    if records_read == earlier_stats.records and digest != earlier_stats.digest:
                        raise _input_changed(earlier_stats)
                    continue
                if records_read - len(group) < earlier_stats.records:
                    raise _input_changed(earlier_stats)
                self.pending.append((group, digest))
                yield [record.document for record in group if record.document is not None]
            if records_read < earlier_stats.records:
                raise _input_changed(earlier_stats)
        except InputError as error:
            self.error = error


def group_records(records: Iterable[Record], *, skip: bool = False) -> Iterator[list[Record]]:
    """Yield records in groups. The borders of the groups depend only on the records.

    Raises:
        InputError: a record is not a document and ``skip`` is false.
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
    """Yield records. A document whose id cannot be a file name becomes an error."""
    for record in records:
        if record.document is not None:
            try:
                document_path(Path(), record.document.id)
            except InputError as error:
                record = replace(record, document=None, error=error.replace(where=record.where))
        yield record


@contextmanager
def _with_resume_remedy(output: ResumableFile) -> Iterator[None]:
    """Add the number of documents already written and the way to continue to an error."""
    try:
        yield
    except InputError as error:
        if not output.stats.records or START_OVER in str(error):
            raise
        remedy = f"{output.stats.documents:,} documents are kept in {output.path}"
        if error.remedy:
            remedy = f"{error.remedy}; {remedy}"
        if "`resume=True`" not in remedy:
            remedy += ", and `resume=True` continues from there"
        raise error.replace(remedy=remedy) from error


def _input_changed(earlier_stats: RunStats) -> InputError:
    return InputError(
        f"the first {earlier_stats.records:,} records of the input differ from those the run was started with",
        where="`resume=True`",
        expected="the same input; only records that have not been read yet may differ",
        remedy=f"give the same input, or {START_OVER}",
    )
