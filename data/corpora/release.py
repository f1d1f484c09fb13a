"""Write Khabar as JSON lines, one file per part: ``python -m musamma.data.corpora.release``.

The source is the text files that people read and edit. Each article is validated when it is read. The files have the layout
that ``datasets.load_dataset`` reads from the folder of the corpus.
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

#: Keys of an article's header. In a table, every row needs all of them.
META_KEYS = ("topic", "country", "form", "source", "date")
PARTS = ("train", "dev", "test")


def write_release(folder: Path) -> dict[str, int]:
    """Write the parts of the corpus as ``PART.jsonl``. Returns the number of articles of each part.

    Raises:
        InputError: an article or the list of parts is invalid, an article is in no part or in several, or a file cannot be
            written.
    """
    parts = {part: load_khabar(part) for part in PARTS}
    ids_in_parts = [document.id for documents in parts.values() for document in documents]
    all_ids = [document.id for document in load_khabar()]
    if sorted(ids_in_parts) != all_ids:
        wrong = sorted(set(all_ids) ^ set(ids_in_parts)) or sorted(
            {id for id in ids_in_parts if ids_in_parts.count(id) > 1}
        )
        raise InputError(
            f"article {wrong[0]!r} is not in exactly one part", where="khabar/splits.yaml", expected="each once"
        )
    for part, documents in parts.items():
        with atomic_write(folder / f"{part}.jsonl") as partial:
            partial.write_bytes(b"".join(format_lines(documents)))
    return {part: len(documents) for part, documents in parts.items()}


def format_lines(documents: Sequence[Document]) -> Iterator[bytes]:
    """Format articles as lines of JSON."""
    return (orjson.dumps(to_record(document), option=orjson.OPT_APPEND_NEWLINE) for document in documents)


def to_record(document: Document) -> dict[str, Any]:
    """Convert an article to a JSON object. All objects have the same keys, with ``null`` for missing values."""
    if unknown := sorted(set(document.meta) - set(META_KEYS)):
        raise InputError(
            f"header key {unknown[0]!r}",
            where=f"article {document.id!r}",
            expected=f"keys among {', '.join(META_KEYS)}",
        )
    meta = {key: None if (value := document.meta.get(key)) is None else str(value) for key in META_KEYS}
    nested = [span.to_dict() for span in document.nested]
    return {**document.to_dict(), "nested": nested, "meta": meta}


def main() -> None:
    """Write the files next to the articles."""
    folder = Path(__file__).parent / "khabar" / "jsonl"
    for part, count in write_release(folder).items():
        print(f"{folder.name}/{part}.jsonl: {count} articles")


if __name__ == "__main__":
    main()
