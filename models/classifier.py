"""The token classifier: a Hugging Face model for the tags, and small heads for the proclitics before a name and for nested names.

A piece of an XLM-R-style vocabulary often holds a proclitic together with the letters after it, so tags on pieces alone cannot
say where a name begins. At the first piece of a name, the second head says how many leading letters of the word are proclitics.
The third head gives the tags of the names inside names.

On disk it is a plain Hugging Face checkpoint that `AutoModelForTokenClassification` loads, for the outermost names. The two tensors
of each other head are stored next to it in ``proclitic_head.safetensors`` and ``nested_head.safetensors``; the labels of nested
names, window options and calibration in ``config.json`` under ``musamma``.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from musamma.data.files import apply_default_mode
from musamma.data.tags import TagSet
from musamma.models.calibration import Calibration
from musamma.models.decoding import PROCLITIC_CLASSES
from musamma.models.model_names import HEAD_FILE, NESTED_HEAD_FILE
from musamma.models.nested_labels import NESTED_KEY, describe_nested
from musamma.models.tokenizer_files import save_tokenizer
from musamma.models.unpadded import UNPADDED_ATTENTION, PieceLayout, register_unpadded_attention
from musamma.models.window_options import WindowOptions


class TokenClassifier(nn.Module):
    """A Hugging Face token classifier, which gives the tag logits, with further heads on its last layer.

    Args:
        backbone: the Hugging Face model.
        proclitics: whether to add the proclitic head; without it each name begins at the start of a word.
        nested: the tags of nested names, to add the head for them.
    """

    def __init__(self, backbone: PreTrainedModel, *, proclitics: bool = True, nested: TagSet | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = backbone.config
        self.proclitic_head: nn.Linear | None = None
        if proclitics:
            self.proclitic_head = _build_head(backbone, PROCLITIC_CLASSES)
        self.nested_tag_set = nested
        self.nested_head = None if nested is None else _build_head(backbone, len(nested))
        #: Whether the encoder reads batches without their padding; see :meth:`try_unpadded`.
        self.unpadded = False
        self._first_position = position_offset(backbone)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Compute the logits of every piece; only those of first pieces of words are trained.

        Args:
            input_ids: piece ids, padded; (windows, pieces).
            attention_mask: 1 for pieces, 0 for padding; (windows, pieces).

        Returns:
            Tag logits, (windows, pieces, tags); proclitic logits, (windows, pieces, :data:`PROCLITIC_CLASSES`); and logits of the
            tags of nested names, (windows, pieces, nested tags). The last two are ``None`` without the head.
        """
        if not self.unpadded:
            return self._compute_logits(input_ids=input_ids, attention_mask=attention_mask)
        layout = PieceLayout.from_mask(
            attention_mask, heads=self.config.num_attention_heads, first_position=self._first_position
        )
        tags, proclitics, nested = self._compute_logits(
            input_ids=layout.join(input_ids), position_ids=layout.positions, layout=layout
        )
        return (
            layout.pad(tags),
            None if proclitics is None else layout.pad(proclitics),
            None if nested is None else layout.pad(nested),
        )

    def _compute_logits(self, **inputs: Any) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        has_heads = self.proclitic_head is not None or self.nested_head is not None
        output = self.backbone(**inputs, output_hidden_states=has_heads)
        if not has_heads:
            return output.logits, None, None
        return output.logits, *self._apply_heads(output.hidden_states[-1])

    @torch.no_grad()
    def try_unpadded(self, *, length: int) -> bool:
        """Compute without padding from now on (:mod:`musamma.models.unpadded`), for training on a CPU.

        Nothing changes for an encoder that cannot do so: one that does not take the attention function and the positions given to it, or
        gives other logits with them.

        Args:
            length: number of pieces in the longer window of the comparison; layers with local attention differ only in windows
                longer than their reach.

        Returns:
            Whether the encoder can.
        """
        training, attention = self.training, self.config._attn_implementation
        size = int(self.config.vocab_size)
        ids = (torch.arange(2 * length) * 7 % (size - 5) + 5).view(2, length)
        mask = torch.ones_like(ids)
        mask[1, length // 2 :] = 0

        def compute() -> torch.Tensor:
            return torch.cat([logits[mask.bool()] for logits in self(ids, mask) if logits is not None], dim=-1)

        self.eval()
        try:
            expected = compute()
            register_unpadded_attention()
            self.backbone.set_attn_implementation(UNPADDED_ATTENTION)
            self.unpadded = True
            self.unpadded = torch.allclose(compute(), expected, rtol=1e-3, atol=1e-3)
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError):
            self.unpadded = False
        finally:
            self.train(training)
            if not self.unpadded:
                self.backbone.set_attn_implementation(attention)
        return self.unpadded

    def forward_with_states(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None, tuple[torch.Tensor, ...]]:
        """Compute the logits as :meth:`forward` does, and the hidden states, each (windows, pieces, hidden size).

        The first of the states are the embeddings of the pieces; each of the others comes from a layer.
        """
        output = self.backbone(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        states = output.hidden_states
        return output.logits, *self._apply_heads(states[-1]), states

    def _apply_heads(self, states: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        return (
            None if self.proclitic_head is None else self.proclitic_head(states),
            None if self.nested_head is None else self.nested_head(states),
        )

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: dict[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Recompute activations in the backward pass: less memory, more time. The Trainer calls it by this name."""
        self.backbone.activation_checkpointing_enable(activation_checkpointing_kwargs, every_n_layers, offload)

    def save_pretrained(
        self,
        folder: str | Path,
        tokenizer: PreTrainedTokenizerBase,
        options: WindowOptions,
        *,
        calibration: Calibration | None = None,
    ) -> None:
        """Write a checkpoint folder: a plain Hugging Face checkpoint with the other heads, window options and calibration."""
        folder = Path(folder)
        stored: dict[str, Any] = {"format": 1, "encoding": asdict(options)}
        if self.nested_tag_set is not None:
            stored[NESTED_KEY] = describe_nested(self.nested_tag_set)
        # A calibration loaded with the weights is dropped: it may no longer fit them.
        self.config.musamma = stored if calibration is None else {**stored, "calibration": calibration.to_dict()}
        self.backbone.save_pretrained(folder)
        save_tokenizer(tokenizer, folder)
        for head, file in ((self.proclitic_head, HEAD_FILE), (self.nested_head, NESTED_HEAD_FILE)):
            if head is not None:
                state = {name: tensor.contiguous() for name, tensor in head.state_dict().items()}
                save_file(state, folder / file)
        apply_default_mode(*folder.glob("*.safetensors"))


def _build_head(backbone: PreTrainedModel, classes: int) -> nn.Linear:
    head = nn.Linear(backbone.config.hidden_size, classes, dtype=backbone.dtype)
    nn.init.normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


def max_positions(model: PreTrainedModel) -> int | None:
    """Return the maximum number of pieces an encoder takes at a time, special tokens included; ``None`` if unlimited."""
    limit = getattr(model.config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        # RoBERTa numbers positions from the one after the padding's, so fewer are left for pieces.
        if name.endswith(".position_embeddings") and getattr(module, "padding_idx", None) is not None and limit:
            return int(limit - module.padding_idx - 1)
    return limit


def position_offset(encoder: PreTrainedModel) -> int:
    """Return the position id of the first piece. It is not always 0: models like RoBERTa count from the padding's position."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.padding_idx) + 1
    return 0
