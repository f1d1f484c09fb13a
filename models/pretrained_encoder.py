"""An encoder and its tokenizer on disk: loaded in float32 without a pooler, saved as a Hugging Face folder."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers import logging as transformers_logging

from musamma.data.errors import InputError
from musamma.data.files import write_json
from musamma.models.loading import load_tokenizer, loading_error, resolve_model

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load_encoder(source: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The encoder in float32, without a pooler, and its tokenizer.

    Raises:
        InputError: it cannot be loaded, or a part of its weights is missing.
    """
    name = resolve_model(source)
    tokenizer = load_tokenizer(name)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # a pooler that is missing, or a head too many, is nothing to warn of
    try:
        model, info = AutoModel.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
    except Exception as error:
        raise loading_error(name, error) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    if missing := sorted(key for key in info["missing_keys"] if not key.startswith("pooler.")):
        raise InputError(
            f"the weights lack {missing[0]!r} and {len(missing) - 1} more",
            where=source,
            expected="every weight of the encoder",
            remedy="give a checkpoint of the encoder itself",
        )
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model.eval(), tokenizer


def wrap_tokenizer(source: PreTrainedTokenizerBase, backend: Tokenizer) -> PreTrainedTokenizerFast:
    """A changed tokenizer with the names of the source's special tokens.

    The general class is meant: classes of one model, such as ``BertTokenizer``, build their own normaliser when they
    are loaded and would lose the one in ``tokenizer.json``.
    """
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=source.model_max_length,
        model_input_names=source.model_input_names,
        padding_side=source.padding_side,
        **source.special_tokens_map,
    )


def save_encoder(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, dtype: str) -> None:
    """Write weights of type ``dtype`` and the tokenizer; ``config.json`` asks for float32 all the same."""
    cast = copy.deepcopy(model)
    nn.Module.to(cast, dtype=DTYPES[dtype])
    cast.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # Half precision is for the file: transformers would otherwise compute, and train, in it.
    write_json({**config, "dtype": "float32"}, folder / "config.json")


def count_weight_bytes(folder: str | Path) -> int | None:
    """Size of the ``.safetensors`` files of a folder; ``None`` where there are none."""
    return sum(file.stat().st_size for file in Path(folder).glob("*.safetensors")) or None


def make_folder(folder: str | Path) -> Path:
    """The folder, made where it was missing.

    Raises:
        InputError: it cannot be made.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(str(error.strerror), where=str(folder), remedy="choose a folder that can be written") from None
    return Path(folder)
