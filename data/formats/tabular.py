"""Rows of a table as raw documents: text with spans, or tokens with tags."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.files import atomic_write
from musamma.data.formats.json_lines import identifier, label_of, offset
from musamma.data.formats.options import ReadOptions
from musamma.data.formats.tokens import Sentence, assemble_document
from musamma.data.import_audit import ImportAudit
from musamma.data.span_repair import CandidateSpan, RawDocument
from musamma.data.tags import decode_tags, detect_scheme

TEXT = ("text", "sentence")
SPANS = ("spans", "entities", "label", "labels")
TOKENS = ("tokens", "words")
TAGS = ("ner_tags", "tags", "ner", "labels", "label")
IDS = ("id", "doc_id", "document_id")

Row = tuple[str, Mapping[str, Any]]


def documents(
    rows: Callable[[], Iterable[Row]],
    columns: Sequence[str],
    *,
    stem: str,
    where: str,
    names: Mapping[str, Sequence[str]],
    options: ReadOptions,
    audit: ImportAudit,
) -> Iterator[RawDocument]:
    """The documents of a table.

    Args:
        rows: gives the rows from the first on, each with its place in the file; called again where a first pass is needed.
        columns: the table's columns.
        stem: default ids are ``STEM-00000``, ``STEM-00001``, ...
        where: the table, for errors.
        names: label names by column, where a column holds label numbers.

    Raises:
        InputError: the columns hold neither text nor tokens and tags, or a cell does not hold what its column should.
    """
    text, tokens = _first(TEXT, columns), _first(TOKENS, columns)
    tags = _first(TAGS, columns)
    if tokens and tags:
        yield from _tagged(rows, tokens, tags, stem, names.get(tags), options, audit)
    elif text:
        spans = _first(SPANS, columns)
        for number, (place, row) in enumerate(rows()):
            yield _marked(row, text, spans, f"{stem}-{number:05d}", place, names.get(spans or ""))
    else:
        raise InputError(
            f"columns {', '.join(columns)}",
            where=where,
            expected="columns 'text' and 'spans', or 'tokens' and 'ner_tags'",
            remedy="rename the columns",
        )


def _first(wanted: Sequence[str], columns: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in columns), None)


def _tagged(
    rows: Callable[[], Iterable[Row]],
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
        scheme = detect_scheme(_sentence(row, tokens, tags, names, where).tags for where, row in rows())
    if options.rejoin_clitics:
        for where, row in rows():
            sentence = _sentence(row, tokens, tags, names, where)
            found, _ = decode_tags(sentence.tags, scheme=scheme, where=sentence.where)
            starts.update(sentence.tokens[name.start] for name in found)
    for number, (where, row) in enumerate(rows()):
        sentence = _sentence(row, tokens, tags, names, where)
        if not sentence.tokens:
            audit.add("empty_token", where=where, detail="a row without tokens")
            continue
        id = identifier(_cell(row, IDS), f"{stem}-{number:05d}", where)
        yield assemble_document([sentence], id=id, scheme=scheme, starts=starts, options=options, audit=audit)


def _sentence(row: Mapping[str, Any], tokens: str, tags: str, names: Sequence[str] | None, where: str) -> Sentence:
    words, marks = _json(row.get(tokens), tokens, where) or [], _json(row.get(tags), tags, where) or []
    if not isinstance(words, list) or not isinstance(marks, list) or len(words) != len(marks):
        sizes = [len(cell) if isinstance(cell, list) else repr(cell)[:40] for cell in (words, marks)]
        raise InputError(f"{sizes[0]} {tokens} and {sizes[1]} {tags}", where=where, expected="as many tags as tokens")
    return Sentence(
        tuple(str(word) for word in words),
        tuple(tuple(str(_name(mark, names, where)).split()) for mark in marks),
        (where,) * len(words),
    )


def _name(mark: Any, names: Sequence[str] | None, where: str) -> str:
    if isinstance(mark, str):
        return mark
    if names is None or isinstance(mark, bool) or not isinstance(mark, int) or not 0 <= mark < len(names):
        known = f"a number below {len(names)}" if names else "a label, or a column with label names"
        raise InputError(f"label {mark!r}", where=where, expected=known)
    return names[mark]


def _marked(
    row: Mapping[str, Any], text: str, spans: str | None, default_id: str, where: str, names: Sequence[str] | None
) -> RawDocument:
    content = row.get(text)
    if not isinstance(content, str):
        raise InputError(f"{text} is {content!r}", where=where, expected="a string")
    meta = _json(row.get("meta"), "meta", where) or {}
    if not isinstance(meta, dict):
        raise InputError(f"meta is {meta!r:.60}", where=where, expected="an object")
    held = {text, spans, "nested", "meta", *IDS}
    rest = {key: value for key, value in row.items() if key not in held and value not in (None, "")}
    return RawDocument(
        identifier(_cell(row, IDS), default_id, where),
        content,
        _spans(row.get(spans) if spans else None, spans or "", where, names),
        _spans(row.get("nested"), "nested", where, names),
        {**meta, **rest},
        where,
    )


def _cell(row: Mapping[str, Any], wanted: Sequence[str]) -> Any:
    return next((row[name] for name in wanted if row.get(name) not in (None, "")), None)


def _json(value: Any, column: str, where: str) -> Any:
    """A cell; text is parsed as JSON."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as error:
        found = f"{column} is {value[:40]!r}: {error.msg}"
        raise InputError(found, where=where, expected='JSON, e.g. [{"start": 0, "end": 5, "label": "PER"}]') from None


def _spans(value: Any, column: str, where: str, names: Sequence[str] | None) -> tuple[CandidateSpan, ...]:
    cell = _json(value, column, where)
    if isinstance(cell, dict):  # A column of structs, as older tables hold it: a list for each field.
        cell = [dict(zip(cell, values, strict=True)) for values in zip(*cell.values(), strict=False)]
    if cell is None:
        return ()
    if not isinstance(cell, list):
        raise InputError(f"{column} is {cell!r:.60}", where=where, expected="a list of spans")
    found = []
    for index, item in enumerate(cell):
        place = f"{column}[{index}]"
        if isinstance(item, list) and len(item) == 3:
            item = dict(zip(("start", "end", "label"), item, strict=True))
        if not isinstance(item, dict):
            raise InputError(f"{place} is {item!r}", where=where, expected="an object with 'start', 'end' and 'label'")
        label = item.get("label", item.get("type"))
        label = _name(label, names, where) if isinstance(label, int) else label
        score = item.get("score")
        start, end = (offset(item.get(side), f"{place}.{side}", where) for side in ("start", "end"))
        found.append(CandidateSpan(start, end, label_of(label, f"{place}.label", where), score))
    return tuple(found)


COLUMNS = ("id", "text", "spans", "nested", "meta")
_LARGEST_CELL = 2**31 - 1
_BATCH = 512


def read_csv(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    """The rows of a CSV file with a header; ``.tsv`` is parted by tabs.

    Raises:
        InputError: the file is no UTF-8, a row has more or fewer cells than the header, or a cell is wrong; names file and line.
    """
    header = next((list(row) for _, row in _csv_rows(path)), None)
    if header is None:
        header = _csv_header(path)
    yield from documents(
        lambda: _csv_rows(path), header, stem=path.stem, where=f"{path}:1", names={}, options=options, audit=audit
    )


def read_parquet(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    """The rows of a Parquet file, batch by batch.

    Raises:
        InputError: the file is no Parquet file, or a cell is wrong; names file and row.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            columns = table.schema_arrow.names
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"not readable as Parquet: {error}", where=str(path), expected="a Parquet file") from None

    def rows() -> Iterator[Row]:
        number = 0
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row

    yield from documents(rows, columns, stem=path.stem, where=str(path), names={}, options=options, audit=audit)


def write_csv(items: Iterable[Document]) -> Iterator[str]:
    """The lines of a CSV file."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    for document in items:
        row = _row(document)
        writer.writerow(
            [row["id"], row["text"], *(orjson.dumps(row[key]).decode() for key in ("spans", "nested")), row["meta"]]
        )
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def write_parquet(items: Iterable[Document], path: Path) -> None:
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
    rows = (_row(document) for document in items)
    with atomic_write(path) as partial, pq.ParquetWriter(partial, schema) as writer:
        while batch := list(islice(rows, _BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def _row(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "text": document.text,
        "spans": [span.to_dict() for span in document.spans],
        "nested": [span.to_dict() for span in document.nested],
        "meta": orjson.dumps(dict(document.meta)).decode(),
    }


def _reader(path: Path, file: io.TextIOWrapper) -> Any:
    csv.field_size_limit(_LARGEST_CELL)  # The default, 128 KiB a cell, is shorter than a long article.
    return csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)


def _csv_header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(_reader(path, file), [])


def _csv_rows(path: Path) -> Iterator[Row]:
    line = 1
    try:
        # Bytes that are no UTF-8 come as lone surrogates, so that the error can name their row.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = _reader(path, file)
            header: list[str] = next(reader, [])
            line = reader.line_num + 1
            for row in reader:
                where = f"{path}:{line}"
                line = reader.line_num + 1
                if not row:
                    continue
                if len(row) != len(header):
                    raise InputError(f"{len(row)} cells", where=where, expected=f"{len(header)}, as in the header")
                if any("\ud800" <= character <= "\udfff" for cell in row for character in cell):
                    raise InputError(
                        "bytes that are not UTF-8",
                        where=where,
                        expected="UTF-8",
                        remedy="convert the file, e.g. iconv -f WINDOWS-1256 -t UTF-8",
                    )
                yield where, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise InputError(
            f"broken CSV: {error}", where=f"{path}:{line}", expected="cells in double quotes where needed"
        ) from None
    except OSError as error:
        raise InputError(str(error.strerror), where=str(path), remedy="check the path") from error
