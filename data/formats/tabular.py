"""Tables: rows with text and spans, or with tokens and tags, from CSV, Parquet and datasets; CSV and Parquet are written, too."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from musamma.data.document import SPAN_KEYS, Document, parse_id, parse_spans
from musamma.data.errors import InputError, not_readable
from musamma.data.files import atomic_write
from musamma.data.formats.options import ReadOptions
from musamma.data.formats.tokens import Sentence, assemble_document
from musamma.data.formats.unread import count_annotations, count_unread, report_unread
from musamma.data.import_audit import ImportAudit
from musamma.data.records import (
    decode_line,
    file_stem,
    load_json,
    open_input,
    raise_first_error,
    read_file,
    reading_exceptions,
)
from musamma.data.span_repair import CandidateSpan, RawDocument
from musamma.data.tables import ID_COLUMNS, TEXT_COLUMNS, first_column, read_csv, read_parquet
from musamma.data.tags import decode_tags, detect_scheme

SPAN_COLUMNS = ("spans", "entities", "label", "labels")
TOKEN_COLUMNS = ("tokens", "words")
TAG_COLUMNS = ("ner_tags", "tags", "ner", "labels", "label")

# Columns of tags that are no names: parts of speech, chunks and dependencies.
_GRAMMAR = re.compile(r"pos|chunk|dep|morph|lemma")

#: A row's place in its file, for errors, and its cells by column.
TableRow = tuple[str, Mapping[str, Any]]


def read_csv_file(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    """Read the rows of a CSV file with a header; columns of a ``.tsv`` are separated by tabs.

    Raises:
        InputError: the file is not UTF-8, a row has more or fewer cells than the header, or a cell is wrong; names file and
            line.
    """
    try:
        with open_input(path) as stream:
            columns = read_csv(stream, lone_cr=True).columns
    except reading_exceptions() as error:
        raise not_readable(path, error) from error
    decode_line(",".join(columns).encode("utf-8", errors="surrogateescape"), f"{path}:1")

    def rows() -> Iterator[TableRow]:
        for record in raise_first_error(read_file(path, lambda stream: read_csv(stream, lone_cr=True).rows)):
            yield record.where, record.value

    yield from read_rows(
        rows, columns, stem=file_stem(Path(path.name)), where=f"{path}:1", names={}, options=options, audit=audit
    )


def read_parquet_file(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    """Read the rows of a Parquet file, batch by batch.

    Raises:
        InputError: the file is not Parquet, or a cell is wrong; names file and row.
    """
    try:
        with open_input(path) as stream:
            table = read_parquet(stream)
    except reading_exceptions() as error:
        raise InputError(
            f"not readable as Parquet: {error}",
            where=str(path),
            expected="a Parquet file",
            remedy="copy it again, or let its name end in what it holds",
        ) from None

    def rows() -> Iterator[TableRow]:
        for record in raise_first_error(read_file(path, lambda stream: read_parquet(stream).rows)):
            yield f"{path}, row {record.line}", record.value

    yield from read_rows(
        rows,
        table.columns,
        stem=file_stem(Path(path.name)),
        where=str(path),
        names=_stored_label_names(table.metadata),
        options=options,
        audit=audit,
    )


def _stored_label_names(metadata: Mapping[bytes, bytes]) -> dict[str, Sequence[str]]:
    """Label names by column, which the library ``datasets`` stores in a Parquet file for columns of label numbers."""
    try:
        features = orjson.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {column: names for column, feature in features.items() if (names := _feature_names(feature))}
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return {}


def _feature_names(feature: Any) -> Sequence[str] | None:
    if isinstance(feature, list):  # an older form of lists
        return _feature_names(feature[0]) if feature else None
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel" and isinstance(names := feature.get("names"), list):
        return names
    return next((names for key in ("feature", "label", "type") if (names := _feature_names(feature.get(key)))), None)


def read_rows(
    rows: Callable[[], Iterable[TableRow]],
    columns: Sequence[str],
    *,
    stem: str,
    where: str,
    names: Mapping[str, Sequence[str]],
    options: ReadOptions,
    audit: ImportAudit,
) -> Iterator[RawDocument]:
    """Read the documents of a table.

    Args:
        rows: returns the rows from the first on; called again for a second pass.
        columns: the table's columns.
        stem: default ids are ``STEM-00000``, ``STEM-00001``, ...
        where: the table, for errors.
        names: label names by column, where a column holds label numbers.
        options: how to read.
        audit: where changes are counted.

    Raises:
        InputError: the columns hold neither text nor tokens and tags, or a cell does not hold what its column should.
    """
    text, tokens = first_column(TEXT_COLUMNS, columns), first_column(TOKEN_COLUMNS, columns)
    tags = first_column(TAG_COLUMNS, columns)
    if tokens and tags:
        yield from _read_tagged(rows, tokens, tags, stem, names.get(tags), options, audit)
    elif text:
        spans = first_column(SPAN_COLUMNS, columns)
        for number, (place, row) in enumerate(rows()):
            yield _parse_spans_row(row, text, spans, f"{stem}-{number:05d}", place, names.get(spans or ""), audit)
    else:
        raise InputError(
            f"columns {', '.join(columns) or '(none)'}",
            where=where,
            expected="columns 'text' and 'spans', or 'tokens' and 'ner_tags'",
            remedy="rename the columns",
        )


# Rows with tokens and tags.


def _read_tagged(
    rows: Callable[[], Iterable[TableRow]],
    tokens: str,
    tags: str,
    stem: str,
    names: Sequence[str] | None,
    options: ReadOptions,
    audit: ImportAudit,
) -> Iterator[RawDocument]:
    scheme: str = options.scheme
    starts: Counter[str] = Counter()
    if scheme == "auto":
        scheme = detect_scheme(_parse_sentence(row, tokens, tags, names, where).tags for where, row in rows())
    if options.rejoin_clitics:
        for where, row in rows():
            sentence = _parse_sentence(row, tokens, tags, names, where)
            entities, _ = decode_tags(sentence.tags, scheme=scheme, where=sentence.where)
            starts.update(sentence.tokens[entity.start] for entity in entities)
    for number, (where, row) in enumerate(rows()):
        sentence = _parse_sentence(row, tokens, tags, names, where)
        if not sentence.tokens:
            audit.add("empty_token", where=where, detail="a row without tokens")
            continue
        id = parse_id(_first_cell(row, ID_COLUMNS), f"{stem}-{number:05d}", where)
        document = assemble_document([sentence], id=id, scheme=scheme, name_starts=starts, options=options, audit=audit)
        _count_unread_columns(row, (tokens, tags), document, where, audit)
        yield document


def _count_unread_columns(
    row: Mapping[str, Any], used: Sequence[str], document: RawDocument, where: str, audit: ImportAudit
) -> None:
    """Count names in further columns as dropped, unless these may be the names read, in another form."""
    present = len(document.spans) + len(document.nested)
    for column, value in row.items():
        if column in used or _GRAMMAR.search(column.lower()):
            continue
        if (count := count_annotations(value, column, length=4 * len(document.text))) > present:
            report_unread(count - present, repr(column), document=document.id, where=where, audit=audit)


def _parse_sentence(
    row: Mapping[str, Any], tokens: str, tags: str, names: Sequence[str] | None, where: str
) -> Sentence:
    words, labels = _parse_cell(row.get(tokens), tokens, where) or [], _parse_cell(row.get(tags), tags, where) or []
    if not isinstance(words, list) or not isinstance(labels, list) or len(words) != len(labels):
        sizes = [len(cell) if isinstance(cell, list) else repr(cell)[:40] for cell in (words, labels)]
        raise InputError(f"{sizes[0]} {tokens} and {sizes[1]} {tags}", where=where, expected="as many tags as tokens")
    return Sentence(
        tuple(str(word) for word in words),
        tuple(tuple(str(_label_name(label, names, where)).split()) for label in labels),
        (where,) * len(words),
    )


def _label_name(label: Any, names: Sequence[str] | None, where: str) -> str:
    if isinstance(label, str):
        return label
    if names is None or isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(names):
        expected = f"a number below {len(names)}" if names else "a label, or a column with label names"
        raise InputError(f"label {label!r}", where=where, expected=expected)
    return names[label]


# Rows with text and spans.


def _parse_spans_row(
    row: Mapping[str, Any],
    text: str,
    spans: str | None,
    default_id: str,
    where: str,
    names: Sequence[str] | None,
    audit: ImportAudit,
) -> RawDocument:
    content = row.get(text)
    if not isinstance(content, str):
        raise InputError(f"{text} is {content!r}", where=where, expected="a string")
    meta = _parse_cell(row.get("meta"), "meta", where) or {}
    if not isinstance(meta, dict):
        raise InputError(f"meta is {meta!r:.60}", where=where, expected="an object")
    used = {text, spans, "nested", "meta", *ID_COLUMNS}
    further = {key: value for key, value in row.items() if key not in used and value not in (None, "")}
    id = parse_id(_first_cell(row, ID_COLUMNS), default_id, where)
    count_unread(further, text=content, document=id, where=where, audit=audit)
    return RawDocument(
        id,
        content,
        _parse_candidates(row.get(spans) if spans else None, spans or "", where, names),
        _parse_candidates(row.get("nested"), "nested", where, names),
        {**meta, **further},
        where,
    )


def _first_cell(row: Mapping[str, Any], columns: Sequence[str]) -> Any:
    return next((row[name] for name in columns if row.get(name) not in (None, "")), None)


def _parse_cell(value: Any, column: str, where: str) -> Any:
    """Parse a cell that holds text as JSON."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return load_json(value)
    except orjson.JSONDecodeError as error:
        raise InputError(
            f"{column} is {value[:40]!r}: {error.msg}",
            where=where,
            expected='JSON, e.g. [{"start": 0, "end": 5, "label": "PER"}]',
        ) from None


def _parse_candidates(value: Any, column: str, where: str, names: Sequence[str] | None) -> tuple[CandidateSpan, ...]:
    cell = _parse_cell(value, column, where)
    if isinstance(cell, dict):  # A column of structs in an older layout: a list for each field.
        cell = [dict(zip(cell, values, strict=True)) for values in zip(*cell.values(), strict=False)]
    if isinstance(cell, list):
        cell = [_span_fields(item, names, where) for item in cell]
    spans = parse_spans(cell, column, where, label_with_spaces=True)
    return tuple(CandidateSpan(span.start, span.end, span.label, span.score) for span in spans)


def _span_fields(item: Any, names: Sequence[str] | None, where: str) -> Any:
    """Return a span's fields under the project's keys, from ``[start, end, label]`` or an object that may hold further keys."""
    if isinstance(item, list) and len(item) == 3:
        item = dict(zip(("start", "end", "label"), item, strict=True))
    if not isinstance(item, dict):
        return item
    label = item.get("label", item.get("type"))
    return {key: item.get(key) for key in SPAN_KEYS} | {
        "label": _label_name(label, names, where) if isinstance(label, int) else label
    }


# Writing.

_COLUMNS = ("id", "text", "spans", "nested", "meta")
_ROWS_PER_BATCH = 512


def format_csv(documents: Iterable[Document]) -> Iterator[str]:
    """Yield the rows of a CSV file, the header with the first one."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(_COLUMNS)
    for document in documents:
        row = _row_of(document)
        writer.writerow(
            [row["id"], row["text"], *(orjson.dumps(row[key]).decode() for key in ("spans", "nested")), row["meta"]]
        )
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def write_parquet(documents: Iterable[Document], path: Path) -> None:
    """Write a Parquet file, ``meta`` as JSON text.

    Raises:
        InputError: the path cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    offsets = [pa.field("start", pa.int64()), pa.field("end", pa.int64())]
    span = pa.struct([*offsets, pa.field("label", pa.string()), pa.field("score", pa.float64())])
    types = {
        "id": pa.string(),
        "text": pa.string(),
        "spans": pa.list_(span),
        "nested": pa.list_(span),
        "meta": pa.string(),
    }
    schema = pa.schema(list(types.items()))
    rows = (_row_of(document) for document in documents)
    with atomic_write(path) as partial, pq.ParquetWriter(partial, schema) as writer:
        while batch := list(islice(rows, _ROWS_PER_BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def _row_of(document: Document) -> dict[str, Any]:
    record = document.to_dict()
    return {
        "id": document.id,
        "text": document.text,
        "spans": record["spans"],
        "nested": record.get("nested", []),
        "meta": orjson.dumps(dict(document.meta)).decode(),
    }
