"""Scoring: documents against documents, tags against tags, in several modes that are counted side by side."""

from musamma.evaluation.figures import Average, Counts, Losses, ModeScores, Scores
from musamma.evaluation.scoring import MODES, Scorer, score_documents, score_tags
from musamma.evaluation.table import print_scores

__all__ = [
    "MODES",
    "Average",
    "Counts",
    "Losses",
    "ModeScores",
    "Scorer",
    "Scores",
    "print_scores",
    "score_documents",
    "score_tags",
]
