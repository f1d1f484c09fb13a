"""Training on noisy copies of the documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from musamma.data.document import Document, write_jsonl
from musamma.training.config import NoiseSection, RunConfig
from musamma.training.dataset import build_noisy_copies
from musamma.training.finetune import finetune
from tests.support import span

TEXT = "وصل أحمد إلى الإسكندرية"
DOCUMENTS = [
    Document(f"d{number}", TEXT, (span(TEXT, "أحمد", "PER"), span(TEXT, "الإسكندرية", "GPE"))) for number in range(40)
]


def test_copies_have_the_kinds_by_their_shares():
    copies = build_noisy_copies(DOCUMENTS, NoiseSection(copies=5, kinds={"no_hamza": 0.5, "ta_marbuta": 1.0}), seed=1)
    assert len(copies) == 200
    assert all("الإسكندريه" in copy.text or "الاسكندريه" in copy.text for copy in copies)
    assert 60 < sum("احمد" in copy.text for copy in copies) < 140
    assert {copy.id for copy in copies} == {document.id for document in DOCUMENTS}


def test_copies_without_noise_are_left_out():
    copies = build_noisy_copies(DOCUMENTS, NoiseSection(copies=5, kinds={"no_hamza": 0.5}), seed=1)
    assert 60 < len(copies) < 140
    assert {copy.text for copy in copies} == {"وصل احمد الى الاسكندرية"}


def test_copies_depend_on_the_seed():
    noise = NoiseSection(kinds={"no_hamza": 0.5})
    first, again, other = ([copy.id for copy in build_noisy_copies(DOCUMENTS, noise, seed=n)] for n in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"kinds": {"no_dots": 0.5}}, "unknown kind 'no_dots'; expected vowel_signs"),
        ({"kinds": {"no_hamza": 1.5}}, "less than or equal to 1"),
        ({"kinds": {}}, "at least 1 item"),
        ({"copies": 0}, "greater than or equal to 1"),
    ],
)
def test_mistakes_are_named(section: dict[str, Any], problem: str):
    with pytest.raises(ValidationError, match=problem):
        NoiseSection.model_validate(section)


@pytest.mark.parametrize("as_source", [False, True])
def test_a_run_learns_from_the_copies_and_counts_the_documents(
    wordpiece_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_source: bool
):
    monkeypatch.chdir(tmp_path)
    # A name in the middle of a word is one that tags cannot represent.
    odd = Document("odd", "قال محمدالسعيد", (span("قال محمدالسعيد", "السعيد", "PER"),))
    write_jsonl([*DOCUMENTS[:8], odd, *DOCUMENTS[8:12]], "train.jsonl")
    write_jsonl(DOCUMENTS[12:16], "dev.jsonl")
    train = [{"files": "train.jsonl", "dev": "dev.jsonl"}] if as_source else "train.jsonl"
    content = {
        "encoder": str(wordpiece_encoder),
        "data": {"train": train} | ({} if as_source else {"dev": "dev.jsonl"}),
        "output": "run",
        "noise": {"copies": 2, "kinds": {"no_hamza": 1.0}},
        "device": "cpu",
        "precision": "float32",
        "encoding": {"max_length": 64, "overlap": 16},
        "trainer": {"num_train_epochs": 1, "per_device_train_batch_size": 1, "logging_steps": 1},
    }
    finetune(RunConfig.model_validate(content))
    (seed,) = Path("run").glob("seed-1")
    steps = [json.loads(line) for line in (seed / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    # The odd document has no hamza to lose, but its copies count as noisy ones: 13 documents and 26 copies.
    assert max(record.get("step", 0) for record in steps) == 39
    card = (seed / "README.md").read_text(encoding="utf-8")
    assert "13 documents" in card
    assert "- 2 noisy copies of each training document, beside these: no_hamza\n- files" in card
    losses = [json.loads(line) for line in (seed / "losses.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [loss["id"].rpartition("/")[2] for loss in losses] == ["odd"]
