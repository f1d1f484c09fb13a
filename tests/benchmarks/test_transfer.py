"""``benchmarks/transfer.py`` with a stand-in for the tagger."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from benchmarks import transfer
from musamma.data.document import Document, write_jsonl
from tests.support import span


def test_sentences_of_the_scored_share_are_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gold = tmp_path / "gold.jsonl"
    texts = [f"جملة {number} من بغداد" for number in range(20)]
    write_jsonl([Document(str(n), text, (span(text, "بغداد", "LOC"),)) for n, text in enumerate(texts)], gold)
    tagged: list[Document] = []

    class FakeTagger:
        def __init__(self, model: str) -> None:
            pass

        def tag_documents(self, documents: Iterable[Document]) -> Iterator[Document]:
            for document in documents:
                tagged.append(document)
                yield document.with_spans([span(document.text, "بغداد", "LOC")])

    monkeypatch.setattr(transfer, "Tagger", FakeTagger)

    def run(*options: str) -> str:
        tagged.clear()
        monkeypatch.setattr(sys, "argv", ["transfer.py", "model", "--gold", str(gold), "--share", "0.5", *options])
        transfer.main()
        return capsys.readouterr().out

    assert "on 10 documents" in run()
    assert [document.text for document in tagged] == texts[10:]
    output = run("--group", "6")
    assert [document.text for document in tagged] == ["\n".join(texts[10:16]), "\n".join(texts[16:])]
    assert "on 2 documents" in output
    # The first of the names of each group is found.
    assert output.split("strict ")[1].split()[:4] == ["100.00", "20.00", "33.33", "10"]
    with pytest.raises(SystemExit):
        run("--group", "0")
    assert "--group 0; expected 1 or more" in capsys.readouterr().err
