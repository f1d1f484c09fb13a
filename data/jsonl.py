"""Documents as JSON lines: one object a line, UTF-8, streamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.files import whole_file


def read_jsonl(path: str | Path) -> Iterator[Document]:
    """The documents of a JSONL file, one at a time. Blank lines are passed over; an id must not come twice.

    Raises:
        InputError: the file is missing or empty, or a line is no UTF-8, no JSON or no document; names file and line.
    """
    path = Path(path)
    seen: dict[str, int] = {}
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                document = Document.from_dict(parse_json(line, where), where=where)
                if document.id in seen:
                    raise InputError(
                        f"id {document.id!r} is taken by line {seen[document.id]}",
                        where=where,
                        expected="unique ids",
                    )
                seen[document.id] = number
                yield document
    except OSError as error:
        raise InputError(str(error.strerror), where=str(path), remedy="check the path") from error
    if not seen:
        raise InputError("the file holds no document", where=str(path), expected="one JSON object a line")


def parse_json(line: bytes, where: str) -> object:
    """One line of JSON; ``where`` names it in the error."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"byte 0x{line[error.start]:02x} at byte {error.start + 1} is not UTF-8",
            where=where,
            expected="UTF-8",
            remedy="convert the file, e.g. iconv -f WINDOWS-1256 -t UTF-8",
        ) from None
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InputError(
            f"broken JSON: {error.msg} at column {error.colno}", where=where, expected="one JSON object"
        ) from None


def to_line(document: Document) -> bytes:
    """A document as one line of JSON with its newline."""
    return orjson.dumps(document.to_dict(), option=orjson.OPT_APPEND_NEWLINE)


def write_jsonl(documents: Iterable[Document], path: str | Path) -> int:
    """Write documents, one a line; the file appears under its name only when whole. Returns how many were written."""
    count = 0
    with whole_file(Path(path)) as partial, partial.open("wb") as file:
        for document in documents:
            file.write(to_line(document))
            count += 1
    return count
