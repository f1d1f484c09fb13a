"""Quantisation of a graph: its layers compute what integers represent, without an error on average."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from musamma.models.export.activation_ranges import InputQuantization, LayerInputs, choose_quantization
from musamma.models.export.quantize_openvino import quantize_openvino
from musamma.models.optional_packages import disable_telemetry, silence_libraries

disable_telemetry()
openvino = pytest.importorskip("openvino")

WIDTH = 24


class Layers(nn.Module):
    """Linear layers, with a function of their inputs that uses them."""

    def __init__(self, compute: Callable[[nn.ModuleDict, torch.Tensor], torch.Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.classifier = nn.ModuleDict(layers)
        self.compute = compute

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.compute(self.classifier, states)


def skewed_rows(pieces: int = 400) -> np.ndarray:
    """Inputs as a layer norm gives them: channels of different size, some far from zero."""
    generator = np.random.default_rng(6)
    size, middle = 10.0 ** generator.uniform(-1, 0.5, WIDTH), generator.normal(0, 3, WIDTH)
    return (middle + size * generator.normal(size=(pieces, WIDTH))).astype(np.float32)


ROWS = skewed_rows()


def quantization(*, shifted: bool = True) -> InputQuantization:
    inputs = LayerInputs(ROWS.min(axis=0)[None], ROWS.max(axis=0)[None], ROWS)
    return choose_quantization(inputs, smoothing=0.8, shifted=shifted)


def run(module: Layers, *paths: str, shifted: bool = True) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The outputs of a graph before and after the layers are quantised, and the kinds of its nodes afterwards."""
    torch.manual_seed(2)
    module.eval()
    with torch.no_grad():
        expected = module(torch.from_numpy(ROWS[None])).numpy()[0]
    with silence_libraries():
        model = openvino.convert_model(module, example_input=torch.zeros(1, 5, WIDTH))
    chosen = {f"classifier.{path}": quantization(shifted=shifted) for path in paths}
    quantize_openvino(model, chosen, dict.fromkeys(chosen, ROWS))
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return expected, compiled(ROWS[None])[0][0], [node.get_type_name() for node in model.get_ops()]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shifted", [True, False])
def test_a_layer_computes_with_integers_and_without_a_mean_error(bias, shifted):
    layer = nn.Linear(WIDTH, 7, bias=bias)
    expected, found, kinds = run(Layers(lambda layers, states: layers["a"](states), a=layer), "a", shifted=shifted)
    assert kinds.count("FakeQuantize") == 1
    error = found - expected
    assert 1e-4 < np.abs(error).max() < 0.1 * np.abs(expected).max()
    # The mean error was taken from the bias; what remains is rounding of the runtime.
    np.testing.assert_allclose(error.mean(axis=0), 0, atol=2e-3 * np.abs(error).max() + 1e-4)
    # The runtime computes what the integers represent.
    chosen, weight = quantization(shifted=shifted), layer.weight.detach().numpy()
    scaled = weight * chosen.scale
    steps = np.abs(scaled).max(axis=1, keepdims=True) / 127
    outputs = chosen.round(ROWS) @ (np.round(scaled / steps) * steps).T
    reference = outputs + (expected - outputs).mean(axis=0)
    assert np.mean(np.abs(found - reference) < 1e-3) > 0.98  # a value between two integers may go either way


def test_shifted_ranges_lose_less() -> None:
    def graph() -> Layers:
        torch.manual_seed(1)
        return Layers(lambda layers, states: layers["a"](states), a=nn.Linear(WIDTH, 16))

    errors = []
    for shifted in (True, False):
        expected, found, _ = run(graph(), "a", shifted=shifted)
        errors.append(float(np.square(found - expected).mean()))
    assert errors[0] < 0.7 * errors[1]


def test_layers_that_read_the_same_share_its_integers() -> None:
    module = Layers(
        lambda layers, states: layers["a"](states) * layers["b"](states),
        a=nn.Linear(WIDTH, 6),
        b=nn.Linear(WIDTH, 6, bias=False),
    )
    expected, found, kinds = run(module, "a", "b")
    assert kinds.count("FakeQuantize") == 1
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


def test_a_layer_that_is_used_twice_is_quantised_twice() -> None:
    module = Layers(lambda layers, states: layers["a"](layers["a"](states)), a=nn.Linear(WIDTH, WIDTH))
    with torch.no_grad():
        module.classifier["a"].weight.copy_(torch.eye(WIDTH))
        module.classifier["a"].bias.zero_()
    expected, found, kinds = run(module, "a")
    assert kinds.count("FakeQuantize") == 2
    np.testing.assert_allclose(found, expected, atol=0.15)


def test_other_layers_stay_in_floating_point_and_a_residual_is_no_bias() -> None:
    module = Layers(
        lambda layers, states: layers["b"](layers["a"](states) + states),
        a=nn.Linear(WIDTH, WIDTH, bias=False),
        b=nn.Linear(WIDTH, 5),
    )
    expected, found, kinds = run(module, "a")
    assert kinds.count("FakeQuantize") == 1
    np.testing.assert_allclose((found - expected).mean(axis=0), 0, atol=1e-3)


def test_embeddings_are_stored_as_integers_by_row() -> None:
    table = nn.Embedding(60, WIDTH)
    with torch.no_grad():
        table.weight[7] *= 100

    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = nn.ModuleDict({"words": table})

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.classifier["words"](ids)

    ids = torch.arange(60)[None]
    with silence_libraries():
        model = openvino.convert_model(Embedded().eval(), example_input=ids)
    quantize_openvino(model, {}, {})
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found, expected = compiled(ids.numpy())[0][0], table.weight.detach().numpy()
    error, greatest = np.abs(found - expected).max(axis=1), np.abs(expected).max(axis=1)
    assert np.all(error <= 0.51 * greatest / 127)
    assert error.max() > 0
    kinds = {str(node.get_element_type()) for node in model.get_ops() if node.get_type_name() == "Constant"}
    assert any("int8" in kind for kind in kinds)
