"""Dropout on a CPU with masks that are fast to draw.

PyTorch draws the mask of `torch.nn.Dropout` on a CPU in one thread, element by element; on processors without MKL's generator this takes a
tenth of a training step on two cores. Here, one draw of 64 bits decides on four elements.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

# A probability is rounded to a multiple of 1/65,536: one 16-bit number is drawn for each element.
_LEVELS = 2**16


class CpuDropout(nn.Dropout):
    """Dropout whose masks come from PyTorch's default generator on the CPU, so that seeds and saved states hold for them.

    Elements are scaled by the inverse of the exact probability of keeping one. Tensors on other devices are left to
    `torch.nn.Dropout`.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Drop elements of a tensor in training mode; return it as it is in evaluation mode."""
        return drop_out(input, self.p, training=self.training)


def drop_out(values: torch.Tensor, p: float, *, training: bool) -> torch.Tensor:
    """Set elements to zero with a probability of ``p`` and scale the others, so that the expected values stay the same.

    Args:
        values: a tensor.
        p: the probability, rounded to a multiple of 1/65,536 on a CPU.
        training: whether anything is dropped at all.
    """
    dropped = round(p * _LEVELS)
    if values.device.type != "cpu" or dropped == _LEVELS:
        return nn.functional.dropout(values, p, training=training)
    if not training or not dropped:
        return values
    return _Dropout.apply(values, dropped)


def replace_dropout(module: nn.Module) -> None:
    """Replace the `torch.nn.Dropout` modules inside a module by `CpuDropout`, in place. They have no weights."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Dropout:
                setattr(parent, name, CpuDropout(child.p).train(child.training))


def set_dropout(module: nn.Module, p: float) -> None:
    """Set the rate of all dropout, in the modules alone: a saved configuration keeps the rates for later fine-tuning."""
    for child in module.modules():
        if isinstance(child, nn.Dropout):
            child.p = p


class _Dropout(torch.autograd.Function):
    """Dropout of ``dropped`` in 65,536 elements."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, dropped: int) -> torch.Tensor:
        draws = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        numbers = draws.view(torch.int16)[: values.numel()].view(values.shape)
        kept = (numbers >= dropped - _LEVELS // 2).to(values.dtype)
        ctx.save_for_backward(kept)
        ctx.scale = _LEVELS / (_LEVELS - dropped)
        return (values * kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (kept,) = ctx.saved_tensors
        return (gradients[0] * kept).mul_(ctx.scale), None
