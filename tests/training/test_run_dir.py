"""The output folder: which earlier contents a run may touch, and from which checkpoint it resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.training.config import RunConfig
from musamma.training.run_dir import (
    check_inputs,
    check_output_folder,
    claim_output_folder,
    digest_documents,
    digest_weights,
    find_last_checkpoint,
    lock_output_folder,
    read_seed_result,
)


@pytest.fixture
def config() -> RunConfig:
    return RunConfig.model_validate({"encoder": "nawah", "data": {"train": "khabar"}, "output": "out"})


def test_an_incomplete_checkpoint_is_skipped_and_deleted(tmp_path: Path) -> None:
    for step, state in ((8, '{"global_step": 8}'), (16, '{"global_step": 16}'), (24, '{"global_')):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(state, encoding="utf-8")
    (tmp_path / "checkpoint-32").mkdir()
    assert find_last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-16", "checkpoint-8"]


def test_only_an_earlier_run_may_be_overwritten_and_only_the_same_run_resumed(
    config: RunConfig, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    check_output_folder(config, output, resume=False, overwrite=False)
    claim_output_folder(config, output, inputs={}, overwrite=False)
    with pytest.raises(InputError, match=r"an earlier run; continue it with `resume=True`"):
        check_output_folder(config, output, resume=False, overwrite=False)
    check_output_folder(config, output, resume=True, overwrite=False)
    # Another folder or more seeds do not make another run; other settings do.
    more = config.model_copy(update={"output": "elsewhere", "seeds": [1, 2]})
    check_output_folder(more, output, resume=True, overwrite=False)
    changed = config.model_copy(update={"proclitics": False, "layerwise_decay": 0.9})
    with pytest.raises(InputError, match="has other settings for proclitics, layerwise_decay"):
        check_output_folder(changed, output, resume=True, overwrite=False)
    check_output_folder(changed, output, resume=False, overwrite=True)

    (output / "run.yaml").rename(output / "notes.yaml")
    for options in ({"resume": True, "overwrite": False}, {"resume": False, "overwrite": True}):
        with pytest.raises(InputError, match="the folder holds other files"):
            check_output_folder(config, output, **options)
    check_output_folder(config, output, resume=False, overwrite=False, ignore=["notes.yaml", "inputs.json"])


@pytest.mark.parametrize(("key", "other"), [("nested", True), ("layerwise_decay", 0.9), ("encoding", {"overlap": 32})])
def test_a_key_that_the_recorded_run_lacks_counts_as_its_default(
    config: RunConfig, tmp_path: Path, key: str, other: object
) -> None:
    record = yaml.safe_load(config.to_yaml())
    del record[key]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(record), encoding="utf-8")
    check_output_folder(config, tmp_path, resume=True, overwrite=False)
    changed = RunConfig.model_validate({**yaml.safe_load(config.to_yaml()), key: other})
    with pytest.raises(InputError, match=f"other settings for {key};"):
        check_output_folder(changed, tmp_path, resume=True, overwrite=False)


@pytest.mark.parametrize(
    ("path", "other"),
    [
        (("encoding", "overlap"), 32),
        (("data", "group"), 2),
        (("data", "train", 0, "sampling_factor"), 2.0),
        (("data", "train", 0, "nested"), True),
        (("lora", "alpha"), 8.0),
    ],
)
def test_a_key_that_a_section_of_the_recorded_run_lacks_counts_as_its_default(
    tmp_path: Path, path: tuple[str | int, ...], other: object
) -> None:
    settings = {"encoder": "nawah", "data": {"train": [{"files": "khabar"}]}, "output": "out", "lora": {}}
    config = RunConfig.model_validate(settings | {"trainer": {"learning_rate": "1e-4"}})

    def section_of(record: Any) -> Any:
        for key in path[:-1]:
            record = record[key]
        return record

    record = yaml.safe_load(config.to_yaml())
    del section_of(record)[path[-1]]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(record), encoding="utf-8")
    check_output_folder(config, tmp_path, resume=True, overwrite=False)
    section_of(record)[path[-1]] = other
    with pytest.raises(InputError, match=f"other settings for {path[0]};"):
        check_output_folder(RunConfig.model_validate(record), tmp_path, resume=True, overwrite=False)


def test_settings_that_this_version_does_not_accept_are_other_settings(config: RunConfig, tmp_path: Path) -> None:
    record = yaml.safe_load(config.to_yaml())
    record["encoding"]["stride"] = 16
    del record["nested"]
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(record), encoding="utf-8")
    with pytest.raises(InputError, match="other settings for encoding;"):
        check_output_folder(config, tmp_path, resume=True, overwrite=False)


@pytest.mark.parametrize("content", [b"encoder: [", b"", b"- nawah", b"encoder: \xff", b"\0"])
def test_a_run_whose_settings_are_damaged_can_only_be_overwritten(
    config: RunConfig, tmp_path: Path, content: bytes
) -> None:
    claim_output_folder(config, tmp_path, inputs={}, overwrite=False)
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(InputError, match=r"run.yaml: not the settings of a run: .*; start over with `overwrite=True`$"):
        check_output_folder(config, tmp_path, resume=True, overwrite=False)
    check_output_folder(config, tmp_path, resume=False, overwrite=True)


@pytest.mark.parametrize("content", ["{", "[]", '{"seconds": 1}'])
def test_the_damaged_scores_of_a_seed_are_named(tmp_path: Path, content: str) -> None:
    assert read_seed_result(1, tmp_path) is None
    (tmp_path / "scores.json").write_text(content, encoding="utf-8")
    with pytest.raises(
        InputError, match=r"scores.json: not the scores of a seed: .*; delete the file to train the seed"
    ):
        read_seed_result(1, tmp_path)


def test_overwriting_deletes_everything_but_the_retained_entries(config: RunConfig, tmp_path: Path) -> None:
    claim_output_folder(config, tmp_path, inputs={}, overwrite=False)
    (tmp_path / "text").mkdir()
    (tmp_path / "log.jsonl").touch()
    claim_output_folder(config, tmp_path, inputs={}, overwrite=True, retain=["text"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inputs.json", "run.yaml", "text"]


def test_a_run_is_resumed_with_the_inputs_it_was_started_with(
    config: RunConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inputs = {"training data": "a", "test data": "b", "encoder": "c"}
    check_inputs(inputs, tmp_path)  # no run yet
    claim_output_folder(config, tmp_path, inputs=inputs, overwrite=False)
    check_inputs(inputs, tmp_path)
    with pytest.raises(
        InputError, match=r"changed since the run was started: training data, encoder; .*overwrite=True"
    ):
        check_inputs({"training data": "x", "test data": "b", "encoder": "y"}, tmp_path)
    for damaged in ("{", "[]"):
        (tmp_path / "inputs.json").write_text(damaged, encoding="utf-8")
        with pytest.raises(InputError, match="not the digests of a run"):
            check_inputs(inputs, tmp_path)
    # A run of an earlier version.
    assert caplog.messages == []
    (tmp_path / "inputs.json").unlink()
    check_inputs(inputs, tmp_path)
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path / 'inputs.json'}: no such file, so it cannot be checked")


def test_a_digest_is_of_all_that_is_learnt_and_of_nothing_else() -> None:
    spans = (Span(0, 4, "PER"), Span(5, 9, "LOC"))
    documents = [Document("a", "سامي غزةة", spans), Document("b", "\ud800", ())]
    digest = digest_documents(documents)
    assert digest == digest_documents([Document("a", "سامي غزةة", spans, meta={"source": "x"}), documents[1]])
    for changed in (
        [documents[1], documents[0]],
        [documents[0]],
        [Document("c", "سامي غزةة", spans), documents[1]],
        [Document("a", "سامي غزات", spans), documents[1]],
        [Document("a", "سامي غزةة", spans[:1]), documents[1]],
        [Document("a", "سامي غزةة", (spans[0], Span(5, 8, "LOC"))), documents[1]],
        [Document("a", "سامي غزةة", (spans[0], Span(5, 9, "GPE"))), documents[1]],
    ):
        assert digest_documents(changed) != digest

    module = torch.nn.Linear(2, 2)
    digest = digest_weights(module)
    assert digest_weights(module) == digest
    with torch.no_grad():
        module.bias[1] += 1e-3
    assert digest_weights(module) != digest
    assert digest_weights(module.bfloat16()) != digest


def test_overwriting_keeps_an_output_folder_that_is_a_link(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a").touch()
    output = tmp_path / "out"
    output.symlink_to("far")
    claim_output_folder(config, output, inputs={}, overwrite=False)
    (output / "seed-1").mkdir()
    (output / "linked").symlink_to(tmp_path / "text")
    claim_output_folder(config, output, inputs={}, overwrite=True)
    assert output.is_symlink()
    assert sorted(path.name for path in (tmp_path / "far").iterdir()) == ["inputs.json", "run.yaml"]
    assert (tmp_path / "text" / "a").exists()


def test_an_output_folder_is_locked_while_a_run_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs that train into one folder would mix their checkpoints."""
    with lock_output_folder(tmp_path):
        with (
            pytest.raises(InputError, match=f"{tmp_path}: another run is writing it; expected one run at a time"),
            lock_output_folder(tmp_path),
        ):
            raise AssertionError("locked twice")
        # The other processes that torchrun starts belong to the run that holds the lock.
        monkeypatch.setenv("RANK", "1")
        with lock_output_folder(tmp_path):
            pass
        monkeypatch.delenv("RANK")
    with lock_output_folder(tmp_path):
        pass
