"""The folder of an exported model: there whole or not at all, and never in place of anything but an earlier one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from musamma.data.errors import InputError

RECORD = "export.json"


def check_target(output: Path, *, overwrite: bool) -> None:
    """Fail where something else is in the way.

    Args:
        output: the folder to write.
        overwrite: whether an earlier export may be replaced.

    Raises:
        InputError: there is a file, a folder with other things in it, or an export that may not be replaced.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / RECORD).is_file():
        raise InputError(
            "is there already and is no exported model",
            where=str(output),
            expected="a folder that is new or empty",
            remedy="choose another --output",
        )
    if not overwrite:
        raise InputError(
            "holds an exported model",
            where=str(output),
            expected="a folder that is new or empty",
            remedy="choose another --output, or add --overwrite",
        )


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """A folder beside ``output`` that takes its place at the end, and is gone if an error came.

    Raises:
        InputError: it cannot be written.
    """
    partial, old = (output.with_name(output.name + end) for end in (".part", ".old"))
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if output.exists():
            output.replace(old)
        partial.replace(output)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        reason = str(error.strerror or error)
        raise InputError(reason, where=str(output), remedy="choose an --output that can be written") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
