"""Tagging: from Python, in bulk, on a cluster and as a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musamma.inference.tagger import Tagger

__all__ = ["Tagger"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to load. `musamma predict` reports errors in paths before that.
    if name == "Tagger":
        from musamma.inference.tagger import Tagger

        return Tagger
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
