"""The labels of a model's nested names, stored in ``config.json`` under ``musamma``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from musamma.data.errors import InputError
from musamma.data.tags import TagSet
from musamma.models.model_names import NESTED_HEAD_FILE, require_model_file

#: The key of the entry under ``musamma``: an object with the list ``labels``.
NESTED_KEY = "nested"


def describe_nested(tag_set: TagSet) -> dict[str, Any]:
    """Return the entry as it stands in ``config.json``."""
    return {"labels": list(tag_set.labels)}


def read_nested_tag_set(stored: object, *, where: str) -> TagSet | None:
    """Read the tag set of nested names from the ``musamma`` entry of a model's ``config.json``.

    Args:
        stored: the entry, or ``None`` for a checkpoint of another tool.
        where: the model, for errors.

    Returns:
        The tag set, in the order of the logits; ``None`` for a model that finds the outermost names only.

    Raises:
        InputError: the entry is malformed.
    """
    entry = stored.get(NESTED_KEY) if isinstance(stored, dict) else None
    if entry is None:
        return None
    labels = entry.get("labels") if isinstance(entry, dict) else None
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise InputError(
            f"'musamma.{NESTED_KEY}' in config.json is {entry!r}",
            where=where,
            expected="'labels', a list of labels",
            remedy="copy the model anew",
        )
    return TagSet(tuple(labels))


def check_nested_head(model: str, stored: object, *, where: str) -> None:
    """Check that a checkpoint that finds nested names has the head for them, so that no copy of it is made without.

    Args:
        model: a folder or a hub id.
        stored: the ``musamma`` entry of its ``config.json``, or ``None``.
        where: the model, for errors.

    Raises:
        InputError: the head is missing, or the entry is malformed.
    """
    if read_nested_tag_set(stored, where=where) is not None:
        require_nested_head(model, where=where)


def require_nested_head(model: str, *, where: str, remedy: str = "copy the model anew") -> Path:
    """Return the file of the head for nested names; an :class:`InputError` for ``where`` if the model has none."""
    expected = "the head of the nested names"
    return require_model_file(model, NESTED_HEAD_FILE, expected=expected, remedy=remedy, where=where)
