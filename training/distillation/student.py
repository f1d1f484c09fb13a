"""The student: a classifier with some of the teacher's layers, and the heads and embeddings of the teacher."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from musamma.data.errors import InputError
from musamma.models.checkpoint import load_classifier
from musamma.models.classifier import TokenClassifier
from musamma.models.model_names import resolve_model

#: What a student has in common with its teacher.
_SHARED_KEYS = ("model_type", "id2label", "vocab_size", "hidden_size")


def select_layers(layers: int | Sequence[int] | None, depth: int, *, where: str) -> tuple[int, ...]:
    """Return the numbers of the teacher's layers that the student starts as.

    Args:
        layers: their numbers, from 0; or how many of them, which are then spaced evenly; ``None`` for half of them, rounded up.
        depth: number of the teacher's layers.
        where: the teacher, for errors.

    Raises:
        InputError: the teacher does not have these layers.
    """
    if layers is None:
        layers = (depth + 1) // 2
    if isinstance(layers, int):
        if layers > depth:
            raise InputError(
                f"layers: {layers}",
                where=where,
                expected=f"at most {depth}, the number of the teacher's layers",
                remedy="lower `layers`, or choose a deeper teacher",
            )
        return match_layers(layers, depth)
    if beyond := [number for number in layers if number >= depth]:
        raise InputError(
            f"layers: {beyond[0]}",
            where=where,
            expected=f"numbers from 0 to {depth - 1}: the teacher has {depth} layers",
        )
    return tuple(layers)


def match_layers(count: int, depth: int) -> tuple[int, ...]:
    """Return, for each layer of a student, the layer of the teacher whose output it has to reproduce.

    They are spaced evenly, and the last one is matched with the last one (PKD-skip: Sun et al., 2019).

    Args:
        count: number of the student's layers.
        depth: number of the teacher's layers, at least ``count``.
    """
    return tuple((number + 1) * depth // count - 1 for number in range(count))


def build_student(teacher: TokenClassifier, layers: Sequence[int], *, where: str) -> TokenClassifier:
    """Build a classifier with the given layers of a teacher, and copies of all its other weights.

    An encoder that uses the weights of one layer several times (ALBERT) uses them fewer times.

    Args:
        teacher: the teacher.
        layers: numbers of its layers, from 0, in increasing order.
        where: the teacher, for errors.

    Raises:
        InputError: the teacher cannot be shortened.
    """
    depth = count_layers(teacher)
    config = _shorten_config(teacher.config, layers, depth)
    student = TokenClassifier(
        type(teacher.backbone)(config),
        proclitics=teacher.proclitic_head is not None,
        nested=teacher.nested_tag_set,
    )
    path = _find_layers(teacher.backbone, depth)
    own = {f"backbone.{path}.{number}.": f"backbone.{path}.{layer}." for number, layer in enumerate(layers)}
    weights = teacher.state_dict()
    state = {}
    for name, value in student.state_dict().items():
        prefix = next((prefix for prefix in own if name.startswith(prefix)), "")
        source = own.get(prefix, "") + name.removeprefix(prefix)
        if source not in weights or weights[source].shape != value.shape:
            raise InputError(
                f"its {type(teacher.backbone).__name__} has no weights {name!r} with {len(layers)} layers",
                where=where,
                expected="an encoder whose layers have the same shapes, such as BERT",
                remedy="choose another teacher",
            )
        state[name] = weights[source]
    student.load_state_dict(state)
    return student.to(torch.float32)


def load_student(name: str, teacher: TokenClassifier, *, where: str) -> TokenClassifier:
    """Load a checkpoint to be trained further as a student.

    Args:
        name: a folder, a hub id, or the name of a packaged model.
        teacher: the teacher.
        where: the teacher, for errors.

    Raises:
        InputError: there is no such checkpoint, or it differs from the teacher in more than the number of its layers.
    """
    student, _ = load_classifier(resolve_model(name))
    differences = [
        key for key in _SHARED_KEYS if getattr(student.config, key, None) != getattr(teacher.config, key, None)
    ]
    if (student.proclitic_head is None) != (teacher.proclitic_head is None):
        differences.append("border head")
    if student.nested_tag_set != teacher.nested_tag_set:
        differences.append("labels of nested names")
    if differences:
        raise InputError(
            f"{differences[0]} other than in {where}",
            where=name,
            expected="a student of the teacher",
            remedy="give a checkpoint that was distilled from it, or leave `student` out",
        )
    if count_layers(student) > count_layers(teacher):
        raise InputError(
            f"{count_layers(student)} layers",
            where=name,
            expected=f"at most {count_layers(teacher)}, the number of layers of {where}",
            remedy="choose a smaller student, or a deeper teacher",
        )
    return student


def count_layers(classifier: TokenClassifier) -> int:
    """Return the number of layers of a classifier's encoder."""
    return int(classifier.config.num_hidden_layers)


def _shorten_config(original: PreTrainedConfig, layers: Sequence[int], depth: int) -> PreTrainedConfig:
    """Return the configuration with the given layers only."""
    config = copy.deepcopy(original)
    config.num_hidden_layers = len(layers)
    kinds = getattr(config, "layer_types", None)
    if isinstance(kinds, list) and len(kinds) == depth:
        config.layer_types = [kinds[layer] for layer in layers]
    return config


def _find_layers(backbone: PreTrainedModel, depth: int) -> str:
    """Return the path of the list of layers in an encoder; empty if it has none."""
    lists = (
        path for path, module in backbone.named_modules() if isinstance(module, nn.ModuleList) and len(module) == depth
    )
    return next(lists, "")
