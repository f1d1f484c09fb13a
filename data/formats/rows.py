"""Rows of a table as raw documents: text with spans, or tokens with tags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from musamma.data.alignment import Candidate, RawDocument
from musamma.data.audit import ImportAudit
from musamma.data.errors import InputError
from musamma.data.formats.options import ReadOptions
from musamma.data.formats.records import identifier, label_of, offset
from musamma.data.formats.schemes import decode, detect
from musamma.data.formats.tokens import Sentence, assemble

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
        scheme = detect(_sentence(row, tokens, tags, names, where).tags for where, row in rows())
    if options.rejoin_clitics:
        for where, row in rows():
            sentence = _sentence(row, tokens, tags, names, where)
            found, _ = decode(sentence.tags, scheme=scheme, where=sentence.where)
            starts.update(sentence.tokens[name.start] for name in found)
    for number, (where, row) in enumerate(rows()):
        sentence = _sentence(row, tokens, tags, names, where)
        if not sentence.tokens:
            audit.add("empty_token", where=where, detail="a row without tokens")
            continue
        id = identifier(_cell(row, IDS), f"{stem}-{number:05d}", where)
        yield assemble([sentence], id=id, scheme=scheme, starts=starts, options=options, audit=audit)


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


def _spans(value: Any, column: str, where: str, names: Sequence[str] | None) -> tuple[Candidate, ...]:
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
        found.append(Candidate(start, end, label_of(label, f"{place}.label", where), score))
    return tuple(found)
