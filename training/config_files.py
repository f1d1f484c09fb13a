"""Configurations in files: packaged recipes, YAML, and changes on the command line."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from musamma.data.errors import InputError, not_readable, one_line
from musamma.training.config_fields import BaseConfig
from musamma.training.config_mistakes import describe_mistakes
from musamma.training.data_config import SourceConfig

_AnyConfig = TypeVar("_AnyConfig", bound=BaseConfig)

#: The keys by which the configuration of a command is recognised. The first set that a file has decides.
_COMMAND_BY_KEYS = {
    ("teacher",): "musamma distill",
    ("encoder", "data"): "musamma train",
    ("encoder", "text"): "musamma encoder pretrain",
}


def packaged_configs() -> dict[str, Path]:
    """Return the packaged recipes as names and files."""
    root = Path(str(resources.files("musamma.configs")))
    return {path.stem: path for path in sorted(root.glob("*.yaml"))}


def read_config(
    path: str | Path, kind: type[_AnyConfig], *, changes: Sequence[str] = (), output: str | None = None
) -> _AnyConfig:
    """Read a configuration.

    Args:
        path: a YAML file, or the name of a packaged recipe.
        kind: the type of configuration to read.
        changes: changes as ``key.key=value``; the value is read as YAML.
        output: replaces the file's ``output``.

    Raises:
        InputError: the file is missing, is not YAML, or does not describe a run; the message lists all mistakes.
    """
    content = _read_yaml(path)
    for change in changes:
        _apply_change(content, change)
    if output is not None:
        content["output"] = output
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        mistakes, known_keys = describe_mistakes(error, content, kind)
        command = _recognise_command(content)
        is_other = command not in (None, _recognise_command(kind.model_fields))
        remedy = f"this looks like a configuration of `{command}`" if is_other else known_keys
        raise InputError(mistakes, where=str(path), remedy=remedy) from error


def _recognise_command(keys: Collection[str]) -> str | None:
    """Return the command whose configuration has these keys; ``None`` if they are not enough to tell."""
    return next((command for own, command in _COMMAND_BY_KEYS.items() if set(own).issubset(keys)), None)


def _read_yaml(path: str | Path) -> dict[str, Any]:
    file = Path(path)
    if not file.exists():
        recipes = packaged_configs()
        file = recipes.get(str(path), recipes.get(file.stem, file))
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise not_readable(path, error) from error
    except OSError as error:
        raise InputError(
            str(error.strerror),
            where=str(path),
            expected=f"a YAML file, or one of {', '.join(packaged_configs())}",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not YAML: {one_line(error)}", where=str(path)) from error
    if not isinstance(content, dict):
        raise InputError(f"a YAML {type(content).__name__}", where=str(path), expected="keys and values")
    return content


def _apply_change(content: dict[str, Any], change: str) -> None:
    key, separator, value = change.partition("=")
    if not separator or not key:
        raise InputError(f"`changes` {change!r}", expected="key.key=value, e.g. trainer.num_train_epochs=3")
    *parents, last = key.split(".")
    section: Any = content
    while parents:
        entries: dict[str, Any] = {}
        if isinstance(section, list):
            entries = _named_entries(section)
            # The name of an entry may have dots.
            names = [".".join(parents[:count]) for count in range(len(parents), 0, -1)]
            parent = next((name for name in names if name in entries), parents[0])
            section, parents = entries.get(parent), parents[1 + parent.count(".") :]
        else:
            parent = parents.pop(0)
            section = section.setdefault(parent, {})
        if not isinstance(section, dict | list):
            expected = f"one of {', '.join(entries)}" if entries else "the name of a section"
            raise InputError(f"`changes` {change!r}: {parent!r} is not a section", expected=expected)
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(
            f"`changes` {change!r}: the value is not YAML", expected="e.g. trainer.learning_rate=1.0e-4"
        ) from error
    if isinstance(section, list):
        raise InputError(f"`changes` {change!r}: {last!r} is an entry of a list", expected="a key of the entry")
    section[last] = parsed


def _named_entries(entries: list[Any]) -> dict[str, Any]:
    """Return the sections of a list by their names, given or by their first file; of two with the same name, the first."""
    named: dict[str, Any] = {}
    for entry in entries:
        if isinstance(entry, dict) and (name := SourceConfig.default_name(entry)) is not None:
            named.setdefault(str(name), entry)
    return named
