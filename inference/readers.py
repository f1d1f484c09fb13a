"""Records of one file: a text, or JSON lines. A line that is no document is a record, too."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.records import decode_text
from musamma.inference.records import LONGEST, Record, json_document, numbered_lines, read_record

MARK = b"\xef\xbb\xbf"
_BLANK = MARK + b" \t\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputStream:
    """A file that is being read.

    Args:
        name: the file, as errors name it.
        stem: what ids are made of where the file has none.
        stream: its bytes, unpacked.
        disk: its bytes as they lie on disk; where it stands tells how much has been read.
        base: bytes of the files before it.
        text_column: the column or key that holds the text, where it is not the usual one.
        id_column: the same for the id.
    """

    name: str
    stem: str
    stream: BinaryIO
    disk: BinaryIO
    base: int
    text_column: str | None = None
    id_column: str | None = None

    @property
    def read(self) -> int:
        """Bytes of all files that have been read so far; 0 for what has no position."""
        return self.base + self.disk.tell() if self.disk.seekable() else 0


def read_text_file(source: InputStream) -> Iterator[Record]:
    """The one document of a text file."""
    content = source.stream.read(LONGEST + 1)
    yield _text(content, source, found="the file is empty", expected="text", remedy="remove it from the input")


def read_json_lines(source: InputStream) -> Iterator[Record]:
    """The documents of JSON lines. Blank lines are passed over."""
    for number, line in numbered_lines(source.stream):
        line = line.removeprefix(MARK) if number == 1 else line
        if line.strip():
            yield json_record(line, number, source, default_id=None)


def read_standard_input(source: InputStream) -> Iterator[Record]:
    """JSON lines if the first character is ``{``, else one text. The ids of lines without one are ``stdin-1``, ..."""
    lines = numbered_lines(source.stream)
    # What stands before the first character that is not a space belongs to a text, too.
    head: list[tuple[int, bytes]] = []
    for number, line in lines:
        head.append((number, line))
        if line.strip(_BLANK):
            break
    if not head or not head[-1][1].lstrip(_BLANK).startswith(b"{"):
        content = b"".join(line for _, line in head) + source.stream.read(LONGEST + 1)
        yield _text(content, source, found="no text", expected="an article, or one JSON object a line")
        return
    for number, line in itertools.chain(head, lines):
        if line.strip(_BLANK):
            line = line.removeprefix(MARK) if number == 1 else line
            yield json_record(line, number, source, default_id=f"{source.name}-{number}")


def _text(content: bytes, source: InputStream, *, found: str, expected: str, remedy: str | None = None) -> Record:
    def document() -> Document:
        text = decode_text(content.removeprefix(MARK), source.name)
        if not text.strip():
            raise InputError(found, where=source.name, expected=expected, remedy=remedy)
        return Document(source.stem, text)

    return read_record(document, file=source.name, line=None, raw=content, read=source.read)


def json_record(line: bytes, number: int, source: InputStream, *, default_id: str | None) -> Record:
    """The record of a JSON line; ``number`` is that of the line, from 1."""

    def document() -> Document:
        return json_document(
            line,
            text_column=source.text_column,
            id_column=source.id_column,
            default_id=default_id,
            where=f"{source.name}:{number}",
        )

    raw = line if len(line) > LONGEST else line.rstrip(b"\r\n")
    return read_record(document, file=source.name, line=number, raw=raw, read=source.read)
