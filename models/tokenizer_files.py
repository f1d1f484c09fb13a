"""Files of a tokenizer in the folder of a model. Needs neither torch nor transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from musamma.data.files import write_lines

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_CONFIG_FILE = "tokenizer_config.json"

# What transformers 5 records of how a tokenizer was loaded: it says nothing about the folder that is written.
_LOAD_OPTIONS = frozenset({"is_local", "local_files_only"})


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
