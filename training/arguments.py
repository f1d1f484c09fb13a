"""A run's settings as `transformers.TrainingArguments`."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from musamma.models.runtimes.torch import supports_bfloat16
from musamma.training.config import trainer_arguments
from musamma.training.pretraining.pretrain_config import PretrainConfig

_DEFAULTS: dict[str, Any] = {
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
    "logging_steps": 50,
    "optim": "adamw_torch_fused",
    # Every weight takes part in every step; looking for others costs time and forbids recomputation.
    "ddp_find_unused_parameters": False,
}


def training_arguments(config: PretrainConfig, work: Path, **changes: Any) -> TrainingArguments:
    """What the Trainer is given.

    Args:
        config: the run.
        work: the folder for checkpoints.
        changes: take the place of the configuration's ``trainer``.

    Raises:
        InputError: transformers does not take them together.
    """
    use_cpu = config.device == "cpu" or not torch.cuda.is_available()
    device = torch.device("cpu" if use_cpu else "cuda")
    settings: dict[str, Any] = {
        **_DEFAULTS,
        **config.trainer,
        **changes,
        "output_dir": str(work),
        "seed": config.seed,
        "data_seed": config.seed,
        "bf16": config.precision == "bfloat16" or (config.precision == "auto" and supports_bfloat16(device)),
        "use_cpu": use_cpu,
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "report_to": ["tensorboard"],
        "disable_tqdm": not sys.stderr.isatty(),
        "dataloader_pin_memory": not use_cpu,
    }
    return trainer_arguments(settings)


def steps_of(arguments: TrainingArguments, rows: int) -> int:
    """Steps of a run: ``max_steps``, or those of ``num_train_epochs`` passes over ``rows`` rows."""
    if arguments.max_steps > 0:
        return int(arguments.max_steps)
    each = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    return max(1, math.ceil(arguments.num_train_epochs * rows / each))
