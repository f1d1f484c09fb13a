"""Scoring of documents and of tags, in several modes at once."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musamma.evaluation.conll_tags import score_tags
    from musamma.evaluation.counts import Counts
    from musamma.evaluation.matching import MODES
    from musamma.evaluation.metrics import Average, Losses, ModeScores, Scorer, Scores, score_documents
    from musamma.evaluation.partial_credit import PartialCounts, PartialScores
    from musamma.evaluation.score_tables import print_runs, print_scores
    from musamma.evaluation.seeds import SeedScores, spread

__all__ = [
    "MODES",
    "Average",
    "Counts",
    "Losses",
    "ModeScores",
    "PartialCounts",
    "PartialScores",
    "Scorer",
    "Scores",
    "SeedScores",
    "print_runs",
    "print_scores",
    "score_documents",
    "score_tags",
    "spread",
]

# seqeval and scikit-learn take more than a second to load, so a name is imported when it is first used.
_MODULES = {
    "MODES": "matching",
    "Average": "metrics",
    "Counts": "counts",
    "Losses": "metrics",
    "ModeScores": "metrics",
    "PartialCounts": "partial_credit",
    "PartialScores": "partial_credit",
    "Scorer": "metrics",
    "Scores": "metrics",
    "SeedScores": "seeds",
    "print_runs": "score_tables",
    "print_scores": "score_tables",
    "score_documents": "metrics",
    "score_tags": "conll_tags",
    "spread": "seeds",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
