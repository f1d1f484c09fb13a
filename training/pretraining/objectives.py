"""What is learnt: masked pieces, or to tell replaced pieces from those of the text.

A model gives sums over its targets, not means, so that the mean is over the whole accumulated batch of all processes.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, gelu
from transformers import PreTrainedModel

from musamma.data.errors import InputError
from musamma.data.windows import IGNORE_INDEX
from musamma.models.vocabulary.embeddings import word_embedding
from musamma.training.pretraining.packing import hidden_states

#: Sums and counts by name; each a scalar.
Sums = dict[str, torch.Tensor]


class MaskedPieceHead(nn.Module):
    """Logits of all pieces from hidden states, by way of the word embeddings (BERT's head).

    Args:
        encoder: gives the sizes.
    """

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        table = word_embedding(encoder).weight
        self.dense = nn.Linear(encoder.config.hidden_size, table.shape[1])
        self.norm = nn.LayerNorm(table.shape[1], eps=getattr(encoder.config, "layer_norm_eps", 1e-12))
        self.bias = nn.Parameter(torch.zeros(table.shape[0]))
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)

    def forward(self, hidden: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """(pieces, vocabulary), from hidden states, (pieces, hidden), and word embeddings, (vocabulary, width)."""
        return nn.functional.linear(self.norm(gelu(self.dense(hidden))), table, self.bias)


class MaskedLanguageModel(nn.Module):
    """An encoder that learns to name masked pieces.

    Args:
        encoder: the encoder.
        packing: whether rows hold several paragraphs.
    """

    def __init__(self, encoder: PreTrainedModel, *, packing: bool) -> None:
        super().__init__()
        self.encoder, self.packing, self.frozen = encoder, packing, False
        self.config = encoder.config
        self.head = MaskedPieceHead(encoder)

    def compile_encoders(self, *, dynamic: bool | None) -> None:
        """Let `torch.compile` make faster code for the encoder, in place; see :class:`torch.nn.Module`."""
        self.encoder.compile(dynamic=dynamic)

    def predict(
        self, input_ids: torch.Tensor, documents: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the masked pieces only, (masked, vocabulary), and their places in the flattened batch,
        (masked,)."""
        hidden = states(self.encoder, input_ids, documents, packing=self.packing, frozen=self.frozen)
        places = labels.flatten().ne(IGNORE_INDEX).nonzero().squeeze(1)
        table = word_embedding(self.encoder).weight
        if self.frozen:
            table = table.detach()
        return self.head(hidden.flatten(0, 1).index_select(0, places), table), places

    def forward(
        self, input_ids: torch.Tensor, documents: torch.Tensor, labels: torch.Tensor, plain: torch.Tensor
    ) -> Sums:
        """Sums over masked pieces: ``mlm_loss`` in nats, and without training ``mlm_right``. For shapes see
        `MaskCollator`."""
        logits, places = self.predict(input_ids, documents, labels)
        return piece_sums(logits, labels.flatten().index_select(0, places), count_right=not self.training)


class ReplacedTokenDetector(nn.Module):
    """An encoder that learns to find pieces that a small generator has put in place of masked ones (ELECTRA, Clark et
    al., 2020).

    The generator is the encoder's lower layers, a copy with embeddings of its own, and learns to name masked pieces
    beside it.

    Args:
        encoder: what learns to tell.
        packing: whether rows hold several paragraphs.
        layers: of the generator.

    Raises:
        InputError: the encoder has fewer layers, or none that can be taken off.
    """

    def __init__(self, encoder: PreTrainedModel, *, packing: bool, layers: int) -> None:
        super().__init__()
        self.generator = MaskedLanguageModel(copy_lower_layers(encoder, layers), packing=packing)
        self.encoder, self.packing, self.frozen = encoder, packing, False
        self.config = encoder.config
        size = encoder.config.hidden_size
        dense, last = nn.Linear(size, size), nn.Linear(size, 1)
        self.head = nn.Sequential(dense, nn.GELU(), last)
        for layer in (dense, last):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        #: Where proposals are drawn from; by default the process's own numbers.
        self.random: torch.Generator | None = None

    def compile_encoders(self, *, dynamic: bool | None) -> None:
        """As in `MaskedLanguageModel`, with the generator's."""
        self.generator.compile_encoders(dynamic=dynamic)
        self.encoder.compile(dynamic=dynamic)

    def forward(
        self, input_ids: torch.Tensor, documents: torch.Tensor, labels: torch.Tensor, plain: torch.Tensor
    ) -> Sums:
        """Sums: those of `MaskedLanguageModel`; ``rtd_loss`` over pieces; without training also ``rtd_replaced``,
        ``rtd_found``, ``rtd_alarms``."""
        self.generator.frozen = self.frozen
        logits, places = self.generator.predict(input_ids, documents, labels)
        goals = labels.flatten().index_select(0, places)
        sums = piece_sums(logits, goals, count_right=not self.training)
        proposed = sample_pieces(logits.detach(), self.random)
        replaced_ids = input_ids.flatten().index_copy(0, places, proposed).view_as(input_ids)
        # A proposal that happens to be the original is no replacement.
        replaced = torch.zeros(input_ids.numel(), dtype=torch.bool, device=input_ids.device)
        replaced = replaced.index_copy(0, places, proposed.ne(goals)).view_as(input_ids)
        hidden = states(self.encoder, replaced_ids, documents, packing=self.packing, frozen=self.frozen)
        doubt = self.head(hidden).squeeze(-1).float()
        each = binary_cross_entropy_with_logits(doubt, replaced.float(), reduction="none")
        sums["rtd_loss"] = (each * plain).sum()
        if not self.training:
            said = (doubt > 0) & plain
            sums |= {
                "rtd_replaced": replaced.sum(),
                "rtd_found": (said & replaced).sum(),
                "rtd_alarms": (said & ~replaced).sum(),
            }
        return sums


def states(
    encoder: PreTrainedModel, input_ids: torch.Tensor, documents: torch.Tensor, *, packing: bool, frozen: bool
) -> torch.Tensor:
    """Hidden states, (rows, pieces, hidden); of a frozen encoder without gradient."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        return hidden_states(encoder, input_ids, documents, packing=packing)


def piece_sums(logits: torch.Tensor, goals: torch.Tensor, *, count_right: bool) -> Sums:
    """``mlm_loss`` and, if asked for, ``mlm_right``, summed over masked pieces."""
    sums = {"mlm_loss": cross_entropy(logits.float(), goals, reduction="sum")}
    if count_right:
        sums["mlm_right"] = logits.argmax(-1).eq(goals).sum()
    return sums


def sample_pieces(logits: torch.Tensor, random: torch.Generator | None) -> torch.Tensor:
    """One piece of each distribution, (masked,), from logits, (masked, vocabulary): where its cumulated sum passes a
    random number."""
    sums = logits.float().softmax(-1).cumsum(-1)
    points = torch.rand(len(sums), 1, generator=random, device=sums.device) * sums[:, -1:]
    return torch.searchsorted(sums, points).squeeze(1).clamp(max=sums.shape[1] - 1)


def copy_lower_layers(encoder: PreTrainedModel, count: int) -> PreTrainedModel:
    """A copy of the encoder with its first ``count`` layers.

    Raises:
        InputError: it has fewer, or none that can be taken off.
    """
    total = int(getattr(encoder.config, "num_hidden_layers", 0))
    lower = copy.deepcopy(encoder)
    stacks = [module for module in lower.modules() if isinstance(module, nn.ModuleList) and len(module) == total]
    if len(stacks) != 1 or not 1 <= count <= total:
        raise InputError(
            f"generator_layers {count} of a {type(encoder).__name__} with {total} layers",
            where=str(encoder.name_or_path),
            expected=f"1 to {total}" if len(stacks) == 1 else "an encoder with one list of layers",
            remedy="set generator_layers, or objective: mlm",
        )
    del stacks[0][count:]
    lower.config.num_hidden_layers = count
    return lower
