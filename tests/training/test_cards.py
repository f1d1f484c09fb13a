"""Model cards: metadata of the hub, tables with values computed by hand, and an unbroken Markdown layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from musamma.data.document import Document, Span
from musamma.data.tags import TagSet
from musamma.training.cards import f1_rows, format_finetuned_card, format_mean_std, format_pretrained_card
from musamma.training.config import RunConfig
from musamma.training.dataset import Corpus
from musamma.training.pretraining.pretrain_config import PretrainConfig
from musamma.training.pretraining.pretrain_results import PretrainResult
from musamma.training.run_dir import SeedResult


def scores(f1: float, label_f1: float) -> dict[str, Any]:
    modes = {mode: {"micro": {"f1": f1 + 0.1}} for mode in ("whole_word", "iob2_strict", "conlleval", "overlap")}
    return {"micro": {"f1": f1}, "per_label": {"LOC": {"f1": label_f1, "support": 3}}} | modes


@pytest.fixture
def results() -> list[SeedResult]:
    """Two seeds, with development F1 of 70 and 72 per cent."""
    return [
        SeedResult(seed, Path(f"seed-{seed}"), 60.0, {"dev": scores(f1, f1), "test": scores(f1 - 0.2, 0.25)})
        for seed, f1 in ((1, 0.70), (2, 0.72))
    ]


@pytest.fixture
def card(results: list[SeedResult]) -> str:
    document = Document("a", "في بيروت", (Span(3, 8, "LOC"),))
    corpus = Corpus([document, document], [document], [document], TagSet.from_labels(["LOC"]))
    content = {"encoder": "owner/bert", "data": {"train": "a/news.jsonl", "test": "test.conll"}, "output": "runs/mine"}
    return format_finetuned_card(RunConfig.model_validate(content), corpus, results)


def test_means_and_sample_deviations_are_in_per_cent() -> None:
    # The deviations from the mean are -1, 0 and 1 per cent: the variance is 2 / (3 - 1).
    assert format_mean_std([0.70, 0.71, 0.72]) == "71.0 ± 1.0"
    assert format_mean_std([0.7512]) == "75.1"


def test_the_table_has_a_row_per_mode_and_a_cell_per_part(results: list[SeedResult]) -> None:
    rows = f1_rows(results)
    assert rows[0] == ["character-exact", "71.0 ± 1.4", "51.0 ± 1.4"]
    assert rows[1] == ["whole words", "81.0 ± 1.4", "61.0 ± 1.4"]
    assert [row[0] for row in rows[2:]] == ["IOB2, strict", "conlleval, lenient", "any overlap"]


def test_a_fine_tuned_card_has_its_scores_in_the_metadata(card: str) -> None:
    data = ModelCard(card).data
    assert (data.language, data.library_name, data.pipeline_tag) == ("ar", "transformers", "token-classification")
    assert data.base_model == "owner/bert"
    assert [(score.dataset_name, score.metric_type, score.metric_value) for score in data.eval_results] == [
        ("news.jsonl (dev)", "f1", 0.71),
        ("news.jsonl (test)", "f1", 0.51),
    ]
    header = yaml.safe_load(card.split("---")[1])
    assert header["model-index"][0]["name"] == "mine"


def test_a_fine_tuned_card_is_unbroken_markdown(card: str) -> None:
    lines = card.splitlines()
    start = lines.index("## Data")
    assert lines[start : lines.index("## Training")] == [
        "## Data",
        "",
        "- training: 2 documents, 2 names",
        "- dev: 1 documents, 1 names",
        "- test: 1 documents, 1 names",
        "- files: `news.jsonl`, `test.conll`",
        "",
        "## Scores: micro F1 in per cent, mean ± standard deviation of 2 seeds",
        "",
        "The development part was used to choose the epoch.",
        "",
        "| counted by | dev | test |",
        "| --- | --- | --- |",
        "| character-exact | 71.0 ± 1.4 | 51.0 ± 1.4 |",
        "| whole words | 81.0 ± 1.4 | 61.0 ± 1.4 |",
        "| IOB2, strict | 81.0 ± 1.4 | 61.0 ± 1.4 |",
        "| conlleval, lenient | 81.0 ± 1.4 | 61.0 ± 1.4 |",
        "| any overlap | 81.0 ± 1.4 | 61.0 ± 1.4 |",
        "",
        "| label (test, character-exact) | F1 | names |",
        "| --- | --- | --- |",
        "| LOC | 25.0 ± 0.0 | 3 |",
        "",
    ]
    assert card.endswith("\n")
    assert "\n\n\n" not in card


def test_a_pre_trained_card_has_its_metrics_in_table_and_metadata() -> None:
    config = PretrainConfig.model_validate(
        {"encoder": "nawah", "text": ["a/news.txt", "wiki.txt.gz"], "output": "runs/more", "objective": "rtd"}
    )
    first = {"mlm_loss": 7.0, "mlm_accuracy": 0.1, "rtd_loss": 0.5, "rtd_recall": 0.0, "rtd_precision": 0.0}
    last = {"mlm_loss": 4.56789, "mlm_accuracy": 0.3125, "rtd_loss": 0.25, "rtd_recall": 0.5, "rtd_precision": 0.75}
    result = PretrainResult(
        encoder="nawah",
        objective="rtd",
        steps=2000,
        tokens=8_000_000,
        passes=1.5,
        text={"paragraphs": 1200, "held_out_paragraphs": 6, "train_pieces": 40_000, "train_rows": 320},
        curve=[{"step": 0, "tokens": 0, **first}, {"step": 2000, "tokens": 8_000_000, **last}],
        milestones=[],
    )
    card = format_pretrained_card(config, result)
    data = ModelCard(card).data
    assert data.base_model is None
    assert {score.metric_type: score.metric_value for score in data.eval_results} == last | {"mlm_loss": 4.5679}
    assert "the detection of pieces that a 4-layer generator put in place of masked pieces" in card
    assert "- 1,200 paragraphs, 6 of them held out; 40,000 training pieces in 320 rows\n" in card
    assert "- training: 8,000,000 tokens in 2,000 steps, 1.50 passes over the text\n" in card
    assert "| --- | --- | --- | --- | --- | --- |\n| 0 | 7.000 | 10.0 % | 0.500 | 0.0 % | 0.0 % |\n" in card
    assert "| 8,000,000 | 4.568 | 31.2 % | 0.250 | 50.0 % | 75.0 % |\n\n## Training\n" in card
    assert "; its metrics of replaced pieces are those of a frozen generator.\n" in card
    assert "\n\n\n" not in card
