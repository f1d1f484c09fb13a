"""Errors that the user's input causes, and the constructors of those that recur."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

CHECK_PATH = "check the path"
CHOOSE_WRITABLE = "choose a path that can be written"


class InputError(ValueError):
    """Input, configuration or call that cannot be used. The command exits with status 2.

    The message is one line: "WHERE: FOUND; expected EXPECTED; REMEDY".

    Args:
        found: what was found, with the value.
        where: file and line, document id and offsets, or the configuration key.
        expected: what would have been correct.
        remedy: what the user can do about it.

    A message names a parameter in backticks, as in a Python call: ``overwrite=True``. The command line shows its option
    instead, see :func:`musamma.cli.commands.name_flags`.
    """

    def __init__(
        self, found: str, *, where: str | None = None, expected: str | None = None, remedy: str | None = None
    ) -> None:
        self.found, self.where, self.expected, self.remedy = found, where, expected, remedy
        message = f"{where}: {found}" if where else found
        if expected:
            message += f"; expected {expected}"
        if remedy:
            message += f"; {remedy}"
        # A newline or control character from the input must not break the line.
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message))

    def replace(self, *, where: str | None = None, remedy: str | None = None) -> InputError:
        """Return the same error at another place or with another remedy, e.g. one that names an option."""
        return InputError(self.found, where=where or self.where, expected=self.expected, remedy=remedy or self.remedy)


class ThresholdError(RuntimeError):
    """A run that ended but missed a limit set by the user. The command exits with status 1."""


class RunError(RuntimeError):
    """A run that failed although its input can be used. The command exits with status 1."""


def one_line(message: object, *, limit: int | None = None) -> str:
    """Put the message of another library on one line.

    Args:
        message: the message, or the error that has it.
        limit: maximum number of characters; the rest is cut off.
    """
    return " ".join(str(message).split())[:limit]


def first_line(error: Exception, *, limit: int | None = None) -> str:
    """Return the first line of the message of another library's error; the name of its class if the line is empty.

    Args:
        error: the error.
        limit: maximum number of characters; the rest is cut off.
    """
    return (str(error).split("\n")[0] or type(error).__name__)[:limit]


def printable_path(path: str | Path) -> str:
    """Format a path for messages and JSON: bytes that are not UTF-8 are written like ``\\xc7``."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


# Errors that occur in several places.


def not_found(path: str | Path, *, kind: str = "file", remedy: str = CHECK_PATH) -> InputError:
    """A path that does not exist; ``kind`` is ``file``, ``folder`` or ``file or folder``."""
    return InputError(f"no such {kind}", where=printable_path(path), remedy=remedy)


def not_readable(path: str | Path, error: Exception, *, line: int | None = None) -> InputError:
    """A file or folder that cannot be opened, or not read to its end; ``line`` is the last line that could be read."""
    where = printable_path(path)
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if isinstance(error, PermissionError):
        return InputError(reason, where=where, remedy="check its permissions")
    if isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError)) or (
        isinstance(error, OSError) and error.errno == errno.ELOOP
    ):
        return InputError(reason, where=where, remedy=CHECK_PATH)
    beyond = f" beyond line {line}" if line else ""
    return InputError(f"cannot be read{beyond}: {reason}", where=where, remedy="copy it again")


def not_writable(path: str | Path, error: OSError, *, remedy: str = CHOOSE_WRITABLE) -> InputError:
    """A path that cannot be written; the message names the file the system complained about, if any."""
    file = path if isinstance(error.filename, int) else error.filename or path
    return InputError(str(error.strerror or error), where=printable_path(file), remedy=remedy)


def not_utf8(error: UnicodeDecodeError, *, where: str, column: bool = True) -> InputError:
    """Bytes that are not UTF-8.

    Args:
        error: the error of decoding.
        where: file and line.
        column: whether the bytes decoded were that line, so that the position in them is worth naming.
    """
    position = f" at byte {error.start + 1}" if column else ""
    return InputError(
        f"byte 0x{error.object[error.start]:02x}{position} is not UTF-8",
        where=where,
        expected="UTF-8",
        remedy="convert the file, e.g. iconv -f WINDOWS-1256 -t UTF-8",
    )


def not_finite(name: str, *, where: str, remedy: str | None = None) -> InputError:
    """Weights of which some are infinite or not a number: whatever is computed from them is wrong."""
    return InputError(f"the weights {name} are not all finite", where=where, remedy=remedy)


def not_yaml(path: str | Path, error: Exception) -> InputError:
    """A file that cannot be read as YAML; the message names the line, if the parser does."""
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    return InputError(f"not readable as YAML: {getattr(error, 'problem', error)}", where=where)


def duplicate_id(id: str, *, first: str, where: str, remedy: str | None = None) -> InputError:
    """A document id that was used before; ``first`` is the place of its first use."""
    return InputError(f"id {id!r} is taken by {first}", where=where, expected="unique ids", remedy=remedy)


def meta_not_json(error: Exception, *, where: str) -> InputError:
    """The ``meta`` of a document that JSON cannot hold."""
    return InputError(
        f"meta cannot be written: {error}",
        where=where,
        expected="values that JSON holds, nested at most 250 levels deep",
        remedy="remove or shorten it",
    )


def not_one_of(
    name: str, value: object, choices: Iterable[object], *, where: str | None = None, remedy: str | None = None
) -> InputError:
    """A value that is not among the valid ones, e.g. ``format 'xml'; expected one of jsonl, conll``."""
    return InputError(
        f"{name} {value!r}", where=where, expected=f"one of {', '.join(map(str, choices))}", remedy=remedy
    )


def not_installed(
    package: str, *, extra: str, purpose: str | None = None, where: str | None = None, remedy: str | None = None
) -> InputError:
    """An optional package that is missing.

    Args:
        package: its name.
        extra: the extra of ``musamma`` that installs it.
        purpose: what it does here, to follow "which".
        where: the model or option that needs it.
        remedy: an alternative to installing it.
    """
    return InputError(
        f"{package} is not installed" + (f", which {purpose}" if purpose else ""),
        where=where,
        remedy=f"pip install 'musamma[{extra}]'" + (f", or {remedy}" if remedy else ""),
    )


def output_exists(
    output: str | Path, *, found: str = "is there already", remedy: str = "choose another output"
) -> InputError:
    """An output folder that holds something and must not be replaced."""
    return InputError(found, where=str(output), expected="a folder that is new or empty", remedy=remedy)
