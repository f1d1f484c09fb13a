"""Lines of text files, and JSON in them, with the line number that an error has to name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from musamma.data.document import parse_json
from musamma.data.errors import InputError
from musamma.data.files import atomic_write

_REMEDY = "convert the file, e.g. iconv -f WINDOWS-1256 -t UTF-8"


def decoded_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line, without line end and byte order mark. Only LF and CR LF end a line.

    Raises:
        InputError: the file cannot be read or is no UTF-8; names file and line.
    """
    for number, line in _lines(path):
        try:
            yield number, line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            found = f"byte 0x{line[error.start]:02x} at byte {error.start + 1} is not UTF-8"
            raise InputError(found, where=f"{path}:{number}", expected="UTF-8", remedy=_REMEDY) from None


def json_lines(path: Path) -> Iterator[tuple[str, object]]:
    """``FILE:LINE`` and the parsed object of each line that is not blank."""
    for number, line in _lines(path):
        if line.strip():
            where = f"{path}:{number}"
            yield where, parse_json(line, where)


def read_text(path: Path) -> str:
    """A whole file as text, line ends untouched.

    Raises:
        InputError: as for :func:`decoded_lines`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(str(error.strerror), where=str(path), remedy="check the path") from error
    return decode_text(data, str(path))


def decode_text(data: bytes, where: str) -> str:
    """Bytes as text, line ends untouched.

    Raises:
        InputError: they are no UTF-8; names the line.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise InputError(found, where=f"{where}:{line}", expected="UTF-8", remedy=_REMEDY) from None


def write_lines(lines: Iterable[str], path: Path) -> None:
    """Write text; the file appears under its name only when whole.

    Raises:
        InputError: the path cannot be written.
    """
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        file.writelines(lines)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except OSError as error:
        raise InputError(str(error.strerror), where=str(path), remedy="check the path") from error
