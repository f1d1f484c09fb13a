"""Units and masks: whole words without their proclitics, in the configured share."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musamma.data.arabic import clitic_borders, word_offsets
from musamma.data.normalization import install_normalizer
from musamma.models.checkpoint import load_tokenizer
from musamma.training.pretraining.masking import (
    SpecialTokenCount,
    choose_masks,
    choose_units,
    find_starts,
    find_text_pieces,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("والقاهرة", ["و", "القاهرة"]),
        ("وبالموصل", ["وب", "الموصل"]),
        ("للجيش", ["ل", "لجيش"]),
        ("وللشعب", ["ول", "لشعب"]),
        ("وأعلن", ["و", "أعلن"]),
        ("بإيران", ["ب", "إيران"]),
        ("بِالـمُوصل", ["بِ", "الـمُوصل"]),
        ("قال: «والقاهرة»", ["قال: «و", "القاهرة»"]),
        # Words that only look like it, and words whose spelling does not decide.
        ("والده", ["والده"]),
        ("بالغة", ["بالغة"]),
        ("وكالة", ["وكالة"]),
        ("لله", ["لله"]),
        ("لأنه", ["لأنه"]),
        ("كأس", ["كأس"]),
        ("وزير سيكون بدمشق", ["وزير سيكون بدمشق"]),
        ("مبالموصل", ["مبالموصل"]),
    ],
)
def test_proclitics_are_split_off_where_the_spelling_decides(text: str, expected: list[str]) -> None:
    cuts = [0, *clitic_borders(text), len(text)]
    assert [text[a:b] for a, b in pairwise(cuts)] == expected


def unit_starts(text: str, offsets: list[tuple[int, int]], *, clitics: bool = True) -> list[int]:
    return np.flatnonzero(find_starts(text, np.array(offsets), clitics=clitics)[1]).tolist()


def test_a_piece_across_a_border_belongs_to_the_stem() -> None:
    text = "قال وبالموصل"
    assert unit_starts(text, [(0, 3), (3, 5), (5, 6), (6, 8), (8, 12)]) == [0, 1, 3]
    assert unit_starts(text, [(0, 3), (3, 8), (8, 12)]) == [0, 1]
    assert unit_starts(text, [(0, 3), (3, 5), (5, 6), (6, 8), (8, 12)], clitics=False) == [0, 1]


def test_a_piece_that_is_only_a_space_belongs_to_the_next_word() -> None:
    assert unit_starts("قال محمد", [(0, 3), (3, 4), (4, 8)]) == [0, 1]


def test_units_never_cross_words(any_encoder: Path, paragraphs: list[str]) -> None:
    tokenizer = install_normalizer(load_tokenizer(str(any_encoder)))
    for text in paragraphs:
        offsets = np.array(tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"])
        is_word_start, is_unit_start = find_starts(text, offsets, clitics=True)
        assert is_word_start.sum() == len(word_offsets(text))
        assert (is_unit_start | ~is_word_start).all()


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=60),
    share=st.floats(0.05, 0.8),
    seed=st.integers(0, 2**32 - 1),
)
def test_masks_cover_whole_units_and_the_configured_share(sizes: list[int], share: float, seed: int) -> None:
    starts = np.concatenate([[True] + [False] * (size - 1) for size in sizes])
    is_text = np.ones(len(starts), dtype=bool)
    masked = choose_units(starts, is_text, share=share, random=np.random.default_rng(seed))
    for unit in np.split(masked, np.flatnonzero(starts)[1:]):
        assert unit.all() or not unit.any()
    assert masked.any()
    assert abs(masked.sum() - share * len(starts)) <= max(sizes)


def test_masks_depend_only_on_the_key() -> None:
    starts, is_text = np.ones(50, dtype=bool), np.ones(50, dtype=bool)
    masks = [choose_masks(starts, is_text, share=0.2, key=key) for key in ((1, 1, 0, 5), (1, 1, 0, 5), (1, 1, 1, 5))]
    assert [mask.sum() for mask in masks] == [10, 10, 10]
    assert masks[0].tolist() == masks[1].tolist() != masks[2].tolist()


def test_special_tokens_are_not_text() -> None:
    is_text = find_text_pieces(np.array([4, 3]), SpecialTokenCount(1, 1))
    assert is_text.tolist() == [False, True, True, False, False, True, False]
