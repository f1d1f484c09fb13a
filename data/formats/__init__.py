"""Annotation in the formats of the field, read to valid documents and written from them.

``read_documents`` and ``write_documents`` are all that is needed; each format has a module of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from musamma.data.document import Document, write_jsonl
from musamma.data.errors import InputError, duplicate_id, not_found, not_one_of
from musamma.data.files import document_path, write_lines
from musamma.data.formats import (
    brat,
    conll,
    doccano,
    hub,
    label_studio,
    markup,
    tabular,
)
from musamma.data.formats.options import DEFAULT_READ_OPTIONS, DEFAULT_WRITE_OPTIONS, ReadOptions, WriteOptions
from musamma.data.import_audit import FINDING_KINDS, LOSS_CATEGORIES, ImportAudit
from musamma.data.labels import apply_labels, check_label
from musamma.data.records import checked, file_suffix, read_file, read_json_lines, read_text_lines
from musamma.data.span_repair import RawDocument, repair_spans

__all__ = [
    "FORMATS",
    "ReadOptions",
    "WriteOptions",
    "guess_format",
    "read_documents",
    "write_documents",
]

FORMATS = ("jsonl", "conll", "brat", "doccano", "labelstudio", "csv", "parquet", "khabar", "datasets")
_SUFFIXES = {
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    **dict.fromkeys((".conll", ".txt", ".tsv", ".bio", ".iob", ".iob2", ".bioes"), "conll"),
    **{".json": "labelstudio", ".csv": "csv", ".parquet": "parquet"},
}
#: What a format can hold besides text and spans; the rest is counted as lost when it is written.
_HOLDS = {
    "jsonl": ("id", "nested", "score", "meta"),
    "csv": ("id", "nested", "score", "meta"),
    "parquet": ("id", "nested", "score", "meta"),
    "khabar": ("id", "nested", "meta"),
    "doccano": ("id", "nested", "meta"),
    "labelstudio": ("id", "nested", "meta"),
    "brat": ("id", "nested"),
    "conll": (),
}
_LOG = logging.getLogger(__name__)


def read_documents(
    path: str | Path,
    *,
    format: str | None = None,
    options: ReadOptions = DEFAULT_READ_OPTIONS,
    audit: ImportAudit | None = None,
) -> Iterator[Document]:
    """The documents of a file, folder or dataset, one at a time.

    Args:
        path: a file, a folder, or ``hf:NAME[@CONFIG][:SPLIT]``.
        format: one of :data:`FORMATS`; guessed from name and content where not given.
        options: how to read.
        audit: where to count what was changed. Without one, a span that cannot be kept as it is an error, and what touches
            no span is logged.

    Raises:
        InputError: the input cannot be read, holds no document, or an id comes twice; names file and line.
    """
    chosen = format or guess_format(path)
    if chosen not in FORMATS:
        raise not_one_of("format", chosen, FORMATS)
    account = ImportAudit(limit=1) if audit is None else audit
    account.source = account.source or str(path)
    seen: dict[str, str] = {}
    for raw in _raw(path, chosen, options, account):
        if raw.id in seen:
            duplicate = duplicate_id(raw.id, first=seen[raw.id], where=raw.where)
            if options.repeated_ids == "error":
                raise duplicate
            account.add("duplicate_id", document=raw.id, where=raw.where, detail=duplicate.found)
        seen.setdefault(raw.id, raw.where)
        document = repair_spans(raw, overlaps=options.overlaps, audit=account)
        if audit is None and account.lost:
            _fail(account, raw)
        if options.labels is not None:
            document = apply_labels(document, options.labels, audit=account)
        for span in (*document.spans, *document.nested):
            check_label(span.label, where=f"{raw.where}, document {raw.id!r}")
        yield document
    if not seen:
        raise InputError("no document in it", where=str(path), expected=f"at least one document in the format {chosen}")
    if audit is None and account.kinds:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(account.kinds.items()) if count)
        _LOG.warning("%s: %s", path, counts)


def write_documents(
    documents: Iterable[Document],
    path: str | Path,
    *,
    format: str | None = None,
    options: WriteOptions = DEFAULT_WRITE_OPTIONS,
    audit: ImportAudit | None = None,
) -> int:
    """Write documents; a single file appears under its name only when whole. Returns how many were written.

    Args:
        path: a file, or a folder for ``brat`` and ``khabar``.
        format: one of :data:`FORMATS` but ``datasets``; guessed from the path's suffix where not given.
        audit: where to count what the format cannot hold.

    Raises:
        InputError: the path cannot be written, or a document cannot be held by the format.
    """
    chosen = format or _written_format(path)
    if chosen not in _HOLDS:
        raise not_one_of("format", chosen, _HOLDS, remedy="write Parquet for datasets")
    account = ImportAudit(limit=0) if audit is None else audit
    counted = _Counted(documents, chosen, options, account)
    path = Path(path)
    match chosen:
        case "jsonl":
            write_jsonl(counted, path)
        case "parquet":
            tabular.write_parquet(counted, path)
        case "brat":
            brat.write(counted, path)
        case "khabar":
            for document in counted:
                target = document_path(path, document.id)
                write_lines([markup.render_article(document)], target.with_name(target.name + ".txt"))
        case "csv":
            write_lines(tabular.format_csv(counted), path)
        case "doccano":
            write_lines(doccano.write(counted), path)
        case "labelstudio":
            write_lines(label_studio.write(counted), path)
        case "conll":
            lines = (conll.to_conll(document, options=options, audit=account) for document in counted)
            write_lines(lines, path)
    return counted.count


def guess_format(path: str | Path) -> str:
    """The format of an existing file or folder, by suffix and content.

    Raises:
        InputError: there is no such file, or its format cannot be told.
    """
    if str(path).startswith(hub.PREFIX):
        return "datasets"
    path = Path(path)
    if path.is_dir():
        if next(path.rglob("*.ann"), None):
            return "brat"
        return "khabar" if next(path.rglob("*.txt"), None) else _unknown(path)
    if not path.is_file():
        raise not_found(path, kind="file or folder")
    suffix = file_suffix(path)
    guess = _SUFFIXES.get(suffix) or _unknown(path)
    if guess == "jsonl":
        first = next((record.value for record in checked(read_file(path, read_json_lines))), None)
        if isinstance(first, dict) and "spans" not in first and set(first) & set(doccano.LABEL_KEYS):
            return "doccano"
    if guess == "conll" and suffix == ".txt":
        first_line = next((line for _, line in read_text_lines(path)), "")
        return "khabar" if first_line == "---" else "conll"
    return guess


def _written_format(path: str | Path) -> str:
    return _SUFFIXES.get(Path(path).suffix.lower()) or _unknown(Path(path))


def _unknown(path: Path) -> str:
    suffixes = ", ".join(_SUFFIXES)
    raise InputError(
        "the format cannot be told from the name",
        where=str(path),
        expected=f"a suffix among {suffixes}, or a folder of .ann or .txt files",
        remedy=f"name the format: {', '.join(FORMATS)}",
    )


def _raw(path: str | Path, format: str, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    if format == "datasets":
        return hub.read(str(path), options, audit)
    path = Path(path)
    if not path.exists():
        raise not_found(path, kind="file or folder")
    if path.is_dir() != (format == "brat") and format != "khabar":
        kind = "folder" if path.is_dir() else "file"
        raise InputError(
            f"a {kind}", where=str(path), expected=f"a {'folder' if kind == 'file' else 'file'} for {format}"
        )
    match format:
        case "khabar":
            found = markup.read_articles(path) if path.is_dir() else iter([(path, markup.read_article(path))])
            return (RawDocument.of(document, where=str(file)) for file, document in found)
        case "brat":
            return brat.read(path, options, audit)
        case "conll":
            return conll.read(path, options, audit)
        case "doccano":
            return doccano.read(path, options, audit)
        case "labelstudio":
            return label_studio.read(path, options, audit)
        case "csv":
            return tabular.read_csv_file(path, options, audit)
        case "parquet":
            return tabular.read_parquet_file(path, options, audit)
        case _:
            return (
                RawDocument.from_dict(record.value, where=record.where)
                for record in checked(read_file(path, read_json_lines))
            )


def _fail(audit: ImportAudit, raw: RawDocument) -> None:
    first = next(finding for finding in audit.findings if FINDING_KINDS[finding.kind] in LOSS_CATEGORIES)
    raise InputError(
        f"span {first.detail}",
        where=f"{first.where or raw.where}, document {first.document!r}",
        expected="spans that can be kept as they are",
        remedy="run musamma convert, which audits and counts what it changes",
    )


class _Counted:
    """Documents on their way into a file: checked, counted, and what the format cannot hold audited."""

    def __init__(self, documents: Iterable[Document], format: str, options: WriteOptions, audit: ImportAudit) -> None:
        self.documents, self.audit, self.count = documents, audit, 0
        self.lost = {"id", "nested", "score", "meta"} - set(_HOLDS[format])
        if format == "conll" and options.nested:
            self.lost.discard("nested")

    def __iter__(self) -> Iterator[Document]:
        for document in self.documents:
            spans = (*document.spans, *document.nested)
            for span in spans:
                check_label(span.label, where=f"document {document.id!r}")
            held = {
                "id": 1,
                "nested": len(document.nested),
                "score": sum(span.score is not None for span in spans),
                "meta": len(document.meta),
            }
            for name in self.lost:
                self.audit.add(f"lost_{name}", count=held[name])
            self.count += 1
            yield document
