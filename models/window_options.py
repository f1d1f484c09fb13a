"""Window options: how documents are cut into windows, stored in ``config.json`` under ``musamma``."""

from __future__ import annotations

from dataclasses import dataclass

from musamma.data.errors import InputError


@dataclass(frozen=True)
class WindowOptions:
    """Options for cutting documents into windows, stored in a checkpoint's ``config.json``.

    Args:
        max_length: length of the longest window in pieces, special tokens included.
        overlap: number of pieces that neighbouring windows share.
    """

    max_length: int = 256
    overlap: int = 64


def read_window_options(stored: object, where: str, *, limit: int | None = None) -> WindowOptions:
    """Read the window options from a checkpoint's configuration; the defaults if it has none.

    Args:
        stored: the ``musamma`` entry of ``config.json``, or ``None``.
        where: the checkpoint, for errors.
        limit: the maximum number of pieces of the encoder.

    Raises:
        InputError: the stored options are malformed.
    """
    options = WindowOptions()
    if stored is not None:
        try:
            if not isinstance(stored, dict):
                raise TypeError(stored)
            # A checkpoint of another tool that was calibrated here has no window options.
            if (encoding := stored.get("encoding")) is not None:
                options = WindowOptions(max_length=int(encoding["max_length"]), overlap=int(encoding["overlap"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"'musamma' in config.json is {stored!r}",
                where=where,
                expected="'encoding' with 'max_length' and 'overlap'",
                remedy="copy the checkpoint anew, or delete the key to use the defaults",
            ) from error
    if limit is not None and options.max_length > limit:
        options = WindowOptions(max_length=limit, overlap=min(options.overlap, limit // 4))
    return options
