"""`transformers.TrainingArguments` for fine-tuning, distillation and pre-training."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from musamma.data.errors import InputError, one_line
from musamma.models.runtimes.torch import supports_bfloat16
from musamma.training.config import RunConfig
from musamma.training.distillation.distill_config import DistillConfig
from musamma.training.pretraining.pretrain_config import PretrainConfig
from musamma.training.trainer_section import TRACKERS

#: The metric that selects the best checkpoint of a fine-tuning run: `SpanTrainer.evaluate` computes it.
BEST_METRIC = "eval_strict_f1"
#: The column by which the sampler of fine-tuning groups windows.
LENGTH_COLUMN = "length"

_SHARED_DEFAULTS: dict[str, Any] = {
    "logging_steps": 50,
    "report_to": ["tensorboard"],
    "optim": "adamw_torch_fused",
    # A loss that is not finite ends the run (`FiniteTrainer`). The Trainer would log another number in its place.
    "logging_nan_inf_filter": False,
    # Every weight takes part in every step. The search for unused ones costs time and rules out recomputation.
    "ddp_find_unused_parameters": False,
}
_FINETUNE_DEFAULTS: dict[str, Any] = {
    **_SHARED_DEFAULTS,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 1,
    "train_sampling_strategy": "group_by_length",
    "length_column_name": LENGTH_COLUMN,
}
_PRETRAIN_DEFAULTS: dict[str, Any] = {
    **_SHARED_DEFAULTS,
    "num_train_epochs": 1,
    "learning_rate": 1e-4,
    "warmup_steps": 0.05,
    "weight_decay": 0.01,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 16,
    "eval_strategy": "steps",
    "eval_steps": 500,
    "save_strategy": "steps",
    "save_steps": 500,
    "save_total_limit": 2,
}


def finetune_arguments(config: RunConfig | DistillConfig, *, seed: int, output_dir: Path) -> TrainingArguments:
    """Build the Trainer's arguments for one seed of a fine-tuning or distillation run.

    Args:
        config: the run.
        seed: the seed.
        output_dir: folder for checkpoints.

    Raises:
        InputError: transformers rejects the arguments, or the package of an experiment tracker is missing.
    """
    check_trackers(config.trainer.get("report_to"))
    names = {"run_name": f"{Path(config.output).name}, seed {seed}"}
    best_checkpoint = {"metric_for_best_model": BEST_METRIC, "greater_is_better": True, "load_best_model_at_end": True}
    return _build_arguments(
        config, {**_FINETUNE_DEFAULTS, **names, **config.trainer, **best_checkpoint}, seed, output_dir
    )


def check_trackers(report_to: str | list[str] | None) -> None:
    """Check that the packages of the experiment trackers are installed.

    Args:
        report_to: the value of `trainer.report_to`.

    Raises:
        InputError: a package is missing.
    """
    for name in [report_to] if isinstance(report_to, str) else report_to or ():
        if name in TRACKERS and find_spec(name) is None:
            raise InputError(
                f"{name}, but the package {name} is not installed",
                where="trainer.report_to",
                remedy=f"pip install {name}, or leave it out",
            )


def pretrain_arguments(
    config: PretrainConfig, *, output_dir: Path, overrides: Mapping[str, Any] | None = None
) -> TrainingArguments:
    """Build the Trainer's arguments for one stage of a pre-training run.

    Args:
        config: the run.
        output_dir: folder for checkpoints.
        overrides: arguments that replace those of ``config.trainer``.

    Raises:
        InputError: transformers rejects the arguments.
    """
    # `RowSchedule` defines the order of the rows.
    sampling = {"train_sampling_strategy": "sequential"}
    settings = {**_PRETRAIN_DEFAULTS, **config.trainer, **(overrides or {}), **sampling}
    return _build_arguments(config, settings, config.seed, output_dir)


def _build_arguments(
    config: RunConfig | DistillConfig | PretrainConfig, settings: Mapping[str, Any], seed: int, output_dir: Path
) -> TrainingArguments:
    use_cpu = config.device == "cpu" or not torch.cuda.is_available()
    device = torch.device("cpu" if use_cpu else "cuda")
    fixed: dict[str, Any] = {
        "output_dir": str(output_dir),
        "seed": seed,
        "data_seed": seed,
        "bf16": config.precision == "bfloat16" or (config.precision == "auto" and supports_bfloat16(device)),
        "use_cpu": use_cpu,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "disable_tqdm": not sys.stderr.isatty(),
        "dataloader_pin_memory": not use_cpu,
    }
    try:
        return TrainingArguments(**{**settings, **fixed})
    except (ValueError, TypeError, ImportError) as error:
        raise InputError(
            one_line(error),
            where="trainer",
            expected="arguments that transformers.TrainingArguments accepts",
        ) from error


def rows_per_step(arguments: TrainingArguments) -> int:
    """Return the number of rows in an optimizer step, over all processes and accumulated batches."""
    return arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size


def count_steps(arguments: TrainingArguments, rows: int) -> int:
    """Return the number of steps of a run: ``max_steps``, or ``num_train_epochs`` passes over ``rows`` rows."""
    if arguments.max_steps > 0:
        return int(arguments.max_steps)
    return max(1, math.ceil(arguments.num_train_epochs * rows / rows_per_step(arguments)))
