"""Tagging: from articles to articles with names, from Python and in bulk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musamma.inference.tagger import Tagger

__all__ = ["Tagger"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to load: a wrong path is told of without it.
    if name == "Tagger":
        from musamma.inference.tagger import Tagger

        return Tagger
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
