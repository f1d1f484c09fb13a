"""Report of an evaluation: an HTML page for people, Markdown for pull requests, JSON for programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from musamma.data.files import atomic_write, write_json
from musamma.evaluation.report.html_page import render_html
from musamma.evaluation.report.markdown import render_markdown

if TYPE_CHECKING:
    from musamma.evaluation.analysis import Analysis

__all__ = ["write_report"]


def write_report(analysis: Analysis, folder: Path) -> None:
    """Write ``report.html``, ``report.md`` and ``report.json``, each atomically.

    Args:
        analysis: the result of :func:`musamma.evaluation.analysis.analyse`.
        folder: the folder to write to, created if needed; earlier reports in it are replaced.

    Raises:
        InputError: a file cannot be written.
    """
    texts = {"report.html": render_html(analysis), "report.md": render_markdown(analysis)}
    record = analysis.to_dict()
    for name, text in texts.items():
        with atomic_write(folder / name) as partial:
            partial.write_text(text, encoding="utf-8", newline="\n")
    write_json(record, folder / "report.json")
