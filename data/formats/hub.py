"""Datasets of the Hugging Face hub or of a local folder, read with the ``datasets`` library.

``hf:NAME``, ``hf:NAME:SPLIT``, ``hf:NAME@CONFIG:SPLIT`` or ``hf:FOLDER[:SPLIT]``. Without a split, all splits are read in turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from musamma.data.errors import InputError, first_line
from musamma.data.formats.options import ReadOptions
from musamma.data.formats.tabular import TableRow, read_rows
from musamma.data.import_audit import ImportAudit
from musamma.data.span_repair import RawDocument

PREFIX = "hf:"
_ADDRESS = re.compile(r"hf:(?P<name>[^:@]+)(?:@(?P<config>[^:@]+))?(?::(?P<split>[\w.+-]+))?")


def read_hub(address: str, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    """Read the rows of one or all splits of a dataset: tokens with (numbered) tags, or text with spans.

    Raises:
        InputError: the address is invalid, the dataset or split does not exist, or the hub cannot be reached.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise InputError(repr(address), expected="hf:NAME[@CONFIG][:SPLIT] or hf:FOLDER[:SPLIT]")
    splits = _load(address, match["name"], match["config"])
    if match["split"] and match["split"] not in splits:
        raise InputError(f"no split {match['split']!r}", where=address, expected=f"one of {', '.join(splits)}")
    stem = Path(match["name"]).name
    for split, dataset in splits.items():
        if match["split"] in (None, split):
            where = f"{PREFIX}{match['name']}:{split}"

            def rows(dataset: Any = dataset, where: str = where) -> Iterator[TableRow]:
                for number, row in enumerate(dataset, 1):
                    yield f"{where}, row {number}", row

            yield from read_rows(
                rows,
                dataset.column_names,
                stem=f"{stem}-{split}",
                where=where,
                names=_label_names(dataset.features),
                options=options,
                audit=audit,
            )


def _load(address: str, name: str, config: str | None) -> Mapping[str, Any]:
    import datasets

    folder = Path(name)
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file():
            loaded = datasets.load_from_disk(name)
        else:
            loaded = datasets.load_dataset(name, config)
    # The library raises errors of its network and file layers, of many classes. All of them mean that there is no data.
    except Exception as error:
        raise InputError(
            f"the dataset cannot be loaded: {first_line(error)}",
            where=address,
            expected="a dataset of the hub, its files in the cache, or a local folder",
            remedy="check name and network, or download it elsewhere and give its folder",
        ) from error
    return loaded if isinstance(loaded, dict) else {"train": loaded}


def _label_names(features: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """Label names by column, for columns of label numbers, which may be nested in lists or structs."""
    return {column: names for column, feature in features.items() if (names := _feature_names(feature))}


def _feature_names(feature: Any) -> Sequence[str] | None:
    if isinstance(names := getattr(feature, "names", None), list):
        return names
    if hasattr(feature, "feature"):
        return _feature_names(feature.feature)
    if isinstance(feature, list | tuple):
        return _feature_names(feature[0]) if feature else None
    if isinstance(feature, dict):
        return next((names for key in ("label", "type") if (names := _feature_names(feature.get(key)))), None)
    return None
