"""Files named after documents."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from musamma.data.errors import InputError


def document_path(folder: Path, id: str) -> Path:
    """Where a document goes, without suffix: its id below the folder; ``/`` makes folders.

    Raises:
        InputError: the id cannot be a path, or would leave the folder.
    """
    parts = PurePosixPath(id).parts
    if "/".join(parts) != id or any(part in (".", "..") or part.startswith("/") for part in parts) or "\0" in id:
        raise InputError(
            f"id {id!r} cannot name a file", expected="an id like 'news/0012'", remedy="write a single file, e.g. JSONL"
        )
    return folder.joinpath(*parts)
