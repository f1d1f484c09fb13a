"""Corpora included in the package."""

from __future__ import annotations

from importlib.resources import files

import yaml

from musamma.data.document import Document
from musamma.data.errors import InputError, not_one_of
from musamma.data.formats.markup import parse_article

_SPLITS = "khabar/splits.yaml"


def load_khabar(split: str | None = None) -> list[Document]:
    """Load the annotated news articles of Khabar.

    Args:
        split: ``train``, ``dev`` or ``test``, a key of ``khabar/splits.yaml``, whose order the articles have; ``None`` for all
            articles, sorted by id.

    Raises:
        InputError: the split does not exist, or names an article that does not exist.
    """
    root = files(__name__) / "khabar"
    articles = {}
    for entry in (root / "articles").iterdir():
        if entry.name.endswith(".txt"):
            id = entry.name.removesuffix(".txt")
            articles[id] = parse_article(entry.read_bytes(), id=id, where=f"khabar/articles/{entry.name}")
    if split is None:
        return [articles[id] for id in sorted(articles)]
    file = root / "splits.yaml"
    splits = yaml.safe_load(file.read_text("utf-8")) if file.is_file() else {}
    if split not in splits:
        raise not_one_of("split", split, splits or ("no splits",), where=_SPLITS)
    if missing := [id for id in splits[split] if id not in articles]:
        raise InputError(f"article {missing[0]!r} of split {split!r} is not there", where=_SPLITS)
    return [articles[id] for id in splits[split]]
