"""Exported models: reading the configuration, tokenizer and graph that ``musamma export`` wrote.

Needs `tokenizers` and the runtime of the graph, and neither torch nor transformers.
"""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer

from musamma.data.errors import InputError, not_installed, one_line
from musamma.data.windows import DocumentTokenizer
from musamma.models.model_names import find_model_file, read_model_json, require_model_file, unreadable_file
from musamma.models.runtimes.onnx import OnnxRuntime
from musamma.models.runtimes.openvino import OpenVinoRuntime
from musamma.models.runtimes.processor import count_threads, has_bfloat16
from musamma.models.runtimes.runtime import GRAPH_FILES, GraphDescription, Runtime, read_graph_description
from musamma.models.window_options import WindowOptions

_EXPORT_AGAIN = "run musamma export again"


def read_exported(model: str) -> tuple[dict[str, Any], GraphDescription] | None:
    """Read the configuration of an exported model; ``None`` for anything else.

    Args:
        model: a folder or a hub id.

    Returns:
        The content of ``config.json``, and the description of the graph in it.

    Raises:
        InputError: the configuration may not be read, or its export entry is malformed.
    """
    config = read_model_json(model, "config.json")
    graph = read_graph_description(config.get("musamma"), where=model)
    return None if graph is None else (config, graph)


def load_exported_tokenizer(model: str, options: WindowOptions) -> DocumentTokenizer:
    """Load the tokenizer of an exported model: the one in ``tokenizer.json``, unchanged.

    Args:
        model: a folder or a hub id.
        options: the window options.

    Raises:
        InputError: there is no tokenizer, it cannot be read, or it does not fit the options.
    """
    path = find_model_file(model, "tokenizer.json")
    if path is None:
        raise InputError("the model has no tokenizer", where=model, expected="tokenizer.json", remedy=_EXPORT_AGAIN)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # `tokenizers` has no exception of its own
        raise unreadable_file(path.parent) or InputError(
            f"cannot be loaded: {one_line(error, limit=200)}", where=str(path), remedy=_EXPORT_AGAIN
        ) from error
    padding = read_model_json(model, "tokenizer_config.json").get("pad_token")
    if isinstance(padding, dict):
        padding = padding.get("content")
    return DocumentTokenizer(
        tokenizer,
        max_length=options.max_length,
        overlap=options.overlap,
        padding_id=tokenizer.token_to_id(padding) if isinstance(padding, str) else None,
    )


def load_graph(model: str, graph: GraphDescription, *, device: str | None, bfloat16: bool | None) -> Runtime:
    """Load an exported graph into its runtime.

    Args:
        model: a folder or a hub id.
        graph: the description in its configuration.
        device: ``None`` or ``"cpu"``.
        bfloat16: compute in bfloat16 what is not quantised; by default where the processor does so in hardware. Only
            OpenVINO supports it.

    Raises:
        InputError: another device, no graph or a broken one, or the runtime is not installed.
    """
    check_cpu(
        device,
        "a classifier that was exported for the CPU",
        where=model,
        remedy="give the checkpoint that it was exported from",
    )
    files = [
        require_model_file(model, name, expected="the graph of an exported model", remedy=_EXPORT_AGAIN)
        for name in GRAPH_FILES[graph.runtime]
    ]
    half = has_bfloat16() if bfloat16 is None else bfloat16
    threads = count_threads()
    try:
        if graph.runtime == "openvino":
            return OpenVinoRuntime(files[0], threads=threads, bfloat16=half, graph=graph)
        return OnnxRuntime(files[0], threads=threads, graph=graph)
    except ImportError as error:
        raise not_installed(
            error.name or str(error),
            purpose="runs this model",
            where=model,
            extra=graph.runtime,
            remedy="give the checkpoint that it was exported from",
        ) from error
    except Exception as error:  # each runtime has exceptions of its own
        raise unreadable_file(files[0].parent) or InputError(
            f"the graph cannot be loaded: {one_line(error, limit=200)}",
            where=str(files[0]),
            remedy="export the checkpoint again with musamma export",
        ) from error


def check_cpu(device: str | None, kind: str, *, where: str, remedy: str) -> None:
    """Check that a model which runs on the CPU only is not to run elsewhere.

    Args:
        device: ``None`` or ``"cpu"``.
        kind: the kind of model.
        where: the model.
        remedy: an alternative.

    Raises:
        InputError: another device.
    """
    if device not in (None, "cpu"):
        raise InputError(f"device {device!r} for {kind}", where=where, expected="cpu", remedy=remedy)
