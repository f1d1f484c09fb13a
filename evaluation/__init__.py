"""Scoring of documents and of tags, in several modes at once."""

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
