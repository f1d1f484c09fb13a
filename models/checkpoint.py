"""Checkpoints: loading of tokenizers and classifiers with transformers, and new classifiers on an encoder."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForTokenClassification, PreTrainedModel, PreTrainedTokenizerBase
from transformers import logging as transformers_logging

from musamma.data.errors import InputError
from musamma.data.tags import TagSet
from musamma.models.classifier import TokenClassifier, max_positions
from musamma.models.classifier_heads import (
    check_tag_head,
    keep_nested_rows,
    load_nested_head,
    load_proclitic_head,
    replace_tag_head,
)
from musamma.models.model_names import HEAD_FILE, find_model_file, read_model_json
from musamma.models.nested_labels import read_nested_tag_set
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
    """Build a float32 classifier from an encoder, ready for fine-tuning.

    The heads of an encoder that is a fine-tuned checkpoint are kept, as far as the labels are the same; all others are
    newly initialised.

    Args:
        encoder: a local folder or a hub id.
        tag_set: the tags to learn.
        proclitics: whether to learn borders after proclitics.
        nested: the tags of nested names, to learn them too.
        changes: values for the encoder's ``config.json``, such as its dropout.

    Raises:
        InputError: there is no such encoder, it cannot be loaded, a head is kept and has a weight that is not finite, or its
            configuration lacks a key of ``changes``.
    """
    config = read_model_json(encoder, "config.json")
    if read_graph_description(config.get("musamma"), where=encoder) is not None:
        raise InputError("an exported model", where=encoder, expected="the checkpoint that it was exported from")
    # A classifier is loaded with its own head. For other encoders, transformers makes one.
    labels = {"num_labels": len(tag_set), "id2label": tag_set.id2label, "label2id": tag_set.label2id}
    options = {} if config.get("id2label") else labels
    backbone = _load_backbone(encoder, changes or {}, new_heads=True, dtype=torch.float32, **options)
    replace_tag_head(backbone, tag_set)
    check_tag_head(backbone, encoder)
    classifier = TokenClassifier(backbone, proclitics=proclitics, nested=nested)
    if classifier.proclitic_head is not None:
        load_proclitic_head(classifier.proclitic_head, encoder)
    if classifier.nested_head is not None and nested is not None:
        stored = read_nested_tag_set(config.get("musamma"), where=encoder)
        if stored is not None:
            keep_nested_rows(classifier.nested_head, nested, encoder, stored=stored)
    return classifier


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
    check_tag_head(backbone, checkpoint)
    stored = getattr(backbone.config, "musamma", None)
    nested = read_nested_tag_set(stored, where=checkpoint)
    classifier = TokenClassifier(backbone, proclitics=find_model_file(checkpoint, HEAD_FILE) is not None, nested=nested)
    if classifier.proclitic_head is not None:
        load_proclitic_head(classifier.proclitic_head, checkpoint)
    if classifier.nested_head is not None:
        load_nested_head(classifier.nested_head, checkpoint)
    return classifier.eval(), read_window_options(stored, checkpoint, limit=max_positions(backbone))


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
