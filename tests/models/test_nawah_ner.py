"""nawah-ner, the packaged tagger: its card says what its files say."""

import json

import pytest
import yaml
from huggingface_hub import ModelCard

from musamma.data.corpora import load_khabar
from musamma.models.model_names import packaged_models
from musamma.models.tokenizer_files import TOKENIZER_CONFIG_FILE

FOLDER = packaged_models()["nawah-ner"]
CARD = ModelCard((FOLDER / "README.md").read_text(encoding="utf-8"))


def read(name: str) -> dict:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def test_its_tokenizer_does_not_say_how_it_was_loaded() -> None:
    assert {"is_local", "local_files_only"}.isdisjoint(read(TOKENIZER_CONFIG_FILE))


def test_its_card_has_the_scores_of_packing_and_the_time_of_each_seed() -> None:
    text = " ".join(str(CARD).split())
    record, scores = read("packing.json"), read("scores.json")
    before, after, agreeing = (f"{100 * record[key]:.2f}" for key in ("before", "after", "agreeing"))
    assert f"{record['names']:,} names, F1 in float32 was {before} before and is {after} after; {agreeing}% of" in text
    *minutes, last = (f"{seed['seconds'] / 60:.1f}" for seed in scores["seeds"])
    assert f"Training took {', '.join(minutes)} and {last} minutes with the seeds 1, 2, 3 and 4." in text
    seeds = yaml.safe_load((FOLDER / "run.yaml").read_text(encoding="utf-8"))["seeds"]
    assert seeds == [seed["seed"] for seed in scores["seeds"]] == [1, 2, 3, 4]
    sizes = [f"{record[f'bytes_{side}'] / 1e6:.1f}" for side in ("after", "before")]
    assert f"{sizes[0]} MB instead of {sizes[1]}." in text
    weights = sum(file.stat().st_size for file in FOLDER.glob("*.safetensors"))
    assert record["bytes_after"] == weights


def test_the_scores_in_its_metadata_are_those_of_its_tables() -> None:
    lines = str(CARD).splitlines()
    for result in CARD.data.eval_results:
        (row,) = (line for line in lines if line.startswith(f"| {result.dataset_name} |") and line.count("[") == 4)
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        # Both are rounded, to two digits and to one.
        assert float(cells[5].split()[0]) == pytest.approx(100 * result.metric_value, abs=0.056)


def test_its_table_of_corpora_has_no_empty_column() -> None:
    lines = str(CARD).splitlines()
    start = lines.index("| corpus | licence | documents | names |")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start + 2 : start + 6]]
    documents = load_khabar("train")
    assert rows[0][2:] == [f"{len(documents):,}", f"{sum(len(document.spans) for document in documents):,}"]
    assert all(any(column) for column in zip(*rows, strict=True))
