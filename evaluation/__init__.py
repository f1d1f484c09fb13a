"""Scoring: documents against documents, tags against tags, in several modes that are counted side by side."""

from musamma.evaluation.counts import Average, Counts, Losses, ModeScores, Scores
from musamma.evaluation.matching import MODES
from musamma.evaluation.metrics import Scorer, score_documents, score_tags
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
