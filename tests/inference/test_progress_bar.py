"""Progress is shown on a terminal only."""

from __future__ import annotations

import io

import pytest

from musamma.data.document import Document
from musamma.inference.progress_bar import ProgressBar, show_progress

DOCUMENTS = [Document(str(number), "نص") for number in range(3)]


@pytest.mark.parametrize("terminal", [True, False])
def test_the_number_of_documents_is_shown_on_a_terminal_only(monkeypatch, terminal):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr("sys.stderr", stream)
    assert list(show_progress(iter(DOCUMENTS))) == DOCUMENTS
    assert ("3 documents" in stream.getvalue()) == terminal
    assert bool(stream.getvalue()) == terminal


@pytest.mark.parametrize("terminal", [True, False])
def test_the_progress_of_a_run_is_shown_on_a_terminal_only(monkeypatch, terminal):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("COLUMNS", "200")
    with ProgressBar(1000) as progress_bar:
        progress_bar.show(read=250, documents=10, names=1234, rejected=0)
        progress_bar.show(read=500, documents=20, names=2468, rejected=3)
    line = stream.getvalue().split("\r")[-1]
    assert bool(stream.getvalue()) == terminal
    if terminal:
        assert line.lstrip().startswith("50%")
        assert "500/1.00k" in line
        assert "documents=20" in line
        assert "documents/s=" in line
        assert "names=2,468" in line
        assert "rejected=3" in line
