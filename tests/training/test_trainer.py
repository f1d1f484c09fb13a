"""Numbers that are not finite end a run; learning rates by depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import TrainingArguments

from musamma.data.errors import InputError, RunError
from musamma.training.trainer import FiniteTrainer, layerwise_learning_rates
from tests.support import default_mode, file_modes


class Scaled(nn.Module):
    """Two weights of 1e-20, whose loss is their sum times the factor of the row."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), 1e-20))

    def forward(self, factor: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.weight * factor.mean()).sum()}


def train(folder: Path, *factors: float, resume: str | None = None, **options: Any) -> FiniteTrainer:
    defaults = {"per_device_train_batch_size": 1, "num_train_epochs": 1, "train_sampling_strategy": "sequential"}
    defaults |= {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "optim": "sgd"}
    defaults["learning_rate"] = 1e-30
    arguments = TrainingArguments(output_dir=str(folder), **{**defaults, **options})
    rows = [{"factor": torch.tensor(factor)} for factor in factors]
    trainer = FiniteTrainer(model=Scaled(), args=arguments, train_dataset=rows)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_ends_the_run_at_its_step(tmp_path: Path, value: float) -> None:
    with pytest.raises(RunError, match=rf", step 3: the loss is {value}; .* start over with a lower learning rate"):
        train(tmp_path, 1.0, 1.0, value, 1.0)
    # Of accumulated batches, the second holds the number.
    with pytest.raises(RunError, match=rf", step 2: the loss is {value}; "):
        train(tmp_path, 1.0, 1.0, 1.0, value, gradient_accumulation_steps=2)


@pytest.mark.parametrize("limit", [1.0, 0.0])
def test_an_infinite_gradient_norm_ends_the_run_at_its_step(tmp_path: Path, limit: float) -> None:
    """The gradients, 1e25, and the loss are finite; the squares are not. Clipping would make the gradients 0."""
    with pytest.raises(RunError, match=r", step 2: the gradient norm is inf; "):
        train(tmp_path, 1.0, 1e25, 1.0, max_grad_norm=limit)


def test_weights_are_checked_before_they_are_saved(tmp_path: Path) -> None:
    """A step of 1e38 times 10 is infinite in float32; the loss and the gradient are not."""
    with pytest.raises(RunError, match=r", step 1: the weights weight are not all finite; "):
        train(tmp_path, 10.0, learning_rate=1e38, max_grad_norm=0.0, save_strategy="steps", save_steps=1)
    assert not list(tmp_path.glob("checkpoint-*"))
    trainer = train(tmp_path, 10.0, learning_rate=1e38, max_grad_norm=0.0)
    with pytest.raises(RunError, match=r", step 1: the weights weight are not all finite; "):
        trainer.check_weights()


def test_finite_numbers_pass(tmp_path: Path) -> None:
    trainer = train(tmp_path, 1.0, 2.0, learning_rate=0.5, lr_scheduler_type="constant", max_grad_norm=0.0)
    trainer.check_weights()
    assert trainer.model.weight.tolist() == [-1.5, -1.5]
    trainer.check_metrics({"loss": 1e30})
    with pytest.raises(RunError, match=r", step 2: the mlm_loss is nan; "):
        trainer.check_metrics({"mlm_accuracy": 0.5, "mlm_loss": float("nan")})


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.path), "w")


def test_no_file_of_a_checkpoint_runs_code_on_resume(tmp_path: Path) -> None:
    canary, checkpoint = tmp_path / "canary", tmp_path / "run" / "checkpoint-1"
    options: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1, "learning_rate": 0.5}
    train(tmp_path / "run", 1.0, **options)
    assert set(file_modes(checkpoint).values()) == {default_mode(tmp_path)}
    pickled = [path for path in checkpoint.iterdir() if path.suffix in (".pt", ".pth", ".bin")]
    assert {path.name for path in pickled} == {"optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"}
    for path in [*pickled, checkpoint / "pytorch_model.bin"]:
        before = {file: file.read_bytes() for file in checkpoint.iterdir()}
        if path.name == "pytorch_model.bin":
            (checkpoint / "model.safetensors").unlink()
        torch.save({"payload": Payload(canary)}, path)
        if path.name == "training_args.bin":  # is written, and never read
            train(tmp_path / "run", 1.0, 2.0, resume=str(checkpoint), **{**options, "save_strategy": "no"})
        else:
            message = (
                "checkpoint-1: a pickled file of the checkpoint is damaged or holds more than tensors; .*delete this"
            )
            with pytest.raises(InputError, match=message):
                train(tmp_path / "run", 1.0, 2.0, resume=str(checkpoint), **{**options, "save_strategy": "no"})
        assert not canary.exists()
        path.unlink()
        for file, content in before.items():
            file.write_bytes(content)


def test_learning_rates_fall_with_depth() -> None:
    names = [
        "backbone.bert.embeddings.word_embeddings.weight",
        "backbone.bert.encoder.layer.0.output.dense.weight",
        "backbone.bert.encoder.layer.1.output.dense.weight",
        "backbone.classifier.weight",
        "proclitic_head.weight",
    ]
    rates = layerwise_learning_rates(names, rate=1.0, decay=0.5, head_rate=3.0)
    assert list(rates.values()) == [0.25, 0.5, 1.0, 3.0, 3.0]
    assert set(layerwise_learning_rates(names, rate=1.0, decay=1.0, head_rate=None).values()) == {1.0}
