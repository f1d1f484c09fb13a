"""Windows as training examples: the data set, the batch, and the loss on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy

from musamma.data.document import Document
from musamma.data.encoding import IGNORED, Encoder, Loss, targets
from musamma.data.tags import TagSet
from musamma.models.prediction import pad

#: The column by which the sampler groups windows.
LENGTH = "length"


def window_dataset(
    documents: list[Document], encoder: Encoder, tags: TagSet, *, proclitics: bool
) -> tuple[Dataset, list[tuple[Document, Loss]]]:
    """Every window of the documents, with the targets of the words that it owns.

    Returns:
        A data set with columns ``input_ids``, ``tags`` and ``proclitics`` (one value a piece, :data:`IGNORED` but on owned words'
        first pieces) and ``length``; and the annotated names that tags cannot carry as they stand.
    """
    rows: dict[str, list[Any]] = {"input_ids": [], "tags": [], "proclitics": [], LENGTH: []}
    losses = []
    for encoded in encoder.encode_all(documents):
        goal = targets(encoded, tags, proclitics=proclitics)
        losses += [(encoded.document, loss) for loss in goal.losses]
        for window in encoded.windows:
            words, positions = window.words[window.owned], window.positions[window.owned]
            for column, values in (("tags", goal.tags), ("proclitics", goal.proclitics)):
                row = np.full(len(window.input_ids), IGNORED)
                row[positions] = values[words]
                rows[column].append(row)
            rows["input_ids"].append(window.input_ids)
            rows[LENGTH].append(len(window.input_ids))
    return Dataset.from_dict(rows), losses


@dataclass(frozen=True)
class Collator:
    """Rows of the data set as a padded batch.

    Args:
        padding: the tokenizer's padding id.
        max_length: the longest window, in pieces.
    """

    padding: int
    max_length: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """``input_ids`` and ``attention_mask`` (windows, pieces), ``labels`` (windows, 2, pieces): tags, then proclitics."""
        ids = [np.asarray(row["input_ids"]) for row in rows]
        labels = [
            torch.from_numpy(pad([np.asarray(row[column]) for row in rows], IGNORED, limit=self.max_length))
            for column in ("tags", "proclitics")
        ]
        return {
            "input_ids": torch.from_numpy(pad(ids, self.padding, limit=self.max_length)),
            "attention_mask": torch.from_numpy(pad([np.ones_like(row) for row in ids], 0, limit=self.max_length)),
            "labels": torch.stack(labels, dim=1),
        }


def joint_loss(
    outputs: tuple[torch.Tensor, torch.Tensor | None],
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Negative log likelihood of tags and proclitic counts together, a target.

    Args:
        outputs: logits of `TokenClassifier`.
        labels: (windows, 2, pieces), see :class:`Collator`.
        num_items_in_batch: targets in the whole accumulated batch; by default those of this one.
    """
    total = torch.zeros((), device=labels.device)
    for logits, goal in zip(outputs, labels.unbind(dim=1), strict=True):
        if logits is not None:
            total = total + cross_entropy(
                logits.float().flatten(0, 1), goal.flatten(), ignore_index=IGNORED, reduction="sum"
            )
    count = labels.ne(IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
    return total / torch.as_tensor(count, device=labels.device).clamp(min=1)
