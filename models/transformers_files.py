"""Loading of Hugging Face configurations, tokenizers and weights: never runs a model's own code, and never asks.

Every ``from_pretrained`` of an auto class is called here. By default, transformers asks on standard input whether it may run the Python
files of a model (``auto_map`` in ``config.json`` or ``tokenizer_config.json``), and standard input may be the documents to tag.
Weights are read from safetensors, those of packed checkpoints included, or from a pickle (``pytorch_model.bin``) that holds tensors and nothing else.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers import dynamic_module_utils as own_code
from transformers import logging as transformers_logging
from transformers.models.auto.tokenization_auto import get_tokenizer_config, tokenizer_class_from_name

from musamma.data.errors import InputError, one_line
from musamma.models.model_names import is_path, missing_folder, packaged_models, unreadable_file
from musamma.models.packed_weights import is_packed, read_packed_weights, unmark_packed

# Loading changes global settings of transformers and PyTorch.
_LOCK = threading.RLock()


def read_config(name: str) -> PreTrainedConfig:
    """Read the configuration of a model.

    Args:
        name: a folder or hub id.

    Raises:
        InputError: there is no configuration, it cannot be read, or the model needs Python code that comes with it.
    """
    with _loading(name):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    for part in (config, *(getattr(config, key, None) for key in config.sub_configs)):
        # transformers would download such an implementation and import it.
        if "/" in str(getattr(part, "_attn_implementation", None)):
            raise _needs_own_code(name)
    return config


def read_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Read the tokenizer of a model.

    Args:
        name: a folder or hub id.

    Raises:
        InputError: there is no tokenizer, it cannot be read, or it needs Python code that comes with it.
    """
    with _loading(name):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        if "auto_map" in tokenizer.init_kwargs:
            # Without the code of an unknown class, transformers falls back to a general one, which may cut text otherwise.
            class_name = get_tokenizer_config(name).get("tokenizer_class")
            if class_name is None or tokenizer_class_from_name(class_name) is None:
                raise _needs_own_code(name)
    return tokenizer


def load_weights(
    auto_class: Any, name: str, *, changes: Mapping[str, Any] | None = None, **options: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load a model.

    Args:
        auto_class: an auto class of transformers, such as ``AutoModel``.
        name: a folder or hub id.
        changes: values for the keys of ``config.json``.
        options: further arguments of ``from_pretrained``.

    Returns:
        The model, and the keys of missing, unexpected and mismatched weights.

    Raises:
        InputError: there is no such model, it cannot be loaded, it needs Python code that comes with it, its weights are pickled with anything but
            tensors, or its configuration lacks a key of ``changes``.
    """
    config = read_config(name)
    for key in changes or {}:
        if not hasattr(config, key):
            raise InputError(
                f"encoder_config.{key}",
                where=name,
                expected=f"a key of its {type(config).__name__}, such as attention_probs_dropout_prob",
            )
    packed = is_packed(getattr(config, "musamma", None), where=name)
    with _loading(name), quiet_transformers():
        if packed:
            return _load_packed(auto_class, name, config, changes or {}, **options)
        return auto_class.from_pretrained(
            name, trust_remote_code=False, weights_only=True, output_loading_info=True, **options, **(changes or {})
        )


def _load_packed(
    auto_class: Any, name: str, config: PreTrainedConfig, changes: Mapping[str, Any], **options: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load a packed checkpoint; see :func:`load_weights`."""
    config.musamma = unmark_packed(config.musamma)  # so that a copy which is saved says nothing of packed weights
    for key in ("num_labels", "id2label", "label2id"):
        if key in options:
            setattr(config, key, options.pop(key))
    for key, value in changes.items():
        setattr(config, key, value)
    weights = {key: torch.from_numpy(value) for key, value in read_packed_weights(name).items()}
    # Auto classes take weights from a folder only. On the meta device, the class is found without making any weights.
    with torch.device("meta"):
        model_class = type(auto_class.from_config(config, trust_remote_code=False))
    return model_class.from_pretrained(None, config=config, state_dict=weights, output_loading_info=True, **options)


def loading_error(name: str, error: Exception) -> InputError:
    """Return the error for a model or tokenizer that could not be loaded by name: one line with the remedy."""
    if isinstance(error, InputError):
        return error
    if "trust_remote_code" in str(error):
        return _needs_own_code(name)
    if isinstance(error, UnpicklingError):
        return _refused_pickle(name, error)
    path = Path(name)
    if path.exists():
        if (unreadable := unreadable_file(path)) is not None:
            return unreadable
        return InputError(
            f"cannot be loaded: {one_line(error, limit=300)}",
            where=name,
            expected="a Hugging Face model folder: config.json, model.safetensors, tokenizer.json",
            remedy="copy it anew, or write it with save_pretrained",
        )
    if is_path(name):
        return missing_folder(name)
    return InputError(
        "no folder of that name, and the Hugging Face hub does not provide it",
        where=name,
        expected=f"a local folder, a packaged model ({', '.join(packaged_models())}), or a hub id that can be reached",
        remedy="check the name and the connection, or download it elsewhere and give the folder",
    )


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Suppress the warnings of transformers about missing or additional weights, which callers check themselves."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Turn each error into an InputError, and make transformers raise an error instead of asking.

    For models nested in another one, transformers forgets ``trust_remote_code=False`` and would ask. It does not ask if the time to
    wait for an answer is 0 seconds.
    """
    with _LOCK:
        seconds = own_code.TIME_OUT_REMOTE_CODE
        own_code.TIME_OUT_REMOTE_CODE = 0
        try:
            yield
        except Exception as error:
            raise loading_error(name, error) from error
        finally:
            own_code.TIME_OUT_REMOTE_CODE = seconds


def _needs_own_code(name: str) -> InputError:
    return InputError(
        "needs Python code that comes with the model, which is never run here",
        where=name,
        expected="an architecture and a tokenizer built into transformers, such as BERT or XLM-RoBERTa",
        remedy="choose another model; a newer transformers may include this one",
    )


def _refused_pickle(name: str, error: UnpicklingError) -> InputError:
    """Return the error for pickled weights. It replaces PyTorch's message, which advises to switch the protection off."""
    match = re.search(r"GLOBAL ([\w.]+)", str(error))
    return InputError(
        f"the pickled weights ask for {match[1]}, which can run code"
        if match
        else "the pickled weights cannot be read",
        where=name,
        expected="model.safetensors, or a pytorch_model.bin with nothing but tensors",
        remedy="copy the model anew, or have its maker write it with model.save_pretrained('FOLDER')",
    )
