"""Khabar's JSON lines: equal to the articles, and loaded by `datasets`."""

from __future__ import annotations

import shutil
from pathlib import Path

import datasets
import pytest

from musamma.data.corpora import load_khabar, release
from musamma.data.corpus_files import read_documents
from musamma.data.document import Document, Span
from musamma.data.errors import InputError

FOLDER = Path(__file__).parents[2] / "data" / "corpora" / "khabar"


@pytest.mark.parametrize("part", release.PARTS)
def test_the_files_match_the_articles(part: str) -> None:
    path = FOLDER / "jsonl" / f"{part}.jsonl"
    assert path.read_bytes() == b"".join(release.format_lines(load_khabar(part))), (
        "run python -m musamma.data.corpora.release"
    )
    read = list(read_documents(path))
    assert [(d.id, d.text, d.spans, d.nested) for d in read] == [
        (d.id, d.text, d.spans, d.nested) for d in load_khabar(part)
    ]


def test_datasets_loads_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a copy, so that loading leaves nothing in the corpus.
    shutil.copytree(FOLDER / "jsonl", tmp_path / "khabar" / "jsonl")
    shutil.copy(FOLDER / "README.md", tmp_path / "khabar")
    loaded = datasets.load_dataset(str(tmp_path / "khabar"), cache_dir=str(tmp_path / "cache"))
    for split, part in (("train", "train"), ("validation", "dev"), ("test", "test")):
        rows, articles = loaded[split], load_khabar(part)
        assert rows["id"] == [article.id for article in articles]
        assert rows["text"] == [article.text for article in articles]
        for row, article in zip(rows, articles, strict=True):
            assert [Span(**span) for span in row["spans"]] == list(article.spans)
            assert [Span(**span) for span in row["nested"]] == list(article.nested)
            assert row["meta"]["topic"] == article.meta["topic"]


def test_a_new_header_key_is_an_error() -> None:
    with pytest.raises(InputError, match="header key 'mood'"):
        release.to_record(Document("a", "نص", meta={"mood": "calm"}))


def test_an_article_in_no_part_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = load_khabar()
    monkeypatch.setattr(release, "load_khabar", lambda part=None: everything if part is None else everything[:2])
    with pytest.raises(InputError, match="not in exactly one part"):
        release.write_release(tmp_path)
    assert list(tmp_path.iterdir()) == []
