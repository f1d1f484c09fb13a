"""Trainers: one that ends a run at the first number that is not finite, and, based on it, the one for fine-tuning."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from statistics import mean
from typing import Any

import torch
from torch import nn
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import TrainOutput

from musamma.data.allowed_labels import AllowedLabels
from musamma.data.document import Document
from musamma.data.errors import InputError, RunError
from musamma.data.files import apply_default_mode
from musamma.evaluation import Scores, score_documents
from musamma.evaluation.matching import NESTED
from musamma.models.classifier import TokenClassifier
from musamma.models.predictor import Predictor
from musamma.models.runtimes.torch import TorchRuntime
from musamma.training.sources import Source

_LAYER = re.compile(r"\.(?:layer|layers|h|block|blocks)\.(\d+)\.")


class FiniteTrainer(Trainer):
    """A Trainer that ends the run at the first loss, gradient, weight or metric that is infinite or not a number.

    Such a number spreads to all weights, and transformers replaces it in the log: the run would seem to succeed. Losses and
    gradients are checked at every step, weights before each evaluation and each checkpoint.

    Args:
        options: arguments of `transformers.Trainer`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_callback(_WeightCheck(self.check_weights))

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train, from a checkpoint if one is given. PyTorch unpickles tensors and nothing else from it.

        Raises:
            InputError: a pickle of the checkpoint is damaged, or asks for anything else.
        """
        try:
            return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)
        except UnpicklingError as error:
            raise InputError(
                "a pickled file of the checkpoint is damaged or holds more than tensors",
                where=str(resume_from_checkpoint),
                expected="the files that this run wrote",
                remedy="delete this folder to continue from the checkpoint before",
            ) from error

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        super()._save(output_dir, state_dict=state_dict)
        apply_default_mode(*Path(output_dir or str(self.args.output_dir)).glob("*.safetensors"))

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Compute the loss of a batch and its gradients.

        Raises:
            RunError: the loss is not finite.
        """
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._check_finite("loss", loss, step=self.state.global_step + 1)
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: torch.Tensor | float | None = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if norm is not None:
            self._check_finite("gradient norm", norm, step=self.state.global_step + 1)
        return norm

    def check_weights(self) -> None:
        """Check the current weights.

        Raises:
            RunError: a weight is not finite.
        """
        for name, weight in self.accelerator.unwrap_model(self.model).named_parameters():
            if not torch.isfinite(weight).all():
                self._fail(f"the weights {name} are not all finite", step=self.state.global_step)

    def check_metrics(self, metrics: dict[str, float]) -> None:
        """Check metrics of the current weights.

        Raises:
            RunError: a metric is not finite.
        """
        for name, value in metrics.items():
            self._check_finite(name, value, step=self.state.global_step)

    def _check_finite(self, name: str, value: torch.Tensor | float, *, step: int) -> None:
        if not math.isfinite(value):
            self._fail(f"the {name} is {float(value)}", step=step)

    def _fail(self, found: str, *, step: int) -> None:
        raise RunError(
            f"{self.args.output_dir}, step {step}: {found}; expected finite numbers; nothing was published; "
            "start over with a lower learning rate and `overwrite=True`"
        )


class _WeightCheck(TrainerCallback):
    """Calls a function before each evaluation and each checkpoint."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Call the function if an evaluation or a checkpoint follows."""
        if control.should_save or control.should_evaluate:
            self._check()

    on_epoch_end = on_step_end


class SpanTrainer(FiniteTrainer):
    """A Trainer that evaluates on whole documents, tagged as in inference.

    Args:
        predictor: tags documents with the model in training.
        dev: annotated documents; ``eval_strict_f1`` is the character-exact micro F1 of the outermost names on them, and
            ``eval_nested_strict_f1`` that of the nested names, if the predictor finds them.
        sources: the sources with development documents, if there are several: ``eval_NAME_strict_f1`` is the F1 of each, and
            ``eval_strict_f1`` their unweighted mean. A single one sets only how names are compared.
        sampler: draws the windows of an epoch; by default the Trainer does.
        nested_ids: ids of the documents whose nested names are annotated; in others the predicted ones are not scored.
        layerwise_decay: factor on the learning rate from each layer to the one below (Howard and Ruder, 2018).
        head_learning_rate: learning rate of the heads; by default that of the top layer.
        options: arguments of `transformers.Trainer`.
    """

    def __init__(
        self,
        *,
        predictor: Predictor,
        dev: list[Document],
        sources: Sequence[Source] = (),
        sampler: Sampler[int] | None = None,
        layerwise_decay: float,
        head_learning_rate: float | None,
        options: dict[str, Any],
        nested_ids: Collection[str] = (),
    ) -> None:
        self._sampler = sampler
        super().__init__(**options)
        self._nested_ids = nested_ids
        assert isinstance(predictor.runtime, TorchRuntime), "training needs the PyTorch runtime"
        #: Tags documents with the model in training.
        self.predictor = predictor
        self._runtime, self._dev = predictor.runtime, dev
        self._sources = [source for source in sources if source.dev]
        self._layerwise_decay, self._head_learning_rate = layerwise_decay, head_learning_rate

    @property
    def classifier(self) -> TokenClassifier:
        """The model in training."""
        return self._runtime.classifier

    def score(self, documents: list[Document], allows: AllowedLabels | None = None) -> Scores:
        """Score the current model in all modes.

        Args:
            documents: annotated documents.
            allows: the labels that those of the documents allow; by default each allows itself.
        """
        self._runtime.device = self.args.device
        classifier = self._runtime.classifier
        training = classifier.training
        classifier.eval()
        try:
            predictions = map(self._drop_unscored, self.predictor.predict(documents))
            if allows is None or allows.is_complete:
                return score_documents(documents, predictions)
            pairs = [allows.align(*pair) for pair in zip(documents, predictions, strict=True)]
            return score_documents((gold for gold, _ in pairs), (predicted for _, predicted in pairs))
        finally:
            classifier.train(training)

    def _drop_unscored(self, document: Document) -> Document:
        return document if document.id in self._nested_ids else document.with_spans(document.spans)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Compute character-exact precision, recall and F1 on the development documents."""
        development = self.score_development()
        if len(self._sources) > 1:
            scores = {name: scores.strict.micro.f1 for name, scores in development.items()}
            metrics = {f"{metric_key_prefix}_{name.removeprefix('dev ')}_strict_f1": f1 for name, f1 in scores.items()}
            metrics[f"{metric_key_prefix}_strict_f1"] = mean(scores.values())
        else:
            micro = development["dev"].strict.micro
            metrics = {
                f"{metric_key_prefix}_strict_f1": micro.f1,
                f"{metric_key_prefix}_strict_precision": micro.precision,
                f"{metric_key_prefix}_strict_recall": micro.recall,
            }
        metrics |= self._nested_metrics(development, metric_key_prefix)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _nested_metrics(self, development: Mapping[str, Scores], prefix: str) -> dict[str, float]:
        """Return the mean F1 of the nested names over the sources that have some; empty if the model does not find them."""
        if self.predictor.nested_tag_set is None:
            return {}
        scores = [part.layers[NESTED].micro.f1 for part in development.values() if NESTED in part.layers]
        return {f"{prefix}_nested_strict_f1": mean(scores)} if scores else {}

    def score_development(self) -> dict[str, Scores]:
        """Score the current model on the development documents: under ``dev``, or under ``dev NAME`` for each of several sources."""
        if not self._sources:
            return {"dev": self.score(self._dev)}
        several = len(self._sources) > 1
        return {
            f"dev {source.name}" if several else "dev": self.score(source.dev, source.allows)
            for source in self._sources
        }

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return super()._get_train_sampler(train_dataset) if self._sampler is None else self._sampler

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Create the optimizer, with one parameter group per learning rate and weight decay."""
        if self.optimizer is None:
            module = model or self._runtime.classifier
            decayed = set(self.get_decay_parameter_names(module))
            rates = layerwise_learning_rates(
                [name for name, weight in module.named_parameters() if weight.requires_grad],
                rate=self.args.learning_rate,
                decay=self._layerwise_decay,
                head_rate=self._head_learning_rate,
            )
            groups: dict[tuple[float, float], list[nn.Parameter]] = {}
            for name, weight in module.named_parameters():
                if weight.requires_grad:
                    key = rates[name], self.args.weight_decay if name in decayed else 0.0
                    groups.setdefault(key, []).append(weight)
            optimizer, options = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = optimizer(
                [{"params": weights, "lr": rate, "weight_decay": decay} for (rate, decay), weights in groups.items()],
                **options,
            )
        return self.optimizer


def layerwise_learning_rates(
    names: list[str], *, rate: float, decay: float, head_rate: float | None
) -> dict[str, float]:
    """Return the learning rate of each weight.

    The rate is highest in the top layer; each layer's rate is that of the layer above times ``decay``.

    Args:
        names: names of the weights; those of a layer contain its number.
        rate: learning rate of the top layer.
        decay: factor from a layer to the one below. The embeddings count as the layer below layer 0.
        head_rate: learning rate of all weights that belong to no numbered layer and no embedding, such as those of the
            heads; by default ``rate``.
    """
    heights = {name: int(match.group(1)) + 1 for name in names if (match := _LAYER.search(name))}
    top = max(heights.values(), default=0)
    rates = {}
    for name in names:
        if "embed" in name and name not in heights:
            heights[name] = 0
        rates[name] = rate * decay ** (top - heights[name]) if name in heights else head_rate or rate
    return rates


class LogWriter(TrainerCallback):
    """Appends each logged event to a file, as a JSON line.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Append an event with its step."""
        if state.is_world_process_zero:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, **(logs or {})}) + "\n")
