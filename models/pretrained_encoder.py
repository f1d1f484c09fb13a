"""Pretrained encoders on disk: load one in float32 without its pooler, save one as a Hugging Face folder."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from musamma.data.errors import InputError, not_one_of
from musamma.data.files import apply_default_mode, write_json
from musamma.models.checkpoint import load_tokenizer
from musamma.models.model_names import resolve_model
from musamma.models.tokenizer_files import save_tokenizer
from musamma.models.transformers_files import load_weights

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load_encoder(source: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load an encoder in float32, without its pooler, and its tokenizer.

    Raises:
        InputError: the encoder cannot be loaded, or some of its weights are missing.
    """
    name = resolve_model(source)
    tokenizer = load_tokenizer(name)
    # A missing pooler and an additional head are both fine.
    encoder, info = load_weights(AutoModel, name, dtype=torch.float32)
    if missing := sorted(key for key in info["missing_keys"] if not key.startswith("pooler.")):
        raise InputError(
            f"the weights lack {missing[0]!r} and {len(missing) - 1} more",
            where=source,
            expected="every weight of the encoder",
            remedy="give a checkpoint of the encoder itself",
        )
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # type: ignore[assignment]
    return encoder.eval(), tokenizer


def wrap_tokenizer(source: PreTrainedTokenizerBase, backend: Tokenizer) -> PreTrainedTokenizerFast:
    """Wrap a changed tokenizer with the special tokens of its source.

    The result has the general class on purpose: classes of one model, such as ``BertTokenizer``, build their own normaliser
    when they are loaded and would lose the one in ``tokenizer.json``.
    """
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=source.model_max_length,
        model_input_names=source.model_input_names,
        padding_side=source.padding_side,
        **source.special_tokens_map,
    )


def save_encoder(encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, dtype: str) -> None:
    """Write the weights in ``dtype`` and the tokenizer. ``config.json`` still declares float32.

    Raises:
        InputError: a weight is beyond the range of ``dtype``.
    """
    cast = copy.deepcopy(encoder)
    nn.Module.to(cast, dtype=DTYPES[dtype])
    for name, weight in cast.named_parameters():
        if not torch.isfinite(weight).all():
            raise InputError(
                f"the weights {name} are not all finite in {dtype}",
                where=str(folder),
                remedy="choose `dtype='float32'`, and check the weights of the encoder",
            )
    cast.save_pretrained(folder)
    apply_default_mode(*folder.glob("*.safetensors"))
    save_tokenizer(tokenizer, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # Half precision is for storage only: otherwise transformers would compute and train in it.
    write_json({**config, "dtype": "float32"}, folder / "config.json")


def check_dtype(dtype: str, *, where: str) -> None:
    """Check the name of a type of weights.

    Raises:
        InputError: the type is not one of :data:`DTYPES`.
    """
    if dtype not in DTYPES:
        raise not_one_of("dtype", dtype, DTYPES, where=where)


def count_weight_bytes(folder: str | Path) -> int | None:
    """Return the size of a folder's ``.safetensors`` files; ``None`` if there are none."""
    return sum(file.stat().st_size for file in Path(folder).glob("*.safetensors")) or None


def make_folder(folder: str | Path) -> Path:
    """Return the folder, and make it if it does not exist.

    Raises:
        InputError: the folder cannot be made, or no file can be made in it.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(str(error.strerror), where=str(folder), remedy="choose a folder that can be written") from None
    return Path(folder)


@contextmanager
def staged_files(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder, and move its files into ``folder`` at the end; after an error, delete it instead.

    Files of the same names are replaced; all others stay.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".encoder-") as name:
        yield Path(name)
        for file in Path(name).iterdir():
            file.replace(folder / file.name)
