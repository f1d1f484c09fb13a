"""Hugging Face's Trainer over the rows of a course: held-out figures, tokens and milestones."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from musamma.data.windows import IGNORE_INDEX
from musamma.training.pretraining.masking import MaskCollator, MaskedRow, RowSchedule
from musamma.training.pretraining.objectives import MaskedLanguageModel, ReplacedTokenDetector, Sums


class PretrainTrainer(Trainer):
    """A Trainer whose losses are means over all targets of a step, of every process and accumulated batch.

    Args:
        course: the rows, in order.
        held_out: rows with fixed masks.
        rtd_weight: weight of finding replacements.
        seed: of proposals in evaluation.
        options: the Trainer's own arguments.
    """

    def __init__(
        self, *, course: RowSchedule, held_out: list[MaskedRow], rtd_weight: float, seed: int, options: dict[str, Any]
    ) -> None:
        super().__init__(**options, train_dataset=course, eval_dataset=held_out)
        self._course, self._held_out, self._rtd_weight, self._seed = course, held_out, rtd_weight, seed
        # What is divided by the counts of the whole step needs no division by its batches.
        self.loss_is_scaled_for_ga = True
        self._last = (0, time.perf_counter())

    @property
    def rows_a_step(self) -> int:
        """Rows of all processes and accumulated batches."""
        return self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        return SequentialSampler(self._course)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, torch.Tensor]:
        """The batches of a step, and how many masked pieces and pieces of text there are in those of all processes,
        (2,)."""
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        counts = torch.stack([count_targets(batch) for batch in samples]).sum(0).to(device)
        if self.args.world_size > 1:
            counts = self.accelerator.gather(counts[None]).sum(0)
        return samples, counts

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of one batch as its part of the step's."""
        assert isinstance(num_items_in_batch, torch.Tensor)
        masked, plain = num_items_in_batch.clamp(min=1).unbind()
        sums = model(**inputs)
        loss = sums["mlm_loss"].sum() / masked
        if "rtd_loss" in sums:
            loss = loss + self._rtd_weight * sums["rtd_loss"].sum() / plain
        # Gradients are averaged over processes, and the counts are of all.
        loss = loss * self.args.world_size
        return (loss, sums) if return_outputs else loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Figures on the held-out rows; see :func:`compute_metrics`."""
        assert isinstance(self.data_collator, MaskCollator)
        found = {f"{metric_key_prefix}_{key}": value for key, value in self._measured(self.data_collator).items()}
        self.log(dict(found))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    # Code compiled for training would be compiled once more for this.
    @torch.compiler.set_stance("force_eager")
    @torch.no_grad()
    def _measured(self, collator: MaskCollator) -> dict[str, float]:
        model: MaskedLanguageModel | ReplacedTokenDetector = self.accelerator.unwrap_model(self.model)
        device, training = self.args.device, model.training
        model.eval()
        if isinstance(model, ReplacedTokenDetector):
            # Its own numbers, so that evaluation changes nothing of what training draws.
            model.random = torch.Generator(device).manual_seed(self._seed)
        totals: Sums = {}
        counts = torch.zeros(2, dtype=torch.int64)
        size = self.args.eval_batch_size
        for start in range(0, len(self._held_out), size):
            batch = collator(self._held_out[start : start + size])
            counts += count_targets(batch)
            moved = {name: tensor.to(device) for name, tensor in batch.items()}
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.args.bf16):
                sums = model(**moved)
            totals = {name: totals.get(name, 0) + value.double() for name, value in sums.items()}
        if isinstance(model, ReplacedTokenDetector):
            model.random = None
        model.train(training)
        return compute_metrics({name: float(value) for name, value in totals.items()}, *counts.tolist())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log with the tokens seen, the passes over the text and, beside a loss, the speed since the last one.

        What the Trainer calls an epoch is the whole run here, and is left out.
        """
        rows, now = self.state.global_step * self.rows_a_step, time.perf_counter()
        logs |= {"tokens": self._course.tokens(rows), "passes": self._course.passes(rows)}
        if "loss" in logs:
            before, then = self._last
            logs["tokens_per_second"] = (logs["tokens"] - self._course.tokens(before)) / max(now - then, 1e-9)
            self._last = rows, now
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def start_clock(self, step: int) -> None:
        """Measure speed from here on, where ``step`` steps are done."""
        self._last = step * self.rows_a_step, time.perf_counter()


def count_targets(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Masked pieces and pieces of text in a batch; int64, (2,)."""
    return torch.stack([batch["labels"].ne(IGNORE_INDEX).sum(), batch["plain"].sum()])


def compute_metrics(sums: dict[str, float], masked: int, plain: int) -> dict[str, float]:
    """Means from sums.

    Returns:
        ``mlm_loss``, nats a masked piece; ``mlm_accuracy``, share of them named right; with replacements
        ``rtd_loss``, nats a piece; ``rtd_recall``, share of the replaced pieces that are found; ``rtd_precision``,
        share of replaced among what is said to be.
    """
    found = {"mlm_loss": sums["mlm_loss"] / masked, "mlm_accuracy": sums["mlm_right"] / masked}
    if "rtd_loss" in sums:
        said = sums["rtd_found"] + sums["rtd_alarms"]
        found |= {
            "rtd_loss": sums["rtd_loss"] / plain,
            "rtd_recall": sums["rtd_found"] / max(sums["rtd_replaced"], 1),
            "rtd_precision": sums["rtd_found"] / max(said, 1),
        }
    return found


class MilestoneWriter(TrainerCallback):
    """Lets the encoder be written after steps.

    Args:
        write: is called in the main process with the number of every step.
    """

    def __init__(self, write: Callable[[int], None]) -> None:
        self._write = write

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write, if a milestone was passed."""
        if state.is_world_process_zero:
            self._write(state.global_step)


# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 2**30


def keep_freed_memory() -> bool:
    """Make this process keep what it frees, where glibc is there; whether it could be set.

    By default every large block goes back to the kernel, and comes anew with a page fault for each 4 KiB that are
    touched.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, 2 * _LARGEST - 1))
