"""Annotation in places that a reader does not read, so that it is counted as dropped and not lost among other information.

The keys and columns that a reader does not know become ``meta``. Spans and tags among them are recognised by their form: objects
with a start, an end and a label; lists ``[start, end, label]``; lists of IOB tags; and, under a key such as ``entities``, pairs of
offsets or names without offsets.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from typing import Any

import orjson

from musamma.data.import_audit import ImportAudit

# Keys in lower case and without underscores.
_START_KEYS = (
    "start",
    "begin",
    "startoffset",
    "beginoffset",
    "startchar",
    "charstart",
    "startpos",
    "startindex",
    "offset",
)
_END_KEYS = ("end", "stop", "endoffset", "stopoffset", "endchar", "charend", "endpos", "endindex", "length")
_LABEL_KEYS = (
    *(
        "label",
        "labels",
        "type",
        "tag",
        "entity",
        "entitytype",
        "entitygroup",
        "entitylabel",
        "category",
        "class",
        "ner",
    ),
    *("classname", "labelname", "nertag", "hypertextlabels"),
)
# Keys of tokens with their grammar, as spaCy and Prodigy write them.
_TOKEN_KEYS = frozenset(["pos", "upos", "lemma", "dep", "morph", "ws"])
# Words in a key that announce names, and those that announce labels of any kind.
_NAME_WORDS = frozenset(["entity", "entities", "ents", "mentions", "spans", "ner", "iob", "iob2", "bio", "annotations"])
_LABEL_WORDS = _NAME_WORDS | {"label", "labels", "tag", "tags", "span", "mention", "annotation", "nested"}
_TAG_WORDS = frozenset(["ner", "iob", "iob2", "bio", "bioes", "bilou"])
_TAG = re.compile(r"O|[BIESLUM][-_]\S+")
_WORD = re.compile(r"[A-Z]?[a-z]+\d?|[A-Z]+")
_DEEPEST = 12
# No unit of offsets gives a text a greater length than its UTF-8 bytes, four per character.
_LARGEST_UNIT = 4


def count_unread(values: Mapping[str, Any], *, text: str, document: str, where: str, audit: ImportAudit) -> None:
    """Count the annotation among values that become ``meta`` as dropped.

    Args:
        values: the values by key or column.
        text: the document's text.
        document: the document's id.
        where: file and line.
        audit: where the annotation is counted.
    """
    length = len(text) * _LARGEST_UNIT
    if _is_span(values, length):
        report_unread(1, ", ".join(map(repr, values)), document=document, where=where, audit=audit)
        return
    for key, value in values.items():
        report_unread(
            count_annotations(value, key, length=length), f"{key!r}", document=document, where=where, audit=audit
        )


def collect_meta(
    record: Mapping[str, Any], used: Container[str], *, text: str, document: str, where: str, audit: ImportAudit
) -> dict[str, Any]:
    """Return the ``meta`` of a record: the entries of its own ``meta``, and the keys that were not used.

    A ``meta`` that is not an object is kept under that name. Annotation among the keys is counted as dropped.

    Args:
        record: the record.
        used: the keys that the reader understands, ``meta`` among them.
        text, document, where, audit: as for :func:`count_unread`.
    """
    extra = {key: value for key, value in record.items() if key not in used}
    count_unread(extra, text=text, document=document, where=where, audit=audit)
    meta = record.get("meta")
    return {**meta, **extra} if isinstance(meta, dict) else extra if meta is None else {"meta": meta, **extra}


def count_ignored(
    record: Mapping[str, Any], keys: Iterable[str], *, document: str = "", where: str, audit: ImportAudit
) -> None:
    """Count annotation other than names as ignored: the items of lists, and values that are no lists as one each.

    Args:
        record: the record.
        keys: its keys for such annotation, e.g. ``relations``.
        document, where, audit: as for :func:`count_unread`.
    """
    for key in keys:
        if value := record.get(key):
            count = len(value) if isinstance(value, list) else 1
            detail = f"{count} {key}" if isinstance(value, list) else f"{key} is {value!r:.60}"
            audit.add("ignored_annotation", document=document, where=where, detail=detail, count=count)


def report_unread(count: int, place: str, *, document: str, where: str, audit: ImportAudit) -> None:
    """Count names that stand where they are not read as dropped; ``place`` names the key."""
    if count:
        audit.spans += count
        detail = f"what looks like {count} annotated name{'s' * (count > 1)} under {place} is not read"
        audit.add("unread_annotation", document=document, where=where, detail=detail, count=count)


def count_annotations(value: Any, key: str, *, length: int) -> int:
    """Count the names that a value seems to annotate.

    Args:
        value: a JSON value, or text that holds one.
        key: its key or column.
        length: the largest offset possible.
    """
    words = {word.lower() for word in _WORD.findall(key)}
    if isinstance(value, str):
        tags = value.split()
        if count := _count_tags(tags, words) if len(tags) > 1 or words & _LABEL_WORDS else 0:
            return count
        if not value.lstrip().startswith(("[", "{")):
            return 0
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return 0
    if not isinstance(value, list | dict):
        return 0
    if isinstance(value, list) and value and (count := _count_tags(value, words)):
        return count
    if count := _count_spans(value, length, pairs=bool(words & _LABEL_WORDS)):
        return count
    return _count_names(value) if words & _NAME_WORDS else 0


def _is_offset(value: Any) -> bool:
    return type(value) is int or (isinstance(value, str) and value.isdecimal())


def _is_span(value: Mapping[str, Any], length: int) -> bool:
    fields = {str(key).lower().replace("_", ""): field for key, field in value.items()}
    if _TOKEN_KEYS & fields.keys():
        return False
    start, end, label = (
        next((fields[key] for key in keys if key in fields), None) for keys in (_START_KEYS, _END_KEYS, _LABEL_KEYS)
    )
    return _are_offsets(start, end, length) and label is not None and not isinstance(label, bool | float)


def _are_offsets(start: Any, end: Any, length: int) -> bool:
    return _is_offset(start) and _is_offset(end) and all(0 <= int(offset) <= length for offset in (start, end))


def _count_spans(value: Any, length: int, *, pairs: bool, depth: int = 0) -> int:
    """Count spans at any depth; ``pairs`` counts ``[start, end]``, too."""
    if depth > _DEEPEST:
        return 0
    if isinstance(value, dict):
        if _is_span(value, length):
            return 1
        columns = [field for field in value.values() if isinstance(field, list)]
        if len(columns) > 2 and len({len(column) for column in columns}) == 1:  # a list for each field of the spans
            keys = [key for key, field in value.items() if isinstance(field, list)]
            rows = [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
            if count := sum(_is_span(row, length) for row in rows):
                return count
        return sum(_count_spans(field, length, pairs=pairs, depth=depth + 1) for field in value.values())
    if not isinstance(value, list):
        return 0
    if depth and _is_tuple(value, length):
        return 1
    if pairs and depth and len(value) == 2 and _are_offsets(value[0], value[1], length):
        return 1
    return sum(_count_spans(item, length, pairs=pairs, depth=depth + 1) for item in value)


def _is_tuple(value: list[Any], length: int) -> bool:
    """Whether a list is ``[start, end, label]`` or ``[label, start, end]``, perhaps followed by the name."""
    if not 3 <= len(value) <= 4:
        return False
    if type(value[0]) is int:
        return type(value[1]) is int and _are_offsets(value[0], value[1], length) and isinstance(value[2], str)
    return (
        isinstance(value[0], str)
        and type(value[1]) is int
        and type(value[2]) is int
        and _are_offsets(value[1], value[2], length)
    )


def _count_tags(tags: list[Any], words: set[str]) -> int:
    """Count the names of a list of tags: strings, or numbers under a key that speaks of tags."""
    if words & _TAG_WORDS and all(type(tag) is int for tag in tags):
        return sum(tag != 0 and (index == 0 or tags[index - 1] == 0) for index, tag in enumerate(tags))
    if not all(isinstance(tag, str) and _TAG.fullmatch(tag) for tag in tags):
        return 0
    if not (words & _LABEL_WORDS or "O" in tags or any(tag[0] == "I" for tag in tags)):
        return 0
    begun = sum(tag[0] in "BSU" for tag in tags)
    return begun or sum(tag != "O" and (index == 0 or tags[index - 1] == "O") for index, tag in enumerate(tags))


def _count_names(value: Any) -> int:
    """Count names without offsets: objects of strings, or strings in the lists of an object."""
    if isinstance(value, list):
        return sum(isinstance(item, dict) and any(isinstance(field, str) for field in item.values()) for item in value)
    return sum(sum(isinstance(item, str) for item in field) for field in value.values() if isinstance(field, list))
