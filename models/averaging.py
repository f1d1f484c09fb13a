"""The mean of the weights of several checkpoints, such as the seeds of one recipe (Wortsman et al., 2022, *Model soups*).

Checkpoints that were fine-tuned from the same weights lie close enough together that the model between them is usually better
than each of them, at the cost of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from musamma.data.errors import InputError, not_finite, one_line
from musamma.data.files import apply_default_mode, new_folder, write_json
from musamma.models.calibration import drop_calibration
from musamma.models.model_names import (
    HEAD_FILE,
    NESTED_HEAD_FILE,
    find_model_file,
    read_model_json,
    resolve_model,
    unreadable_file,
)
from musamma.models.nested_labels import check_nested_head, read_nested_tag_set
from musamma.models.packed_weights import SHARED_FILES, copy_files, is_packed
from musamma.models.runtimes.runtime import read_graph_description

_WEIGHTS = "model.safetensors"
#: The files of weights: of the encoder with the head of tags, and of the other heads, which not every checkpoint has.
_WEIGHT_FILES = (_WEIGHTS, HEAD_FILE, NESTED_HEAD_FILE)
# The weights of the heads are averaged, and the scores are those of the first checkpoint alone.
_COPIED_FILES = tuple(file for file in SHARED_FILES if file not in ("*_head.safetensors", "scores.json"))
#: What the weights of a checkpoint have to agree in.
_SHARED_KEYS = ("model_type", "id2label", "vocab_size", "num_attention_heads", "hidden_act")


def average_checkpoints(models: Sequence[str], output: Path) -> None:
    """Write a checkpoint whose weights are the mean of those of several checkpoints.

    Tokenizer, configuration and the record of the run are those of the first one; its calibration is left out.

    Args:
        models: at least two checkpoints with the same encoder, labels and heads: folders or hub ids.
        output: a new or empty folder.

    Raises:
        InputError: a checkpoint cannot be read or has a weight that is not finite, the checkpoints do not fit together, or the
            folder cannot be written.
    """
    if len(models) < 2:
        raise InputError(f"{len(models)} checkpoint", where="models", expected="at least two")
    names = [resolve_model(model) for model in models]
    configs = [read_model_json(name, "config.json") for name in names]
    for model, config in zip(models, configs, strict=True):
        _check_kind(model, config)
    nested = [read_nested_tag_set(c.get("musamma"), where=m) for m, c in zip(models, configs, strict=True)]
    for model, name, config, tag_set in zip(models, names, configs, nested, strict=True):
        if not config.get("id2label"):
            raise InputError(
                "no labels in config.json", where=model, expected="a fine-tuned checkpoint", remedy="copy it anew"
            )
        for key in _SHARED_KEYS:
            if config.get(key) != configs[0].get(key):
                raise _other_checkpoint(model, f"another {key}", models[0])
        if None not in (tag_set, nested[0]) and tag_set != nested[0]:
            raise _other_checkpoint(model, "other labels of nested names", models[0])
        check_nested_head(name, config.get("musamma"), where=model)
    weights = {file: _average_file(models, names, file) for file in _WEIGHT_FILES}
    with new_folder(output) as folder:
        for file, tensors in weights.items():
            if tensors is not None:
                save_file(tensors, folder / file, metadata={"format": "pt"})
        write_json(drop_calibration(configs[0]), folder / "config.json")
        copy_files(names[0], folder, _COPIED_FILES)
        apply_default_mode(*folder.glob("*.safetensors"))


def _check_kind(model: str, config: Mapping[str, Any]) -> None:
    """Check that a model is a plain checkpoint, before any of its files is missed.

    Raises:
        InputError: it is packed or exported.
    """
    stored = config.get("musamma")
    if is_packed(stored, where=model):
        raise InputError(
            "a packed checkpoint", where=model, expected="plain ones", remedy="unpack it with musamma unpack"
        )
    if read_graph_description(stored, where=model) is not None:
        raise InputError("an exported model", where=model, expected="the checkpoint that it was exported from")


def _average_file(models: Sequence[str], names: Sequence[str], file: str) -> dict[str, torch.Tensor] | None:
    """Return the mean of a file of weights, in float32; ``None`` if no checkpoint has the file."""
    paths = [find_model_file(name, file) for name in names]
    if not any(paths) and file != _WEIGHTS:
        return None
    complete = next((model for model, path in zip(models, paths, strict=True) if path is not None), models[0])
    total: dict[str, torch.Tensor] = {}
    for model, name, path in zip(models, names, paths, strict=True):
        if path is None:
            expected = f"the files of {complete}" if complete != model else "a fine-tuned checkpoint"
            raise InputError(f"no {file}", where=model, expected=expected, remedy="give checkpoints of one recipe")
        try:
            tensors = load_file(path)
        except Exception as error:  # safetensors and the system have errors of their own
            raise unreadable_file(path.parent) or InputError(
                f"cannot be read: {one_line(error)}", where=str(path), remedy="copy the checkpoint anew"
            ) from error
        if total and {name: t.shape for name, t in tensors.items()} != {name: t.shape for name, t in total.items()}:
            raise _other_checkpoint(model, f"other weights in {file}", models[0])
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise not_finite(name, where=str(path), remedy="copy the checkpoint anew")
            total[name] = total[name] + tensor.double() if name in total else tensor.double()
    return {name: (tensor / len(paths)).float().contiguous() for name, tensor in total.items()}


def _other_checkpoint(model: str, found: str, first: str) -> InputError:
    return InputError(found, where=model, expected=f"a checkpoint of the same recipe as {first}")
