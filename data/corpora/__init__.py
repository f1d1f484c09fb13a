"""The corpora that come with the project."""

from __future__ import annotations

from importlib.resources import files

import yaml

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.formats.markup import parse_article


def load_khabar(split: str | None = None) -> list[Document]:
    """The annotated news articles of Khabar, by id.

    Args:
        split: a split of ``khabar/splits.yaml`` (a mapping of split to list of ids), or ``None`` for all articles.

    Raises:
        InputError: there is no such split, or it names an article that is not there.
    """
    root = files(__name__) / "khabar"
    found = {}
    for entry in (root / "articles").iterdir():
        if entry.name.endswith(".txt"):
            id = entry.name.removesuffix(".txt")
            found[id] = parse_article(entry.read_bytes(), id=id, where=f"khabar/articles/{entry.name}")
    if split is None:
        return [found[id] for id in sorted(found)]
    file = root / "splits.yaml"
    splits = yaml.safe_load(file.read_text("utf-8")) if file.is_file() else {}
    if split not in splits:
        raise InputError(
            f"split {split!r}", where="khabar/splits.yaml", expected=f"one of {', '.join(splits) or 'no splits'}"
        )
    if missing := [id for id in splits[split] if id not in found]:
        raise InputError(f"article {missing[0]!r} of split {split!r} is not there", where="khabar/splits.yaml")
    return [found[id] for id in splits[split]]
