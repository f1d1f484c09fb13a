"""The loss of distillation: the student reproduces the teacher's distributions and hidden states, and learns the annotated names.

Hinton et al., 2015: Distilling the Knowledge in a Neural Network, https://arxiv.org/abs/1503.02531.
Sun et al., 2019: Patient Knowledge Distillation for BERT Model Compression, https://arxiv.org/abs/1908.09355.
Jiao et al., 2020: TinyBERT: Distilling BERT for Natural Language Understanding, https://arxiv.org/abs/1909.10351.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from musamma.data.tags import TagSet
from musamma.data.windows import IGNORE_INDEX
from musamma.models.classifier import TokenClassifier
from musamma.models.predictor import pad_rows
from musamma.training.dataset import TARGETS
from musamma.training.trainer import SpanTrainer


@dataclass(frozen=True)
class DistillCollator:
    """Makes padded batches of annotated windows and of windows of raw text.

    Args:
        padding: the tokenizer's padding id.
        max_length: maximum number of pieces in a window.
        nested: whether the annotated windows have targets of nested names.
    """

    padding: int
    max_length: int
    nested: bool

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Pad rows to a batch.

        Returns:
            ``input_ids``, ``attention_mask`` and ``words``, whether a piece is the first of a word that its window owns; (windows, pieces).
            ``targets``, (windows, 2 or 3, pieces), as the labels of :class:`musamma.training.dataset.WindowCollator`; raw text has none.
        """
        ids = [np.asarray(row["input_ids"]) for row in rows]
        targets = []
        for column in TARGETS if self.nested else TARGETS[:-1]:
            values = [
                np.asarray(row[column]) if column in row else np.full(len(pieces), IGNORE_INDEX)
                for row, pieces in zip(rows, ids, strict=True)
            ]
            targets.append(pad_rows(values, IGNORE_INDEX, limit=self.max_length))
        # Each owned word of an annotated window has a tag as its target.
        words = [
            np.asarray(row["words"] if "words" in row else np.not_equal(row["tags"], IGNORE_INDEX)) for row in rows
        ]
        return {
            "input_ids": torch.from_numpy(pad_rows(ids, self.padding, limit=self.max_length)),
            "attention_mask": torch.from_numpy(pad_rows([np.ones_like(row) for row in ids], 0, limit=self.max_length)),
            "words": torch.from_numpy(pad_rows(words, 0, limit=self.max_length)).bool(),
            "targets": torch.from_numpy(np.stack(targets, axis=1)),
        }


class Distiller(nn.Module):
    """A student in training beside its teacher.

    The loss is the sum of these parts, each of the first four per word:

    - ``tags``: the divergence of the student's distribution over tags from the teacher's (Kullback-Leibler), at a temperature, whose
      square it is multiplied by (Hinton et al., 2015).
    - ``borders``: the same for the numbers of proclitic letters, weighted with the teacher's probability that a name begins at the word.
    - ``nested``: the same for the tags of nested names, weighted with its probability that the word belongs to a name. Elsewhere these
      two distributions are neither trained nor used.
    - ``gold``: the negative log likelihood of the annotated names, times its weight.
    - ``hidden``: the share of the variance of the teacher's hidden states that the student's do not reproduce, averaged over the matched
      layers, times its weight (Sun et al., 2019; Jiao et al., 2020, with another scale). It does not depend on the size of the states.

    Args:
        student: the student, which is trained.
        teacher: the teacher, in evaluation mode and on the student's device.
        matched: for each layer of the student the layer of the teacher whose output it reproduces.
        tag_set: the tags of names.
        columns: index of each tag in the logits, in the order of the tag set; int, (tags,).
        temperature: the temperature.
        hidden_weight: weight of ``hidden``; with 0 it is not computed.
        gold_weight: weight of ``gold``; with 0 it is not computed.
        gold_loss: computes the loss of logits for targets, with the arguments of :func:`musamma.training.dataset.joint_loss`.
    """

    _columns: torch.Tensor
    _begins: torch.Tensor
    _nested_begins: torch.Tensor

    def __init__(
        self,
        student: TokenClassifier,
        teacher: TokenClassifier,
        *,
        matched: Sequence[int],
        tag_set: TagSet,
        columns: np.ndarray,
        temperature: float,
        hidden_weight: float,
        gold_weight: float,
        gold_loss: Callable[..., torch.Tensor],
    ) -> None:
        super().__init__()
        self.student = student
        # In a tuple, so that the teacher is no part of this module: it is neither trained nor saved with checkpoints.
        self._teacher = (teacher,)
        self.config = student.config
        self._matched = tuple(matched)
        self._temperature, self._hidden_weight, self._gold_weight = temperature, hidden_weight, gold_weight
        self._gold_loss = gold_loss
        self.register_buffer("_columns", torch.from_numpy(np.asarray(columns, dtype=np.int64)), persistent=False)
        self.register_buffer("_begins", _find_begins(tag_set), persistent=False)
        nested = student.nested_tag_set
        self.register_buffer("_nested_begins", None if nested is None else _find_begins(nested), persistent=False)
        self._sums: dict[str, torch.Tensor] = {}
        self._batches = 0

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, words: torch.Tensor, targets: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Compute the loss of a batch of :class:`DistillCollator`.

        Returns:
            ``loss``, a scalar.
        """
        with torch.no_grad():
            guides, guide_states = self._compute(self._teacher[0], input_ids, attention_mask)
        logits, states = self._compute(self.student, input_ids, attention_mask)
        count = words.sum().clamp(min=1)
        parts = self._compare_outputs(
            [None if output is None else output[words].float() for output in logits],
            [None if output is None else output[words].float() for output in guides],
        )
        parts = {name: value / count for name, value in parts.items()}
        if self._hidden_weight:
            pieces = attention_mask.bool()
            shares = [
                unexplained_variance(states[number][pieces].float(), guide_states[matched + 1][pieces].float())
                for number, matched in enumerate(self._matched, start=1)
            ]
            parts["hidden"] = self._hidden_weight * torch.stack(shares).mean()
        if self._gold_weight:
            parts["gold"] = self._gold_weight * self._gold_loss(logits, targets, num_items_in_batch=count)
        self._record(parts)
        return {"loss": torch.stack(list(parts.values())).sum()}

    def _compute(
        self, classifier: TokenClassifier, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[list[torch.Tensor | None], tuple[torch.Tensor, ...]]:
        """Compute the logits of a classifier, those of tags in the order of the tag set, and its hidden states."""
        tags, borders, nested, states = classifier.forward_with_states(input_ids, attention_mask)
        return [tags[..., self._columns], borders, nested], states

    def _compare_outputs(
        self, logits: list[torch.Tensor | None], guides: list[torch.Tensor | None]
    ) -> dict[str, torch.Tensor]:
        """Compute the divergences from the teacher, summed over words.

        Args:
            logits: the student's logits of tags, proclitics and nested tags, each (words, classes), or ``None``.
            guides: those of the teacher.
        """
        (tags, borders, nested), (tag_guide, border_guide, nested_guide) = logits, guides
        assert tags is not None, "every classifier gives tags"
        assert tag_guide is not None, "every classifier gives tags"
        parts = {"tags": divergence(tags, tag_guide, temperature=self._temperature)}
        likely = tag_guide.softmax(dim=-1)
        begins, inside = likely[:, self._begins].sum(dim=-1), 1 - likely[:, 0]
        if nested is not None and nested_guide is not None:
            parts["nested"] = divergence(nested, nested_guide, temperature=self._temperature, weights=inside)
            # A nested name that does not begin with its outer name has a border of its own.
            nested_begins = nested_guide.softmax(dim=-1)[:, self._nested_begins].sum(dim=-1)
            begins = torch.maximum(begins, inside * nested_begins)
        if borders is not None and border_guide is not None:
            parts["borders"] = divergence(borders, border_guide, temperature=self._temperature, weights=begins)
        return parts

    def _record(self, parts: dict[str, torch.Tensor]) -> None:
        for name, value in parts.items():
            self._sums[name] = self._sums.get(name, torch.zeros((), device=value.device)) + value.detach()
        self._batches += 1

    def take_parts(self) -> dict[str, float]:
        """Return the means of the parts of the loss since the last call, by name."""
        parts = {name: float(value) / self._batches for name, value in self._sums.items()}
        self._sums, self._batches = {}, 0
        return parts

    def activation_checkpointing_enable(self, *arguments: Any, **options: Any) -> None:
        """Recompute the student's activations in the backward pass; see :class:`TokenClassifier`."""
        self.student.activation_checkpointing_enable(*arguments, **options)


def divergence(
    logits: torch.Tensor, guide: torch.Tensor, *, temperature: float, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute the summed Kullback-Leibler divergence of distributions from those of a teacher, times the squared temperature.

    Args:
        logits: the student's logits, (words, classes).
        guide: the teacher's logits, (words, classes).
        temperature: the number that both are divided by.
        weights: weight of each word; by default 1. (words,).
    """
    own, wanted = ((scores / temperature).log_softmax(dim=-1) for scores in (logits, guide))
    divergences = (wanted.exp() * (wanted - own)).sum(dim=-1)
    return temperature**2 * (divergences if weights is None else weights * divergences).sum()


def unexplained_variance(states: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
    """Compute the squared error of hidden states, divided by that of the teacher's mean state.

    0 for states equal to the teacher's; 1 for the same mean state at every piece.

    Args:
        states: the student's hidden states, (pieces, hidden size).
        guide: the teacher's hidden states, (pieces, hidden size).
    """
    variance = (guide - guide.mean(dim=0)).square().sum()
    return (states - guide).square().sum() / variance.clamp(min=torch.finfo(variance.dtype).tiny)


def _find_begins(tag_set: TagSet) -> torch.Tensor:
    """Return for each tag whether a name begins with it; bool, (tags,)."""
    return torch.tensor([tag_set.is_begin(tag) for tag in range(len(tag_set))])


class DistillTrainer(SpanTrainer):
    """A Trainer whose model is a :class:`Distiller`; it logs the parts of the loss, ``loss_tags`` and so on."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log values, a loss with its parts."""
        if "loss" in logs:
            distiller: Distiller = self.accelerator.unwrap_model(self.model)
            logs |= {f"loss_{name}": value for name, value in distiller.take_parts().items()}
        super().log(logs, start_time)
