"""The configuration of a pre-training run: typed like that of fine-tuning, and read by the same rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from musamma.training.config import RESERVED_ARGUMENTS, BaseConfig, ConfigSection, parse_trainer_section, read_config

#: What a run sets by itself: the order of the rows and the count of the tokens are its own.
_OWN: dict[str, str | None] = {
    **RESERVED_ARGUMENTS,
    "seed": "seed",
    "data_seed": "seed",
    "train_sampling_strategy": None,
    "length_column_name": None,
    "dataloader_drop_last": None,
    "eval_on_start": None,
    "ignore_data_skip": None,
    "auto_find_batch_size": None,
    "average_tokens_across_devices": None,
    "include_num_input_tokens_seen": None,
    "label_smoothing_factor": None,
    "label_names": None,
}


class HeldOutConfig(ConfigSection):
    """Text that is never trained on.

    Args:
        every: hold out each paragraph whose number, counted over all files, is a multiple of this.
        rows: measure on at most so many rows of them, spread evenly.
    """

    every: Annotated[int, Field(ge=2)] = 200
    rows: Annotated[int, Field(ge=1)] = 256


class PretrainConfig(BaseConfig):
    """One run of continued pre-training.

    Args:
        encoder: a folder, a hub id, or an encoder that comes with the project (``nawah``).
        text: files with a paragraph a line: plain, ``.gz`` or ``.zst``.
        output: the folder for the encoder, its card and its figures.
        held_out: what is measured on.
        objective: ``mlm`` (masked pieces) or ``rtd`` (replaced pieces are found).
        length: pieces in a row, special tokens included.
        packing: several paragraphs in a row, each on its own; without it one a row, padded.
        mask_share: share of the pieces that are masked.
        clitics: leave proclitics before a masked word as they are, where their border can be told.
        generator_layers: layers of the encoder that propose replacements (``rtd``).
        rtd_weight: weight of finding replacements against proposing them (``rtd``).
        head_steps: steps in which fresh heads learn alone, on the encoder as it is.
        head_learning_rate: their learning rate in these steps.
        dropout: in place of every dropout of the encoder while it trains; ``null`` leaves them as they are.
        milestones: numbers of tokens after which the encoder is written as well.
        dtype: of the saved weights; ``config.json`` asks for float32.
        precision: ``auto`` computes in bfloat16 where the device does so in hardware.
        device: ``auto`` takes the GPU where there is one.
        compiled: compile the encoder (`torch.compile`): faster steps, after a minute's wait at every start.
        seed: of the order, the masks, the fresh heads and the proposals.
        trainer: the section handed to `transformers.TrainingArguments`, by its own names.
    """

    encoder: str
    text: list[str] = Field(min_length=1)
    output: str
    held_out: HeldOutConfig = HeldOutConfig()
    objective: Literal["mlm", "rtd"] = "mlm"
    length: Annotated[int, Field(ge=16, le=65_535)] = 256
    packing: bool = True
    mask_share: Annotated[float, Field(gt=0, le=0.8)] = 0.2
    clitics: bool = True
    generator_layers: Annotated[int, Field(ge=1)] = 4
    rtd_weight: Annotated[float, Field(gt=0)] = 50.0
    head_steps: Annotated[int, Field(ge=1)] = 300
    head_learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = 0.0
    milestones: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    dtype: Literal["float32", "float16", "bfloat16"] = "float16"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu"] = "auto"
    compiled: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    trainer: dict[str, Any] = Field(default_factory=dict)

    @field_validator("text", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("milestones")
    @classmethod
    def _rising(cls, value: list[int]) -> list[int]:
        if value != sorted(set(value)):
            raise ValueError("the numbers must rise")
        return value

    @field_validator("trainer")
    @classmethod
    def _known_arguments(cls, value: dict[str, Any]) -> dict[str, Any]:
        return parse_trainer_section(value, own=_OWN)

    @model_validator(mode="after")
    def _ends(self) -> PretrainConfig:
        if self.trainer.get("max_steps", -1) <= 0 and self.trainer.get("num_train_epochs", 1) <= 0:
            raise ValueError("trainer.max_steps or trainer.num_train_epochs must be above 0")
        return self


def load_pretrain_config(path: str | Path, *, changes: Sequence[str] = (), output: str | None = None) -> PretrainConfig:
    """Read the configuration of a pre-training run; see :func:`musamma.training.config.read_config`."""
    return read_config(path, PretrainConfig, changes=changes, output=output)
