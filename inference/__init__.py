"""Tagging: from articles to articles with names, from Python and in bulk."""

from musamma.inference.tagger import Tagger

__all__ = ["Tagger"]
