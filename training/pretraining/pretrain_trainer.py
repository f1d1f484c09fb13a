"""The Trainer of pre-training: losses over all processes, held-out metrics, token counts and milestones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Sampler, SequentialSampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from musamma.data.windows import IGNORE_INDEX
from musamma.training.arguments import rows_per_step
from musamma.training.pretraining.masked_rows import MaskCollator, MaskedRow, RowSchedule
from musamma.training.pretraining.objectives import MaskedLanguageModel, ReplacedTokenDetector, Sums
from musamma.training.trainer import FiniteTrainer


class PretrainTrainer(FiniteTrainer):
    """A Trainer whose loss is the mean over all targets of a step: of all processes and accumulated batches.

    Args:
        schedule: the training rows, in order.
        held_out: held-out rows, with fixed masks.
        rtd_weight: weight of the loss of replaced token detection.
        seed: seed of the generator's samples in evaluation.
        time_limit: minutes after which training ends at the latest.
        options: arguments of `transformers.Trainer`.
    """

    def __init__(
        self,
        *,
        schedule: RowSchedule,
        held_out: list[MaskedRow],
        rtd_weight: float,
        seed: int,
        time_limit: float | None = None,
        options: dict[str, Any],
    ) -> None:
        super().__init__(**options, train_dataset=schedule, eval_dataset=held_out)
        self._clock = None if time_limit is None else TimeLimit(time_limit)
        if self._clock is not None:
            self.add_callback(self._clock)
        self._schedule, self._held_out, self._rtd_weight, self._seed = schedule, held_out, rtd_weight, seed
        # The loss is divided by the counts of the whole step, so it must not be divided by the number of batches.
        self.loss_is_scaled_for_ga = True
        #: Number of rows, and time, at the last logged loss.
        self._last_log = (0, time.perf_counter())

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        return SequentialSampler(self._schedule)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, torch.Tensor]:
        """Return the batches of a step, and the numbers of masked and of text pieces of all processes, (2,)."""
        samples, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        counts = torch.stack([count_targets(batch) for batch in samples]).sum(0).to(device)
        if self.args.world_size > 1:
            counts = self.accelerator.gather(counts[None]).sum(0)
        return samples, counts

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Create the schedule of the learning rate; with a time limit it follows the clock where that is ahead of the steps."""
        created = self.lr_scheduler is None
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if (clock := self._clock) is not None and created:
            # Every schedule of transformers that needs no evaluation; the heads are trained without one.
            assert isinstance(scheduler, LambdaLR)
            scheduler.lr_lambdas = [_follow_clock(rate, clock, num_training_steps) for rate in scheduler.lr_lambdas]
        return scheduler

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Compute the share of a batch in the loss of the step."""
        assert isinstance(num_items_in_batch, torch.Tensor)
        masked, text = num_items_in_batch.clamp(min=1).unbind()
        sums = model(**inputs)
        loss = sums["mlm_loss"].sum() / masked
        if "rtd_loss" in sums:
            loss = loss + self._rtd_weight * sums["rtd_loss"].sum() / text
        # Gradients are averaged over processes, but the counts are sums over them.
        loss = loss * self.args.world_size
        return (loss, sums) if return_outputs else loss

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Compute the held-out metrics; see :func:`compute_metrics`.

        Raises:
            RunError: a metric is not finite.
        """
        assert isinstance(self.data_collator, MaskCollator)
        held_out = self._evaluate_held_out(self.data_collator)
        self.check_metrics(held_out)
        metrics = {f"{metric_key_prefix}_{key}": value for key, value in held_out.items()}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    # Not compiled: code compiled for training would have to be compiled again for evaluation.
    @torch.compiler.set_stance("force_eager")
    @torch.no_grad()
    def _evaluate_held_out(self, collator: MaskCollator) -> dict[str, float]:
        model: MaskedLanguageModel | ReplacedTokenDetector = self.accelerator.unwrap_model(self.model)
        device, training = self.args.device, model.training
        model.eval()
        if isinstance(model, ReplacedTokenDetector):
            # Separate random numbers, so that evaluation does not change the samples of training.
            model.random = torch.Generator(device).manual_seed(self._seed)
        totals: Sums = {}
        counts = torch.zeros(2, dtype=torch.int64)
        size = self.args.eval_batch_size
        for start in range(0, len(self._held_out), size):
            batch = collator(self._held_out[start : start + size])
            counts += count_targets(batch)
            inputs = {name: tensor.to(device) for name, tensor in batch.items()}
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.args.bf16):
                sums = model(**inputs)
            totals = {name: totals.get(name, 0) + value.double() for name, value in sums.items()}
        if isinstance(model, ReplacedTokenDetector):
            model.random = None
        model.train(training)
        return compute_metrics({name: float(value) for name, value in totals.items()}, *counts.tolist())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log values with the tokens seen, the passes over the text and, for a loss, the speed since the last loss.

        The Trainer's epoch is left out: it spans the whole run here.
        """
        rows, now = self.state.global_step * rows_per_step(self.args), time.perf_counter()
        logs |= {"tokens": self._schedule.count_tokens(rows), "passes": self._schedule.count_passes(rows)}
        if self._clock is not None:
            logs["minutes"] = self._clock.minutes
        if "loss" in logs:
            last_rows, last_time = self._last_log
            tokens = logs["tokens"] - self._schedule.count_tokens(last_rows)
            logs["tokens_per_second"] = tokens / max(now - last_time, 1e-9)
            self._last_log = rows, now
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def start_clock(self, step: int) -> None:
        """Measure speed from now on, after ``step`` steps."""
        self._last_log = step * rows_per_step(self.args), time.perf_counter()


def count_targets(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the numbers of masked and of text pieces in a batch; int64, (2,)."""
    return torch.stack([batch["labels"].ne(IGNORE_INDEX).sum(), batch["is_text"].sum()])


def compute_metrics(sums: dict[str, float], masked: int, text: int) -> dict[str, float]:
    """Compute metrics from the sums of an objective.

    Args:
        sums: the sums over all batches; see :mod:`musamma.training.pretraining.objectives`.
        masked: number of masked pieces.
        text: number of text pieces.

    Returns:
        ``mlm_loss``, in nats per masked piece; ``mlm_accuracy``, the share of masked pieces predicted correctly; with
        replaced token detection ``rtd_loss``, in nats per piece, ``rtd_recall``, the share of replaced pieces that are
        detected, and ``rtd_precision``, the share of detected pieces that are replaced.
    """
    metrics = {"mlm_loss": sums["mlm_loss"] / masked, "mlm_accuracy": sums["mlm_correct"] / masked}
    if "rtd_loss" in sums:
        detected = sums["rtd_true_positives"] + sums["rtd_false_positives"]
        metrics |= {
            "rtd_loss": sums["rtd_loss"] / text,
            "rtd_recall": sums["rtd_true_positives"] / max(sums["rtd_replaced"], 1),
            "rtd_precision": sums["rtd_true_positives"] / max(detected, 1),
        }
    return metrics


def _follow_clock(rate: Callable[[int], float], clock: TimeLimit, steps: int) -> Callable[[int], float]:
    """Return a schedule that is at least as far as the clock; ``steps`` is its length."""
    return lambda step: rate(max(step, round(steps * clock.share)))


class TimeLimit(TrainerCallback):
    """Ends training after a number of minutes. A resumed run continues to count from its last logged values.

    Args:
        limit: the number.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._start = time.perf_counter()
        # Minutes until the end of the first step, in which a compiled encoder is compiled; None before it.
        self._first_step: float | None = None

    @property
    def minutes(self) -> float:
        """Minutes of training so far."""
        return (time.perf_counter() - self._start) / 60

    @property
    def share(self) -> float:
        """Share of the time after the first step that is over, from 0 to 1."""
        if self._first_step is None:
            return 0.0
        return min(1.0, (self.minutes - self._first_step) / max(self._limit - self._first_step, 1e-9))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        before = next((event["minutes"] for event in reversed(state.log_history) if "minutes" in event), None)
        self._first_step = None if before is None else 0.0
        self._start = time.perf_counter() - 60 * (before or 0.0)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """End training once the time is over."""
        if self._first_step is None:
            self._first_step = self.minutes
        if self.minutes >= self._limit:
            control.should_training_stop = True


class MilestoneWriter(TrainerCallback):
    """Calls a function after each step, in the main process.

    Args:
        write: the function; its argument is the number of the step.
    """

    def __init__(self, write: Callable[[int], None]) -> None:
        self._write = write

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Call the function."""
        if state.is_world_process_zero:
            self._write(state.global_step)
