"""Windows of several sources: the marginal loss over the tags that a word may have, and what each epoch draws."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from musamma.data.allowed_labels import AllowedLabels
from musamma.data.document import Document
from musamma.data.tags import TagSet
from musamma.data.windows import IGNORE_INDEX, DocumentTokenizer
from musamma.models.checkpoint import load_tokenizer
from musamma.training.dataset import build_window_dataset, joint_loss
from musamma.training.mixture import MixtureSampler, build_mixture
from musamma.training.sources import Source
from tests.support import span


def test_single_tags_have_the_loss_of_cross_entropy() -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 5, 7), torch.randn(2, 5, 3)
    labels = torch.stack([torch.randint(0, 7, (2, 5)), torch.randint(0, 3, (2, 5))], dim=1)
    labels[:, :, 3:] = IGNORE_INDEX
    expected = (
        sum(
            cross_entropy(head.flatten(0, 1), labels[:, index].flatten(), reduction="sum", ignore_index=IGNORE_INDEX)
            for index, head in enumerate(logits)
        )
        / (labels != IGNORE_INDEX).sum()
    )
    assert torch.equal(joint_loss(logits, labels), expected)
    unused = torch.ones(1, 7, dtype=torch.bool)
    assert joint_loss(logits, labels, tag_sets=unused).item() == pytest.approx(expected.item())


def test_the_loss_of_a_set_is_that_of_its_summed_probability() -> None:
    """Probabilities of 1/8, 1/8, 1/4 and 1/2: the set {0, 2} has 3/8, the tag 3 has 1/2."""
    logits = torch.tensor([[[1.0, 1.0, 2.0, 4.0]] * 3]).log().requires_grad_()
    labels = torch.tensor([[[4, 3, IGNORE_INDEX], [IGNORE_INDEX] * 3]])
    loss = joint_loss((logits, None), labels, 1, tag_sets=torch.tensor([[True, False, True, False]]))
    assert loss.item() == pytest.approx(-math.log(3 / 8) - math.log(1 / 2))
    loss.backward()
    # The gradient is the probability less the probability given that the tag is in the set.
    expected = [[1 / 8 - 1 / 3, 1 / 8, 1 / 4 - 2 / 3, 1 / 2], [1 / 8, 1 / 8, 1 / 4, 1 / 2 - 1], [0.0] * 4]
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0], torch.tensor(expected))


@given(data=st.data())
def test_the_marginal_loss_sums_over_all_allowed_sequences(data: st.DataObject) -> None:
    """Words are independent, so the product of their sums is the sum over all sequences of allowed tags."""
    count, words = data.draw(st.integers(2, 4)), data.draw(st.integers(1, 4))
    numbers = st.floats(-5, 5, width=32)
    rows = data.draw(st.lists(st.lists(numbers, min_size=count, max_size=count), min_size=words, max_size=words))
    sets = data.draw(
        st.lists(st.sets(st.integers(0, count - 1), min_size=1), min_size=1, max_size=3), label="sets of tags"
    )
    targets = data.draw(st.lists(st.integers(0, count + len(sets) - 1), min_size=words, max_size=words))
    logits = torch.tensor(rows, dtype=torch.float64)
    sequences = torch.cartesian_prod(*[torch.arange(count)] * words).reshape(-1, words)
    scores = logits.log_softmax(-1)[torch.arange(words), sequences].sum(-1)
    allowed = [{target} if target < count else sets[target - count] for target in targets]
    valid = torch.tensor([all(tag in one for tag, one in zip(row, allowed, strict=True)) for row in sequences.tolist()])
    table = torch.tensor([[tag in one for tag in range(count)] for one in sets])
    labels = torch.tensor([[targets, [IGNORE_INDEX] * words]])
    loss = joint_loss((logits.float()[None], None), labels, 1, tag_sets=table)
    assert loss.item() == pytest.approx(-scores[valid].logsumexp(0).item(), abs=1e-4)


TAGS = TagSet(("GPE", "LOC", "PER"))
TEXT = "وصل محمد إلى بيروت وبغداد"


@pytest.fixture
def document_tokenizer(wordpiece_encoder: object) -> DocumentTokenizer:
    return DocumentTokenizer(load_tokenizer(str(wordpiece_encoder)), max_length=64, overlap=16)


def test_a_window_holds_tags_and_sets_of_tags(document_tokenizer: DocumentTokenizer) -> None:
    exact = Document("exact", TEXT, (span(TEXT, "محمد", "PER"), span(TEXT, "بيروت", "GPE"), span(TEXT, "بغداد", "GPE")))
    coarse = Document("coarse", TEXT, (span(TEXT, "بيروت", "LOC"), span(TEXT, "وبغداد", "LOC")))
    allows = AllowedLabels({"LOC": ("LOC", "GPE"), "O": ("PER",)}, whole_words=True)
    mixture = build_mixture(
        [Source("exact", [exact], []), Source("dev", [], [exact]), Source("coarse", [coarse], [], allows)],
        document_tokenizer,
        TAGS,
        proclitics=True,
    )
    assert mixture.sizes == (1, 0, 1)
    assert not mixture.misalignments
    sets = [{TAGS.tags[index] for index in np.flatnonzero(row)} for row in mixture.tag_sets]
    assert sets == [{"O", "B-PER", "I-PER"}, {"B-GPE", "B-LOC"}, {"I-GPE", "I-LOC"}]
    columns = [[np.array(row[name]) for name in ("tags", "proclitics")] for row in mixture.windows]
    words = [tags[tags != IGNORE_INDEX].tolist() for tags, _ in columns]
    assert words == [[0, TAGS.begin("PER"), 0, TAGS.begin("GPE"), TAGS.begin("GPE")], [7, 7, 7, 8, 8]]
    counts = [proclitics[proclitics != IGNORE_INDEX].tolist() for _, proclitics in columns]
    assert counts == [[0, 0, 1], []]  # a corpus of whole words does not tell where a name starts in its word


def test_a_source_without_a_table_has_the_windows_of_plain_files(document_tokenizer: DocumentTokenizer) -> None:
    documents = [Document("a", TEXT, (span(TEXT, "بيروت", "GPE"),)), Document("b", TEXT, (span(TEXT, "محمد", "PER"),))]
    plain, _ = build_window_dataset(documents, document_tokenizer, TAGS, proclitics=True)
    mixture = build_mixture([Source("one", documents, [])], document_tokenizer, TAGS, proclitics=True)
    assert mixture.windows.to_dict() == plain.to_dict()
    assert mixture.tag_sets.shape == (0, len(TAGS))


def drawn(sampler: MixtureSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    indices = list(sampler)
    assert len(indices) == len(sampler)
    return indices


def mixture_sampler(*, seed: int = 1, lengths: list[int] | None = None) -> MixtureSampler:
    """Sources of 10, 0, 4 and 3 windows."""
    return MixtureSampler((10, 0, 4, 3), (0.5, 1.0, 2.0, 1.5), seed=seed, lengths=lengths, batch_size=2)


@pytest.mark.parametrize("lengths", [None, list(range(17))])
def test_each_source_is_drawn_as_often_as_its_factor_says(lengths: list[int] | None) -> None:
    sampler = mixture_sampler(lengths=lengths)
    assert sampler.counts == [5, 0, 8, 4]
    epochs = [Counter(drawn(sampler, epoch)) for epoch in range(6)]
    for first, second in zip(epochs[::2], epochs[1::2], strict=True):
        assert {index: (first + second)[index] for index in range(10)} == dict.fromkeys(range(10), 1)
    assert all(epoch[index] == 2 for epoch in epochs for index in range(10, 14))
    # 4 draws of 3 windows an epoch: over three epochs each is drawn four times.
    assert all(sum((epoch[index] for epoch in epochs[:3]), 0) == 4 for index in range(14, 17))


def test_an_epoch_depends_on_seed_and_number_alone() -> None:
    sampler = mixture_sampler()
    epochs = [drawn(sampler, epoch) for epoch in range(3)]
    torch.manual_seed(99)
    np.random.seed(99)
    assert drawn(mixture_sampler(), 2) == epochs[2]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert drawn(mixture_sampler(seed=2), 2) != epochs[2]


def test_windows_of_similar_length_are_drawn_together() -> None:
    lengths = [10, 200] * 200
    indices = drawn(MixtureSampler((400,), (1.0,), seed=1, lengths=lengths, batch_size=4), 0)
    batches = [{lengths[index] for index in indices[start : start + 4]} for start in range(0, 400, 4)]
    assert sum(len(batch) > 1 for batch in batches) < 10
