"""Files of a corpus: :func:`read_documents` and :func:`write_documents` read and write them in every format.

Each format has a module in :mod:`musamma.data.formats`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Never

import orjson

from musamma.data.document import Document, write_jsonl
from musamma.data.errors import InputError, duplicate_id, meta_not_json, not_found, not_one_of
from musamma.data.files import document_path, new_folder, write_lines
from musamma.data.formats import (
    brat,
    conll,
    docbin,
    doccano,
    gliner,
    hub,
    label_studio,
    lighttag,
    markup,
    prodigy,
    tabular,
    ubiai,
    webanno,
)
from musamma.data.formats.options import (
    DEFAULT_READ_OPTIONS,
    DEFAULT_WRITE_OPTIONS,
    FOLDER_FORMATS,
    FORMATS,
    ReadOptions,
    WriteOptions,
)
from musamma.data.import_audit import ImportAudit
from musamma.data.input_files import InputFile
from musamma.data.labels import apply_labels, check_label
from musamma.data.records import (
    file_suffix,
    is_json_array,
    load_json,
    raise_first_error,
    read_file,
    read_json_array,
    read_json_lines,
    read_json_records,
    read_text,
    read_text_lines,
)
from musamma.data.span_repair import RawDocument, repair_spans

__all__ = [
    "FOLDER_FORMATS",
    "FORMATS",
    "ReadOptions",
    "WriteOptions",
    "choose_write_format",
    "guess_format",
    "read_documents",
    "write_documents",
]

#: Formats that are read from a folder, and those of them that are read from a file, too.
_READ_FROM_BOTH = ("khabar", "webanno")
_SUFFIXES = {
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    **dict.fromkeys((".conll", ".txt", ".tsv", ".bio", ".iob", ".iob2", ".bioes"), "conll"),
    **{".json": "labelstudio", ".csv": "csv", ".parquet": "parquet", ".spacy": "spacy"},
}
#: Information besides text and spans that a format can hold. Writing counts the rest as lost.
_SUPPORTED = {
    "jsonl": ("id", "nested", "score", "meta"),
    "csv": ("id", "nested", "score", "meta"),
    "parquet": ("id", "nested", "score", "meta"),
    "khabar": ("id", "nested", "meta"),
    "doccano": ("id", "nested", "meta"),
    "labelstudio": ("id", "nested", "score", "meta"),
    "brat": ("id", "nested"),
    "conll": (),
    "prodigy": ("id", "nested", "score", "meta"),
    "webanno": ("id", "nested"),
    "spacy": ("id", "nested", "meta"),
    "gliner": ("id", "nested", "meta"),
}
_LOG = logging.getLogger(__name__)


def read_documents(
    path: str | Path,
    *,
    format: str | None = None,
    options: ReadOptions = DEFAULT_READ_OPTIONS,
    audit: ImportAudit | None = None,
) -> Iterator[Document]:
    """Read the documents of a file, folder or dataset, one at a time.

    Args:
        path: a file, a folder, or ``hf:NAME[@CONFIG][:SPLIT]``.
        format: one of :data:`FORMATS`; by default it is guessed from name and content.
        options: how to read.
        audit: where changes are counted. Without an audit, a span that cannot be kept unchanged is an error; findings that
            change no span are logged.

    Raises:
        InputError: the input cannot be read or has no documents, or an id occurs twice; names file and line.
    """
    chosen = format or guess_format(path)
    if chosen not in FORMATS:
        raise not_one_of("format", chosen, FORMATS)
    strict = audit is None
    audit = ImportAudit(limit=1) if audit is None else audit
    audit.source = audit.source or str(path)
    places: dict[str, str] = {}
    for raw in _read_raw(path, chosen, options, audit):
        if raw.id in places:
            duplicate = duplicate_id(raw.id, first=places[raw.id], where=raw.where)
            if options.repeated_ids == "error":
                raise duplicate
            audit.add("duplicate_id", document=raw.id, where=raw.where, detail=duplicate.found)
        places.setdefault(raw.id, raw.where)
        document = repair_spans(raw, overlaps=options.overlaps, audit=audit)
        if strict and audit.lost:
            raise _changed_span(audit, raw.where)
        if options.labels is not None:
            document = apply_labels(document, options.labels, audit=audit)
        for span in document.all_spans:
            check_label(span.label, where=f"{raw.where}, document {raw.id!r}")
        yield document
    if strict and audit.lost:  # after the last document
        raise _changed_span(audit, str(path))
    if not places:
        raise InputError("no document in it", where=str(path), expected=f"at least one document in the format {chosen}")
    if strict and audit.kinds:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(audit.kinds.items()) if count)
        _LOG.warning("%s: %s", path, counts)


def write_documents(
    documents: Iterable[Document],
    path: str | Path,
    *,
    format: str | None = None,
    options: WriteOptions = DEFAULT_WRITE_OPTIONS,
    audit: ImportAudit | None = None,
    max_loss: float | None = None,
    overwrite: bool = False,
) -> int:
    """Write documents; a file or folder appears only when it is complete. Returns the number of documents.

    Args:
        documents: the documents.
        path: a file, or a folder for :data:`FOLDER_FORMATS`.
        format: one of :data:`FORMATS` except ``datasets``, ``lighttag`` and ``ubiai``; by default it is guessed from the path's suffix.
        options: how to write.
        audit: where information that the format cannot hold is counted.
        max_loss: maximum loss of ``audit``, also used for reading the documents, after the last document.
        overwrite: allow a folder that holds files: files of the same names are replaced, all others stay. A single file is
            always replaced.

    Raises:
        InputError: the path cannot be written, or the format cannot hold a document.
        ThresholdError: the loss is above ``max_loss``; nothing is written.
    """
    chosen = choose_write_format(path, format)
    audit = ImportAudit(limit=0) if audit is None else audit
    counted = _CountedDocuments(documents, chosen, options, audit, max_loss)
    if chosen not in FOLDER_FORMATS and str(path).endswith(os.sep):
        raise InputError("a folder", where=str(path), expected=f"a file to write {chosen}", remedy="remove the slash")
    path = Path(path)
    match chosen:
        case "jsonl":
            write_jsonl(counted, path)
        case "parquet":
            tabular.write_parquet(counted, path)
        case "brat":
            with new_folder(path, overwrite=overwrite) as folder:
                brat.write(counted, folder, options, audit)
        case "khabar":
            with new_folder(path, overwrite=overwrite) as folder:
                for document in counted:
                    target = document_path(folder, document.id)
                    write_lines([markup.render_article(document)], target.with_name(target.name + ".txt"))
        case "csv":
            write_lines(tabular.format_csv(counted), path)
        case "doccano":
            write_lines(doccano.format_lines(counted, options, audit), path)
        case "labelstudio":
            write_lines(label_studio.format_lines(counted, options, audit), path)
        case "prodigy":
            write_lines(prodigy.format_lines(counted, audit), path)
        case "gliner":
            write_lines(gliner.format_lines(counted, audit), path)
        case "spacy":
            docbin.write_docbin(counted, path, audit)
        case "webanno":
            with new_folder(path, overwrite=overwrite) as folder:
                webanno.write(counted, folder, audit)
        case "conll":
            lines = (conll.to_conll(document, options=options, audit=audit) for document in counted)
            write_lines(lines, path)
    counted.check_loss()  # A format may count the losses of the last document later.
    return counted.count


def choose_write_format(path: str | Path, format: str | None = None) -> str:
    """Choose the format to write: the one given, or the one of the path's suffix.

    Raises:
        InputError: the format is unknown, or cannot be written.
    """
    chosen = format or _SUFFIXES.get(Path(path).suffix.lower()) or _raise_unknown(Path(path))
    if chosen not in _SUPPORTED:
        remedy = "write Parquet for datasets" if chosen == "datasets" else None
        raise not_one_of("format", chosen, _SUPPORTED, remedy=remedy)
    return chosen


def guess_format(path: str | Path) -> str:
    """Guess the format of an existing file or folder from suffix and content.

    Raises:
        InputError: there is no such file, or its format is unknown.
    """
    if str(path).startswith(hub.PREFIX):
        return "datasets"
    path = Path(path)
    if path.is_dir():
        if next(path.rglob("*.ann"), None):
            return "brat"
        if (table := next(path.rglob("*.tsv"), None)) and webanno.is_webanno(table):
            return "webanno"
        return "khabar" if next(path.rglob("*.txt"), None) else _raise_unknown(path)
    if not path.is_file():
        raise not_found(path, kind="file or folder")
    suffix = file_suffix(path)
    guess = _SUFFIXES.get(suffix) or _raise_unknown(path)
    if guess == "jsonl":
        first = next((record.value for record in raise_first_error(read_file(path, read_json_lines))), None)
        return _guess_record(first) or ("doccano" if _is_doccano(first) else "jsonl")
    if guess == "labelstudio":
        return _guess_json(path)
    if suffix == ".tsv" and webanno.is_webanno(path):
        return "webanno"
    if guess == "conll" and suffix == ".txt":
        first_line = next((line for _, line in read_text_lines(path)), "")
        return "khabar" if first_line == "---" else "conll"
    return guess


def _is_doccano(record: Any) -> bool:
    return isinstance(record, dict) and "spans" not in record and bool(set(record) & set(doccano.LABEL_KEYS))


def _guess_record(record: Any) -> str | None:
    """Guess the format of a JSON value that has the keys of one tool only."""
    if gliner.is_example(record):
        return "gliner"
    return "prodigy" if prodigy.is_example(record) else None


def _guess_json(path: Path) -> str:
    """Guess the format of a ``.json`` file: tasks of Label Studio, or documents in one array or one per line."""
    if is_json_array(path):
        records: Sequence[Any] = read_json_array(path)
    else:  # An object over several lines is an export of LightTag, or left to the reader like a broken one.
        first = next(read_file(path, read_json_lines), None)
        records = [] if first is None or first.error is not None else [first.value]
        if lighttag.is_job(records[0] if records else _read_object(path)):
            return "lighttag"
    if records and (guess := _guess_record(records[0])):
        return guess
    if records and ubiai.is_document(records[0]):
        return "ubiai"
    for record in records:
        if not isinstance(record, dict) or "text" not in record:
            break
        if any(map(label_studio.has_regions, record.values())):
            break
        if isinstance(record.get("spans"), list):
            return "jsonl"
        if any(record.get(key) for key in doccano.LABEL_KEYS):
            return "doccano"
    return "labelstudio"


def _read_object(path: Path) -> Any:
    try:
        return load_json(read_text(path).removeprefix("\ufeff"))
    except orjson.JSONDecodeError:
        return None


def _raise_unknown(path: Path) -> Never:
    suffixes = ", ".join(_SUFFIXES)
    raise InputError(
        "the format cannot be told from the name",
        where=str(path),
        expected=f"a suffix among {suffixes}, or a folder of .ann or .txt files",
        remedy=f"name the format: {', '.join(FORMATS)}",
    )


def _read_raw(path: str | Path, format: str, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    if format == "datasets":
        return hub.read_hub(str(path), options, audit)
    path = Path(path)
    if not path.exists():
        raise not_found(path, kind="file or folder")
    if problem := None if path.is_dir() else InputFile(path, path.name).find_problem():
        raise problem
    if path.is_dir() != (format in FOLDER_FORMATS) and not (path.is_file() and format in _READ_FROM_BOTH):
        kind = "folder" if path.is_dir() else "file"
        raise InputError(
            f"a {kind}", where=str(path), expected=f"a {'folder' if kind == 'file' else 'file'} for {format}"
        )
    match format:
        case "khabar":
            articles = markup.read_articles(path) if path.is_dir() else iter([(path, markup.read_article(path))])
            return (RawDocument.from_document(document, where=str(file)) for file, document in articles)
        case "brat":
            return brat.read_brat(path, options, audit)
        case "conll":
            return conll.read_conll(path, options, audit)
        case "doccano":
            return doccano.read_doccano(path, options, audit)
        case "labelstudio":
            return label_studio.read_label_studio(path, options, audit)
        case "prodigy":
            return prodigy.read_prodigy(path, audit)
        case "webanno":
            return webanno.read_webanno(path, options, audit)
        case "spacy":
            return docbin.read_docbin(path, audit)
        case "gliner":
            return gliner.read_gliner(path, audit)
        case "lighttag":
            return lighttag.read_lighttag(path, audit)
        case "ubiai":
            return ubiai.read_ubiai(path, audit)
        case "csv":
            return tabular.read_csv_file(path, options, audit)
        case "parquet":
            return tabular.read_parquet_file(path, options, audit)
        case _:
            return (RawDocument.from_dict(value, where=where) for where, value in read_json_records(path))


def _changed_span(audit: ImportAudit, where: str) -> InputError:
    first = next(finding for finding in audit.findings if finding.is_loss)
    document = f", document {first.document!r}" if first.document else ""
    return InputError(
        first.detail if first.kind in ("unread_annotation", "empty_name") else f"span {first.detail}",
        where=f"{first.where or where}{document}",
        expected="spans that can be kept unchanged",
        remedy="run musamma convert, which audits and counts what it changes",
    )


def _check_meta(document: Document) -> None:
    try:
        orjson.dumps(dict(document.meta))
    except orjson.JSONEncodeError as error:
        raise meta_not_json(error, where=f"document {document.id!r}") from None


class _CountedDocuments:
    """Documents that are being written: their labels are checked, and information that the format cannot hold is counted."""

    def __init__(
        self,
        documents: Iterable[Document],
        format: str,
        options: WriteOptions,
        audit: ImportAudit,
        max_loss: float | None,
    ) -> None:
        self.documents, self.audit, self.max_loss, self.count = documents, audit, max_loss, 0
        self.unsupported = {"id", "nested", "score", "meta"} - set(_SUPPORTED[format])
        if format == "conll" and options.nested:
            self.unsupported.discard("nested")
        if format == "labelstudio" and options.tasks_as == "annotations":
            self.unsupported.add("score")

    def check_loss(self) -> None:
        if self.max_loss is not None:
            self.audit.check_loss(self.max_loss)

    def __iter__(self) -> Iterator[Document]:
        for document in self.documents:
            for span in document.all_spans:
                check_label(span.label, where=f"document {document.id!r}")
            if document.meta:
                _check_meta(document)
            present = {
                "id": 1,
                "nested": len(document.nested),
                "score": sum(span.score is not None for span in document.all_spans),
                "meta": len(document.meta),
            }
            for name in self.unsupported:
                self.audit.add_in_writing(f"lost_{name}", count=present[name])
            self.count += 1
            yield document
        self.check_loss()
