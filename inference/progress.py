"""Progress on standard error, where somebody looks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from tqdm import tqdm

from musamma.data.document import Document


def counted(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents, with their count and rate on stderr; nothing where stderr is no terminal."""
    return iter(tqdm(documents, unit=" documents", file=sys.stderr, disable=not sys.stderr.isatty()))
