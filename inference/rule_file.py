"""The file of rules beside the model: YAML, with the files of names that it refers to."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Annotated, Any

import regex
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from musamma.data.errors import InputError, not_yaml
from musamma.data.input_files import CSV_SUFFIXES
from musamma.data.labels import check_label
from musamma.data.records import (
    RawRecord,
    file_suffix,
    raise_first_error,
    read_file,
    read_text,
    read_text_lines,
)
from musamma.data.spelling import Spelling
from musamma.data.tables import read_csv
from musamma.inference.name_rules import LabelRule, NameList, Precedence, Proclitics, Rules, fold_pattern

_SHOWN_PROBLEMS = 5


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _SpellingKeys(_Section):
    hamza: bool = True
    alef_maqsura: bool = True
    ta_marbuta: bool = True
    vowel_marks: bool = True
    tatweel: bool = True
    direction_marks: bool = True


class _NamesKeys(_Section):
    names: list[str] | None = None
    file: str | None = None
    column: str | None = None
    proclitics: Proclitics = "any"
    spelling: _SpellingKeys = _SpellingKeys()


class _ListKeys(_NamesKeys):
    label: str | None = None
    label_column: str | None = None
    precedence: Precedence | None = None


class _LabelKeys(_NamesKeys):
    label: str
    pattern: str | None = None
    only: list[str] = []


class _FileKeys(_Section):
    precedence: Precedence = "rules"
    lists: Annotated[list[_ListKeys], Field(default_factory=list)]
    never: Annotated[list[_NamesKeys], Field(default_factory=list)]
    labels: Annotated[list[_LabelKeys], Field(default_factory=list)]


def load_rules(path: str | Path) -> Rules:
    """Read rules and the files of names that they refer to. Paths of these are relative to the file of rules.

    Raises:
        InputError: a file cannot be read, or a rule is invalid; names the file and the entry.
    """
    path = Path(path)
    content = _read_yaml(path)
    try:
        keys = _FileKeys.model_validate(content)
    except ValidationError as error:
        raise _describe_problems(error, path) from None
    if not (keys.lists or keys.never or keys.labels):
        raise InputError("no rules", where=str(path), expected="'lists', 'never' or 'labels'")
    return Rules(
        lists=tuple(_build_list(item, f"lists[{index}]", keys, path) for index, item in enumerate(keys.lists)),
        never=tuple(_build_list(item, f"never[{index}]", keys, path) for index, item in enumerate(keys.never)),
        labels=tuple(_build_label_rule(item, f"labels[{index}]", keys, path) for index, item in enumerate(keys.labels)),
    )


# In C where PyYAML was built with it: a hundred thousand names take seconds instead of a minute.
class _UniqueKeysLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses a key that is given twice, of which PyYAML would keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key.value!r} occurs twice", problem_mark=key.start_mark
                )
            if isinstance(key.value, str):
                seen.add(key.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


def _read_yaml(path: Path) -> dict[str, Any]:
    if path.is_dir():
        raise InputError("a folder", where=str(path), expected="a YAML file of rules")
    try:
        content = yaml.load(read_text(path).removeprefix("\ufeff"), _UniqueKeysLoader)
    except yaml.YAMLError as error:
        raise not_yaml(path, error) from None
    if not isinstance(content, dict):
        kind = "an empty file" if content is None else f"a YAML {type(content).__name__}"
        raise InputError(kind, where=str(path), expected="the keys 'lists', 'never' or 'labels'")
    return content


def _describe_problems(error: ValidationError, path: Path) -> InputError:
    """Describe all problems in one line, at most a few of a kind."""
    problems = []
    for problem in error.errors(include_url=False):
        location = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in problem["loc"])
        location = location.removeprefix(".")
        if problem["type"] == "extra_forbidden":
            problems.append(f"{location}: unknown key")
        elif problem["type"] == "missing":
            problems.append(f"{location}: missing")
        else:
            message = problem["msg"].removeprefix("Input should be ").replace("a valid ", "a ")
            quotes = ", in quotes" if problem["type"] == "string_type" else ""
            problems.append(f"{location} is {problem['input']!r:.40}, expected {message}{quotes}")
    more = len(problems) - _SHOWN_PROBLEMS
    shown = "; ".join(problems[:_SHOWN_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
    return InputError(shown, where=str(path), remedy="see docs/tag.md for the keys")


def _build_list(item: _NamesKeys, title: str, keys: _FileKeys, path: Path) -> NameList:
    """Build a list with labels, or of names that are never marked.

    Raises:
        InputError: it has no names or no labels, or one is invalid.
    """
    where = f"{path}: {title}"
    is_labelled = isinstance(item, _ListKeys)
    label, label_column = (item.label, item.label_column) if isinstance(item, _ListKeys) else (None, None)
    precedence: Precedence = (isinstance(item, _ListKeys) and item.precedence) or keys.precedence
    if is_labelled:
        if (label is None) == (label_column is None):
            found = "no label" if label is None else "'label' and 'label_column'"
            raise InputError(found, where=where, expected="a 'label', or a 'label_column' of its file")
        if label is not None:
            _check_label(label, where=f"{where}.label")
    spelling = Spelling(**item.spelling.model_dump())
    entries = []
    for place, name, own_label in _read_names(item, where, label_column, path):
        if not spelling.fold_text(name):
            raise InputError(f"the name {name!r}", where=place, expected="a name with letters, digits or signs")
        if own_label is not None:
            _check_label(own_label, where=place)
        entries.append((name, own_label or label or ""))
    if not entries:
        raise InputError("no names", where=where, expected="at least one name")
    return NameList(
        title=title, entries=tuple(entries), precedence=precedence, proclitics=item.proclitics, spelling=spelling
    )


def _build_label_rule(item: _LabelKeys, title: str, keys: _FileKeys, path: Path) -> LabelRule:
    where = f"{path}: {title}"
    _check_label(item.label, where=f"{where}.label")
    for label in item.only:
        _check_label(label, where=f"{where}.only")
    spelling = Spelling(**item.spelling.model_dump())
    if item.pattern is None:
        names = _build_list(item, title, keys, path)
        return LabelRule(label=item.label, names=names, spelling=spelling, only=tuple(item.only))
    if item.names is not None or item.file is not None:
        raise InputError("a 'pattern' and names", where=where, expected="one of them", remedy="write two rules")
    try:
        fold_pattern(item.pattern, spelling)
    except regex.error as error:
        raise InputError(
            f"the pattern {item.pattern!r}: {error}", where=where, expected="a regular expression"
        ) from None
    return LabelRule(label=item.label, pattern=item.pattern, spelling=spelling, only=tuple(item.only))


def _check_label(label: str, *, where: str) -> None:
    try:
        check_label(label, where=where)
    except InputError as error:
        # Its remedy is that for a corpus.
        raise InputError(error.found, where=where, expected=error.expected) from None


def _read_names(
    item: _NamesKeys, where: str, label_column: str | None, path: Path
) -> Iterator[tuple[str, str, str | None]]:
    """Yield the place, the name and the label of each entry, ``None`` if the file has no labels. Blank lines are skipped.

    Raises:
        InputError: there are no names, or the file cannot be read or lacks a column.
    """
    if (item.names is None) == (item.file is None):
        found = "neither 'names' nor 'file'" if item.names is None else "'names' and 'file'"
        raise InputError(found, where=where, expected="one of them")
    file = path.parent / (item.file or "")
    is_table = item.file is not None and file_suffix(file) in CSV_SUFFIXES
    if not is_table and (item.column is not None or label_column is not None):
        raise InputError("a column without a table", where=where, expected="a 'file' that is a .csv or .tsv")
    if item.names is not None:
        for index, name in enumerate(item.names):
            yield f"{where}.names[{index}]", name, None
        return
    if file.is_dir() or not file.exists():
        raise InputError(
            f"file {item.file!r} is {'a folder' if file.is_dir() else 'missing'}",
            where=where,
            expected=f"a file, relative to {path.parent}",
        )
    if not is_table:
        for number, line in read_text_lines(file):
            if line.strip():
                yield f"{file}:{number}", line.strip(), None
        return
    column = item.column or "name"
    for record in raise_first_error(read_file(file, lambda stream: iter(read_csv(stream).rows))):
        yield _read_cells(record, column, label_column)


def _read_cells(record: RawRecord, column: str, label_column: str | None) -> tuple[str, str, str | None]:
    for name in (column, label_column):
        if name is not None and name not in record.value:
            raise InputError(
                f"no column {name!r}", where=record.file, expected=f"one of its columns: {', '.join(record.value)}"
            )
    label = None if label_column is None else record.value[label_column].strip()
    return record.where, record.value[column].strip(), label
