"""The heads of a token classifier: reading them from a checkpoint, and keeping what they know when the labels change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel

from musamma.data.errors import InputError, not_finite, one_line
from musamma.data.tags import OUTSIDE, TagSet
from musamma.models.model_names import HEAD_FILE, find_model_file, unreadable_file
from musamma.models.nested_labels import NESTED_KEY, require_nested_head


def replace_tag_head(backbone: PreTrainedModel, tag_set: TagSet) -> None:
    """Give a token classifier a head for other tags, in place; the rows of the tags that both heads have are kept.

    Args:
        backbone: the classifier. Its configuration names the present tags.
        tag_set: the new tags.
    """
    stored = [tag for _, tag in sorted((backbone.config.id2label or {}).items())]
    if stored == list(tag_set.tags):
        return
    std = getattr(backbone.config, "initializer_range", 0.02)
    *inner, (name, last) = _head_layers(backbone)
    head = nn.Linear(last.in_features, len(tag_set), bias=last.bias is not None, dtype=last.weight.dtype)
    _initialize(head, std=std)
    if not _copy_common_rows(last, head, stored, tag_set):
        # A layer between the encoder and the tags has learnt for the old tags.
        for _, layer in inner:
            _initialize(layer, std=std)
    parent, _, attribute = name.rpartition(".")
    setattr(backbone.get_submodule(parent), attribute, head)
    backbone.config.id2label, backbone.config.label2id = tag_set.id2label, tag_set.label2id


def _head_layers(backbone: PreTrainedModel) -> list[tuple[str, nn.Linear]]:
    """Return the linear layers outside the encoder, by name; the last one gives the logits of the tags."""
    return [
        (name, module)
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(f"{backbone.base_model_prefix}.")
    ]


def _copy_common_rows(source: nn.Linear, target: nn.Linear, stored: Sequence[str], tag_set: TagSet) -> bool:
    """Copy the rows of the tags that two heads have in common, in place, and return whether there are any.

    O alone does not count: with other labels, it means something else.
    """
    common = [tag for tag in tag_set.tags if tag in stored]
    if common in ([], [OUTSIDE]):
        return False
    rows, stored_rows = [tag_set.label2id[tag] for tag in common], [stored.index(tag) for tag in common]
    with torch.no_grad():
        target.weight[rows] = source.weight[stored_rows]
        if source.bias is not None:
            target.bias[rows] = source.bias[stored_rows]
    return True


def _initialize(layer: nn.Linear, *, std: float) -> None:
    nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def load_proclitic_head(head: nn.Linear, checkpoint: str) -> None:
    """Load the weights of the proclitic head, in place; a checkpoint without one changes nothing.

    Raises:
        InputError: the file cannot be read, holds the weights of something else, or a weight in it is not finite.
    """
    file = find_model_file(checkpoint, HEAD_FILE)
    if file is not None:
        remedy = "copy the checkpoint anew, or delete the file to tag whole words"
        _load_head(head, file, title="proclitic head", remedy=remedy)


def load_nested_head(head: nn.Linear, checkpoint: str) -> None:
    """Load the weights of the head for nested names, in place.

    Raises:
        InputError: there is no such file, it cannot be read, holds the weights of something else, or a weight in it is not finite.
    """
    remedy = f"copy the checkpoint anew, or delete 'musamma.{NESTED_KEY}' in config.json to find no nested names"
    file = require_nested_head(checkpoint, where=checkpoint, remedy=remedy)
    _load_head(head, file, title="head of the nested names", remedy=remedy)


def keep_nested_rows(head: nn.Linear, tag_set: TagSet, checkpoint: str, *, stored: TagSet) -> None:
    """Copy the rows of common tags from a checkpoint's head for nested names into a new one, in place.

    Args:
        head: the new head.
        tag_set: its tags.
        checkpoint: a folder or hub id.
        stored: the tags of the checkpoint's head.

    Raises:
        InputError: see :func:`load_nested_head`.
    """
    source = nn.Linear(head.in_features, len(stored), dtype=head.weight.dtype)
    load_nested_head(source, checkpoint)
    _copy_common_rows(source, head, stored.tags, tag_set)


def check_tag_head(backbone: PreTrainedModel, name: str) -> None:
    """Check that the weights outside the encoder of a model, a folder or hub id, are finite; those of the encoder are many.

    Raises:
        InputError: a weight is not finite.
    """
    body = f"{backbone.base_model_prefix}."
    for key, weight in backbone.state_dict().items():
        if not key.startswith(body) and not torch.isfinite(weight).all():
            file = find_model_file(name, "model.safetensors")  # there is none if the weights are in several files
            raise not_finite(key, where=name if file is None else str(file), remedy="copy it anew")


def _load_head(head: nn.Linear, file: Path, *, title: str, remedy: str) -> None:
    try:
        head.load_state_dict(load_file(file))
    except Exception as error:
        raise unreadable_file(file.parent) or InputError(
            f"the {title} cannot be read: {one_line(error)}", where=str(file), remedy=remedy
        ) from error
    for name, weight in head.state_dict().items():
        if not torch.isfinite(weight).all():
            raise not_finite(name, where=str(file), remedy=remedy)
