"""The configuration of a distillation run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from musamma.training.config_fields import BaseConfig, Files, Integer, Number, Seeds
from musamma.training.config_files import read_config
from musamma.training.data_config import DataConfig
from musamma.training.trainer_section import TaggerArguments

_LayerNumbers = Annotated[list[Annotated[Integer, Field(ge=0)]], Field(min_length=1)]


class DistillConfig(BaseConfig):
    """A distillation run: a student with fewer layers learns from a teacher.

    Args:
        teacher: the checkpoint to learn from: a folder, a hub id, or the name of a packaged model (``nawah-ner``).
        data: the annotated articles. Their labels must be among the teacher's.
        text: raw text with one paragraph a line, in document order: plain, ``.gz`` or ``.zst``. The teacher labels it.
        text_words: number of words of it to take, in stretches spaced evenly over all files; by default all.
        output: folder for the student, its card and its scores.
        layers: number of layers of the student, or the numbers, from 0, of the teacher's layers that it starts as; by default half of
            the teacher's layers, evenly spaced.
        student: a checkpoint to start from instead, such as an earlier student of the same teacher.
        temperature: the temperature at which the distributions of student and teacher are compared.
        hidden_weight: weight of the hidden states in the loss.
        gold_weight: weight of the annotated names in the loss.
        precision: ``auto`` computes in bfloat16 if the hardware supports it.
        device: ``auto`` uses the GPU if there is one.
        seeds: the seeds; one run each.
        trainer: arguments for `transformers.TrainingArguments`, under its names.
    """

    teacher: Annotated[str, Field(min_length=1)]
    data: DataConfig
    text: Files = Field(default_factory=list)
    text_words: Annotated[Integer, Field(ge=1)] | None = None
    output: Annotated[str, Field(min_length=1)]
    layers: Annotated[Integer, Field(ge=1)] | _LayerNumbers | None = None
    student: Annotated[str, Field(min_length=1)] | None = None
    temperature: Annotated[Number, Field(gt=0)] = 1.0
    hidden_weight: Annotated[Number, Field(ge=0)] = 1.0
    gold_weight: Annotated[Number, Field(ge=0)] = 0.5
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu"] = "auto"
    seeds: Seeds = Field(default_factory=lambda: [1])
    trainer: TaggerArguments = Field(default_factory=dict)

    @field_validator("layers")
    @classmethod
    def _check_increasing(cls, value: int | list[int] | None) -> int | list[int] | None:
        if isinstance(value, list) and any(first >= second for first, second in pairwise(value)):
            raise ValueError("the numbers must increase")
        return value

    @model_validator(mode="after")
    def _check_pairs(self) -> DistillConfig:
        if self.text_words is not None and not self.text:
            raise ValueError("text_words without text: name files of raw text, or leave it out")
        if self.layers is not None and self.student is not None:
            raise ValueError("give layers or student, not both: an earlier student has its layers")
        return self


def load_distill_config(path: str | Path, *, changes: Sequence[str] = (), output: str | None = None) -> DistillConfig:
    """Read the configuration of a distillation run; see :func:`musamma.training.config_files.read_config`."""
    return read_config(path, DistillConfig, changes=changes, output=output)
