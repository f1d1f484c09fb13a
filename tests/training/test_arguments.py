"""The Trainer's arguments: defaults, the configuration over them, and what the run sets itself over both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from musamma.data.errors import InputError
from musamma.training.arguments import count_steps, finetune_arguments, pretrain_arguments, rows_per_step
from musamma.training.config import RunConfig
from musamma.training.pretraining.pretrain_config import PretrainConfig


def finetune_config(**trainer: Any) -> RunConfig:
    content = {"encoder": "nawah", "data": {"train": "khabar"}, "output": "out", "device": "cpu", "trainer": trainer}
    return RunConfig.model_validate(content | {"precision": "float32"})


def pretrain_config(**trainer: Any) -> PretrainConfig:
    content = {"encoder": "nawah", "text": "news.txt", "output": "out", "device": "cpu", "trainer": trainer}
    return PretrainConfig.model_validate(content | {"precision": "bfloat16", "seed": 9})


def test_fine_tuning_evaluates_each_epoch_and_keeps_the_best(tmp_path: Path) -> None:
    arguments = finetune_arguments(finetune_config(logging_steps=7), seed=3, output_dir=tmp_path)
    assert (arguments.seed, arguments.data_seed, arguments.output_dir) == (3, 3, str(tmp_path))
    assert (arguments.eval_strategy, arguments.save_strategy, arguments.save_total_limit) == ("epoch", "epoch", 1)
    assert arguments.load_best_model_at_end
    assert (arguments.metric_for_best_model, arguments.greater_is_better) == ("eval_strict_f1", True)
    assert (arguments.train_sampling_strategy, arguments.length_column_name) == ("group_by_length", "length")
    assert (arguments.logging_steps, arguments.optim, arguments.bf16) == (7, "adamw_torch_fused", False)


def test_pre_training_reads_in_order_and_stages_override_the_configuration(tmp_path: Path) -> None:
    overrides = {"max_steps": 5, "eval_strategy": "no"}
    arguments = pretrain_arguments(pretrain_config(max_steps=12, eval_steps=3), output_dir=tmp_path)
    assert (arguments.seed, arguments.max_steps, arguments.eval_steps, arguments.eval_strategy) == (9, 12, 3, "steps")
    assert (arguments.learning_rate, arguments.warmup_steps, arguments.weight_decay) == (1e-4, 0.05, 0.01)
    assert (arguments.train_sampling_strategy, arguments.save_total_limit, arguments.bf16) == ("sequential", 2, True)
    stage = pretrain_arguments(pretrain_config(max_steps=12), output_dir=tmp_path, overrides=overrides)
    assert (stage.max_steps, stage.eval_strategy) == (5, "no")


def test_steps_are_given_or_follow_from_the_epochs(tmp_path: Path) -> None:
    arguments = pretrain_arguments(
        pretrain_config(num_train_epochs=1.5, per_device_train_batch_size=4, gradient_accumulation_steps=2),
        output_dir=tmp_path,
    )
    assert rows_per_step(arguments) == 8
    assert count_steps(arguments, 100) == 19  # 150 rows in steps of 8
    assert count_steps(pretrain_arguments(pretrain_config(max_steps=12), output_dir=tmp_path), 100) == 12


def test_a_run_reports_to_tensorboard_or_the_trackers_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reported(**trainer: Any) -> list[str]:
        return finetune_arguments(finetune_config(**trainer), seed=3, output_dir=tmp_path).report_to

    monkeypatch.setattr("musamma.training.arguments.find_spec", lambda name: None if name == "mlflow" else object())
    assert reported() == ["tensorboard"]
    assert reported(report_to="none") == []
    assert reported(report_to=["tensorboard", "wandb"]) == ["tensorboard", "wandb"]
    named = finetune_arguments(finetune_config(report_to="wandb"), seed=3, output_dir=tmp_path)
    assert (named.report_to, named.run_name) == (["wandb"], "out, seed 3")
    with pytest.raises(InputError) as missing:
        reported(report_to=["wandb", "mlflow"])
    assert str(missing.value) == (
        "trainer.report_to: mlflow, but the package mlflow is not installed; pip install mlflow, or leave it out"
    )


@pytest.mark.parametrize("value", ["all", ["none", "wandb"], ["codecarbon"], [], None, ""])
def test_other_trackers_are_refused(value: Any) -> None:
    with pytest.raises(
        ValueError, match=r"'report_to' is .*Input should be 'none', or one or more of 'tensorboard', 'wandb'"
    ):
        finetune_config(report_to=value)


def test_pre_training_reports_to_tensorboard_alone(tmp_path: Path) -> None:
    assert pretrain_arguments(pretrain_config(), output_dir=tmp_path).report_to == ["tensorboard"]
    with pytest.raises(ValueError, match="'report_to' is set by the run"):
        pretrain_config(report_to="wandb")


def test_arguments_that_transformers_rejects_are_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trainer: steep is not a valid SchedulerType"):
        finetune_arguments(finetune_config(lr_scheduler_type="steep"), seed=1, output_dir=tmp_path)
