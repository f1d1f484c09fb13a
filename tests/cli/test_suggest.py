"""``musamma suggest``: its files are read back, and its mistakes are one line each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from musamma.cli.main import run
from musamma.data.corpora import load_khabar
from musamma.data.corpus_files import ReadOptions, read_documents
from musamma.data.document import Document, write_jsonl
from musamma.data.import_audit import ImportAudit


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts of ten articles, one with an emoji before its names."""
    folder = tmp_path_factory.mktemp("pool")
    documents = [Document(article.id, f"😀 {article.text[:200]}") for article in load_khabar("dev")[:10]]
    write_jsonl(documents, folder / "pool.jsonl")
    return folder / "pool.jsonl"


def call(model: str, *arguments: object) -> int:
    return run(["suggest", *map(str, arguments), "--model", model, "--device", "cpu"])


@pytest.mark.parametrize(
    ("name", "options"),
    [("tasks.jsonl", ()), ("tasks.json", ()), ("tasks.jsonl", ("--format", "doccano"))],
)
def test_tasks_are_read_back(model, pool, tmp_path, capsys, name, options):
    output = tmp_path / name
    assert call(model, pool, "--count", 4, "--output", output, *options) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[0] == f"4 of 10 texts by confidence: {output}"
    expected = tmp_path / "expected.jsonl"
    assert call(model, pool, "--count", 4, "--output", expected) == 0
    tasks = list(read_tasks(output))
    wanted = list(read_documents(expected))
    assert [task.id for task in tasks] == [document.id for document in wanted]
    for task, document in zip(tasks, wanted, strict=True):
        assert task.text == document.text
        assert [span.key for span in task.spans] == [span.key for span in document.spans]
        is_prediction = output.suffix == ".json"
        assert task.meta == {**document.meta, **({"model_version": model} if is_prediction else {})}
        if is_prediction:
            assert task.spans == document.spans
        assert set(task.meta["suggestion"]) == {"rank", "score", "measure", "reason"}
    assert any(task.spans for task in tasks)


def read_tasks(path: Path) -> list[Document]:
    return list(read_documents(path, options=ReadOptions(predictions="only"), audit=ImportAudit()))


def test_every_input_of_predict_is_a_pool(model, pool, tmp_path, capsys):
    texts = tmp_path / "texts"
    texts.mkdir()
    rows = []
    for number, line in enumerate(pool.read_text(encoding="utf-8").splitlines()):
        text = json.loads(line)["text"]
        (texts / f"{number}.txt").write_text(text, encoding="utf-8")
        rows.append('"' + text.replace('"', '""') + '"\n')
    (texts / "notes.pdf").write_bytes(b"%PDF")
    table = tmp_path / "pool.csv"
    table.write_text("body\n" + "".join(rows), encoding="utf-8")
    assert call(model, texts, "--count", 3, "--output", tmp_path / "a.jsonl") == 0
    assert "1 files of other types in the input folders were not read" in capsys.readouterr().err
    assert call(model, table, "--text-column", "body", "--count", 3, "--output", tmp_path / "b.jsonl") == 0
    first, second = (read_tasks(tmp_path / name) for name in ("a.jsonl", "b.jsonl"))
    assert [task.text for task in first] == [task.text for task in second]


def test_a_pool_smaller_than_the_count_is_said(model, pool, tmp_path, capsys):
    line = pool.read_text(encoding="utf-8").splitlines()[0]
    small = tmp_path / "small.jsonl"
    twice = json.loads(line) | {"id": "twice"}
    short = {"id": "short", "text": "نعم"}
    small.write_text("\n".join([line, json.dumps(twice), json.dumps(short), "{broken"]), encoding="utf-8")
    assert call(model, small, "--output", tmp_path / "tasks.jsonl", "--on-error", "skip") == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("1 of 1 texts by confidence: ")
    assert said[1] == "the pool has 1 texts to choose from, fewer than 50"
    assert said[2] == "1 texts left out that are annotated already or occur twice"
    assert said[3] == "1 texts of fewer than 5 words left out"
    assert said[4].startswith(f"1 records are not documents, e.g. {small}:4: ")


def test_mistakes_are_one_line(refused, model, pool, tmp_path):
    output = tmp_path / "tasks.json"
    arguments = ["suggest", pool, "--model", model, "--output", output]

    def refuse(*changes: object) -> str:
        line = refused(*arguments, *changes)
        assert not output.exists()
        return line

    assert "`diversity" not in refuse("--diversity", 2)
    assert refuse("--diversity", 2) == "--diversity 2; expected a number from 0 to 1"
    assert "--measure disagreement with one model" in refuse("--measure", "disagreement")
    assert "cannot hold the reasons" in refuse("--output", tmp_path / "tasks.conll")
    assert "no such file" in refused("suggest", tmp_path / "none", "--model", model, "--output", output)
    assert "an input is also the output" in refused("suggest", pool, "--model", model, "--output", pool)
    assert "no such file or folder" in refuse("--annotated", tmp_path / "none.jsonl")
    assert "no text to suggest among 10" in refuse("--min-words", 1000)
    assert "no text to suggest among 10, of which 10 are annotated already or copies" in refuse("--annotated", pool)
    assert "no such model" in refused("suggest", pool, "--model", "nothing", "--output", output)
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"id": "a", "text": "وصل"}\n{', encoding="utf-8")
    assert f"{broken}:2" in refused("suggest", broken, "--model", model, "--output", output)
