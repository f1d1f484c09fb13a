"""Inline markup, the format of the included corpus: ``قالت [واشنطن|GPE]``, one article per file, with a YAML header.

The grammar: ``---``, YAML, ``---``, then the text. ``[surface|LABEL]`` is a name and may contain other names. A literal bracket is
written ``\\[`` or ``\\]``, a literal backslash ``\\\\``. ``|`` needs no escape: the last one before ``]`` ends the surface.
Outermost names become ``spans``, the others ``nested``. Reading and writing are inverse, character by character.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.input_files import find_folder_files
from musamma.data.records import decode_text, file_stem, read_bytes

_LABEL = re.compile(r"[^\s\[\]|\\]+")
_ESCAPED = "[]\\"
_FENCE = "---"


def read_article(path: str | Path) -> Document:
    """Read an article. Its id is the file's name without suffix, its ``meta`` the header.

    Raises:
        InputError: the file cannot be read, is not UTF-8, or violates the grammar; names file and line.
    """
    path = Path(path)
    return parse_article(read_bytes(path), id=file_stem(Path(path.name)), where=str(path))


def parse_article(data: bytes, *, id: str, where: str) -> Document:
    """Parse the bytes of an article's file; ``where`` names the file in errors."""
    content = decode_text(data, where).removeprefix("\ufeff")
    header, body, first_line = _split_header(content, where)
    meta = _parse_header(header, where)
    text, spans, nested = parse_markup(body, where=where, first_line=first_line)
    return Document(id, text, spans, nested, meta)


def parse_markup(text: str, *, where: str, first_line: int = 1) -> tuple[str, tuple[Span, ...], tuple[Span, ...]]:
    """Parse a marked-up text without header.

    Args:
        text: the marked-up text.
        where: the file, for errors.
        first_line: the line of the file on which ``text`` starts.

    Returns:
        The plain text, the outermost names, and the names inside names.

    Raises:
        InputError: a bracket is not closed or not opened, a name has no label or no surface, or a backslash escapes nothing.
    """
    out: list[str] = []
    # Open names: offset of the first character, offset of the last bar, line of the opening bracket.
    stack: list[tuple[int, int | None, int]] = []
    spans: list[Span] = []
    nested: list[Span] = []
    line, index = first_line, 0
    while index < len(text):
        character = text[index]
        index += 1
        if character == "\\":
            if index == len(text) or text[index] not in _ESCAPED:
                problem = f"a backslash before {text[index]!r}" if index < len(text) else "a backslash at the end"
                raise InputError(problem, where=f"{where}:{line}", expected=r"\[ or \] or \\")
            out.append(text[index])
            index += 1
        elif character == "[":
            stack.append((len(out), None, line))
        elif character == "]":
            if not stack:
                raise InputError(
                    "']' without '['",
                    where=f"{where}:{line}",
                    expected="[surface|LABEL]",
                    remedy=r"write a literal ] as \]",
                )
            start, bar, _ = stack.pop()
            label = "" if bar is None else "".join(out[bar + 1 :])
            if bar is None or not _LABEL.fullmatch(label):
                raise InputError(
                    f"the name {''.join(out[start:bar])[:40]!r} has " + (f"the label {label!r}" if bar else "no label"),
                    where=f"{where}:{line}",
                    expected="[surface|LABEL], the label without spaces",
                    remedy=r"write a literal [ as \[",
                )
            del out[bar:]
            if bar == start:
                raise InputError(f"a name {label} without surface", where=f"{where}:{line}", expected="[surface|LABEL]")
            (nested if stack else spans).append(Span(start, bar, label))
            if stack:  # A bar before the inner name cannot start the label of the outer one.
                stack[-1] = (stack[-1][0], None, stack[-1][2])
        else:
            if character == "|" and stack:
                stack[-1] = (stack[-1][0], len(out), stack[-1][2])
            out.append(character)
            line += character == "\n"
    if stack:
        start, _, line = stack[0]
        raise InputError(
            f"'[' is not closed: {''.join(out[start : start + 40])!r}",
            where=f"{where}:{line}",
            expected="[surface|LABEL]",
            remedy=r"write a literal [ as \[",
        )
    return "".join(out), tuple(sorted(spans)), tuple(sorted(nested))


def render_markup(document: Document) -> str:
    """Format a document as marked-up text without header: the inverse of :func:`parse_markup`.

    Raises:
        InputError: a nested name is in no name or crosses one, or a label cannot be written.
    """
    names = [(s.start, -s.end, 0, s.label, s) for s in document.spans]
    names += [(s.start, -s.end, 1, s.label, s) for s in document.nested]
    pieces: list[str] = []
    open_names: list[Span] = []
    offset = 0

    def advance(to: int) -> None:
        nonlocal offset
        while open_names and open_names[-1].end <= to:
            name = open_names.pop()
            pieces.append(f"{_escape(document.text[offset : name.end])}|{name.label}]")
            offset = name.end
        pieces.append(_escape(document.text[offset:to]))
        offset = to

    for _, _, inner, _, name in sorted(names, key=lambda n: n[:4]):
        advance(name.start)
        _check_name(document, name, open_names, bool(inner))
        pieces.append("[")
        open_names.append(name)
    advance(len(document.text))
    return "".join(pieces)


def render_article(document: Document) -> str:
    """Format a document as a file with header: the inverse of :func:`parse_article`."""
    header = ""
    if document.meta:
        try:
            header = yaml.dump(dict(document.meta), Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=10**9)
        except yaml.YAMLError as error:
            raise InputError(f"meta cannot be written as YAML: {error}", where=f"document {document.id!r}") from None
    return f"{_FENCE}\n{header}{_FENCE}\n{render_markup(document)}"


def read_articles(folder: Path) -> Iterator[tuple[Path, Document]]:
    """Read the articles below a folder, sorted by path. The id is the path relative to the folder, without suffix."""
    for path in find_folder_files(folder, ".txt"):
        yield path, replace(read_article(path), id=path.relative_to(folder).with_suffix("").as_posix())


def _escape(text: str) -> str:
    return re.sub(r"([\[\]\\])", r"\\\1", text)


def _check_name(document: Document, name: Span, open_names: list[Span], inner: bool) -> None:
    where = f"document {document.id!r}"
    if inner and (not open_names or name.end > open_names[-1].end):
        crossed = f"crosses {document.describe(open_names[-1])}" if open_names else "lies in no name"
        raise InputError(
            f"nested span {document.describe(name)} {crossed}",
            where=where,
            expected="names inside names, which inline markup can hold",
            remedy="write another format, e.g. jsonl",
        )
    if not _LABEL.fullmatch(name.label):
        raise InputError(
            f"label {name.label!r}", where=where, expected="a label without spaces, brackets, bars and backslashes"
        )


def _split_header(content: str, where: str) -> tuple[str, str, int]:
    """Header, body, and the line on which the body starts; an empty header if there is none."""
    lines = content.split("\n")
    if lines[0].rstrip("\r") != _FENCE:
        return "", content, 1
    for number, line in enumerate(lines[1:], 2):
        if line.rstrip("\r") == _FENCE and number < len(lines):
            return "\n".join(lines[1 : number - 1]), "\n".join(lines[number:]), number + 1
    raise InputError(
        "the header is not closed", where=f"{where}:1", expected="a line '---' after the header and a text below it"
    )


def _parse_header(header: str, where: str) -> Mapping[str, Any]:
    try:
        meta = yaml.load(header, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = 2 + (mark.line if mark else 0)
        problem = getattr(error, "problem", None) or str(error)
        raise InputError(
            f"broken YAML header: {problem}", where=f"{where}:{line}", expected="'key: value' lines"
        ) from None
    if meta is None:
        return {}
    if not isinstance(meta, dict) or not all(isinstance(key, str) for key in meta):
        raise InputError(f"the header is {str(meta)[:40]!r}", where=f"{where}:2", expected="'key: value' lines")
    return meta


class _Loader(yaml.SafeLoader):
    """Loads YAML with the types of JSON: ``NO`` (Norway), ``2016-10-18`` and ``10:30`` stay strings."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    """Writes dates without quotes, as they are read, and quotes strings that other YAML readers take for booleans."""

    yaml_implicit_resolvers: dict[str, Any] = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }


def _represent_string(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    # PyYAML would turn these line breaks into plain ones; in double quotes it escapes them.
    style = '"' if any(character in "\x85\u2028\u2029\ufeff" for character in value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _represent_string)
for _tag, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"-?(?:0|[1-9][0-9]*)", list("-0123456789")),
    ("float", r"-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+]?[0-9]+)?", list("-0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)
