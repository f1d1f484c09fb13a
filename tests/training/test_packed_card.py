"""The card of a packed checkpoint, with values computed by hand."""

from __future__ import annotations

from typing import Any

from huggingface_hub import ModelCard

from musamma.models.calibration import Calibration
from musamma.training.packed_card import PackedCard, format_packed_card


def counts(f1: float, support: int) -> dict[str, Any]:
    return {"precision": 0.75, "recall": 0.5, "f1": f1, "support": support}


def report(f1: float, *, intervals: bool, nested: bool) -> dict[str, Any]:
    layers = {layer: {"micro": counts(0.25, 7)} for layer in ("outermost", "nested", "all")}
    bounds = {metric: [0.5, 0.625] for metric in ("precision", "recall", "f1")}
    return {
        "documents": 1234,
        "scores": {
            "micro": counts(f1, 5000),
            "per_label": {"PER": counts(0.5, 10), "LOC": counts(0.0, 0)},
            "whole_word": {"micro": counts(0.875, 5000)},
            "layers": layers if nested else {"outermost": layers["outermost"]},
        },
        "intervals": {"strict": bounds, "strict/PER": bounds, "whole_word": bounds} if intervals else {},
        "mistakes": {
            "kinds": {"correct": 9, "label": 1, "proclitic": 2, "border": 3, "label_and_border": 4, "missed": 5000},
            "confusion": {"labels": ["LOC", "PER"], "matrix": [[9, 1, 0], [7, 9, 2], [0, 3, 0]]},
        },
    }


def make_card(**changes: Any) -> str:
    values: dict[str, Any] = {
        "name": "tagger",
        "labels": ["PER", "LOC"],
        "encoder": "owner/encoder",
        "training": ["khabar", "news.jsonl"],
        "about": {"license": None, "sources": [], "training": None, "limits": None},
        "scores": {},
        "evaluations": {},
        "calibration": Calibration(),
        "packing": {
            **{
                "gold": "khabar (test)",
                "documents": 4,
                "names": 2013,
                "before": 0.8,
                "after": 0.8004,
                "agreeing": 0.99,
            },
            **{"bytes_before": 118_700_000, "bytes_after": 30_040_000},
        },
    }
    return format_packed_card(PackedCard(**(values | changes)))


def test_scores_have_their_intervals_layers_and_errors() -> None:
    reports = {"news": report(0.5625, intervals=True, nested=True), "wiki": report(0.6, intervals=False, nested=False)}
    text = make_card(evaluations=reports)
    results = [(result.dataset_name, result.metric_value) for result in ModelCard(text).data.eval_results]
    assert results == [("news", 0.5625), ("wiki", 0.6)]
    lines = text.splitlines()
    for table in (
        [
            "| part | documents | names | precision | recall | F1 | F1, whole words |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
            "| news | 1,234 | 5,000 | 75.0 [50.0, 62.5] | 50.0 [50.0, 62.5] | 56.2 [50.0, 62.5] | 87.5 [50.0, 62.5] |",
            "| wiki | 1,234 | 5,000 | 75.0 | 50.0 | 60.0 | 87.5 |",
            "",
        ],
        [
            "| part | outermost names | names inside names | all |",
            "| --- | ---: | ---: | ---: |",
            "| news | 25.0 (7) | 25.0 (7) | 25.0 (7) |",
            "",
        ],
        [
            "| label | news | wiki |",
            "| --- | ---: | ---: |",
            "| PER | 50.0 [50.0, 62.5] (10) | 50.0 (10) |",
            "| LOC |  |  |",
            "",
        ],
        [
            "| part | missed | spurious | wrong label | wrong border | proclitic only | label and border |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
            "| news | 5,000 | 0 | 1 | 3 | 2 | 4 |",
        ],
        ["news, labels taken for others: PER as LOC (7), LOC as PER (1)"],
    ):
        start = lines.index(table[0])
        assert lines[start : start + len(table)] == table


def test_a_card_says_what_is_known_and_nothing_else() -> None:
    text = make_card()
    assert "base_model: owner/encoder" in text
    assert (
        "\n## Data\n\nTraining files: `khabar`, `news.jsonl`.\n\n## Training\n\nThe settings are in `run.yaml`.\n"
        in text
    )
    assert (
        "30.0 MB instead of\n118.7. They are loaded as float32. On khabar (test), 2,013 names, F1 in float32 was 80.00 before and is 80.04\n"
        "after; 99.00% of the names found agree.\n\n" in text
    )
    assert text.endswith("output alone.\n")
    assert "\n\n\n" not in text
    assert "base_model" not in make_card(encoder="folder")


def test_a_count_that_no_corpus_has_is_no_column() -> None:
    sources = [
        {"name": "News", "license": "MIT", "url": None, "documents": 1200, "names": None, "note": None},
        {"name": "Blogs", "license": "MIT", "url": None, "documents": None, "names": None, "note": None},
    ]
    about = {"license": None, "sources": sources, "training": None, "limits": None}
    table = "| corpus | licence | documents |\n| --- | --- | ---: |\n| News | MIT | 1,200 |\n| Blogs | MIT |  |\n\n"
    assert table in make_card(about=about)


def test_the_training_time_is_that_of_every_seed() -> None:
    seeds = [{"seed": seed, "seconds": 60 * minutes} for seed, minutes in ((1, 9.78), (2, 21.34), (5, 21.29))]
    text = make_card(scores={"best_seed": 5, "seeds": seeds})
    expected = "Training took 9.8, 21.3 and 21.3 minutes with the seeds 1, 2 and 5. The settings"
    assert f"\n## Training\n\n{expected}" in text
    assert "\nTraining took 9.8 minutes. The settings" in make_card(scores={"best_seed": 1, "seeds": seeds[:1]})
