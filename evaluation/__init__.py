"""Scoring: documents against documents, tags against tags, in several modes that are counted side by side."""

from musamma.evaluation.figures import Average, Counts, Losses, ModeScores, Scores
from musamma.evaluation.matching import MODES
from musamma.evaluation.partial import PartialCounts, PartialScores
from musamma.evaluation.scoring import Scorer, score_documents, score_tags
from musamma.evaluation.seeds import SeedScores, spread
from musamma.evaluation.table import print_runs, print_scores

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
