"""The document and its spans, which all parts of the project share, and their JSON lines."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from musamma.data.errors import InputError, duplicate_id
from musamma.data.files import atomic_write
from musamma.data.records import raise_first_error, read_file, read_json_lines

DOCUMENT_KEYS = ("id", "text", "spans", "nested", "meta")
SPAN_KEYS = ("start", "end", "label", "score")
#: The key of ``meta`` that says what rules did to the names: a list of objects with ``start``, ``end`` and ``rule``, which is
#: ``added``, ``confirmed``, ``relabelled`` or ``removed``. The last two have the ``label`` that the model gave, and a removed name its
#: ``score``. Spans have no key for it, because readers refuse unknown keys of spans.
RULES_KEY = "musamma_rules"


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A labelled stretch of a text.

    Args:
        start: offset of the first character, in Unicode code points of the original text.
        end: offset after the last character.
        label: the entity type, e.g. ``PER``.
        score: confidence in [0, 1]; ``None`` for annotated spans and for names that only a rule found.
        rule: what a rule did to the name: ``added``, ``confirmed`` or ``relabelled``; ``None`` without a rule. JSON lines hold it
            under the document's ``meta``, see :data:`RULES_KEY`.
    """

    start: int
    end: int
    label: str
    score: float | None = None
    rule: str | None = None

    @property
    def key(self) -> tuple[int, int, str]:
        """Start, end and label, which strict scoring compares."""
        return self.start, self.end, self.label

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON object; ``score`` and ``rule`` only if there is one."""
        record: dict[str, Any] = {"start": self.start, "end": self.end, "label": self.label}
        if self.score is not None:
            record["score"] = self.score
        if self.rule is not None:
            record["rule"] = self.rule
        return record


@dataclass(frozen=True, slots=True)
class Document:
    """A text and the names in it.

    Args:
        id: identifier, unique in a file.
        text: the original text, never rewritten.
        spans: the names; of nested names the outermost. Sorted, without overlap.
        nested: names inside names, sorted; empty in flat annotation.
        meta: other information about the document.

    Raises:
        InputError: a span is empty or outside the text, or two ``spans`` overlap.
    """

    id: str
    text: str
    spans: tuple[Span, ...] = ()
    nested: tuple[Span, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "spans", tuple(sorted(self.spans, key=lambda s: s.key)))
        object.__setattr__(self, "nested", tuple(sorted(self.nested, key=lambda s: s.key)))
        for span in self.all_spans:
            self._check_offsets(span)
        for left, right in zip(self.spans, self.spans[1:], strict=False):
            if right.start < left.end:
                raise InputError(
                    f"spans {self.describe(left)} and {self.describe(right)} overlap",
                    where=f"document {self.id!r}",
                    expected="spans without overlap",
                    remedy="put the inner name into 'nested', or read the file with `overlaps='longest'`",
                )

    def _check_offsets(self, span: Span) -> None:
        if 0 <= span.start < span.end <= len(self.text):
            return
        kind = "empty" if span.start == span.end else "reversed" if span.start > span.end else "outside the text"
        raise InputError(
            f"span [{span.start}, {span.end}) {span.label} is {kind}",
            where=f"document {self.id!r}",
            expected=f"0 <= start < end <= {len(self.text)}, the text's length in code points",
            remedy="correct its offsets (counted in characters, not bytes)",
        )

    @property
    def all_spans(self) -> tuple[Span, ...]:
        """The outermost names, then the nested ones."""
        return (*self.spans, *self.nested)

    def spans_by_start(self) -> list[Span]:
        """All names by start, an outer name before those inside it."""
        return sorted(self.all_spans, key=lambda span: (span.start, -span.end))

    def surface(self, span: Span) -> str:
        """The characters of a span."""
        return self.text[span.start : span.end]

    def describe(self, span: Span) -> str:
        """Describe a span for a message: offsets, label and surface."""
        return f"[{span.start}, {span.end}) {span.label} {self.surface(span)!r}"

    def with_spans(self, spans: Iterable[Span]) -> Document:
        """Copy the document with other names and no nested ones."""
        return replace(self, spans=tuple(spans), nested=())

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON object; ``nested`` only if there are any. Its spans have no keys beyond :data:`SPAN_KEYS`."""
        record: dict[str, Any] = {"id": self.id, "text": self.text, "spans": [*map(span_record, self.spans)]}
        if self.nested:
            record["nested"] = [*map(span_record, self.nested)]
        record["meta"] = dict(self.meta)
        return record

    @classmethod
    def from_dict(cls, record: Any, *, where: str, default_id: str | None = None) -> Document:
        """Check and convert a JSON object.

        Args:
            record: the object. ``spans``, ``nested`` and ``meta`` are optional; other keys are an error. An id may be an integer.
            where: file and line, for errors.
            default_id: the id of an object without one; if it is ``None``, a missing id is an error.

        Raises:
            InputError: a key is unknown, missing or has the wrong type, or a span is invalid.
        """
        if not isinstance(record, dict):
            raise InputError(f"a JSON {type(record).__name__}", where=where, expected="an object with 'id' and 'text'")
        if unknown := sorted(set(record) - set(DOCUMENT_KEYS)):
            raise InputError(
                f"unknown key {unknown[0]!r}",
                where=where,
                expected=f"keys among {', '.join(DOCUMENT_KEYS)}",
                remedy="put other information under 'meta', or name the file's format",
            )
        identifier = record.get("id", default_id)
        if type(identifier) is int:
            identifier = str(identifier)
        text = record.get("text")
        if not isinstance(identifier, str) or not identifier:
            raise InputError(f"id is {identifier!r}", where=where, expected="a non-empty string under 'id'")
        if not isinstance(text, str):
            raise InputError(f"text is {type(text).__name__}", where=where, expected="a string under 'text'")
        meta = record.get("meta") or {}
        if not isinstance(meta, dict):
            raise InputError(f"meta is {type(meta).__name__}", where=where, expected="an object under 'meta'")
        try:
            return cls(
                identifier,
                text,
                parse_spans(record.get("spans"), "spans", where),
                parse_spans(record.get("nested"), "nested", where),
                meta,
            )
        except InputError as error:
            if error.where == where:
                raise
            raise error.replace(where=f"{where}, {error.where}") from None


def select_nested(nested: Iterable[Span], outer: Iterable[Span]) -> tuple[Span, ...]:
    """Return the nested names that are inside one of the outer names, and shorter than it.

    Args:
        nested: nested names.
        outer: outer names, sorted and without overlap.
    """
    names = list(outer)
    starts = [name.start for name in names]
    inside = []
    for span in nested:
        index = bisect_right(starts, span.start) - 1
        if index >= 0 and span.end <= names[index].end and (span.start, span.end) != (starts[index], names[index].end):
            inside.append(span)
    return tuple(inside)


def span_record(span: Span) -> dict[str, Any]:
    """Convert a name to the JSON object that files hold, whose keys are :data:`SPAN_KEYS`; ``score`` only if there is one."""
    return {key: value for key, value in span.to_dict().items() if key in SPAN_KEYS}


def parse_spans(value: Any, key: str, where: str, *, label_with_spaces: bool = False) -> tuple[Span, ...]:
    """Check and convert the spans of an untrusted JSON value. Offsets are not compared with the text.

    Args:
        value: a list of objects with integers ``start`` and ``end``, a string ``label`` and perhaps a number ``score``;
            or ``None`` for no span.
        key: the key of the list, for errors.
        where: file and line, for errors.
        label_with_spaces: whether labels may contain spaces, since a label map may rename them later.

    Raises:
        InputError: the value has another shape; names the key and the index.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InputError(f"{key} is {type(value).__name__}", where=where, expected=f"a list under {key!r}")
    return tuple(
        _parse_span(item, f"{key}[{index}]", where, label_with_spaces=label_with_spaces)
        for index, item in enumerate(value)
    )


def _parse_span(item: Any, name: str, where: str, *, label_with_spaces: bool) -> Span:
    shape = "an object with integers 'start' and 'end' and a string 'label'"
    if not isinstance(item, dict):
        raise InputError(f"{name} is {item!r:.60}", where=where, expected=shape)
    if unknown := sorted(set(item) - set(SPAN_KEYS)):
        raise InputError(f"{name} has the unknown key {unknown[0]!r}", where=where, expected=shape)
    start, end = (parse_offset(item.get(key), f"{name}.{key}", where) for key in ("start", "end"))
    label = parse_label(item.get("label"), f"{name}.label", where)
    if not label_with_spaces and label.split() != [label]:
        raise InputError(f"{name}.label is {label!r}", where=where, expected="a label without spaces, e.g. 'PER'")
    score = item.get("score")
    if score is not None and not (type(score) in (int, float) and math.isfinite(score)):
        raise InputError(f"{name}.score is {score!r}", where=where, expected="a number")
    return Span(start, end, label, None if score is None else float(score))


def parse_offset(value: Any, name: str, where: str) -> int:
    """Check an offset: an integer, neither a float nor a boolean.

    Raises:
        InputError: the value is not an integer.
    """
    if type(value) is not int:
        raise InputError(f"{name} is {value!r}", where=where, expected="an integer, an offset in the text")
    return value


def parse_label(value: Any, name: str, where: str) -> str:
    """Check a label: a non-empty string.

    Raises:
        InputError: the value is not a non-empty string.
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{name} is {value!r}", where=where, expected="a non-empty string, the label")
    return value


def parse_id(value: Any, default: str, where: str) -> str:
    """Check an id, a string or an integer, and return it as a string; ``default`` if there is none.

    Raises:
        InputError: the value is neither a string nor an integer.
    """
    if value is None or value == "":
        return default
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"id is {value!r}", where=where, expected="a string or a number under 'id'")
    return str(value)


def read_jsonl(path: str | Path) -> Iterator[Document]:
    """Read the documents of a JSON lines file, one at a time. Blank lines are skipped.

    Raises:
        InputError: the file is missing or empty, an id occurs twice, or a line is not UTF-8, not JSON or not a document;
            names file and line.
    """
    path = Path(path)
    lines: dict[str, int | None] = {}
    for record in raise_first_error(read_file(path, read_json_lines)):
        document = Document.from_dict(record.value, where=record.where)
        if document.id in lines:
            raise duplicate_id(document.id, first=f"line {lines[document.id]}", where=record.where)
        lines[document.id] = record.line
        yield document
    if not lines:
        raise InputError("the file holds no document", where=str(path), expected="one JSON object per line")


def format_json_line(document: Document) -> bytes:
    """Format a document as one line of JSON, with its newline."""
    return orjson.dumps(document.to_dict(), option=orjson.OPT_APPEND_NEWLINE)


def write_jsonl(documents: Iterable[Document], path: str | Path) -> int:
    """Write documents, one per line, atomically. Returns the number of documents."""
    count = 0
    with atomic_write(Path(path)) as partial, partial.open("wb") as file:
        for document in documents:
            file.write(format_json_line(document))
            count += 1
    return count


def group_documents(documents: Iterable[Document], size: int) -> Iterator[Document]:
    """Join each ``size`` consecutive documents into one, a line each. Id and meta are those of the first.

    Corpora of sentences usually keep the order of the article, so neighbouring sentences give context. The names do not change,
    only their offsets; scores stay comparable.

    Args:
        documents: in their original order.
        size: number of documents to join; the last group may be smaller.
    """
    stream = iter(documents)
    while group := list(islice(stream, size)):
        spans: list[Span] = []
        nested: list[Span] = []
        offset = 0
        for document in group:
            for source, target in ((document.spans, spans), (document.nested, nested)):
                target += [replace(span, start=span.start + offset, end=span.end + offset) for span in source]
            offset += len(document.text) + 1  # the line break
        text = "\n".join(document.text for document in group)
        yield Document(group[0].id, text, tuple(spans), tuple(nested), group[0].meta)
