"""Checkpoints: loading of tokenizers and classifiers with transformers, and new classifiers on an encoder."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForTokenClassification, PreTrainedModel, PreTrainedTokenizerBase
from transformers import logging as transformers_logging

from musamma.data.errors import InputError, not_finite, one_line
from musamma.data.tags import TagSet
from musamma.models.classifier import TokenClassifier, max_positions
from musamma.models.model_names import (
    HEAD_FILE,
    find_model_file,
    read_model_json,
    unreadable_file,
)
from musamma.models.nested_labels import NESTED_KEY, read_nested_tag_set, require_nested_head
from musamma.models.runtimes.runtime import read_graph_description
from musamma.models.tokenizer_files import check_loaded_tokenizer
from musamma.models.transformers_files import load_weights, read_tokenizer
from musamma.models.window_options import WindowOptions, read_window_options


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load the fast tokenizer of a folder or hub id.

    Raises:
        InputError: there is none, it cannot be loaded, or it is not the one in ``tokenizer.json``.
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
    tokenizer = read_tokenizer(name)
    check_loaded_tokenizer(tokenizer, name)
    return tokenizer


def build_classifier(
    encoder: str,
    tag_set: TagSet,
    *,
    proclitics: bool = True,
    nested: TagSet | None = None,
    changes: Mapping[str, Any] | None = None,
) -> TokenClassifier:
    """Build a float32 classifier from an encoder and newly initialised heads, ready for fine-tuning.

    If the encoder is a checkpoint with the same tags, its head for them is kept.

    Args:
        encoder: a local folder or a hub id.
        tag_set: the tags to learn.
        proclitics: whether to learn borders after proclitics.
        nested: the tags of nested names, to learn them too.
        changes: values for the encoder's ``config.json``, such as its dropout.

    Raises:
        InputError: there is no such encoder, it cannot be loaded, its head is kept and has a weight that is not finite, or its
            configuration lacks a key of ``changes``.
    """
    config = read_model_json(encoder, "config.json")
    if read_graph_description(config.get("musamma"), where=encoder) is not None:
        raise InputError("an exported model", where=encoder, expected="the checkpoint that it was exported from")
    backbone = _load_backbone(
        encoder,
        changes or {},
        new_heads=True,
        num_labels=len(tag_set),
        id2label=tag_set.id2label,
        label2id=tag_set.label2id,
        dtype=torch.float32,
    )
    stored = config.get("id2label")
    if isinstance(stored, dict) and list(stored.values()) != list(tag_set.id2label.values()):
        # transformers keeps a head of the same shape, whatever its classes mean.
        _initialize_head(backbone)
    _check_head(backbone, encoder)
    return TokenClassifier(backbone, proclitics=proclitics, nested=nested)


def _initialize_head(backbone: PreTrainedModel) -> None:
    """Initialise the linear layers outside the encoder anew."""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Linear) and not name.startswith(f"{backbone.base_model_prefix}."):
            nn.init.normal_(module.weight, std=getattr(backbone.config, "initializer_range", 0.02))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def load_classifier(checkpoint: str, *, dtype: torch.dtype = torch.float32) -> tuple[TokenClassifier, WindowOptions]:
    """Load a fine-tuned classifier, in evaluation mode.

    Args:
        checkpoint: a local folder or a hub id. A checkpoint that another tool made works too; its names begin where words
            do, and it finds no nested names.
        dtype: type of the weights in memory.

    Raises:
        InputError: there is no such checkpoint, it cannot be loaded, or a weight of its heads is not finite.
    """
    backbone = _load_backbone(checkpoint, {}, new_heads=False, dtype=dtype)
    _check_head(backbone, checkpoint)
    stored = getattr(backbone.config, "musamma", None)
    nested = read_nested_tag_set(stored, where=checkpoint)
    head = find_model_file(checkpoint, HEAD_FILE)
    classifier = TokenClassifier(backbone, proclitics=head is not None, nested=nested)
    if classifier.proclitic_head is not None and head is not None:
        _load_head(
            classifier.proclitic_head,
            head,
            title="proclitic head",
            remedy="copy the checkpoint anew, or delete the file to tag whole words",
        )
    if classifier.nested_head is not None:
        remedy = f"copy the checkpoint anew, or delete 'musamma.{NESTED_KEY}' in config.json to find no nested names"
        head = require_nested_head(checkpoint, where=checkpoint, remedy=remedy)
        _load_head(classifier.nested_head, head, title="head of the nested names", remedy=remedy)
    return classifier.eval(), read_window_options(stored, checkpoint, limit=max_positions(backbone))


def _load_head(head: nn.Linear, file: Path, *, title: str, remedy: str) -> None:
    """Load the weights of a head, in place.

    Raises:
        InputError: the file cannot be read, holds the weights of something else, or a weight in it is not finite.
    """
    try:
        head.load_state_dict(load_file(file))
    except Exception as error:
        raise unreadable_file(file.parent) or InputError(
            f"the {title} cannot be read: {one_line(error)}", where=str(file), remedy=remedy
        ) from error
    for name, weight in head.state_dict().items():
        if not torch.isfinite(weight).all():
            raise not_finite(name, where=str(file), remedy=remedy)


def _check_head(backbone: PreTrainedModel, name: str) -> None:
    """Check that the weights outside the encoder of a model, a folder or hub id, are finite; those of the encoder are many."""
    body = f"{backbone.base_model_prefix}."
    for key, weight in backbone.state_dict().items():
        if not key.startswith(body) and not torch.isfinite(weight).all():
            file = find_model_file(name, "model.safetensors")  # there is none if the weights are in several files
            raise not_finite(key, where=name if file is None else str(file), remedy="copy it anew")


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
