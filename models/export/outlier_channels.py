"""Outlier channels of down-projections, divided so that 8-bit integers can hold them.

A down-projection maps the wide hidden state inside a layer back to the width of the layer. In a few channels, often in one, a few pieces
have values ten times as large as those of all other channels. A range that holds them leaves few steps for the rest (Bondarenko et al.
2021, "Understanding and overcoming the challenges of efficient transformer quantization").

Such a channel is divided into several (Zhao et al. 2019, "Improving neural network quantization without retraining using outlier channel
splitting"): the up-projection computes it several times, and the down-projection has the channel's weights, divided by the number of
copies, for each of them. In exact arithmetic the result is the same, and each copy may be rounded more coarsely.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from musamma.models.classifier import TokenClassifier
from musamma.models.export.activation_ranges import measure_inputs

# Share of the channels, those with the greatest values, that are divided down to the range of the others.
_SHARE = 0.02
# The number of channels stays a multiple of this, the numbers that a vector register holds.
_MULTIPLE = 16


def find_body_layers(classifier: TokenClassifier) -> list[str]:
    """Return the paths of the linear layers of the encoder: all but the heads."""
    body = {id(module) for module in classifier.backbone.base_model.modules()}
    return [path for path, module in classifier.named_modules() if isinstance(module, nn.Linear) and id(module) in body]


def find_down_projections(classifier: TokenClassifier) -> dict[str, str | None]:
    """Find the down-projections of the encoder's layers.

    Args:
        classifier: the classifier.

    Returns:
        Paths of the linear layers in a list of layers that have fewer outputs than inputs, in order, each with the path of the
        up-projection before it: the linear layer with the opposite sizes in the same layer; ``None`` if that is not exactly one.
    """
    modules = dict(classifier.named_modules())
    stacks = [path for path, module in modules.items() if isinstance(module, nn.ModuleList)]
    layers: dict[tuple[str, int], list[str]] = {}
    for path in find_body_layers(classifier):
        stack = next((name for name in stacks if path.startswith(f"{name}.")), None)
        if stack is not None:
            number = int(path.removeprefix(f"{stack}.").partition(".")[0])
            layers.setdefault((stack, number), []).append(path)
    found: dict[str, str | None] = {}
    for _, paths in sorted(layers.items()):
        sizes = {path: (modules[path].in_features, modules[path].out_features) for path in paths}
        for path, (inputs, outputs) in sizes.items():
            if inputs > outputs:
                opposite = [other for other in paths if sizes[other] == (outputs, inputs)]
                found[path] = opposite[0] if len(opposite) == 1 else None
    return found


def divide_outliers(
    classifier: TokenClassifier,
    samples: Sequence[Mapping[str, np.ndarray]],
    *,
    share: float = _SHARE,
    skip: Collection[str] = (),
) -> tuple[TokenClassifier, dict[str, np.ndarray]]:
    """Return a copy of a classifier whose down-projections have divided channels.

    Args:
        classifier: the classifier, in float32, on the CPU and in evaluation mode; it is not changed.
        samples: inputs of the classifier by name, one window each.
        share: share of the channels that are divided, those with the greatest values.
        skip: paths of down-projections that stay as they are.

    Returns:
        The copy, and the paths of the divided down-projections, each with the number of copies of every channel, int64, (channels,), by which
        its weights are divided.
    """
    divided = copy.deepcopy(classifier)
    pairs = {down: up for down, up in find_down_projections(divided).items() if up is not None and down not in skip}
    divisors = {}
    for down, inputs in measure_inputs(divided, pairs, samples).items():
        greatest = np.maximum(inputs.greatest.max(axis=0), -inputs.lowest.min(axis=0))
        copies = _count_copies(torch.from_numpy(greatest), share)
        source = torch.repeat_interleave(torch.arange(len(copies)), copies)
        layer, wide = divided.get_submodule(down), divided.get_submodule(pairs[down])
        assert isinstance(layer, nn.Linear)
        assert isinstance(wide, nn.Linear)
        divided.set_submodule(
            pairs[down], _linear(wide.weight[source], None if wide.bias is None else wide.bias[source])
        )
        divided.set_submodule(down, _linear(layer.weight[:, source] / copies[source], layer.bias))
        divisors[down] = copies[source].numpy()
    return divided.eval(), divisors


def _count_copies(greatest: torch.Tensor, share: float) -> torch.Tensor:
    """Return the number of copies of each channel, int64, (channels,), by its greatest absolute value, (channels,)."""
    limit = greatest.sort(descending=True).values[int(share * len(greatest))]
    copies = (greatest / limit.clamp_min(torch.finfo(greatest.dtype).tiny)).ceil().clamp_min(1).long()
    while int(copies.sum()) % _MULTIPLE and len(greatest) % _MULTIPLE == 0:
        copies[(greatest / copies).argmax()] += 1
    return copies


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    """Return a linear layer with these weights, (outputs, inputs)."""
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias=bias is not None, dtype=weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer
