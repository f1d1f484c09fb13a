"""What can be tagged: text files, JSON lines, folders of them, standard input."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.jsonl import parse_json, read_jsonl

TEXT_SUFFIXES, JSON_SUFFIXES = (".txt", ".text"), (".jsonl", ".ndjson")


def read_inputs(inputs: Iterable[str]) -> Iterator[Document]:
    """The documents of files, folders (searched to the bottom, in the order of their paths) and ``-``, one at a time.

    A text file is one document, named by its path; its characters are kept as they are, line ends too, but for a byte order mark.

    Raises:
        InputError: something is missing, no UTF-8, no document, of an unknown kind, or there is no document at all.
    """
    seen: dict[str, str] = {}
    for name in inputs:
        for document, where in _read(name):
            if document.id in seen:
                raise InputError(
                    f"id {document.id!r} is taken by {seen[document.id]}",
                    where=where,
                    expected="unique ids",
                    remedy="tag the inputs one by one",
                )
            seen[document.id] = where
            yield document
    if not seen:
        raise InputError("nothing to tag", where=", ".join(inputs), expected=".txt or .jsonl files with text")


def _read(name: str) -> Iterator[tuple[Document, str]]:
    path = Path(name)
    if name == "-":
        yield from _standard_input()
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and file.suffix.lower() in TEXT_SUFFIXES + JSON_SUFFIXES:
                yield from _read_file(file, str(file.relative_to(path).with_suffix("")))
    elif not path.exists():
        raise InputError("no such file or folder", where=name, remedy="check the path, or give - for standard input")
    else:
        yield from _read_file(path, path.stem)


def _read_file(path: Path, identifier: str) -> Iterator[tuple[Document, str]]:
    suffix = path.suffix.lower()
    if suffix in JSON_SUFFIXES:
        for document in read_jsonl(path):
            yield document, f"{path}, {document.id!r}"
    elif suffix in TEXT_SUFFIXES:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(str(error.strerror), where=str(path)) from error
        text = _decode(content, str(path))
        if not text.strip():
            raise InputError("the file is empty", where=str(path), expected="text", remedy="remove it from the input")
        yield Document(identifier, text), str(path)
    else:
        raise InputError(
            f"suffix {suffix or '(none)'!r}",
            where=str(path),
            expected="a .txt file (one article) or .jsonl (one document a line)",
            remedy="rename it, or turn it into JSONL with musamma convert",
        )


def _standard_input() -> Iterator[tuple[Document, str]]:
    """JSON lines if the first character is ``{``, else one text."""
    stream = sys.stdin.buffer
    first = stream.readline()
    if not first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        text = _decode(first + stream.read(), "stdin")
        if not text.strip():
            raise InputError("no text", where="stdin", expected="an article, or one JSON object a line")
        yield Document("stdin", text), "stdin"
        return
    for number, line in enumerate(itertools.chain([first.removeprefix(b"\xef\xbb\xbf")], stream), 1):
        if line.strip():
            where = f"stdin:{number}"
            yield Document.from_dict(parse_json(line, where), where=where, default_id=f"stdin-{number}"), where


def _decode(content: bytes, where: str) -> str:
    try:
        return content.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"byte 0x{content[error.start]:02x} is not UTF-8",
            where=f"{where}:{line}",
            expected="UTF-8",
            remedy="convert the file, e.g. iconv -f WINDOWS-1256 -t UTF-8",
        ) from None
