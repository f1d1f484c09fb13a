"""Ranges of the inputs of linear layers, measured on sample windows, and how 8-bit integers cover them.

In some channels the inputs of a layer are much larger than in others, and many of those lie far from zero on one side. One range for all
channels would leave few steps for most of them. So each channel is shifted, so that its range is centred at zero, and divided by a scale of its
own, which the layer's weights take over (Wei et al. 2023, "Outlier Suppression+: accurate quantization of large language models by
equivalent and effective shifting and scaling"). In exact arithmetic the layer is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from musamma.models.classifier import TokenClassifier

#: Number of values of a quantised input.
LEVELS = 256

# Number of inputs of each window that are kept, to measure a layer's mean error.
_ROWS = 16
# Channels with a smaller range, as a share of the widest, are treated as if they had this one: other texts may use them.
_SMALLEST_RANGE = 1e-3


@dataclass(frozen=True, slots=True)
class LayerInputs:
    """The inputs of a linear layer on sample windows.

    Args:
        lowest: the smallest value of each channel in each window, float32, (windows, channels).
        greatest: the greatest value, likewise.
        rows: the inputs of some pieces, float32, (pieces, channels).
    """

    lowest: np.ndarray
    greatest: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True, slots=True)
class InputQuantization:
    """The map from a layer's inputs to integers: ``round((inputs - shift) / (scale * step)) + zero``.

    Args:
        shift: the middle of each channel's range, float32, (channels,).
        scale: the scale of each channel, float32, (channels,).
        step: the difference of neighbouring integers, of shifted and scaled inputs.
        zero: the integer of a shifted input of zero, from 0 to :data:`LEVELS` - 1.
    """

    shift: np.ndarray
    scale: np.ndarray
    step: float
    zero: int

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the greatest shifted and scaled input that an integer stands for."""
        return -self.zero * self.step, (LEVELS - 1 - self.zero) * self.step

    def round(self, inputs: np.ndarray) -> np.ndarray:
        """Return shifted and scaled inputs as the integers represent them; both (rows, channels)."""
        scaled = (inputs - self.shift) / self.scale
        rounded: np.ndarray = np.clip(np.round(scaled / self.step), -self.zero, LEVELS - 1 - self.zero) * self.step
        return rounded


def measure_inputs(
    classifier: TokenClassifier, layers: Iterable[str], samples: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, LayerInputs]:
    """Measure the inputs of linear layers.

    Args:
        classifier: the classifier, on the CPU and in evaluation mode.
        layers: paths of the layers.
        samples: inputs of the classifier by name, one window each.

    Returns:
        The inputs of each layer that is used, by path. A layer that is used several times in a window counts as in several windows.
    """
    measured: dict[str, list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]] = {}
    generator = torch.Generator().manual_seed(1)
    hooks = []
    for path in layers:

        def measure(module: nn.Module, inputs: tuple[torch.Tensor, ...], path: str = path) -> None:
            states = inputs[0].flatten(end_dim=-2)
            chosen = torch.randperm(len(states), generator=generator)[:_ROWS]
            measured.setdefault(path, []).append((*torch.aminmax(states, dim=0), states[chosen]))

        hooks.append(classifier.get_submodule(path).register_forward_pre_hook(measure))
    with torch.no_grad():
        for sample in samples:
            classifier(**{name: torch.from_numpy(array) for name, array in sample.items()})
    for hook in hooks:
        hook.remove()
    found = {}
    for path, windows in measured.items():
        lowest, greatest, rows = zip(*windows, strict=True)
        found[path] = LayerInputs(torch.stack(lowest).numpy(), torch.stack(greatest).numpy(), torch.cat(rows).numpy())
    return found


def choose_quantization(
    inputs: LayerInputs, *, smoothing: float, shifted: bool, divisors: np.ndarray | None = None
) -> InputQuantization:
    """Choose the shift, scale and range of a layer's inputs.

    The range of all channels is the mean over windows of its ends in each.

    Args:
        inputs: the inputs.
        smoothing: the exponent of a channel's range in its scale: with 1, all channels have the same range afterwards; with 0, all have
            the same scale (Xiao et al. 2023, "SmoothQuant").
        shifted: whether to centre the ranges at zero.
        divisors: numbers by which the weights of the channels were divided, (channels,): their scales are multiplied by these.
    """
    count = inputs.lowest.shape[1]
    shift = np.zeros(count, dtype=np.float32)
    if shifted:
        shift = (inputs.lowest.mean(axis=0) + inputs.greatest.mean(axis=0)) / 2
    divided = np.ones(count, dtype=np.float32) if divisors is None else divisors.astype(np.float32)
    reach = np.maximum(inputs.greatest - shift, shift - inputs.lowest).max(axis=0) / divided
    reach = np.maximum(reach, max(_SMALLEST_RANGE * float(reach.max()), float(np.finfo(np.float32).tiny)))
    scale = divided * (reach / reach.max()) ** smoothing
    # Zero is in the range, so that it has an integer of its own.
    low = min(float(((inputs.lowest - shift) / scale).min(axis=1).mean()), 0.0)
    high = max(float(((inputs.greatest - shift) / scale).max(axis=1).mean()), 0.0)
    step = max(high - low, float(np.finfo(np.float32).tiny)) / (LEVELS - 1)
    return InputQuantization(shift, scale.astype(np.float32), step, round(-low / step))
