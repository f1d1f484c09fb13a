"""Loading of models for prediction, by name, folder or hub id: checkpoints with transformers, exported models without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from musamma.data.tags import TagSet
from musamma.data.windows import DocumentTokenizer
from musamma.models.calibration import read_calibration
from musamma.models.exported_model import load_exported_tokenizer, load_graph, read_exported
from musamma.models.model_names import resolve_model
from musamma.models.optional_packages import require_packages
from musamma.models.predictor import Predictor
from musamma.models.window_options import read_window_options

#: Pieces per batch.
CPU_BATCH_TOKENS = 4_096
_GPU_BATCH_TOKENS = 32_768


def load_predictor(
    model: str,
    *,
    device: str | None = None,
    batch_tokens: int | None = None,
    cpu_batch_tokens: int = CPU_BATCH_TOKENS,
    bfloat16: bool | None = None,
) -> Predictor:
    """Load a checkpoint or an exported model with everything that prediction needs.

    Args:
        model: a folder, the name of a packaged model, or a hub id.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``...; by default the GPU if there is one.
        batch_tokens: pieces per batch, padding included; by default ``cpu_batch_tokens`` on a CPU, 32,768 on a GPU.
        cpu_batch_tokens: the default on a CPU.
        bfloat16: compute in bfloat16; by default where the device does so in hardware.

    Raises:
        InputError: there is no such model or device, the model cannot be loaded, or it needs packages that are not installed.
    """
    name = resolve_model(model)
    if (exported := read_exported(name)) is None:
        return _load_checkpoint(
            name,
            model,
            device=device,
            batch_tokens=batch_tokens,
            cpu_batch_tokens=cpu_batch_tokens,
            bfloat16=bfloat16,
        )
    config, graph = exported
    stored = config.get("musamma")
    options = read_window_options(stored, model)
    tag_set, columns = _read_tag_set(config.get("id2label"), model)
    return Predictor(
        load_graph(name, graph, device=device, bfloat16=bfloat16),
        load_exported_tokenizer(name, options),
        tag_set,
        columns,
        batch_tokens=batch_tokens or cpu_batch_tokens,
        calibration=read_calibration(stored, tag_set.labels, where=model),
    )


def _load_checkpoint(
    name: str,
    model: str,
    *,
    device: str | None,
    batch_tokens: int | None,
    cpu_batch_tokens: int,
    bfloat16: bool | None,
) -> Predictor:
    """Load a checkpoint, a folder or hub id ``name``; see :func:`load_predictor`."""
    _require_checkpoint_packages(model)
    # Imported here, because both libraries take seconds and hundreds of megabytes, and exported models run without them.
    import torch

    from musamma.models.checkpoint import load_classifier, load_tokenizer
    from musamma.models.runtimes.torch import TorchRuntime, choose_device, supports_bfloat16

    torch_device = choose_device(device)
    tokenizer = load_tokenizer(name)
    classifier, options = load_classifier(name)
    tag_set, columns = _read_tag_set(classifier.config.id2label, model)
    half = supports_bfloat16(torch_device) if bfloat16 is None else bfloat16
    return Predictor(
        TorchRuntime(classifier.to(torch_device), device=torch_device, autocast=torch.bfloat16 if half else None),
        DocumentTokenizer(tokenizer, max_length=options.max_length, overlap=options.overlap),
        tag_set,
        columns,
        batch_tokens=batch_tokens or (_GPU_BATCH_TOKENS if torch_device.type == "cuda" else cpu_batch_tokens),
        calibration=read_calibration(getattr(classifier.config, "musamma", None), tag_set.labels, where=model),
    )


def _require_checkpoint_packages(model: str) -> None:
    require_packages(
        "torch",
        "transformers",
        "safetensors",
        extra="train",
        purpose="runs checkpoints",
        where=model,
        remedy="give a model that musamma export wrote",
    )


def _read_tag_set(id2label: Mapping[Any, str] | None, where: str) -> tuple[TagSet, np.ndarray]:
    return TagSet.from_id2label({int(index): name for index, name in (id2label or {}).items()}, where=where)
