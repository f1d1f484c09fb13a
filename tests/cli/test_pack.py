"""``musamma pack`` and ``musamma unpack``: the folder and the card of a run, and the check against the run."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from safetensors.numpy import load_file, save_file

from musamma.cli.main import run
from musamma.data.corpus_files import write_documents
from musamma.data.document import Document
from musamma.inference import Tagger
from musamma.models.calibration import Calibration, write_calibration
from musamma.models.packed_weights import write_packed_checkpoint
from tests.support import write_random_checkpoint

ABOUT = """
license: cc-by-4.0
sources:
  - {name: News, license: CC BY 4.0, url: "https://news.invalid/", documents: 1200, names: 30000}
  - {name: Blogs, license: MIT, note: only the first half.}
training: On one core.
limits: No dialect was annotated.
"""


@pytest.fixture(scope="module")
def gold(known: list[Document], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gold") / "gold.jsonl"
    write_documents(known, path)
    return path


@pytest.fixture(scope="module")
def finished_run(checkpoint: Path, gold: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with everything that a card may say."""
    folder = Path(shutil.copytree(checkpoint, tmp_path_factory.mktemp("runs") / "run"))
    settings = {"encoder": "/home/someone/encoder", "data": {"train": ["khabar", "/home/someone/news.jsonl"]}}
    (folder / "run.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (folder / "scores.json").write_text(
        json.dumps({"best_seed": 2, "seeds": [{"seed": 1, "seconds": 9}, {"seed": 2, "seconds": 90}]}), encoding="utf-8"
    )
    (folder / "about.yaml").write_text(ABOUT, encoding="utf-8")
    (folder / "log.jsonl").write_text("{}", encoding="utf-8")
    calibration = Calibration(1.5, 1.25, {"PER": 0.5, "LOC": None, "ORG": 0.25}, 0.9, 10, 2000, 0.125, 0.0625)
    write_calibration(calibration, folder)
    report = folder / "evaluations/known"
    assert run(["evaluate", str(gold), "-m", str(folder), "--report", str(report), "--resamples", "40"]) == 0
    return folder


def test_a_packed_run_has_its_files_and_its_card(finished_run, gold, known, tmp_path, capsys) -> None:
    output = tmp_path / "tagger"
    capsys.readouterr()
    assert run(["pack", str(finished_run), str(output), "--gold", str(gold)]) == 0
    shown = capsys.readouterr().out.splitlines()
    result = (
        "F1 100.00 before, 100.00 after on 4 documents with 11 names of gold.jsonl; 100.00% of the names found agree"
    )
    assert shown[0] == result
    assert {path.name for path in output.iterdir()} >= {
        *("README.md", "config.json", "model-int8.safetensors", "packing.json", "proclitic_head.safetensors"),
        *("run.yaml", "scores.json", "tokenizer.json", "tokenizer_config.json"),
    }
    assert not {"about.yaml", "log.jsonl", "evaluations", "model.safetensors"} & {
        path.name for path in output.iterdir()
    }
    settings = yaml.safe_load((output / "run.yaml").read_text(encoding="utf-8"))
    assert settings == {"data": {"train": ["khabar", "news.jsonl"]}, "encoder": "encoder"}
    assert Tagger(str(output), thresholds=True).tag(known[0].text)
    record = json.loads((output / "packing.json").read_text(encoding="utf-8"))
    assert [record[key] for key in ("before", "after", "agreeing", "names", "documents")] == [1, 1, 1, 11, 4]
    assert record["bytes_after"] < record["bytes_before"]

    text = (output / "README.md").read_text(encoding="utf-8")
    card = ModelCard(text)
    assert (card.data.license, card.data.library_name) == ("cc-by-4.0", "musamma")
    assert [(result.dataset_name, result.metric_value) for result in card.data.eval_results] == [("known", 1.0)]
    lines = text.splitlines()
    for line in (
        "# tagger",
        'Tagger("tagger").tag("وصل الوفد إلى بيروت وبغداد")',
        "| [News](https://news.invalid/) | CC BY 4.0 | 1,200 | 30,000 |",
        "| Blogs | MIT |  |  |",
        "Blogs: only the first half.",
        "| label | known |",
        "| PER | ",
        "| known | 0 | 0 | 0 | 0 | 0 | 0 |",
        "| LOC | not reached |",
        "On one core. Training took 0.1 and 1.5 minutes with the seeds 1 and 2. The settings are in `run.yaml`.",
        "No dialect was annotated.",
    ):
        assert any(shown.startswith(line) for shown in lines), line
    assert "The expected calibration error there went from 0.125 to 0.062." in text
    assert "\n\n\n" not in text
    for heading in ("Data", "Scores", "Scores of names", "Errors", "Training", "Storage", "Limits"):
        assert f"\n\n## {heading}\n\n" in text
    for before, after in pairwise(lines):  # Tables are unbroken.
        assert not (after.startswith("| ---") and not before.startswith("| "))


def test_the_same_run_gives_the_same_bytes(finished_run, gold, tmp_path) -> None:
    for name in ("a/tagger", "b/tagger"):
        assert run(["pack", str(finished_run), str(tmp_path / name), "--gold", str(gold)]) == 0
    for file in (tmp_path / "a/tagger").iterdir():
        assert (tmp_path / "b/tagger" / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_bare_checkpoint_has_a_short_card(checkpoint, gold, tmp_path, refused) -> None:
    output = tmp_path / "tagger"
    call = ["pack", str(checkpoint), str(output), "--gold", str(gold)]
    assert run(call) == 0
    text = (output / "README.md").read_text(encoding="utf-8")
    assert "\n\n\n" not in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## Training", "## Storage", "## Limits"]
    assert refused(*call).startswith(f"{output}: holds a packed checkpoint; ")
    assert run([*call, "--overwrite"]) == 0
    assert refused("pack", output, tmp_path / "twice") == (
        f"{output}: is packed already; expected the folder that musamma train wrote"
    )
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/mine").touch()
    assert "is no packed checkpoint" in refused("pack", checkpoint, tmp_path / "plain", "--overwrite")
    assert refused("unpack", output, tmp_path / "plain") == (
        f"{tmp_path / 'plain'}: a folder with files in it; expected a folder that is new or empty; choose another OUTPUT"
    )


def test_a_run_whose_scores_change_is_not_packed(checkpoint, gold, tmp_path, refused, monkeypatch) -> None:
    monkeypatch.setattr(
        "musamma.models.packed_weights.quantize_blocks",
        lambda matrix: (np.zeros_like(matrix, dtype=np.int8), np.ones((len(matrix), 1), dtype=np.float16)),
    )
    message = refused("pack", checkpoint, tmp_path / "tagger", "--gold", gold, status=1)
    assert message.startswith("gold.jsonl: F1 100.00 before and ")
    assert message.endswith("on 11 names, but --max-f1-change allows 0.1; nothing was written")
    assert not (tmp_path / "tagger").exists()


@pytest.fixture(scope="module")
def nested_run(wordpiece_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("runs") / "nested", wordpiece_encoder, nested=["LOC", "PER"])


@pytest.fixture
def nested_gold(nested_run: Path, known: list[Document], tmp_path: Path) -> Path:
    """Documents with just the names that the run finds, some of them nested."""
    found = list(Tagger(str(nested_run), device="cpu", bfloat16=False).tag_documents(known))
    assert any(document.nested for document in found)
    write_documents(found, tmp_path / "nested.jsonl")
    return tmp_path / "nested.jsonl"


def test_nested_names_are_compared_too(nested_run, nested_gold, known, tmp_path, capsys) -> None:
    output = tmp_path / "tagger"
    call = ["pack", str(nested_run), str(output), "--max-f1-change", "100", "--gold"]
    assert run([*call, str(nested_gold)]) == 0
    record = json.loads((output / "packing.json").read_text(encoding="utf-8"))["nested"]
    assert record["before"] == record["all_before"] == 1
    shown = capsys.readouterr().out.splitlines()[1]
    scores = f"F1 100.00 before, {100 * record['after']:.2f} after on {record['names']} names; "
    agree = f"{100 * record['agreeing']:.2f}% of those found agree"
    assert shown == f"nested names: {scores}{agree}"
    assert f"On {record['names']} nested names, it was 100.00 before" in (output / "README.md").read_text("utf-8")
    # Without annotation there is no score of them to show.
    write_documents(known, tmp_path / "flat.jsonl")
    assert run([*call, str(tmp_path / "flat.jsonl"), "--overwrite"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"nested names: {agree}"
    assert "nested names, it" not in (output / "README.md").read_text("utf-8")


def test_a_run_whose_nested_names_change_is_not_packed(nested_run, nested_gold, tmp_path, refused, monkeypatch) -> None:
    def write_without_nested(source, config, weights, folder, *, prefix) -> None:
        write_packed_checkpoint(source, config, weights, folder, prefix=prefix)
        head = load_file(folder / "nested_head.safetensors")
        save_file({name: np.zeros_like(value) for name, value in head.items()}, folder / "nested_head.safetensors")

    # The weights as they are: the outermost names stay the same.
    monkeypatch.setattr("musamma.models.packed_weights._FEWEST_WEIGHTS", 1 << 40)
    monkeypatch.setattr("musamma.training.checkpoint_packing.write_packed_checkpoint", write_without_nested)
    message = refused("pack", nested_run, tmp_path / "tagger", "--gold", nested_gold, status=1)
    assert message.startswith("nested.jsonl: F1 100.00 before and ")
    assert message.endswith(" names, nested ones included, but --max-f1-change allows 0.1; nothing was written")
    assert not (tmp_path / "tagger").exists()


def test_a_wrong_about_file_is_an_error(checkpoint, gold, tmp_path, refused) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "run"))
    for content, message in (
        ("licence: mit", "licence: unknown key; known keys: license, sources, training, limits"),
        ("sources: [{name: A}]", "sources.0.license: Field required"),
        ("sources: [{licence: A}]", "known keys of sources.0: name, license, url, documents, names, note"),
        ("- mit", "about.yaml: a YAML list; expected keys and values"),
        ("sources: [", "about.yaml"),
    ):
        (folder / "about.yaml").write_text(content, encoding="utf-8")
        assert message in refused("pack", folder, tmp_path / "tagger", "--gold", gold)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.yaml", "", "not the settings of a run; expected the file that musamma train wrote"),
        ("run.yaml", "[nawah]", "not the settings of a run"),
        ("run.yaml", "data: news.jsonl", "not the settings of a run"),
        ("run.yaml", "encoder: 3", "not the settings of a run"),
        ("run.yaml", "encoder: [", "not readable as YAML"),
        ("scores.json", '{"seeds": 4}', "not the scores of a run; expected the file that musamma train wrote"),
        ("scores.json", '{"seeds": [{"seed": 1}]}', "not the scores of a run"),
        ("evaluations/dev/report.json", "{}", "no 'documents'; expected a report of musamma evaluate"),
    ],
)
def test_a_damaged_file_of_the_run_is_named(checkpoint, gold, tmp_path, refused, file, content, message) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "run"))
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(content, encoding="utf-8")
    line = refused("pack", folder, tmp_path / "tagger", "--gold", gold)
    assert line.startswith(f"{folder / file}")
    assert message in line
    assert not (tmp_path / "tagger").exists()


def test_unpack_writes_a_plain_checkpoint(checkpoint, gold, tmp_path, capsys) -> None:
    assert run(["pack", str(checkpoint), str(tmp_path / "tagger"), "--gold", str(gold)]) == 0
    capsys.readouterr()
    assert run(["unpack", str(tmp_path / "tagger"), str(tmp_path / "plain")]) == 0
    assert capsys.readouterr().out == f"written to {tmp_path / 'plain'}\n"
    assert (tmp_path / "plain/model.safetensors").is_file()
    packed_card, card = ((tmp_path / name / "README.md").read_text(encoding="utf-8") for name in ("tagger", "plain"))
    assert all(text in packed_card for text in ("library_name: musamma", "model-int8.safetensors", "musamma unpack"))
    assert all(text in card for text in ("library_name: transformers", "`model.safetensors`", "## Limits"))
    assert not any(text in card for text in ("library_name: musamma", "model-int8.safetensors", "musamma unpack"))
