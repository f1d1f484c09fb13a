"""Prodigy's JSON lines: ``{"text": ..., "spans": [{"start", "end", "label"}], "tokens": [...], "answer": "accept"}``.

Offsets are code points; ``token_start`` and ``token_end`` are indices of ``tokens``, the last one included. Examples whose answer
is ``reject`` or ``ignore`` are not annotation: they are left out and counted. An example without answer is read. Other keys become
``meta``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from musamma.data.document import Document, parse_id, parse_label, parse_offset, span_record
from musamma.data.errors import InputError
from musamma.data.formats.tokens import add_space_tokens, cut_tokens, locate_names, trim_names
from musamma.data.formats.unread import collect_meta, count_ignored
from musamma.data.import_audit import ImportAudit
from musamma.data.records import file_stem, read_json_records
from musamma.data.span_repair import CandidateSpan, RawDocument

_ANSWERS = ("accept", "reject", "ignore")
_USED_KEYS = ("id", "text", "spans", "tokens", "answer", "meta", "relations", "versions")
_MARKS = ("_input_hash", "_task_hash", "_view_id", "_session_id", "answer")


def is_example(record: Any) -> bool:
    """Tell whether a JSON value is an example of Prodigy, rather than a document of the project."""
    if not isinstance(record, dict) or "text" not in record or "spans" not in record:
        return False
    tokens = record.get("tokens")
    return any(key in record for key in _MARKS) or (
        isinstance(tokens, list) and all(isinstance(token, dict) for token in tokens)
    )


def read_prodigy(path: Path, audit: ImportAudit) -> Iterator[RawDocument]:
    """Read the accepted examples of a data set that ``prodigy db-out`` wrote.

    Raises:
        InputError: a line is not JSON, has no text or an unknown answer, or a span is invalid; names file and line.
    """
    stem = file_stem(Path(path.name))
    for number, (where, record) in enumerate(read_json_records(path)):
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise InputError("no text", where=where, expected='an object with "text" and "spans"')
        id = parse_id(record.get("id"), f"{stem}-{number:05d}", where)
        answer = record.get("answer")
        if answer is not None and answer not in _ANSWERS:
            raise InputError(f"answer is {answer!r:.60}", where=where, expected=f"one of {', '.join(_ANSWERS)}")
        if answer in ("reject", "ignore"):
            audit.add("not_accepted", document=id, where=where, detail=f"an example whose answer is {answer!r}")
            continue
        if record.get("_is_binary"):
            detail = "an example of a yes-or-no question, whose other names are not annotated"
            audit.add("partial_annotation", document=id, where=where, detail=detail)
        text: str = record["text"]
        tokens = _parse_tokens(record.get("tokens"), text, where)
        items = record.get("spans")
        if items is not None and not isinstance(items, list):
            raise InputError(f"spans is {items!r:.60}", where=where, expected="a list of spans")
        spans = tuple(_parse_span(item, f"spans[{i}]", text, tokens, where) for i, item in enumerate(items or []))
        count_ignored(record, ["relations", "versions"], document=id, where=where, audit=audit)
        meta = collect_meta(record, _USED_KEYS, text=text, document=id, where=where, audit=audit)
        yield RawDocument(id, text, spans, meta=meta, where=where)


def format_lines(documents: Iterable[Document], audit: ImportAudit) -> Iterator[str]:
    """Format documents as examples without answer, one per line, nested names among the others.

    The tokens end at the borders of words and names, so that Prodigy shows each name as it is.
    """
    for document in documents:
        tokens = cut_tokens(document)
        names = trim_names(document, document.spans_by_start(), tokens, audit)
        spaced = add_space_tokens(document.text, tokens)
        record: dict[str, Any] = {
            "id": document.id,
            "text": document.text,
            "tokens": [
                {"text": document.text[start:end], "start": start, "end": end, "id": index, "ws": space}
                for index, (start, end, space) in enumerate(spaced)
            ],
            "spans": [
                {**span_record(name), "token_start": first, "token_end": last}
                for name, (first, last) in zip(names, locate_names(names, spaced), strict=True)
            ],
        }
        if document.meta:
            record["meta"] = dict(document.meta)
        yield orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE).decode()


def _parse_tokens(tokens: Any, text: str, where: str) -> Sequence[tuple[int, int]] | None:
    """The offsets of the tokens; ``None`` if there are none, or if they are not those of the text."""
    if not isinstance(tokens, list):
        return None
    offsets = []
    for token in tokens:
        start, end = (token.get("start"), token.get("end")) if isinstance(token, dict) else (None, None)
        if type(start) is not int or type(end) is not int or not 0 <= start <= end <= len(text):
            return None
        if isinstance(surface := token.get("text"), str) and surface != text[start:end]:
            return None
        offsets.append((start, end))
    return offsets


def _parse_span(item: Any, name: str, text: str, tokens: Sequence[tuple[int, int]] | None, where: str) -> CandidateSpan:
    if not isinstance(item, dict):
        raise InputError(f"{name} is {item!r:.60}", where=where, expected='{"start", "end", "label"}')
    from_tokens = _token_offsets(item, tokens)
    if item.get("start") is None and item.get("end") is None and from_tokens is not None:
        start, end = from_tokens
    else:
        start, end = (parse_offset(item.get(side), f"{name}.{side}", where) for side in ("start", "end"))
    if item.get("label") in (None, ""):
        return CandidateSpan(start, end, "", None, where, "no_label", "a span without label")
    label = parse_label(item["label"], f"{name}.label", where)
    score = item.get("score")
    issue, detail = None, ""
    surface = item.get("text")
    if isinstance(surface, str) and 0 <= start <= end <= len(text) and text[start:end] != surface:
        issue, detail = "surface_mismatch", f"the file says {surface[:40]!r}"
    elif from_tokens not in (None, (start, end)):
        issue, detail = "surface_mismatch", f"token_start and token_end say {list(from_tokens or ())}"
    confidence = float(score) if isinstance(score, int | float) and not isinstance(score, bool) else None
    return CandidateSpan(start, end, label, confidence, where, issue, detail)


def _token_offsets(item: Mapping[str, Any], tokens: Sequence[tuple[int, int]] | None) -> tuple[int, int] | None:
    first, last = item.get("token_start"), item.get("token_end")
    if tokens is None or type(first) is not int or type(last) is not int or not 0 <= first <= last < len(tokens):
        return None
    return tokens[first][0], tokens[last][1]
