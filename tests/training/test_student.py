"""Students: which layers they get, and that all their weights are the teacher's, for several kinds of encoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AlbertConfig,
    AutoModelForTokenClassification,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    PreTrainedConfig,
    XLMRobertaConfig,
)

from musamma.data.errors import InputError
from musamma.data.tags import TagSet
from musamma.models.classifier import TokenClassifier
from musamma.models.dropout import set_dropout
from musamma.training.distillation.student import (
    build_student,
    count_layers,
    match_layers,
    select_layers,
)

SIZES = {"vocab_size": 60, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_labels": 5}
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "bert": lambda: BertConfig(**SIZES, num_hidden_layers=4),
    "xlm-roberta": lambda: XLMRobertaConfig(**SIZES, num_hidden_layers=4, pad_token_id=1),
    "electra": lambda: ElectraConfig(**SIZES, num_hidden_layers=4, embedding_size=8),
    "distilbert": lambda: DistilBertConfig(vocab_size=60, dim=16, n_heads=2, hidden_dim=24, num_labels=5, n_layers=4),
    # Every third layer attends globally, the others locally.
    "modernbert": lambda: ModernBertConfig(**SIZES, num_hidden_layers=4, pad_token_id=0),
}


def build_teacher(kind: str) -> TokenClassifier:
    torch.manual_seed(1)
    backbone = AutoModelForTokenClassification.from_config(CONFIGS[kind](), attn_implementation="eager")
    return TokenClassifier(backbone, nested=TagSet(("LOC",))).eval()


def compute(classifier: TokenClassifier, **inputs: torch.Tensor) -> list[Any]:
    with torch.no_grad():
        *logits, states = classifier.forward_with_states(**inputs)
    return [*logits, *states]


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    """Two windows, one of them padded."""
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 8:] = 0
    return {"input_ids": torch.arange(5, 29).reshape(2, 12), "attention_mask": mask}


def test_matched_layers_are_spaced_evenly_and_end_with_the_last() -> None:
    assert match_layers(6, 12) == (1, 3, 5, 7, 9, 11)
    assert match_layers(4, 12) == (2, 5, 8, 11)
    assert match_layers(5, 12) == (1, 3, 6, 8, 11)
    assert match_layers(1, 2) == (1,)


@given(st.integers(1, 48).flatmap(lambda depth: st.tuples(st.integers(1, depth), st.just(depth))))
def test_each_layer_of_a_student_is_matched_with_one_of_its_own(sizes: tuple[int, int]) -> None:
    count, depth = sizes
    matched = match_layers(count, depth)
    assert len(set(matched)) == count
    assert list(matched) == sorted(matched)
    assert matched[0] >= 0
    assert matched[-1] == depth - 1
    distances = {after - before for before, after in zip((-1, *matched), matched, strict=False)}
    assert max(distances) - min(distances) <= 1


@pytest.mark.parametrize(
    ("layers", "selected"),
    [(None, (1, 3, 5, 7, 9, 11)), (3, (3, 7, 11)), (12, tuple(range(12))), ([0, 3, 11], (0, 3, 11))],
)
def test_layers_are_selected_by_number_or_by_name(layers: Any, selected: tuple[int, ...]) -> None:
    assert select_layers(layers, 12, where="teacher") == selected
    assert select_layers(None, 5, where="teacher") == match_layers(3, 5)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (13, "teacher: layers: 13; expected at most 12, the number of the teacher's layers"),
        ([3, 12, 14], "teacher: layers: 12; expected numbers from 0 to 11: the teacher has 12 layers"),
    ],
)
def test_layers_that_the_teacher_does_not_have_are_refused(layers: Any, message: str) -> None:
    with pytest.raises(InputError) as raised:
        select_layers(layers, 12, where="teacher")
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_student_with_all_layers_computes_what_the_teacher_does(kind: str, inputs: dict[str, torch.Tensor]) -> None:
    teacher = build_teacher(kind)
    student = build_student(teacher, range(4), where=kind).eval()
    for own, wanted in zip(compute(student, **inputs), compute(teacher, **inputs), strict=True):
        assert torch.equal(own, wanted)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_first_layers_alone_give_the_states_of_the_teacher_up_to_there(
    kind: str, inputs: dict[str, torch.Tensor]
) -> None:
    teacher = build_teacher(kind)
    student = build_student(teacher, [0, 1], where=kind).eval()
    assert count_layers(student) == 2
    states = compute(student, **inputs)[3:]
    assert len(states) == 3
    for own, wanted in zip(states[:2], compute(teacher, **inputs)[3:], strict=False):
        assert torch.equal(own, wanted)


def test_layers_are_copied_in_their_order_and_the_teacher_stays(inputs: dict[str, torch.Tensor]) -> None:
    teacher = build_teacher("bert")
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = build_student(teacher, [1, 3], where="bert")
    own = student.state_dict()
    for number, layer in enumerate((1, 3)):
        name = "backbone.bert.encoder.layer.{}.output.dense.weight"
        assert torch.equal(own[name.format(number)], before[name.format(layer)])
    with torch.no_grad():
        for weight in student.parameters():
            weight.zero_()
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert count_layers(teacher) == 4


def test_kinds_of_layers_go_with_them() -> None:
    teacher = build_teacher("modernbert")
    student = build_student(teacher, [1, 3], where="modernbert")
    kinds = teacher.config.layer_types
    assert len(set(kinds)) == 2
    assert student.config.layer_types == [kinds[1], kinds[3]]


def test_shared_layers_are_used_fewer_times(inputs: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(1)
    config = AlbertConfig(**SIZES, num_hidden_layers=4, embedding_size=8)
    teacher = TokenClassifier(AutoModelForTokenClassification.from_config(config)).eval()
    student = build_student(teacher, [1, 3], where="albert").eval()
    _, _, _, *states = compute(student, **inputs)
    assert len(states) == 3
    for own, wanted in zip(states, compute(teacher, **inputs)[3:], strict=False):
        torch.testing.assert_close(own, wanted)


def test_layers_of_other_shapes_are_refused() -> None:
    teacher = build_teacher("bert")
    wide = BertConfig(**{**SIZES, "intermediate_size": 30}, num_hidden_layers=1)
    other = AutoModelForTokenClassification.from_config(wide)
    teacher.backbone.bert.encoder.layer[3] = other.bert.encoder.layer[0]
    with pytest.raises(InputError) as raised:
        build_student(teacher, [1, 3], where="bert")
    assert "has no weights 'backbone.bert.encoder.layer.1.intermediate.dense.weight'" in str(raised.value)


def test_dropout_is_off_in_training_and_kept_in_the_configuration(inputs: dict[str, torch.Tensor]) -> None:
    student = build_student(build_teacher("bert"), [1, 3], where="bert").train()
    first, second = (compute(student, **inputs)[0] for _ in range(2))
    assert not torch.equal(first, second)
    set_dropout(student, 0.0)
    first, second = (compute(student, **inputs)[0] for _ in range(2))
    assert torch.equal(first, second)
    assert student.config.hidden_dropout_prob == 0.1
