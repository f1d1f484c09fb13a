"""The mistakes in a configuration as one line: each with its place in the file, and the keys that are known there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

_Place = Sequence[str | int]


def describe_mistakes(error: ValidationError, content: Any, kind: type[BaseModel]) -> tuple[str, str | None]:
    """Describe all mistakes in the content of a file.

    Args:
        error: the error of ``kind`` for the content.
        content: the content, as read from the file.
        kind: the type of the configuration.

    Returns:
        The mistakes, each behind its dotted key, and the keys that are known in the sections with unknown ones; ``None`` without such keys.
    """
    messages: dict[str, list[str]] = {}
    known: dict[str, list[str]] = {}
    for mistake in error.errors():
        place = _place_in(content, mistake["loc"])
        if mistake["type"] == "extra_forbidden":
            message = "unknown key"
            known[_dotted(place[:-1])] = list(_section_at(kind, place[:-1]).model_fields)
        else:
            message = re.sub(r" or instance of \w+$", "", mistake["msg"].removeprefix("Value error, "))
        messages.setdefault(_dotted(place) or "config", []).append(message)
    lists = [f"known keys{f' of {place}' if place else ''}: {', '.join(keys)}" for place, keys in known.items()]
    # Of a type with alternatives, each one has an error.
    return "; ".join(f"{place}: {', or '.join(found)}" for place, found in messages.items()), "; ".join(lists) or None


def _dotted(place: _Place) -> str:
    return ".".join(map(str, place))


def _place_in(content: Any, location: _Place) -> _Place:
    """Return the keys of an error's location that the file has: without the alternatives of types, and with a missing key."""
    place: list[str | int] = []
    value = content
    for index, key in enumerate(location):
        in_section = isinstance(value, dict) and key in value
        in_list = isinstance(value, list) and isinstance(key, int) and key < len(value)
        is_missing = isinstance(value, dict) and index == len(location) - 1
        if in_section or in_list:
            value = value[key]
        if in_section or in_list or is_missing:
            place.append(key)
    return place


def _section_at(kind: type[BaseModel], place: _Place) -> type[BaseModel]:
    """Return the type of the section at a place of a configuration."""
    for key in place:
        if isinstance(key, str) and key in kind.model_fields:
            kind = next(_sections(kind.model_fields[key].annotation), kind)
    return kind


def _sections(hint: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections in the type of a value."""
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        yield hint
    for argument in get_args(hint):
        yield from _sections(argument)
