"""The run configuration: typed, every mistake reported at once, the resolved copy kept with the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from transformers import TrainingArguments

from musamma.data.errors import InputError

#: What a run sets by itself, so that a config cannot contradict it.
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
    "report_to": None,
    "resume_from_checkpoint": "--resume",
}


class ConfigSection(BaseModel):
    """A part of a configuration: no unknown keys, no later change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseConfig(ConfigSection):
    """A whole configuration, as it stands in a YAML file."""

    def to_yaml(self) -> str:
        """The resolved configuration, as it is saved with the run."""
        return yaml.safe_dump(self.model_dump(mode="json"), allow_unicode=True, sort_keys=False)


_AnySettings = TypeVar("_AnySettings", bound=BaseConfig)


class DataConfig(ConfigSection):
    """Where the annotated articles are.

    Args:
        train: files to train on, or the name of a corpus that comes with the project (``khabar``).
        dev: files to choose the best epoch on; without them ``dev_share`` is cut from the end of ``train``.
        dev_share: the share of the training documents, by position, that becomes the development part.
        test: files that are scored once, at the end.
        format: the files' format; guessed by default.
        labels: a label map, by name or file, applied to everything that is read.
        group: documents that follow each other to join into one, for corpora that are cut into sentences; the model then reads
            each with the text around it, in all parts.
    """

    train: list[str] = Field(min_length=1)
    dev: list[str] = []
    dev_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    test: list[str] = []
    format: str | None = None
    labels: str | None = None
    group: Annotated[int, Field(ge=1)] = 1

    @field_validator("train", "dev", "test", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class EncodingConfig(ConfigSection):
    """How documents are cut into windows: see `musamma.data.windows.DocumentTokenizer`."""

    max_length: Annotated[int, Field(ge=16)] = 256
    overlap: Annotated[int, Field(ge=0)] = 64


class RunConfig(BaseConfig):
    """One fine-tuning run.

    Args:
        encoder: a folder, a hub id, or an encoder that comes with the project (``nawah``).
        data: the articles.
        output: the folder for the checkpoint, its card and its scores.
        encoding: windows.
        labels: the entity types; by default those of the training documents.
        proclitics: learn where a name begins behind proclitics; for data labelled by whole words, false.
        encoder_config: changes to the encoder's own ``config.json``, such as its dropout.
        precision: ``auto`` computes in bfloat16 where the device does so in hardware.
        device: ``auto`` takes the GPU where there is one.
        layerwise_decay: factor on the learning rate from each layer to the one below (1.0: none).
        head_learning_rate: learning rate of the fresh heads; by default the encoder's.
        early_stopping_patience: evaluations without a better development F1 after which training ends.
        seeds: one run each.
        trainer: the section handed to `transformers.TrainingArguments`, by its own names.
    """

    encoder: str
    data: DataConfig
    output: str
    encoding: EncodingConfig = EncodingConfig()
    labels: list[str] | None = None
    proclitics: bool = True
    encoder_config: dict[str, Any] = {}
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu"] = "auto"
    layerwise_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    head_learning_rate: Annotated[float, Field(gt=0)] | None = None
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = None
    seeds: list[int] = Field(default=[1], min_length=1)
    trainer: dict[str, Any] = {}

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: list[int]) -> list[int]:
        if len(set(value)) != len(value):
            raise ValueError("a seed comes twice")
        return value

    @field_validator("trainer")
    @classmethod
    def _known_arguments(cls, value: dict[str, Any]) -> dict[str, Any]:
        return parse_trainer_section(value, own=RESERVED_ARGUMENTS)

    @model_validator(mode="after")
    def _overlap_fits(self) -> RunConfig:
        if self.encoding.overlap * 2 > self.encoding.max_length:
            raise ValueError(
                f"encoding.overlap {self.encoding.overlap} is more than half of encoding.max_length {self.encoding.max_length}"
            )
        return self


def trainer_arguments(settings: dict[str, Any]) -> TrainingArguments:
    """The Trainer's arguments.

    Raises:
        InputError: transformers does not take them, or not together.
    """
    try:
        return TrainingArguments(**settings)
    except (ValueError, TypeError, ImportError) as error:
        raise InputError(
            " ".join(str(error).split()),
            where="trainer",
            expected="what transformers.TrainingArguments takes",
        ) from error


def parse_trainer_section(value: dict[str, Any], *, own: dict[str, str | None]) -> dict[str, Any]:
    """The section for `transformers.TrainingArguments`, each value as the type that belongs to it.

    Args:
        value: the section.
        own: names that the run sets by itself, with the key that is to be used instead.

    Raises:
        ValueError: a name is unknown or the run's own, or a value has the wrong type; all are named.
    """
    known = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    problems = [f"unknown key {key!r}" for key in value if key not in known]
    for key, instead in own.items():
        if key in value:
            problems.append(f"{key!r} is set by the run" + (f", use {instead!r}" if instead else ""))
    hints = get_type_hints(TrainingArguments)
    checked = dict(value)
    for key in value:
        if key not in known or key in own:
            continue
        # YAML reads 1e-4 as text and no as false; transformers checks neither.
        try:
            if (typed := TypeAdapter(hints[key]).validate_python(value[key])) != value[key]:
                checked[key] = typed
        except ValidationError as error:
            problems.append(f"{key!r} is {value[key]!r}: {error.errors()[0]['msg']}")
    if problems:
        raise ValueError(", ".join(problems) + " (see transformers.TrainingArguments)")
    return checked


def packaged_configs() -> dict[str, Path]:
    """Names and files of the recipes that come with the project."""
    root = Path(str(resources.files("musamma.configs")))
    return {path.stem: path for path in sorted(root.glob("*.yaml"))}


def load_config(path: str | Path, *, changes: Sequence[str] = (), output: str | None = None) -> RunConfig:
    """Read the configuration of a fine-tuning run; see :func:`read_config`."""
    return read_config(path, RunConfig, changes=changes, output=output)


#: The key that every configuration of a command has, and no other's.
_COMMANDS = {"data": "musamma train", "text": "musamma encoder pretrain"}


def read_config(
    path: str | Path, kind: type[_AnySettings], *, changes: Sequence[str] = (), output: str | None = None
) -> _AnySettings:
    """Read a configuration.

    Args:
        path: a YAML file, or the name of a recipe that comes with the project.
        kind: what it must describe.
        changes: ``key.key=value`` each, the value read as YAML.
        output: replaces the file's ``output``.

    Raises:
        InputError: the file is missing, no YAML, or does not describe a run; all mistakes are named.
    """
    file = Path(path)
    if not file.is_file():
        file = packaged_configs().get(str(path), packaged_configs().get(file.stem, file)) if not file.exists() else file
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            str(error.strerror),
            where=str(path),
            expected=f"a YAML file, or one of {', '.join(packaged_configs())}",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"no YAML: {' '.join(str(error).split())}", where=str(path)) from error
    if not isinstance(content, dict):
        raise InputError(f"a YAML {type(content).__name__}", where=str(path), expected="keys and values")
    for change in changes:
        _apply(content, change)
    if output is not None:
        content["output"] = output
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc'])) or 'config'}: "
            + ("unknown key" if item["type"] == "extra_forbidden" else item["msg"].removeprefix("Value error, "))
            for item in error.errors()
        ]
        others = [command for key, command in _COMMANDS.items() if key in content and key not in kind.model_fields]
        remedy = f"this looks like a configuration of `{others[0]}`" if others else ""
        raise InputError(
            "; ".join(problems), where=str(path), remedy=remedy or f"known keys: {', '.join(kind.model_fields)}"
        ) from error


def _apply(content: dict[str, Any], change: str) -> None:
    key, separator, value = change.partition("=")
    if not separator or not key:
        raise InputError(f"--set {change!r}", expected="key.key=value, e.g. trainer.num_train_epochs=3")
    *parents, last = key.split(".")
    section = content
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise InputError(f"--set {change!r}: {parent!r} is no section", expected="the name of a section")
    try:
        section[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(
            f"--set {change!r}: the value is no YAML", expected="e.g. trainer.learning_rate=1.0e-4"
        ) from error
