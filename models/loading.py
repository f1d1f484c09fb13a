"""Loading of models for prediction, by name, folder or hub id: checkpoints with transformers, exported models without.

Packed checkpoints of BERT are loaded without transformers where it is not installed, and run in OpenVINO.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from musamma.data.errors import InputError
from musamma.data.tags import TagSet
from musamma.data.windows import DocumentTokenizer
from musamma.models.calibration import read_calibration
from musamma.models.decoding import PROCLITIC_CLASSES
from musamma.models.exported_model import (
    check_cpu,
    load_exported_tokenizer,
    load_graph,
    read_exported,
)
from musamma.models.model_names import (
    DEFAULT_MODEL,
    HEAD_FILE,
    find_model_file,
    read_model_json,
    resolve_model,
)
from musamma.models.nested_labels import read_nested_tag_set, require_nested_head
from musamma.models.optional_packages import require_packages
from musamma.models.packed_weights import is_packed, read_head, read_packed_weights
from musamma.models.predictor import Predictor
from musamma.models.runtimes.openvino import OpenVinoRuntime
from musamma.models.runtimes.processor import count_threads, has_bfloat16
from musamma.models.runtimes.runtime import GraphDescription, Runtime
from musamma.models.window_options import read_window_options

_CHECKPOINT_PACKAGES = ("torch", "transformers")
#: Pieces per batch, padding included, on each kind of device.
CPU_BATCH_TOKENS, GPU_BATCH_TOKENS = 1_024, 32_768


def load_predictor(
    model: str = DEFAULT_MODEL,
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
    if (exported := read_exported(name)) is not None:
        config, graph = exported
        runtime = load_graph(name, graph, device=device, bfloat16=bfloat16)
    elif _runs_without_torch(name):
        config = read_model_json(name, "config.json")
        runtime = _load_packed_graph(name, model, config, device=device, bfloat16=bfloat16)
    else:
        return _load_checkpoint(
            name,
            model,
            device=device,
            batch_tokens=batch_tokens,
            cpu_batch_tokens=cpu_batch_tokens,
            bfloat16=bfloat16,
        )
    stored = config.get("musamma")
    # An exported model has the options that its checkpoint was loaded with, which keep to the limit.
    limit = config.get("max_position_embeddings") if exported is None else None
    options = read_window_options(stored, model, limit=limit)
    tag_set, columns = _read_tag_set(config.get("id2label"), model)
    nested = read_nested_tag_set(stored, where=model)
    return Predictor(
        runtime,
        load_exported_tokenizer(name, options),
        tag_set,
        columns,
        batch_tokens=batch_tokens or cpu_batch_tokens,
        calibration=read_calibration(
            stored, tag_set.labels, where=model, nested_labels=nested.labels if nested else ()
        ),
        nested_tag_set=nested,
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
    _require_checkpoint_packages(name, model)
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
        batch_tokens=batch_tokens or (GPU_BATCH_TOKENS if torch_device.type == "cuda" else cpu_batch_tokens),
        calibration=read_calibration(
            getattr(classifier.config, "musamma", None),
            tag_set.labels,
            where=model,
            nested_labels=classifier.nested_tag_set.labels if classifier.nested_tag_set else (),
        ),
        nested_tag_set=classifier.nested_tag_set,
    )


def _has_checkpoint_packages() -> bool:
    return all(find_spec(package) is not None for package in _CHECKPOINT_PACKAGES)


def _runs_without_torch(name: str) -> bool:
    """True if a model is a packed checkpoint that OpenVINO has to run, because PyTorch is not installed."""
    if _has_checkpoint_packages():
        return False
    stored = read_model_json(name, "config.json").get("musamma")
    return is_packed(stored, where=name) and find_spec("openvino") is not None


def _load_packed_graph(
    name: str, model: str, config: Mapping[str, Any], *, device: str | None, bfloat16: bool | None
) -> Runtime:
    """Build the graph of a packed checkpoint, a folder or hub id ``name``; see :func:`load_predictor`."""
    from musamma.models.runtimes.bert_graph import build_bert_graph

    check_cpu(device, "a checkpoint without PyTorch", where=model, remedy="pip install 'musamma[train]'")
    heads = {}
    if (file := find_model_file(name, HEAD_FILE)) is not None:
        heads["proclitics"] = read_head(file)
    classes = {"tags": len(config.get("id2label") or ()), "proclitics": PROCLITIC_CLASSES}
    if (nested := read_nested_tag_set(config.get("musamma"), where=model)) is not None:
        classes["nested"] = len(nested)
        heads["nested"] = read_head(require_nested_head(name, where=model))
    graph = build_bert_graph(config, read_packed_weights(name), heads, where=model)
    for port in graph.outputs:
        output, found = port.get_any_name(), port.get_partial_shape()[-1].get_length()
        if found != classes[output]:
            raise InputError(
                f"weights of {found} classes for the output {output!r}",
                where=model,
                expected=f"{classes[output]}, as config.json says",
                remedy="copy the model anew",
            )
    return OpenVinoRuntime(
        graph,
        threads=count_threads(),
        bfloat16=has_bfloat16() if bfloat16 is None else bfloat16,
        graph=GraphDescription(
            runtime="openvino", quantization=None, proclitics="proclitics" in heads, nested="nested" in heads
        ),
    )


def _require_checkpoint_packages(name: str, model: str) -> None:
    if _has_checkpoint_packages():
        return
    packed = is_packed(read_model_json(name, "config.json").get("musamma"), where=model)
    require_packages(
        *_CHECKPOINT_PACKAGES,
        extra="train",
        purpose="runs checkpoints",
        where=model,
        remedy="'musamma[openvino]' for this one" if packed else "give a model that musamma export wrote",
    )


def _read_tag_set(id2label: Mapping[Any, str] | None, where: str) -> tuple[TagSet, np.ndarray]:
    return TagSet.from_id2label({int(index): name for index, name in (id2label or {}).items()}, where=where)
