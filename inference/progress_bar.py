"""Progress on standard error, where somebody looks."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import TracebackType

from tqdm import tqdm

from musamma.data.document import Document


def show_progress(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents, with their count and rate on stderr; nothing where stderr is no terminal."""
    return iter(tqdm(documents, unit=" documents", file=sys.stderr, disable=not sys.stderr.isatty()))


class ProgressBar:
    """How far a run through its inputs has come: bytes read, documents a second, names, and the time left.

    Args:
        total: bytes of the inputs; ``None`` where it is not known, and then there is no time left to tell.
    """

    def __init__(self, total: int | None) -> None:
        self._bar = tqdm(
            total=total,
            unit="B",
            unit_scale=True,
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def show(self, *, read: int, documents: int, names: int, rejected: int) -> None:
        """Tell of the run so far.

        Args:
            read: bytes of the inputs.
            documents: how many have been tagged by this process.
            names: how many were found in all.
            rejected: lines that are no documents.
        """
        if self._bar.disable:
            return
        elapsed = self._bar.format_dict["elapsed"]
        rate = documents / elapsed if elapsed else 0.0
        shown = {"documents": f"{documents:,}", "documents/s": f"{rate:.1f}", "names": f"{names:,}"}
        self._bar.set_postfix(shown | ({"rejected": rejected} if rejected else {}), refresh=False)
        self._bar.update(read - self._bar.n)
