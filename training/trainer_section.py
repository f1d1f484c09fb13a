"""The section of a configuration with arguments for `transformers.TrainingArguments`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from transformers import TrainingArguments

from musamma.training.config_fields import NOT_FINITE, describe_boolean, non_finite_values

#: Trainer arguments that the run sets itself, each with the configuration key to use instead, if there is one.
RESERVED_ARGUMENTS: dict[str, str | None] = {
    "output_dir": "output",
    "seed": "seeds",
    "data_seed": "seeds",
    "logging_dir": "output",
    "remove_unused_columns": None,
    "metric_for_best_model": None,
    "greater_is_better": None,
    "load_best_model_at_end": None,
    "bf16": "precision",
    "fp16": "precision",
    "use_cpu": "device",
    "disable_tqdm": None,
    "resume_from_checkpoint": "resume",
}

#: Values of `trainer.report_to`, each also the name of the package it needs.
TRACKERS = ("tensorboard", "wandb", "mlflow")

# Trainer arguments that are numbers, with the values they may have. transformers checks few of them: it trains on a batch
# size of 0 as well as on a learning rate of infinity, and calls the result a success.
_POSITIVE = {"gt": 0}
_COUNT = {"ge": 1}
_NOT_NEGATIVE = {"ge": 0}
_SHARE = {"ge": 0, "lt": 1}
_BOUNDS: dict[str, dict[str, Any]] = {
    "adam_beta1": _SHARE,
    "adam_beta2": _SHARE,
    "adam_epsilon": _POSITIVE,
    "dataloader_num_workers": _NOT_NEGATIVE,
    "dataloader_prefetch_factor": _COUNT,
    "ddp_bucket_cap_mb": _COUNT,
    "ddp_timeout": _COUNT,
    "eval_accumulation_steps": _COUNT,
    "eval_delay": _NOT_NEGATIVE,
    "eval_steps": _POSITIVE,
    "gradient_accumulation_steps": _COUNT,
    "label_smoothing_factor": _SHARE,
    "learning_rate": _POSITIVE,
    "logging_steps": _POSITIVE,
    "max_grad_norm": _NOT_NEGATIVE,
    "max_steps": {"ge": -1},
    "neftune_noise_alpha": _NOT_NEGATIVE,
    "num_train_epochs": _POSITIVE,
    "per_device_eval_batch_size": _COUNT,
    "per_device_train_batch_size": _COUNT,
    "save_steps": _POSITIVE,
    "save_total_limit": _NOT_NEGATIVE,
    "torch_empty_cache_steps": _COUNT,
    "warmup_steps": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
}


def parse_trainer_section(section: dict[str, Any], *, reserved: Mapping[str, str | None]) -> dict[str, Any]:
    """Check a section for `transformers.TrainingArguments` and convert its values to the declared types.

    Args:
        section: names and values.
        reserved: names that the run sets itself, each with the key to use instead.

    Raises:
        ValueError: names are unknown or reserved, or values have the wrong type or are out of range; the message lists
            all of them.
    """
    known = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    problems = [f"unknown key {key!r}" for key in section if key not in known]
    for key, instead in reserved.items():
        if key in section:
            problems.append(f"{key!r} is set by the run" + (f", use {instead!r}" if instead else ""))
    hints = get_type_hints(TrainingArguments)
    parsed = dict(section)
    for key in section:
        if key not in known or key in reserved:
            continue
        # YAML reads 1e-4 as a string and no as false; transformers checks neither.
        try:
            typed = _parse_argument(key, section[key], hints[key])
            if typed != section[key] or isinstance(typed, int):
                parsed[key] = typed
        except ValidationError as error:
            problems.append(f"{key!r} is {section[key]!r}: {error.errors()[0]['msg'].removeprefix('Value error, ')}")
        except ValueError as error:
            problems.append(f"{key!r} is {section[key]!r}: {error}")
    if problems:
        raise ValueError(", ".join(problems) + " (see transformers.TrainingArguments)")
    return parsed


def _parse_argument(key: str, value: Any, hint: Any) -> Any:
    """Convert a trainer argument to its type.

    Raises:
        ValueError: it has another type, or is out of range.
    """
    types = get_args(hint) or (hint,)
    if isinstance(value, bool) and bool not in types and (int in types or float in types):
        raise ValueError(describe_boolean(value))
    bounded = value is not None and key in _BOUNDS
    typed = TypeAdapter(Annotated[hint, Field(**_BOUNDS[key])] if bounded else hint).validate_python(value)
    if next(non_finite_values(typed), None) is not None:
        raise ValueError(NOT_FINITE)
    if key == "report_to" and typed != "none":
        names = [typed] if isinstance(typed, str) else typed
        if not names or not {*TRACKERS}.issuperset(names):
            raise ValueError(f"Input should be 'none', or one or more of {', '.join(map(repr, TRACKERS))}")
    if key == "max_steps" and typed == 0:
        raise ValueError("Input should be at least 1, or -1 for num_train_epochs")
    return typed


def _parse_tagger_arguments(value: dict[str, Any]) -> dict[str, Any]:
    return parse_trainer_section(value, reserved=RESERVED_ARGUMENTS)


#: Arguments for `transformers.TrainingArguments` in the training of a tagger.
TaggerArguments = Annotated[dict[str, Any], AfterValidator(_parse_tagger_arguments)]
