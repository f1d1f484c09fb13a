"""The configuration of a fine-tuning run: typed, all mistakes reported at once, and saved resolved with the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from musamma.data.tags import OUTSIDE
from musamma.data.text_noise import NOISE
from musamma.training.config_fields import (
    NOT_FINITE,
    BaseConfig,
    ConfigSection,
    Integer,
    Number,
    Seeds,
    non_finite_values,
)
from musamma.training.config_files import read_config
from musamma.training.data_config import DataConfig
from musamma.training.trainer_section import TaggerArguments

_LAYER_COUNTS = ("num_hidden_layers", "num_layers", "n_layers")


class EncodingConfig(ConfigSection):
    """The windows into which documents are cut; see `musamma.data.windows.DocumentTokenizer`."""

    max_length: Annotated[Integer, Field(ge=16)] = 256
    overlap: Annotated[Integer, Field(ge=0)] = 64


class LoraSection(ConfigSection):
    """Low-rank adapters; see `musamma.training.lora`.

    Args:
        r: rank of the adapters: the number of rows of their smaller side.
        alpha: the adapters are multiplied by ``alpha / r``.
        dropout: dropout before each adapter.
        target_modules: names of the linear layers that get one, such as ``query``; by default those that peft names for
            the kind of encoder.
    """

    r: Annotated[Integer, Field(ge=1)] = 8
    alpha: Annotated[Number, Field(gt=0)] = 16
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    target_modules: Annotated[list[str], Field(min_length=1)] | None = None


#: Share of the noisy copies to which each kind of noise applies by default: the kinds that a tokenizer's normaliser does not remove.
DEFAULT_NOISE = {"no_hamza": 0.5, "alef_maqsura": 0.3, "ta_marbuta": 0.3, "no_punctuation": 0.2}


class NoiseSection(ConfigSection):
    """Noisy copies of the training documents; see `musamma.data.text_noise`.

    Args:
        copies: number of noisy copies of each training document, beside the document itself.
        kinds: the share of the copies to which each kind of noise applies, in (0, 1].
    """

    copies: Annotated[Integer, Field(ge=1, le=100)] = 1
    kinds: Annotated[dict[str, Annotated[Number, Field(gt=0, le=1)]], Field(min_length=1)] = DEFAULT_NOISE

    @field_validator("kinds")
    @classmethod
    def _check_kinds(cls, value: dict[str, float]) -> dict[str, float]:
        if unknown := [kind for kind in value if kind not in NOISE]:
            raise ValueError(f"unknown kind {unknown[0]!r}; expected {', '.join(NOISE)}")
        return value


class RunConfig(BaseConfig):
    """A fine-tuning run.

    Args:
        encoder: a folder, a hub id, or the name of a packaged model (``nawah``; ``nawah-ner`` for the encoder of the packaged tagger).
        data: the articles.
        output: folder for the checkpoint, its card and its scores.
        encoding: the windows.
        labels: the entity types; by default those of the training documents, or those that the sources allow.
        proclitics: learn where a name starts after proclitics; set to false for data labelled by whole words.
        nested: learn names inside names; ``auto`` does so if training documents have any, and otherwise keeps the layer of an encoder
            that is a tagger with one.
        encoder_config: changes to the encoder's ``config.json``, such as its dropout.
        precision: ``auto`` computes in bfloat16 if the hardware supports it.
        device: ``auto`` uses the GPU if there is one.
        noise: also train on noisy copies of the documents.
        lora: train low-rank adapters instead of the whole encoder.
        layerwise_decay: factor on the learning rate from each layer to the one below (1.0: none).
        head_learning_rate: learning rate of the new heads; by default the encoder's.
        early_stopping_patience: number of evaluations without a better development F1 after which training stops.
        seeds: the seeds; one run each.
        trainer: arguments for `transformers.TrainingArguments`, under its names.
    """

    encoder: Annotated[str, Field(min_length=1)]
    data: DataConfig
    output: Annotated[str, Field(min_length=1)]
    encoding: EncodingConfig = EncodingConfig()
    labels: list[str] | None = None
    proclitics: bool = True
    nested: bool | Literal["auto"] = False
    encoder_config: dict[str, Any] = Field(default_factory=dict)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu"] = "auto"
    noise: NoiseSection | None = None
    lora: LoraSection | None = None
    layerwise_decay: Annotated[Number, Field(gt=0, le=1)] = 1.0
    head_learning_rate: Annotated[Number, Field(gt=0)] | None = None
    early_stopping_patience: Annotated[Integer, Field(ge=1)] | None = None
    seeds: Seeds = Field(default_factory=lambda: [1])
    trainer: TaggerArguments = Field(default_factory=dict)

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, value: list[str] | None) -> list[str] | None:
        for label in value or ():
            if label == OUTSIDE or label.split() != [label]:
                raise ValueError(f"label {label!r}: expected a word, and not O, which stands for no name")
        if value and len(set(value)) != len(value):
            raise ValueError("duplicate label")
        return value

    @field_validator("encoder_config")
    @classmethod
    def _check_encoder_config(cls, value: dict[str, Any]) -> dict[str, Any]:
        problems = [f"{key!r} is {number}: {NOT_FINITE}" for key, number in non_finite_values(value)]
        # transformers builds an encoder without layers. All else it checks itself.
        for key in _LAYER_COUNTS:
            if isinstance(number := value.get(key, 1), int) and (isinstance(number, bool) or number < 1):
                problems.append(f"{key!r} is {number}: Input should be greater than or equal to 1")
        if problems:
            raise ValueError(", ".join(problems))
        return value

    @model_validator(mode="after")
    def _check_overlap(self) -> RunConfig:
        if self.encoding.overlap * 2 > self.encoding.max_length:
            raise ValueError(
                f"encoding.overlap {self.encoding.overlap} is more than half of encoding.max_length {self.encoding.max_length}"
            )
        return self


def load_config(path: str | Path, *, changes: Sequence[str] = (), output: str | None = None) -> RunConfig:
    """Read the configuration of a fine-tuning run; see :func:`musamma.training.config_files.read_config`."""
    return read_config(path, RunConfig, changes=changes, output=output)
