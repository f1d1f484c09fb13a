"""GLiNER's JSON: ``{"tokenized_text": ["في", "بغداد"], "ner": [[1, 1, "LOC"]]}``, a JSON array or one object per line.

``ner`` holds the indices of a name's first and last token, the last one included, and may hold names inside names. The text is built
from the tokens with a space between any two, or is that under ``text`` if the tokens are found in it. Other keys become ``meta``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from musamma.data.document import Document, parse_id, parse_label, parse_offset
from musamma.data.errors import InputError
from musamma.data.formats.tokens import cut_tokens, join_offsets, locate_names, trim_names
from musamma.data.formats.unread import collect_meta, count_ignored
from musamma.data.import_audit import ImportAudit
from musamma.data.records import file_stem, read_json_records
from musamma.data.span_repair import CandidateSpan, RawDocument

_EXAMPLE = '{"tokenized_text": [tokens], "ner": [[first, last, label]]}'


def is_example(record: Any) -> bool:
    """Tell whether a JSON value is an example of GLiNER."""
    return isinstance(record, dict) and isinstance(record.get("tokenized_text"), list)


def read_gliner(path: Path, audit: ImportAudit) -> Iterator[RawDocument]:
    """Read the examples of a file.

    Raises:
        InputError: a line or item is not JSON, has no tokens, or a name is not ``[first, last, label]``; names file and line.
    """
    stem = file_stem(Path(path.name))
    for number, (where, record) in enumerate(read_json_records(path)):
        if not isinstance(record, dict):
            raise InputError(f"a JSON {type(record).__name__}", where=where, expected=_EXAMPLE)
        tokens = record.get("tokenized_text")
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise InputError("no tokens", where=where, expected=_EXAMPLE)
        names = record.get("ner")
        if names is not None and not isinstance(names, list):
            raise InputError(f"ner is {names!r:.60}", where=where, expected=_EXAMPLE)
        id = parse_id(record.get("id"), f"{stem}-{number:05d}", where)
        used = ["id", "tokenized_text", "ner", "meta", "relations"]
        text, offsets = " ".join(tokens), join_offsets(tokens)
        if isinstance(record.get("text"), str) and (found := _find_tokens(record["text"], tokens)) is not None:
            text, offsets = record["text"], found
            used.append("text")
        spans = tuple(_parse_name(item, f"ner[{index}]", offsets, where) for index, item in enumerate(names or []))
        count_ignored(record, ["relations"], document=id, where=where, audit=audit)
        meta = collect_meta(record, used, text=text, document=id, where=where, audit=audit)
        yield RawDocument(id, text, spans, meta=meta, where=where)


def format_lines(documents: Iterable[Document], audit: ImportAudit) -> Iterator[str]:
    """Format documents as a JSON array of examples, nested names among the others, with the original ``text`` and the ``id``.

    The tokens are words and punctuation, cut at the borders of names.
    """
    separator = "[\n"
    for document in documents:
        tokens = cut_tokens(document)
        names = trim_names(document, document.spans_by_start(), tokens, audit)
        record: dict[str, Any] = {
            "tokenized_text": [document.text[start:end] for start, end in tokens],
            "ner": [[*place, name.label] for name, place in zip(names, locate_names(names, tokens), strict=True)],
            "id": document.id,
            "text": document.text,
        }
        if document.meta:
            record["meta"] = dict(document.meta)
        yield separator + orjson.dumps(record).decode()
        separator = ",\n"
    yield ("[" if separator == "[\n" else "\n") + "]\n"


def _find_tokens(text: str, tokens: Sequence[str]) -> list[tuple[int, int]] | None:
    """The offsets of tokens in a text that holds nothing else but white space; ``None`` if it does."""
    offsets = []
    position = 0
    for token in tokens:
        start = text.find(token, position)
        if start < 0 or text[position:start].strip():
            return None
        position = start + len(token)
        offsets.append((start, position))
    return None if text[position:].strip() else offsets


def _parse_name(item: Any, name: str, offsets: Sequence[tuple[int, int]], where: str) -> CandidateSpan:
    if not isinstance(item, list) or len(item) != 3:
        raise InputError(f"{name} is {item!r:.60}", where=where, expected="[first token, last token, label]")
    first, last = parse_offset(item[0], f"{name}[0]", where), parse_offset(item[1], f"{name}[1]", where)
    label = parse_label(item[2], f"{name}[2]", where)
    if not 0 <= first <= last < len(offsets):
        detail = f"tokens {first} to {last} of {len(offsets)}"
        return CandidateSpan(0, 0, label, None, where, "outside", detail)
    return CandidateSpan(offsets[first][0], offsets[last][1], label, None, where)
