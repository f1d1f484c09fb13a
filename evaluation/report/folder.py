"""The files of a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from musamma.data.files import atomic_write, write_json
from musamma.evaluation.report.html_page import page
from musamma.evaluation.report.markdown import markdown

if TYPE_CHECKING:
    from musamma.evaluation.analysis import Analysis

#: The names of the files.
PAGE, MARKDOWN, JSON = "report.html", "report.md", "report.json"


def write_report(analysis: Analysis, folder: Path) -> None:
    """Write ``report.html``, ``report.md`` and ``report.json``; each appears only when it is whole.

    Args:
        analysis: what :func:`musamma.evaluation.analysis.analyse` gave.
        folder: where they go; it is made if it does not exist, and files of these names in it are replaced.

    Raises:
        InputError: a file cannot be written.
    """
    texts = {PAGE: page(analysis), MARKDOWN: markdown(analysis)}
    record = analysis.to_dict()
    for name, text in texts.items():
        with atomic_write(folder / name) as partial:
            partial.write_text(text, encoding="utf-8", newline="\n")
    write_json(record, folder / JSON)
