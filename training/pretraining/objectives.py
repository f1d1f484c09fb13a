"""The training objectives: masked language modelling and replaced token detection.

The models return sums over their targets, not means, because the Trainer takes the mean over a whole step: all accumulated
batches of all processes.
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
from musamma.training.pretraining.packing import encode_rows
from musamma.training.pretraining.pretrain_config import Packing

#: Losses and counts, summed over targets, by name; scalars.
Sums = dict[str, torch.Tensor]


class MaskedPieceHead(nn.Module):
    """BERT's head: logits over the vocabulary from hidden states, with the word embeddings as output layer.

    Args:
        encoder: the encoder, from which the sizes are taken.
    """

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        embeddings = word_embedding(encoder).weight
        self.dense = nn.Linear(encoder.config.hidden_size, embeddings.shape[1])
        self.norm = nn.LayerNorm(embeddings.shape[1], eps=getattr(encoder.config, "layer_norm_eps", 1e-12))
        self.bias = nn.Parameter(torch.zeros(embeddings.shape[0]))
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)

    def forward(self, hidden: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """Compute logits, (pieces, vocabulary).

        Args:
            hidden: hidden states, (pieces, hidden).
            embeddings: word embeddings, (vocabulary, width).
        """
        return nn.functional.linear(self.norm(gelu(self.dense(hidden))), embeddings, self.bias)


class MaskedLanguageModel(nn.Module):
    """An encoder that learns to predict masked pieces.

    Args:
        encoder: the encoder.
        packing: how the rows were filled.
    """

    def __init__(self, encoder: PreTrainedModel, *, packing: Packing) -> None:
        super().__init__()
        self.encoder, self.packing = encoder, packing
        #: Whether only the head is trained.
        self.encoder_frozen = False
        self.config = encoder.config
        self.head = MaskedPieceHead(encoder)

    def compile_encoders(self, *, dynamic: bool | None) -> None:
        """Compile the encoder in place; see :meth:`torch.nn.Module.compile`."""
        self.encoder.compile(dynamic=dynamic)

    def predict(
        self, input_ids: torch.Tensor, paragraph_ids: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the logits of the masked pieces.

        Returns:
            The logits, (masked, vocabulary), and the indices of the masked pieces in the flattened batch, (masked,).
        """
        hidden = _encode(self.encoder, input_ids, paragraph_ids, packing=self.packing, frozen=self.encoder_frozen)
        masked = labels.flatten().ne(IGNORE_INDEX).nonzero().squeeze(1)
        embeddings = word_embedding(self.encoder).weight
        if self.encoder_frozen:
            embeddings = embeddings.detach()
        return self.head(hidden.flatten(0, 1).index_select(0, masked), embeddings), masked

    def forward(
        self, input_ids: torch.Tensor, paragraph_ids: torch.Tensor, labels: torch.Tensor, is_text: torch.Tensor
    ) -> Sums:
        """Compute sums over masked pieces: ``mlm_loss`` in nats and, in evaluation, ``mlm_correct``.

        For the arguments see `MaskCollator`.
        """
        logits, masked = self.predict(input_ids, paragraph_ids, labels)
        return _sum_piece_losses(logits, labels.flatten().index_select(0, masked), count_correct=not self.training)


class ReplacedTokenDetector(nn.Module):
    """An encoder that learns to detect pieces that a small generator put in place of masked ones (ELECTRA).

    See Clark et al. (2020). The generator is a copy of the encoder's lower layers, with separate embeddings, and
    learns to predict masked pieces at the same time.

    Args:
        encoder: the detector.
        packing: how the rows were filled.
        layers: number of layers of the generator.

    Raises:
        InputError: the encoder has fewer layers, or its layers cannot be removed.
    """

    def __init__(self, encoder: PreTrainedModel, *, packing: Packing, layers: int) -> None:
        super().__init__()
        self.generator = MaskedLanguageModel(copy_lower_layers(encoder, layers), packing=packing)
        self.encoder, self.packing = encoder, packing
        #: Whether only the heads are trained.
        self.encoder_frozen = False
        self.config = encoder.config
        size = encoder.config.hidden_size
        dense, output = nn.Linear(size, size), nn.Linear(size, 1)
        self.head = nn.Sequential(dense, nn.GELU(), output)
        for layer in (dense, output):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        #: Random numbers for the generator's samples; by default PyTorch's global ones.
        self.random: torch.Generator | None = None

    def compile_encoders(self, *, dynamic: bool | None) -> None:
        """Compile the encoders of generator and detector; see :meth:`torch.nn.Module.compile`."""
        self.generator.compile_encoders(dynamic=dynamic)
        self.encoder.compile(dynamic=dynamic)

    def forward(
        self, input_ids: torch.Tensor, paragraph_ids: torch.Tensor, labels: torch.Tensor, is_text: torch.Tensor
    ) -> Sums:
        """Compute the sums of `MaskedLanguageModel` and, over text pieces, ``rtd_loss``.

        In evaluation, add the counts ``rtd_replaced`` (replaced pieces), ``rtd_true_positives`` and
        ``rtd_false_positives``.
        """
        self.generator.encoder_frozen = self.encoder_frozen
        logits, masked = self.generator.predict(input_ids, paragraph_ids, labels)
        targets = labels.flatten().index_select(0, masked)
        sums = _sum_piece_losses(logits, targets, count_correct=not self.training)
        sampled = sample_pieces(logits.detach(), self.random)
        replaced_ids = input_ids.flatten().index_copy(0, masked, sampled).view_as(input_ids)
        # A sample that equals the original is not a replacement.
        replaced = torch.zeros(input_ids.numel(), dtype=torch.bool, device=input_ids.device)
        replaced = replaced.index_copy(0, masked, sampled.ne(targets)).view_as(input_ids)
        hidden = _encode(self.encoder, replaced_ids, paragraph_ids, packing=self.packing, frozen=self.encoder_frozen)
        detector_logits = self.head(hidden).squeeze(-1).float()
        losses = binary_cross_entropy_with_logits(detector_logits, replaced.float(), reduction="none")
        sums["rtd_loss"] = (losses * is_text).sum()
        if not self.training:
            detected = (detector_logits > 0) & is_text
            sums |= {
                "rtd_replaced": replaced.sum(),
                "rtd_true_positives": (detected & replaced).sum(),
                "rtd_false_positives": (detected & ~replaced).sum(),
            }
        return sums


def _encode(
    encoder: PreTrainedModel, input_ids: torch.Tensor, paragraph_ids: torch.Tensor, *, packing: Packing, frozen: bool
) -> torch.Tensor:
    """Compute hidden states, (rows, pieces, hidden); without gradient if the encoder is frozen."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        return encode_rows(encoder, input_ids, paragraph_ids, packing=packing)


def _sum_piece_losses(logits: torch.Tensor, targets: torch.Tensor, *, count_correct: bool) -> Sums:
    sums = {"mlm_loss": cross_entropy(logits.float(), targets, reduction="sum")}
    if count_correct:
        sums["mlm_correct"] = logits.argmax(-1).eq(targets).sum()
    return sums


def sample_pieces(logits: torch.Tensor, random: torch.Generator | None) -> torch.Tensor:
    """Sample one piece from each distribution, by the inverse of its cumulative sum.

    Args:
        logits: (masked, vocabulary).
        random: source of random numbers; by default PyTorch's global one.

    Returns:
        Piece ids, (masked,).
    """
    cumulative = logits.float().softmax(-1).cumsum(-1)
    points = torch.rand(len(cumulative), 1, generator=random, device=cumulative.device) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, points).squeeze(1).clamp(max=cumulative.shape[1] - 1)


def copy_lower_layers(encoder: PreTrainedModel, count: int) -> PreTrainedModel:
    """Copy an encoder with its first ``count`` layers.

    Raises:
        InputError: the encoder has fewer layers, or its layers cannot be removed.
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
