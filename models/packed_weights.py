"""Packed checkpoints: the matrices of the encoder as 8-bit integers with a scale for each block, about a quarter of the size.

A packed checkpoint is a checkpoint folder with ``model-int8.safetensors`` in place of ``model.safetensors`` and an entry ``packed``
under ``musamma`` in ``config.json``. A matrix ``NAME`` of the encoder, (rows, columns), is stored as int8 next to ``NAME_scale``,
float16, (rows, columns / 32): one for each block of 32 columns of a row, or one for a row that has no multiple of 32. Its value is the
product of both in float32. The blocks are those of Q8_0 in GGML; names and shapes are those of the ``int-quantized`` format of
``compressed-tensors`` with groups. All other tensors, the heads among them, are float32.

Plain transformers does not read the file; :func:`unpack` writes the checkpoint that it reads. Needs neither torch nor transformers.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from musamma.data.errors import InputError, not_finite, one_line
from musamma.data.files import apply_default_mode, new_folder, write_json
from musamma.models.model_names import PACKED_FILE, read_model_json, require_model_file, resolve_model, unreadable_file
from musamma.models.nested_labels import check_nested_head
from musamma.models.tokenizer_files import TOKENIZER_CONFIG_FILE, remove_load_options

#: Name of the entry under ``musamma`` in ``config.json``.
_KEY = "packed"
_FORMAT = 1
_SCALE = "_scale"
#: Number of weights that share a scale. With one scale for a row, columns of large weights cost the others twice the error.
BLOCK = 32
# Greatest magnitude of a value: symmetric, so that 0 is 0.
_LARGEST = 127
# Smaller matrices of an encoder, such as the embeddings of segments, stay in float32.
_FEWEST_WEIGHTS = 1024

_COPY = "copy the model anew"
_CARD = "README.md"

#: Files that a packed checkpoint has in common with the checkpoint it was made from, apart from ``config.json``.
SHARED_FILES = (
    "*_head.safetensors",
    "token*.json",
    "special_tokens_map.json",
    "vocab.txt",
    "run.yaml",
    "scores.json",
    "LICENSE",
)


def is_packed(stored: object, *, where: str) -> bool:
    """True if a configuration is that of a packed checkpoint.

    Args:
        stored: the ``musamma`` entry of ``config.json``, or ``None``.
        where: the model, for errors.

    Raises:
        InputError: the checkpoint is packed in another format.
    """
    entry = stored.get(_KEY) if isinstance(stored, dict) else None
    if entry is None:
        return False
    if entry != _FORMAT:
        raise InputError(
            f"'musamma.{_KEY}' in config.json is {entry!r}",
            where=where,
            expected=str(_FORMAT),
            remedy="copy the model anew, or install a newer musamma",
        )
    return True


def unmark_packed(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ``musamma`` entry of ``config.json`` for weights that are no longer packed."""
    return {key: value for key, value in stored.items() if key != _KEY}


def quantize_blocks(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round a matrix to 8-bit integers, in blocks of a row whose largest magnitude becomes 127.

    Args:
        matrix: float32, (rows, columns).

    Returns:
        The integers, int8, (rows, columns), and the scales, float16, (rows, blocks). Scales are rounded up, so that no value is cut off.
    """
    rows, columns = matrix.shape
    blocks = matrix.reshape(rows, -1, BLOCK if columns % BLOCK == 0 else columns)
    exact = np.abs(blocks).max(axis=2) / np.float32(_LARGEST)
    with np.errstate(over="ignore"):  # An infinite scale is reported by the caller.
        scales = exact.astype(np.float16)
    scales = np.where(scales < exact, np.nextafter(scales, np.float16(np.inf)), scales)
    scales = np.maximum(scales, np.finfo(np.float16).smallest_subnormal)
    values = np.rint(blocks / scales[..., None].astype(np.float32)).astype(np.int8)
    return values.reshape(rows, columns), scales


def restore_blocks(values: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Multiply the integers by their scales; the inverse of :func:`quantize_blocks`, in float32."""
    rows, blocks = scales.shape
    restored = values.reshape(rows, blocks, -1).astype(np.float32) * scales[..., None].astype(np.float32)
    return restored.reshape(values.shape)


def write_packed_weights(weights: Mapping[str, np.ndarray], path: Path, *, prefix: str) -> None:
    """Write weights with the matrices of the encoder in 8 bits. The same weights give the same bytes.

    Args:
        weights: the weights by name; floating point.
        path: the file.
        prefix: beginning of the names of the encoder's weights; all others are heads.

    Raises:
        InputError: a weight is not finite.
    """
    tensors: dict[str, np.ndarray] = {}
    for name, value in weights.items():
        weight = np.ascontiguousarray(value, dtype=np.float32)
        if not np.isfinite(weight).all():
            raise not_finite(name, where=str(path.parent))
        if weight.ndim == 2 and weight.size >= _FEWEST_WEIGHTS and name.startswith(prefix):
            tensors[name], scales = quantize_blocks(weight)
            if not np.isfinite(scales).all():
                raise InputError(f"the weights {name} are too large for float16 scales", where=str(path.parent))
            tensors[name + _SCALE] = scales
        else:
            tensors[name] = weight
    # One entry: the order of several would differ from run to run.
    save_file(tensors, path, metadata={"format": f"musamma-int8-{_FORMAT}"})
    apply_default_mode(path)


def write_packed_checkpoint(
    source: Path, config: Mapping[str, Any], weights: Mapping[str, np.ndarray], folder: Path, *, prefix: str
) -> None:
    """Write a packed checkpoint, without a model card.

    Args:
        source: the checkpoint, of which the tokenizer, the other heads and the records are copied.
        config: the content of its ``config.json``.
        weights: its weights by name.
        folder: an existing folder.
        prefix: see :func:`write_packed_weights`.

    Raises:
        InputError: a weight is not finite.
    """
    write_packed_weights(weights, folder / PACKED_FILE, prefix=prefix)
    stored = {**(config.get("musamma") or {"format": 1}), _KEY: _FORMAT}
    # The weights are used in float32, whatever the checkpoint is stored in.
    write_json({**config, "dtype": "float32", "musamma": stored}, folder / "config.json")
    copy_files(str(source), folder, SHARED_FILES)


def read_packed_weights(model: str) -> dict[str, np.ndarray]:
    """Read the weights of a packed checkpoint, in float32.

    Args:
        model: a folder or a hub id.

    Raises:
        InputError: the file is missing or broken, or a weight in it is not finite.
    """
    path = require_model_file(model, PACKED_FILE, expected="the weights of a packed checkpoint", remedy=_COPY)
    tensors = _read_tensors(path)
    weights: dict[str, np.ndarray] = {}
    for name, value in tensors.items():
        if value.dtype != np.int8:
            if not name.endswith(_SCALE):
                weights[name] = value.astype(np.float32, copy=False)
            continue
        scales = tensors.get(name + _SCALE)
        if scales is None or not _fit(value, scales):
            raise InputError(f"no scales for {name}", where=str(path), expected="one for each block", remedy=_COPY)
        weights[name] = restore_blocks(value, scales)
    for name, value in tensors.items():
        if value.dtype != np.int8 and not np.isfinite(value).all():
            raise not_finite(name, where=str(path), remedy=_COPY)
    return weights


def _fit(values: np.ndarray, scales: np.ndarray) -> bool:
    """True if the scales are one for each block of a matrix."""
    if values.ndim != 2 or scales.ndim != 2 or not scales.size:
        return False
    return len(scales) == len(values) and values.shape[1] % scales.shape[1] == 0


def read_head(path: Path) -> dict[str, np.ndarray]:
    """Read the weights of a head from its own file, in float32.

    Raises:
        InputError: the file is broken, or a weight in it is not finite.
    """
    weights = {name: value.astype(np.float32) for name, value in _read_tensors(path).items()}
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise not_finite(name, where=str(path), remedy=_COPY)
    return weights


def unpack(model: str, output: Path) -> None:
    """Write a packed checkpoint as a plain one, in float32, which transformers reads.

    Args:
        model: a packed checkpoint: a folder, the name of a packaged model, or a hub id.
        output: a new or empty folder.

    Raises:
        InputError: the model is not packed or broken, or the folder cannot be written.
    """
    name = resolve_model(model)
    config = read_model_json(name, "config.json")
    if not is_packed(config.get("musamma"), where=model):
        raise InputError("not a packed checkpoint", where=model, expected=f"a folder with {PACKED_FILE}")
    check_nested_head(name, config["musamma"], where=model)
    weights = read_packed_weights(name)
    with new_folder(output) as folder:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        write_json({**config, "musamma": unmark_packed(config["musamma"])}, folder / "config.json")
        copy_files(name, folder, (*SHARED_FILES, _CARD))
        if (card := folder / _CARD).is_file():
            card.write_text(_revise_card(card.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
        apply_default_mode(*folder.glob("*.safetensors"))


def copy_files(model: str, folder: Path, patterns: Collection[str]) -> None:
    """Copy those files of a model that match one of the patterns; see :func:`remove_load_options` for those of the tokenizer.

    Args:
        model: a folder; of a hub id, the files in the local cache are copied.
        folder: an existing folder.
        patterns: patterns of file names.
    """
    source = Path(model)
    if not source.is_dir():
        from huggingface_hub import snapshot_download

        source = Path(snapshot_download(model, allow_patterns=list(patterns)))
    for path in sorted({path for pattern in patterns for path in source.glob(pattern) if path.is_file()}):
        shutil.copyfile(path, folder / path.name)
        if path.name == TOKENIZER_CONFIG_FILE:
            remove_load_options(folder / path.name)


def _revise_card(card: str) -> str:
    """Return the card of a packed checkpoint with what is true of its unpacked weights."""

    def revise(section: re.Match[str]) -> str:
        scores = " The scores above are those of the weights before rounding." if "scores above" in section[0] else ""
        return (
            "## Storage\n\nThe matrices of the encoder were rounded to 8-bit integers with scales, and are stored in "
            f"float32, in\n`model.safetensors`, which `transformers` loads.{scores}\n\n"
        )

    card = re.sub(r"^library_name: musamma$", "library_name: transformers", card, count=1, flags=re.MULTILINE)
    return re.sub(r"^## Storage\n.*?(?=^## |\Z)", revise, card, count=1, flags=re.MULTILINE | re.DOTALL)


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise unreadable_file(path.parent) or InputError(
            f"cannot be read: {one_line(error, limit=200)}", where=str(path), remedy=_COPY
        ) from error
