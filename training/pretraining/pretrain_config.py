"""The configuration of a pre-training run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from musamma.training.config_fields import BaseConfig, ConfigSection, Integer, Number, Seed
from musamma.training.config_files import read_config
from musamma.training.trainer_section import RESERVED_ARGUMENTS, parse_trainer_section

#: Trainer arguments that the run sets itself, among them the order of the rows and the count of tokens.
_RESERVED_ARGUMENTS: dict[str, str | None] = {
    **RESERVED_ARGUMENTS,
    "seed": "seed",
    "data_seed": "seed",
    "report_to": None,  # a run has several Trainers, which a tracker would take for one
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


#: How rows are filled: ``True`` packs several paragraphs into a row, each read on its own; ``False`` makes each paragraph a
#: padded row; ``"continuous"`` cuts the running text into full rows.
Packing = bool | Literal["continuous"]


class HeldOutConfig(ConfigSection):
    """The held-out text, which is never trained on.

    Args:
        every: hold out each paragraph whose number, counted over all files, is a multiple of this; with
            ``packing: continuous`` each such row.
        rows: maximum number of held-out rows to evaluate on, evenly spaced.
    """

    every: Annotated[Integer, Field(ge=2)] = 200
    rows: Annotated[Integer, Field(ge=1)] = 256


class PretrainConfig(BaseConfig):
    """A run of continued pre-training.

    Args:
        encoder: a folder, a hub id, or the name of a packaged encoder (``nawah``).
        text: files with one paragraph a line: plain, ``.gz`` or ``.zst``.
        output: folder for the encoder, its card and its metrics.
        held_out: the held-out text.
        objective: ``mlm`` (masked language modelling) or ``rtd`` (replaced token detection).
        length: number of pieces in a row, special tokens included.
        packing: pack several paragraphs into a row, each read on its own; with ``false``, one padded paragraph a row; with
            ``continuous``, cut the running text into rows without padding. Such rows need no attention mask and hold
            the sentences around a name, if the text is in document order.
        mask_share: share of the pieces that are masked.
        clitics: mask words without their proclitics, if the text alone decides where these end.
        generator_layers: number of the encoder's layers that make the generator (``rtd``).
        rtd_weight: weight of the detector's loss relative to the generator's (``rtd``).
        head_steps: steps in which the new heads are trained alone, on the unchanged encoder.
        head_learning_rate: learning rate in these steps.
        dropout: replaces all dropout rates of the encoder during training; ``null`` keeps them.
        time_limit: minutes of training with all weights, evaluation included, after which the run ends at the latest. The learning
            rate then falls by the clock, as it does over the steps otherwise.
        milestones: numbers of tokens after which the encoder is also written.
        dtype: type of the saved weights; ``config.json`` asks for float32.
        precision: ``auto`` computes in bfloat16 if the hardware supports it.
        device: ``auto`` uses the GPU if there is one.
        compiled: compile the encoder (`torch.compile`): faster steps, after a wait of a minute at each start.
        seed: seed of the order, the masks, the new heads and the generator's samples.
        trainer: arguments for `transformers.TrainingArguments`, under its names.
    """

    encoder: str
    text: list[str] = Field(min_length=1)
    output: str
    held_out: HeldOutConfig = HeldOutConfig()
    objective: Literal["mlm", "rtd"] = "mlm"
    length: Annotated[Integer, Field(ge=16, le=65_535)] = 256
    packing: Packing = True
    mask_share: Annotated[Number, Field(gt=0, le=0.8)] = 0.2
    clitics: bool = True
    generator_layers: Annotated[Integer, Field(ge=1)] = 4
    rtd_weight: Annotated[Number, Field(gt=0)] = 50.0
    head_steps: Annotated[Integer, Field(ge=1)] = 300
    head_learning_rate: Annotated[Number, Field(gt=0)] = 1e-3
    dropout: Annotated[Number, Field(ge=0, lt=1)] | None = 0.0
    time_limit: Annotated[Number, Field(gt=0)] | None = None
    milestones: list[Annotated[Integer, Field(ge=1)]] = Field(default_factory=list)
    dtype: Literal["float32", "float16", "bfloat16"] = "float16"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu"] = "auto"
    compiled: bool = False
    seed: Seed = 1
    trainer: dict[str, Any] = Field(default_factory=dict)

    @field_validator("text", mode="before")
    @classmethod
    def _wrap_single_file(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("milestones")
    @classmethod
    def _check_increasing(cls, value: list[int]) -> list[int]:
        if value != sorted(set(value)):
            raise ValueError("the numbers must increase")
        return value

    @field_validator("trainer")
    @classmethod
    def _parse_trainer(cls, value: dict[str, Any]) -> dict[str, Any]:
        return parse_trainer_section(value, reserved=_RESERVED_ARGUMENTS)


def load_pretrain_config(path: str | Path, *, changes: Sequence[str] = (), output: str | None = None) -> PretrainConfig:
    """Read the configuration of a pre-training run; see :func:`musamma.training.config_files.read_config`."""
    return read_config(path, PretrainConfig, changes=changes, output=output)
