"""Khabar as JSON lines, a file a part, from the articles that people read and change: ``python -m musamma.data.corpora.release``.

Every article is validated as it is read. The files are what ``datasets.load_dataset`` takes from the corpus's folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from musamma.data.corpora import load_khabar
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.files import atomic_write

#: Keys of every article's header. A table needs them all in every row.
META = ("topic", "country", "form", "source", "date")
PARTS = ("train", "dev", "test")


def record(document: Document) -> dict[str, Any]:
    """An article as one JSON object; all rows have the same keys, ``null`` where an article has nothing to say."""
    if unknown := sorted(set(document.meta) - set(META)):
        raise InputError(
            f"header key {unknown[0]!r}", where=f"article {document.id!r}", expected=f"keys among {', '.join(META)}"
        )
    meta = {key: None if (value := document.meta.get(key)) is None else str(value) for key in META}
    nested = [span.to_dict() for span in document.nested]
    return {**document.to_dict(), "nested": nested, "meta": meta}


def lines(documents: Sequence[Document]) -> Iterator[bytes]:
    """The articles as lines of JSON."""
    return (orjson.dumps(record(document), option=orjson.OPT_APPEND_NEWLINE) for document in documents)


def release(folder: Path) -> dict[str, int]:
    """Write the parts of the corpus as ``PART.jsonl``; returns the articles of each.

    Raises:
        InputError: an article or the list of parts is not valid, an article is in no part or in two, or a file cannot be written.
    """
    parts = {part: load_khabar(part) for part in PARTS}
    placed = [document.id for documents in parts.values() for document in documents]
    everything = [document.id for document in load_khabar()]
    if sorted(placed) != everything:
        odd = sorted(set(everything) ^ set(placed)) or sorted({id for id in placed if placed.count(id) > 1})
        raise InputError(
            f"article {odd[0]!r} is not in exactly one part", where="khabar/splits.yaml", expected="each once"
        )
    for part, documents in parts.items():
        with atomic_write(folder / f"{part}.jsonl") as partial:
            partial.write_bytes(b"".join(lines(documents)))
    return {part: len(documents) for part, documents in parts.items()}


def main() -> None:
    """Write the files beside the articles."""
    folder = Path(__file__).parent / "khabar" / "jsonl"
    for part, count in release(folder).items():
        print(f"{folder.name}/{part}.jsonl: {count} articles")


if __name__ == "__main__":
    main()
