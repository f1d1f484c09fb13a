"""Progress is shown where somebody looks."""

from __future__ import annotations

import io

import pytest

from musamma.data.document import Document
from musamma.inference.progress import counted

DOCUMENTS = [Document(str(number), "نص") for number in range(3)]


@pytest.mark.parametrize("terminal", [True, False])
def test_documents_are_counted_on_a_terminal_only(monkeypatch, terminal):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr("sys.stderr", stream)
    assert list(counted(iter(DOCUMENTS))) == DOCUMENTS
    assert ("3 documents" in stream.getvalue()) == terminal
    assert bool(stream.getvalue()) == terminal
