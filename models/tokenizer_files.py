"""Files of a tokenizer in the folder of a model. Needs neither torch nor transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from musamma.data.errors import InputError
from musamma.data.files import write_lines
from musamma.models.model_names import find_model_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_FILE, TOKENIZER_CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"
# The parts of a tokenizer that the classes of one architecture build anew when they are loaded.
_REBUILT_PARTS = ("normalizer", "pre_tokenizer")

# What transformers 5 records of how a tokenizer was loaded: it says nothing about the folder that is written.
_LOAD_OPTIONS = frozenset({"is_local", "local_files_only"})


def check_loaded_tokenizer(tokenizer: PreTrainedTokenizerBase, model: str) -> None:
    """Check that a tokenizer without a ``tokenizer_config.json`` was loaded as its ``tokenizer.json`` describes it.

    The configuration names the class of the tokenizer. Without it, transformers takes the class of the architecture, such as
    `BertTokenizer`, which replaces the normaliser in ``tokenizer.json`` by its own.

    Args:
        tokenizer: the tokenizer that transformers loaded.
        model: its folder or hub id.

    Raises:
        InputError: it splits texts in another way than ``tokenizer.json``, with which the model was trained.
    """
    if find_model_file(model, TOKENIZER_CONFIG_FILE) is not None:
        return
    path, backend = find_model_file(model, TOKENIZER_FILE), getattr(tokenizer, "backend_tokenizer", None)
    if path is None or not isinstance(backend, Tokenizer):
        return
    # Not the file itself: versions of `tokenizers` write the same tokenizer in different ways.
    saved, loaded = (json.loads(one.to_str()) for one in (Tokenizer.from_file(str(path)), backend))
    if any(saved[part] != loaded[part] for part in _REBUILT_PARTS):
        raise InputError(
            f"no {TOKENIZER_CONFIG_FILE}, and without it {type(tokenizer).__name__} of transformers replaces the normaliser or the "
            f"word splitting in {TOKENIZER_FILE}",
            where=model,
            expected=f"the {TOKENIZER_CONFIG_FILE} that was saved with {TOKENIZER_FILE}",
            remedy='copy the model anew, or write the file as {"tokenizer_class": "PreTrainedTokenizerFast"}',
        )


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the files of a tokenizer.

    Args:
        tokenizer: the tokenizer.
        folder: an existing folder.
    """
    tokenizer.save_pretrained(folder)
    remove_load_options(folder / TOKENIZER_CONFIG_FILE)


def remove_load_options(path: Path) -> None:
    """Remove from a ``tokenizer_config.json`` how the tokenizer was loaded before it was saved.

    A file without these entries, or one that is not a JSON object, stays as it is.

    Args:
        path: the file.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return
    if not isinstance(content, dict) or _LOAD_OPTIONS.isdisjoint(content):
        return
    options = {key: value for key, value in content.items() if key not in _LOAD_OPTIONS}
    # Not write_json, which refuses integers of more than 64 bits: a tokenizer without a limit has the `model_max_length` 10**30.
    write_lines([json.dumps(options, ensure_ascii=False, indent=2) + "\n"], path)
