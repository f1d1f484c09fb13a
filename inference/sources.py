"""What can be tagged: text files, JSON lines, folders of them, standard input."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.formats.lines import decode_text
from musamma.data.jsonl import parse_json, read_jsonl

TEXT_SUFFIXES, JSON_SUFFIXES = (".txt", ".text"), (".jsonl", ".ndjson")
_MARK = b"\xef\xbb\xbf"
_BLANK = _MARK + b" \t\r\n"
_KINDS = ".txt files (an article each) or .jsonl files (a document a line)"


def read_inputs(inputs: Iterable[str]) -> Iterator[Document]:
    """The documents of files, folders (searched to the bottom, in the order of their paths) and ``-``, one at a time.

    A text file is one document, with its characters kept as they are, line ends too, but for a byte order mark at its start.
    Its id is the file's name without suffix; below a folder, its path from there.

    Raises:
        InputError: something is missing, no UTF-8, no document, of an unknown kind, an id comes twice, or there is no
            document at all.
    """
    names = list(inputs)
    seen: dict[str, str] = {}
    for name in names:
        for document, where in _read(name):
            if document.id in seen:
                raise InputError(
                    f"id {document.id!r} is taken by {seen[document.id]}",
                    where=where,
                    expected="unique ids",
                    remedy="give every input once, or the folder that holds them: ids are then paths in it",
                )
            seen[document.id] = where
            yield document
    if not seen:
        raise InputError("nothing to tag", where=", ".join(names), expected=_KINDS)


def _read(name: str) -> Iterator[tuple[Document, str]]:
    path = Path(name)
    if name == "-":
        yield from _standard_input()
    elif path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and file.suffix.lower() in TEXT_SUFFIXES + JSON_SUFFIXES:
                yield from _read_file(file, file.relative_to(path).with_suffix("").as_posix())
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
        text = decode_text(content.removeprefix(_MARK), str(path))
        if not text.strip():
            raise InputError("the file is empty", where=str(path), expected="text", remedy="remove it from the input")
        yield Document(identifier, text), str(path)
    else:
        raise InputError(
            f"suffix {suffix or '(none)'!r}",
            where=str(path),
            expected=_KINDS,
            remedy="rename it, or turn it into JSONL with musamma convert",
        )


def _standard_input() -> Iterator[tuple[Document, str]]:
    """JSON lines if the first character is ``{``, else one text."""
    stream = sys.stdin.buffer
    # What stands before the first character that is not a space belongs to a text, too.
    head: list[bytes] = []
    for line in stream:
        head.append(line)
        if line.strip(_BLANK):
            break
    if not head or not head[-1].lstrip(_BLANK).startswith(b"{"):
        text = decode_text((b"".join(head) + stream.read()).removeprefix(_MARK), "stdin")
        if not text.strip():
            raise InputError("no text", where="stdin", expected="an article, or one JSON object a line")
        yield Document("stdin", text), "stdin"
        return
    for number, line in enumerate(itertools.chain(head, stream), 1):
        if line.strip(_BLANK):
            where = f"stdin:{number}"
            record = parse_json(line.removeprefix(_MARK) if number == 1 else line, where)
            yield Document.from_dict(record, where=where, default_id=f"stdin-{number}"), where
