"""Records of input files: texts and JSON lines, each with file, line, raw bytes and parsed value.

All commands read their input through this module and :mod:`musamma.data.tables`: :mod:`musamma.data.corpus_files` makes annotated
documents from the values, and :mod:`musamma.inference.inputs` makes documents to tag. Files ending in ``.gz`` or ``.zst`` are
decompressed while they are read.
A record that cannot be parsed has an error; the caller raises the error or goes on with the next record.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from musamma.data.errors import InputError, not_readable, not_utf8, printable_path
from musamma.data.file_content import COMPRESSIONS, HEAD_SIZE, check_compression, check_content

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLANK = BYTE_ORDER_MARK + b" \t\r\n"
# Digits of the longest integer of 64 bits, and sign.
_LONGEST_INTEGER = 20
_LONG_INTEGER = re.compile(rb"[0-9]{19}")
#: Keys of which a second one in an object is an error. They seldom occur twice in a line, so most lines are parsed only once.
_KEYS_GIVEN_ONCE = ("id", "text", "spans")
_QUOTED_KEYS = tuple(f'"{key}"'.encode() for key in _KEYS_GIVEN_ONCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRecord:
    """One text, line or row of an input, with either ``value`` or ``error``.

    Args:
        file: the file, or ``stdin``.
        line: its line or row in the file, from 1; ``None`` for a whole file.
        index: its position among the file's lines or rows, from 0; blank rows of CSV count.
        raw: its bytes; for a Parquet row, the row as JSON.
        bytes_read: bytes of all inputs read so far, this record included, as they are on disk.
        value: the text, the parsed JSON value, or the row's cells by column.
        error: why there is no value.
    """

    file: str
    line: int | None
    index: int = 0
    raw: bytes
    bytes_read: int
    value: Any = None
    error: InputError | None = None

    @property
    def where(self) -> str:
        """File and line."""
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputStream:
    """An open input.

    Args:
        name: the file, as errors name it.
        file: its bytes, decompressed.
        disk: its bytes as they are on disk; the position in them tells how much has been read.
        base: bytes of the inputs before it.
        max_bytes: length of the longest text, line or row; a longer one is an error. ``None`` sets no limit.
    """

    name: str
    file: BinaryIO
    disk: BinaryIO
    base: int = 0
    max_bytes: int | None = None

    @property
    def bytes_read(self) -> int:
        """Bytes of all inputs read so far; 0 if the stream has no position."""
        return self.base + self.disk.tell() if self.disk.seekable() else 0


# Files.


@contextmanager
def open_input(path: Path, *, base: int = 0, max_bytes: int | None = None) -> Iterator[InputStream]:
    """Open a file and decompress it according to its suffix. Arguments as for :class:`InputStream`.

    Raises:
        OSError: the file cannot be opened.
        InputError: the file holds something else than its suffix says.
    """
    compression = COMPRESSIONS.get(path.suffix.lower())
    with path.open("rb") as disk:
        file: BinaryIO = disk
        if compression:
            check_compression(disk.peek(), compression, where=printable_path(path), suffix=path.suffix)
            import pyarrow as pa

            # Unlike gzip and zstandard bindings, Arrow reads concatenated members and frames and notices truncated ones.
            file = cast(BinaryIO, BufferedReader(cast(RawIOBase, pa.input_stream(disk, compression=compression))))
        head = file.peek(HEAD_SIZE)[:HEAD_SIZE] if isinstance(file, BufferedReader) else b""
        if file_suffix(path) != ".parquet":
            check_content(head, where=printable_path(path))
        elif not head.startswith(b"PAR1"):
            check_content(head, where=printable_path(path), expected="a Parquet file")
        yield InputStream(name=printable_path(path), file=file, disk=disk, base=base, max_bytes=max_bytes)


def file_suffix(path: Path) -> str:
    """Return the suffix that tells a file's type, in lower case: that before ``.gz`` or ``.zst``, if there is one."""
    suffix = path.suffix.lower()
    inner = Path(path.stem).suffix.lower()
    return inner if suffix in COMPRESSIONS and inner != ".parquet" else suffix


def file_stem(path: Path) -> str:
    """Return a path without the suffixes of type and compression, with ``/`` between folders."""
    uncompressed = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    return uncompressed.with_suffix("").as_posix()


def reading_exceptions() -> tuple[type[Exception], ...]:
    """Return the exceptions that reading a damaged file raises, for an ``except`` clause."""
    arrow = sys.modules.get("pyarrow")  # If it is not loaded, it has raised nothing.
    return (OSError, arrow.ArrowException) if arrow else (OSError,)


def read_file(
    path: Path,
    read: Callable[[InputStream], Iterator[RawRecord]],
    *,
    base: int = 0,
    max_bytes: int | None = None,
    after_line: int | None = None,
) -> Generator[RawRecord, None, None]:
    """Read the records of a file. If the file cannot be read to its end, the last record has the error.

    Args:
        path: the file.
        read: a reader of records.
        base, max_bytes: as for :class:`InputStream`.
        after_line: the line after which ``read`` starts.
    """
    line = after_line
    bytes_read = base
    try:
        with ExitStack() as stack:
            try:
                stream = stack.enter_context(open_input(path, base=base, max_bytes=max_bytes))
            except InputError as error:
                yield RawRecord(file=printable_path(path), line=None, raw=b"", bytes_read=bytes_read, error=error)
                return
            for record in read(stream):
                line, bytes_read = record.line, record.bytes_read
                yield record
    except reading_exceptions() as error:
        broken = not_readable(path, error, line=line)
        yield RawRecord(file=printable_path(path), line=None, raw=b"", bytes_read=bytes_read, error=broken)


def raise_first_error(records: Generator[RawRecord, None, None]) -> Iterator[RawRecord]:
    """Pass records through and raise the first error.

    Raises:
        InputError: a record has an error.
    """
    with closing(records):
        for record in records:
            if record.error is not None:
                raise record.error
            yield record


# Text.


def read_bytes(path: Path) -> bytes:
    """Read a whole file, decompressed.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with open_input(path) as stream:
            return stream.file.read()
    except reading_exceptions() as error:
        raise not_readable(path, error) from error


def read_text(path: Path) -> str:
    """Read a whole file as text, line ends and byte order mark untouched.

    Raises:
        InputError: the file cannot be read or is not UTF-8; names file and line.
    """
    return decode_text(read_bytes(path), str(path))


def read_text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line, without line end and byte order mark. Only LF and CR LF end a line.

    Raises:
        InputError: the file cannot be read or is not UTF-8; names file and line.
    """
    number = 0
    try:
        with open_input(path) as stream:
            for number, line in numbered_lines(stream):
                yield number, decode_line(line, f"{path}:{number}").rstrip("\r\n")
    except reading_exceptions() as error:
        raise not_readable(path, error, line=number) from error


def decode_text(data: bytes, where: str) -> str:
    """Decode the bytes of a file, line ends untouched; ``where`` names the file.

    Raises:
        InputError: the bytes are not UTF-8; names the line.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise not_utf8(error, where=f"{where}:{line}", column=False) from None


def decode_line(line: bytes, where: str) -> str:
    """Decode the bytes of a line; ``where`` names file and line.

    Raises:
        InputError: the bytes are not UTF-8; names the position in the line.
    """
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(error, where=where) from None


def numbered_lines(stream: InputStream) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the bytes of each line, line end included, without byte order mark.

    Only the first ``max_bytes + 1`` bytes of a line longer than ``max_bytes`` are kept in memory and yielded.
    """
    for number, line in _raw_lines(stream):
        yield number, line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line


def _raw_lines(stream: InputStream) -> Iterator[tuple[int, bytes]]:
    limit = -1 if stream.max_bytes is None else stream.max_bytes + 1
    number = 0
    while line := stream.file.readline(limit):
        number += 1
        rest = line
        while len(line) == limit and rest and not rest.endswith(b"\n"):
            rest = stream.file.readline(2**20)
        yield number, line


def read_text_record(stream: InputStream) -> Iterator[RawRecord]:
    """Read the whole stream as one text, without byte order mark."""
    yield _text_record(stream, b"")


def _text_record(stream: InputStream, head: bytes) -> RawRecord:
    content = head + stream.file.read(-1 if stream.max_bytes is None else stream.max_bytes + 1)
    return parse_record(
        lambda: decode_text(content.removeprefix(BYTE_ORDER_MARK), stream.name), stream, line=None, index=0, raw=content
    )


# JSON lines.


def parse_json(line: bytes, where: str) -> object:
    """Parse one line of JSON; ``where`` names it in errors.

    Raises:
        InputError: the line is not UTF-8 or not JSON.
    """
    decode_line(line, where)
    try:
        return load_json(line)
    except orjson.JSONDecodeError as error:
        raise InputError(
            f"broken JSON: {error.msg} at column {error.colno}", where=where, expected="one JSON object"
        ) from None


def load_json(content: bytes | str) -> Any:
    """Parse JSON.

    Integers of more than 64 bits are an error, since no reader of JSON keeps them apart from floats. So is an object with two
    values for ``id``, ``text`` or ``spans``, of which a parser would keep the last.

    Raises:
        orjson.JSONDecodeError: it is not JSON, is nested too deeply, or holds such an integer or object.
    """
    value = orjson.loads(content)
    data = content.encode("utf-8") if isinstance(content, str) else content
    if _LONG_INTEGER.search(data) is None and not any(data.count(key) > 1 for key in _QUOTED_KEYS):
        return value
    text = data.decode("utf-8")

    def parse_integer(digits: str) -> int:
        if len(digits) > _LONGEST_INTEGER or not -(2**63) <= (number := int(digits)) < 2**64:
            message = (
                f"an integer of {len(digits.lstrip('-'))} digits, which does not fit into 64 bits; write it as a string"
            )
            raise orjson.JSONDecodeError(message, text, text.find(digits))
        return number

    def build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) < len(pairs):
            keys = [key for key, _ in pairs]
            if repeated := next((key for key in _KEYS_GIVEN_ONCE if keys.count(key) > 1), None):
                at = text.rfind(f'"{repeated}"')
                raise orjson.JSONDecodeError(f"the key {repeated!r} twice in one object", text, at)
        return built

    try:
        # The value of orjson is the same, if nothing is raised.
        json.loads(text, parse_int=parse_integer, object_pairs_hook=build_object)
    except RecursionError:
        raise orjson.JSONDecodeError("nested too deeply", text, 0) from None
    return value


def is_json_array(path: Path) -> bool:
    """Tell whether the first visible character of a file is ``[``.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with open_input(path) as stream:
            head = next((line for _, line in numbered_lines(stream) if line.strip()), b"")
    except reading_exceptions() as error:
        raise not_readable(path, error) from error
    return head.lstrip().startswith(b"[")


def read_json_array(path: Path, *, expected: str = "a list of objects") -> list[Any]:
    """Read a JSON array, which is loaded into memory as a whole.

    Raises:
        InputError: the file cannot be read, or does not hold an array; names file and line.
    """
    content = read_text(path)
    try:
        items = load_json(content.removeprefix("\ufeff"))
    except orjson.JSONDecodeError as error:
        raise InputError(f"broken JSON: {error.msg}", where=f"{path}:{error.lineno}", expected=expected) from None
    if not isinstance(items, list):
        raise InputError(f"a JSON {type(items).__name__}", where=f"{path}:1", expected=expected)
    return items


def read_json_records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of each line of a JSON lines file, or of each item of a ``.json`` file with one array.

    Raises:
        InputError: the file cannot be read, or a line is not JSON.
    """
    if file_suffix(path) == ".json" and is_json_array(path):
        for number, item in enumerate(read_json_array(path), 1):
            yield f"{path}, item {number}", item
        return
    for record in raise_first_error(read_file(path, read_json_lines)):
        yield record.where, record.value


def read_json_lines(stream: InputStream, *, after_line: int = 0, offset: int = 0) -> Iterator[RawRecord]:
    """Read the values of JSON lines. Blank lines are skipped.

    Args:
        stream: the input.
        after_line: start with the line after this one.
        offset: bytes of the lines up to it, so that an uncompressed file need not be read from its start.
    """
    lines: Iterator[tuple[int, bytes]]
    if offset and stream.file is stream.disk:
        stream.file.seek(offset)
        lines = ((after_line + number, line) for number, line in _raw_lines(stream))
    else:
        lines = itertools.islice(numbered_lines(stream), after_line, None)
    for number, line in lines:
        if line.strip():
            yield _json_record(stream, number, line)


def read_standard_input(stream: InputStream) -> Iterator[RawRecord]:
    """Read JSON lines if the first character is ``{``, else one text, whose record has no line."""
    if isinstance(stream.file, BufferedReader):
        try:
            check_content(stream.file.peek(HEAD_SIZE)[:HEAD_SIZE], where=stream.name)
        except InputError as error:
            yield RawRecord(file=stream.name, line=None, raw=b"", bytes_read=stream.bytes_read, error=error)
            return
    lines = _raw_lines(stream)
    # If the input is a text, what precedes the first visible character belongs to it, so it is kept.
    head: list[tuple[int, bytes]] = []
    for number, line in lines:
        head.append((number, line))
        if line.strip(_BLANK):
            break
    if not head or not head[-1][1].lstrip(_BLANK).startswith(b"{"):
        yield _text_record(stream, b"".join(line for _, line in head))
        return
    for number, line in itertools.chain(head, lines):
        if line.strip(_BLANK):
            yield _json_record(stream, number, line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line)


def _json_record(stream: InputStream, number: int, line: bytes) -> RawRecord:
    too_long = stream.max_bytes is not None and len(line) > stream.max_bytes
    return parse_record(
        lambda: parse_json(line, f"{stream.name}:{number}"),
        stream,
        line=number,
        index=number - 1,
        raw=line if too_long else line.rstrip(b"\r\n"),
    )


def parse_record(
    parse: Callable[[], Any],
    stream: InputStream,
    *,
    line: int | None,
    index: int,
    raw: bytes,
    bytes_read: int | None = None,
) -> RawRecord:
    """Return the record of the value that ``parse`` returns, or of the error it raises."""
    bytes_read = stream.bytes_read if bytes_read is None else bytes_read
    record = partial(RawRecord, file=stream.name, line=line, index=index, raw=raw, bytes_read=bytes_read)
    try:
        if stream.max_bytes is not None and len(raw) > stream.max_bytes:
            raise InputError(
                f"more than {stream.max_bytes:,} bytes",
                where=stream.name if line is None else f"{stream.name}:{line}",
                expected="shorter documents",
                remedy="split it into documents",
            )
        return record(value=parse())
    except InputError as error:
        return record(error=error)


def to_json(value: Any) -> bytes:
    """Format any value of a table as JSON: times in ISO 8601, decimals as text, bytes in base64."""
    return orjson.dumps(value, default=_to_plain, option=orjson.OPT_NON_STR_KEYS)


def _to_plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
