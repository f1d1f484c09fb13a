"""The report of an evaluation: a page for people, Markdown for pull requests, JSON for programs."""

from musamma.evaluation.report.folder import write_report

__all__ = ["write_report"]
