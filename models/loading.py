"""Loading models by name, folder or hub id: tokenizers, classifiers and predictors."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, is_offline_mode, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HFValidationError, RepositoryNotFoundError
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers import logging as transformers_logging

from musamma.data.errors import InputError, not_installed, not_readable
from musamma.data.tags import TagSet
from musamma.data.windows import DocumentTokenizer
from musamma.models.calibration import read_calibration
from musamma.models.classifier import HEAD_FILE, TokenClassifier, WindowOptions, max_positions, read_window_options
from musamma.models.predictor import Predictor
from musamma.models.runtimes.onnx import OnnxRuntime
from musamma.models.runtimes.openvino import OpenVinoRuntime
from musamma.models.runtimes.runtime import GRAPH_FILES, GraphDescription, Runtime, read_graph_description
from musamma.models.runtimes.torch import TorchRuntime, choose_device, supports_bfloat16
from musamma.models.transformers_files import (
    is_path,
    load_weights,
    missing_folder,
    read_config,
    read_tokenizer,
    unreadable_file,
)

_MODEL_FOLDER = "a folder with config.json, model.safetensors and tokenizer.json"
# Seconds the hub has to answer.
_HUB_TIMEOUT = 10.0


def packaged_models() -> dict[str, Path]:
    """Return the names and folders of the packaged models, from a checkout or an installed wheel alike."""
    root = Path(str(resources.files("musamma.models")))
    return {path.parent.name: path.parent for path in sorted(root.glob("*/config.json"))}


def resolve_model(name: str) -> str:
    """Return the folder or hub id that a name stands for.

    If the hub cannot be reached, the hub id of a repository in the local cache becomes its folder there.

    Args:
        name: a folder, the name of a packaged model, or a hub id, tried in this order.

    Raises:
        InputError: the name stands for nothing, or for something other than a model.
    """
    path = Path(name).expanduser()
    try:
        if path.is_dir():
            if not (path / "config.json").is_file():
                raise _not_a_model(path, name)
            return str(path)
    except PermissionError as error:
        raise not_readable(error.filename or name, error) from error
    if (packaged := packaged_models().get(name)) is not None:
        return str(packaged)
    if path.is_file():
        raise InputError("a file", where=name, expected=_MODEL_FOLDER, remedy="give the folder that holds the file")
    if is_path(name):
        raise missing_folder(name)
    if "/" not in name:
        raise InputError(
            "no such model",
            where=name,
            expected=_known_models(),
            remedy="musamma quickstart makes one in runs/quickstart",
        )
    return _resolve_hub_id(name)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load the fast tokenizer of a folder or hub id.

    Raises:
        InputError: there is none, or it cannot be loaded.
    """
    path = Path(name)
    if path.is_dir() and not any(
        (path / file).is_file()
        for file in (
            "tokenizer.json",
            "vocab.txt",
            "vocab.json",
            "sentencepiece.bpe.model",
            "spiece.model",
            "tokenizer.model",
        )
    ):
        raise InputError(
            "the checkpoint has no tokenizer",
            where=name,
            expected="tokenizer.json beside config.json",
            remedy="save the encoder's tokenizer into the folder: AutoTokenizer.from_pretrained(...).save_pretrained(...)",
        )
    return read_tokenizer(name)


def build_classifier(
    encoder: str, tag_set: TagSet, *, proclitics: bool = True, changes: Mapping[str, Any] | None = None
) -> TokenClassifier:
    """Build a float32 classifier from an encoder and newly initialised heads, ready for fine-tuning.

    Args:
        encoder: a local folder or a hub id.
        tag_set: the tags to learn.
        proclitics: whether to learn borders after proclitics.
        changes: values for the encoder's ``config.json``, such as its dropout.

    Raises:
        InputError: there is no such encoder, it cannot be loaded, or its configuration lacks a key of ``changes``.
    """
    backbone = _load_backbone(
        encoder,
        changes or {},
        new_heads=True,
        num_labels=len(tag_set),
        id2label=tag_set.id2label,
        label2id=tag_set.label2id,
        dtype=torch.float32,
    )
    return TokenClassifier(backbone, proclitics=proclitics)


def load_classifier(checkpoint: str, *, dtype: torch.dtype = torch.float32) -> tuple[TokenClassifier, WindowOptions]:
    """Load a fine-tuned classifier, in evaluation mode.

    Args:
        checkpoint: a local folder or a hub id. A checkpoint that another tool made works too; its names begin where words
            do.
        dtype: type of the weights in memory.

    Raises:
        InputError: there is no such checkpoint, or it cannot be loaded.
    """
    backbone = _load_backbone(checkpoint, {}, new_heads=False, dtype=dtype)
    head = find_model_file(checkpoint, HEAD_FILE)
    classifier = TokenClassifier(backbone, proclitics=head is not None)
    if classifier.proclitic_head is not None and head is not None:
        try:
            classifier.proclitic_head.load_state_dict(load_file(head))
        except Exception as error:
            raise unreadable_file(head.parent) or InputError(
                f"the proclitic head cannot be read: {error}",
                where=str(head),
                remedy="copy the checkpoint anew, or delete the file to tag whole words",
            ) from error
    return classifier.eval(), read_window_options(backbone.config, checkpoint, limit=max_positions(backbone))


def uses_gpu(model: str, device: str | None) -> bool:
    """True if :func:`load_predictor` would load the model to a GPU.

    Raises:
        InputError: there is no such model or device.
    """
    return read_exported(resolve_model(model)) is None and choose_device(device).type == "cuda"


def load_predictor(
    model: str, *, device: str | None = None, batch_tokens: int | None = None, bfloat16: bool | None = None
) -> Predictor:
    """Load a checkpoint or an exported model with everything that prediction needs.

    Args:
        model: a folder, the name of a packaged model, or a hub id.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``...; by default the GPU if there is one.
        batch_tokens: pieces per batch, padding included; by default 4,096 on a CPU, 32,768 on a GPU.
        bfloat16: compute in bfloat16; by default where the device does so in hardware.

    Raises:
        InputError: there is no such model or device, or the model cannot be loaded.
    """
    name = resolve_model(model)
    runtime: Runtime
    on_gpu = False
    if (exported := read_exported(name)) is not None:
        config, graph = exported
        tokenizer = load_tokenizer(name)
        options = read_window_options(config, model)
        tag_set, columns = _read_tag_set(config, model)
        runtime = _load_graph(name, graph, device=device, bfloat16=bfloat16)
    else:
        torch_device = choose_device(device)
        tokenizer = load_tokenizer(name)
        classifier, options = load_classifier(name)
        config = classifier.config
        tag_set, columns = _read_tag_set(config, model)
        half = supports_bfloat16(torch_device) if bfloat16 is None else bfloat16
        autocast = torch.bfloat16 if half else None
        runtime = TorchRuntime(classifier.to(torch_device), device=torch_device, autocast=autocast)
        on_gpu = torch_device.type == "cuda"
    return Predictor(
        runtime,
        DocumentTokenizer(tokenizer, max_length=options.max_length, overlap=options.overlap),
        tag_set,
        columns,
        batch_tokens=batch_tokens or (32_768 if on_gpu else 4_096),
        calibration=read_calibration(getattr(config, "musamma", None), tag_set.labels, where=model),
    )


def read_exported(model: str) -> tuple[PreTrainedConfig, GraphDescription] | None:
    """Read the configuration of an exported classifier; ``None`` for a checkpoint.

    Args:
        model: a folder or a hub id.

    Raises:
        InputError: the configuration cannot be read, or its export entry is malformed.
    """
    config = read_config(model)
    graph = read_graph_description(getattr(config, "musamma", None), where=model)
    return None if graph is None else (config, graph)


def find_model_file(model: str, name: str) -> Path | None:
    """Return the path of a file of a model, which is downloaded from the hub if necessary.

    Args:
        model: a folder or a hub id.
        name: the file's name.

    Returns:
        ``None`` if the model has no such file or the hub cannot be reached.
    """
    if Path(model).is_dir():
        path = Path(model) / name
        return path if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(model, name))
    except (EntryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError):
        return None


def _load_backbone(name: str, changes: Mapping[str, Any], *, new_heads: bool, **options: Any) -> PreTrainedModel:
    """Load a Hugging Face token classifier.

    Weights that are missing or have another shape are newly initialised in the heads if ``new_heads``, else refused.
    """
    bar = transformers_logging.is_progress_bar_enabled()
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    try:
        model, info = load_weights(
            AutoModelForTokenClassification, name, changes=changes, ignore_mismatched_sizes=True, **options
        )
        initialized = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
        body = f"{model.base_model_prefix}."
        if missing := sorted(key for key in initialized if not new_heads or key.startswith(body)):
            raise InputError(
                f"the weights lack {missing[0]!r} or have it in another shape"
                + f", and {len(missing) - 1} more" * (len(missing) > 1),
                where=name,
                expected=f"the weights of the {type(model).__name__} that config.json describes",
                remedy="copy it anew, or write it with save_pretrained"
                if new_heads
                else "fine-tune it with musamma train",
            )
        return model
    finally:
        if bar:
            transformers_logging.enable_progress_bar()


def _load_graph(model: str, graph: GraphDescription, *, device: str | None, bfloat16: bool | None) -> Runtime:
    """Load an exported graph into its runtime, with as many threads as PyTorch would use (``OMP_NUM_THREADS``).

    Args:
        model: a folder or a hub id.
        graph: the description in its configuration.
        device: ``None`` or ``"cpu"``.
        bfloat16: compute in bfloat16 what is not quantised; by default where the processor does so in hardware. Only
            OpenVINO supports it.

    Raises:
        InputError: another device, no graph or a broken one, or the runtime is not installed.
    """
    if device not in (None, "cpu"):
        raise InputError(
            f"device {device!r} for a classifier that was exported for the CPU",
            where=model,
            expected="cpu",
            remedy="give the checkpoint that it was exported from",
        )
    files = [_require_graph_file(model, name) for name in GRAPH_FILES[graph.runtime]]
    half = supports_bfloat16(torch.device("cpu")) if bfloat16 is None else bfloat16
    threads = torch.get_num_threads()
    try:
        if graph.runtime == "openvino":
            return OpenVinoRuntime(files[0], threads=threads, bfloat16=half, proclitics=graph.proclitics)
        return OnnxRuntime(files[0], threads=threads, proclitics=graph.proclitics)
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
            f"the graph cannot be loaded: {' '.join(str(error).split())[:200]}",
            where=str(files[0]),
            remedy="export the checkpoint again with musamma export",
        ) from error


def _require_graph_file(model: str, name: str) -> Path:
    path = find_model_file(model, name)
    if path is None:
        raise InputError(
            f"no {name}", where=model, expected="the graph of an exported model", remedy="run musamma export again"
        )
    return path


def _read_tag_set(config: PreTrainedConfig, where: str) -> tuple[TagSet, np.ndarray]:
    id2label = {int(index): name for index, name in (config.id2label or {}).items()}
    return TagSet.from_id2label(id2label, where=where)


def _known_models() -> str:
    return f"a folder, a hub id (owner/name), or a packaged model ({', '.join(packaged_models())})"


def _not_a_model(path: Path, name: str) -> InputError:
    found = "the folder is empty" if not any(path.iterdir()) else "the folder holds no config.json"
    remedy = "give the folder that musamma train wrote"
    if (path / "run.yaml").is_file():
        found, remedy = "the folder holds an unfinished training run", "resume the run with musamma train"
    return InputError(found, where=name, expected=_MODEL_FOLDER, remedy=remedy)


def _resolve_hub_id(name: str) -> str:
    """Return the hub id if the hub has it, or its folder in the local cache if the hub cannot be reached.

    Loading would notice as well, but only after half a minute of retries.
    """
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=_HUB_TIMEOUT)
    except GatedRepoError as error:
        raise InputError(
            "the Hugging Face hub gives this model only to users who were granted access",
            where=name,
            remedy="request access on the model's page, then run hf auth login",
        ) from error
    except (RepositoryNotFoundError, EntryNotFoundError, HFValidationError) as error:
        raise InputError(
            "neither a folder nor a model on the Hugging Face hub",
            where=name,
            expected=_known_models(),
            remedy="check the name; for a private model run hf auth login",
        ) from error
    except Exception as error:  # the network has more ways to fail than can be named
        cached = try_to_load_from_cache(name, "config.json")
        if isinstance(cached, str):
            return str(Path(cached).parent)
        reason = "HF_HUB_OFFLINE is set" if is_offline_mode() else f"{type(error).__name__}: {error}"
        raise InputError(
            f"no folder of that name, and the Hugging Face hub cannot be reached ({' '.join(reason.split())[:160]})",
            where=name,
            expected=_known_models(),
            remedy="check the name and the connection, or download the model elsewhere and give its folder",
        ) from error
    return name
