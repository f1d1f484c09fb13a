"""Progress on standard error, if it is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

from musamma.data.document import Document


def show_progress(documents: Iterable[Document]) -> Iterator[Document]:
    """Yield documents and show their number and rate."""
    if not sys.stderr.isatty():
        return iter(documents)
    from tqdm import tqdm  # here, because it takes time to load

    return iter(tqdm(documents, unit=" documents", file=sys.stderr))


class ProgressBar:
    """The progress of a batch run: bytes read, documents per second, names and the time left.

    Args:
        total: bytes of the inputs. ``None`` if unknown; then the time left is not shown.
    """

    def __init__(self, total: int | None) -> None:
        self._bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="B", unit_scale=True, file=sys.stderr, dynamic_ncols=True)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, *, read: int, documents: int, names: int, rejected: int) -> None:
        """Update the bar.

        Args:
            read: bytes of the inputs read so far.
            documents: documents tagged by this process.
            names: names written in total.
            rejected: records that are not documents.
        """
        if self._bar is None or self._bar.disable:
            return
        elapsed = self._bar.format_dict["elapsed"]
        rate = documents / elapsed if elapsed else 0.0
        postfix = {"documents": f"{documents:,}", "documents/s": f"{rate:.1f}", "names": f"{names:,}"}
        self._bar.set_postfix(postfix | ({"rejected": rejected} if rejected else {}), refresh=False)
        self._bar.update(read - self._bar.n)
