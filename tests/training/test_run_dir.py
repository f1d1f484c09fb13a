"""The output folder: which earlier contents a run may touch, and from which checkpoint it resumes."""

from __future__ import annotations

from pathlib import Path

import pytest

from musamma.data.errors import InputError
from musamma.training.config import RunConfig
from musamma.training.run_dir import check_output_folder, claim_output_folder, find_last_checkpoint


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
    claim_output_folder(config, output, overwrite=False)
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
    check_output_folder(config, output, resume=False, overwrite=False, ignore=["notes.yaml"])


def test_overwriting_deletes_everything_but_the_retained_entries(config: RunConfig, tmp_path: Path) -> None:
    claim_output_folder(config, tmp_path, overwrite=False)
    (tmp_path / "text").mkdir()
    (tmp_path / "log.jsonl").touch()
    claim_output_folder(config, tmp_path, overwrite=True, retain=["text"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.yaml", "text"]
