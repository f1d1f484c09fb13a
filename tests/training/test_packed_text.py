"""The rows of pre-training: units, masks, packing, order, and states that do not see their neighbours."""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer, DistilBertConfig, DistilBertModel, ModernBertConfig, ModernBertModel

from musamma.data.arabic import clitic_borders, word_offsets
from musamma.data.errors import InputError
from musamma.data.normalization import install_normalizer
from musamma.data.windows import IGNORE_INDEX
from musamma.models.loading import load_tokenizer
from musamma.training.pretraining.masking import (
    HEAD,
    MAIN,
    MaskCollator,
    MaskingConfig,
    RowSchedule,
    SpecialTokenCount,
    choose_masked,
    held_out_rows,
    piece_borders,
    plain_pieces,
)
from musamma.training.pretraining.objectives import sample_pieces
from musamma.training.pretraining.packed_text import PackedText, ParagraphTokenizer, prepare_text
from musamma.training.pretraining.packing import (
    ShardWriter,
    check_packing,
    fill_rows,
    hidden_states,
    packed_positions,
    position_offset,
)
from musamma.training.pretraining.pretrain_config import PretrainConfig

LINES = [
    "أعلنت وزارة الدفاع العراقية تقدم القوات نحو الموصل وبلدة قره قوش شرقي المدينة",
    "وقال محمد السعيد لوكالة رويترز في بيروت إن الاجتماع سيعقد في القاهرة غدا",
    "فاز النادي الأهلي على الزمالك بهدفين",
    "حزب الله، مجلس الأمن",
]


# Units.


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
        # Words that only look like it, or where nothing in the text tells.
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
def test_proclitics_end_where_the_text_tells(text: str, expected: list[str]) -> None:
    cuts = [0, *clitic_borders(text), len(text)]
    assert [text[a:b] for a, b in pairwise(cuts)] == expected


def units_of(text: str, offsets: list[tuple[int, int]], *, clitics: bool = True) -> list[int]:
    return np.flatnonzero(piece_borders(text, np.array(offsets), clitics=clitics)[1]).tolist()


def test_a_piece_that_straddles_a_border_goes_with_the_stem() -> None:
    text = "قال وبالموصل"
    assert units_of(text, [(0, 3), (3, 5), (5, 6), (6, 8), (8, 12)]) == [0, 1, 3]
    assert units_of(text, [(0, 3), (3, 8), (8, 12)]) == [0, 1]
    assert units_of(text, [(0, 3), (3, 5), (5, 6), (6, 8), (8, 12)], clitics=False) == [0, 1]


def test_a_piece_of_a_space_alone_goes_with_the_word_behind_it() -> None:
    assert units_of("قال محمد", [(0, 3), (3, 4), (4, 8)]) == [0, 1]


def test_units_never_cross_words(any_encoder: Path) -> None:
    tokenizer = install_normalizer(load_tokenizer(str(any_encoder)))
    for text in LINES:
        offsets = np.array(tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"])
        words, units = piece_borders(text, offsets, clitics=True)
        assert words.sum() == len(word_offsets(text))
        assert (units | ~words).all()


# Masks.


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=60),
    share=st.floats(0.05, 0.8),
    seed=st.integers(0, 2**32 - 1),
)
def test_masks_take_whole_units_and_their_share(sizes: list[int], share: float, seed: int) -> None:
    units = np.concatenate([[True] + [False] * (size - 1) for size in sizes])
    plain = np.ones(len(units), dtype=bool)
    masked = choose_masked(units, plain, share=share, random=np.random.default_rng(seed))
    for unit in np.split(masked, np.flatnonzero(units)[1:]):
        assert unit.all() or not unit.any()
    assert masked.any()
    assert abs(masked.sum() - share * len(units)) <= max(sizes)


def test_special_tokens_are_no_text() -> None:
    plain = plain_pieces(np.array([4, 3]), SpecialTokenCount(1, 1))
    assert plain.tolist() == [False, True, True, False, False, True, False]


# Packing.


@given(lengths=st.lists(st.integers(1, 16), max_size=400))
def test_every_paragraph_is_in_one_row_and_rows_fit(lengths: list[int]) -> None:
    paragraphs = [(np.full(length, number), np.ones(length, dtype=bool)) for number, length in enumerate(lengths)]
    rows = list(fill_rows(paragraphs, length=16, packing=True))
    assert all(row.pieces <= 16 for row in rows)
    found = sorted(int(ids[0]) for row in rows for ids in row.input_ids)
    assert found == list(range(len(lengths)))
    assert all(len(ids) == lengths[ids[0]] for row in rows for ids in row.input_ids)
    again = list(fill_rows(paragraphs, length=16, packing=True))
    assert [[ids.tolist() for ids in row.input_ids] for row in rows] == [
        [ids.tolist() for ids in row.input_ids] for row in again
    ]
    # Of two closed rows, the later's first paragraph did not fit the earlier: rows are more than half full on average.
    assert len(rows) <= 2 * sum(lengths) / 16 + 64


def test_positions_begin_anew_with_every_paragraph() -> None:
    documents = torch.tensor([[1, 1, 1, 2, 2, 0, 0], [1, 2, 3, 3, 3, 3, 3]])
    assert packed_positions(documents, 2).tolist() == [[2, 3, 4, 2, 3, 2, 3], [2, 2, 2, 3, 4, 5, 6]]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_packed_paragraphs_are_read_as_if_alone(any_encoder: Path, attention: str, bfloat16: bool) -> None:
    model = AutoModel.from_pretrained(any_encoder, add_pooling_layer=False, attn_implementation=attention).eval()
    ids = torch.randint(5, model.config.vocab_size, (1, 30), generator=torch.Generator().manual_seed(1))
    documents = torch.tensor([[1] * 9 + [2] * 14 + [3] * 4 + [0] * 3])

    @torch.no_grad()
    def states(ids: torch.Tensor, documents: torch.Tensor, *, packing: bool) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            return hidden_states(model, ids, documents, packing=packing)[0].float()

    packed = states(ids, documents, packing=True)
    other = ids.clone()
    other[0, 9:23] = other[0, 9:23].flip(0)
    changed = states(other, documents, packing=True)
    assert torch.equal(packed[:9], changed[:9])
    assert torch.equal(packed[23:27], changed[23:27])
    assert not torch.equal(packed[9:23], changed[9:23])
    for start, end in ((0, 9), (9, 23), (23, 27)):
        alone = states(ids[:, start:end], torch.ones(1, end - start), packing=False)
        close = 5e-2 if bfloat16 else 1e-5
        torch.testing.assert_close(packed[start:end], alone, rtol=close, atol=close)


def test_roberta_positions_begin_behind_the_padding(unigram_encoder: Path, wordpiece_encoder: Path) -> None:
    offsets = [position_offset(AutoModel.from_pretrained(path)) for path in (unigram_encoder, wordpiece_encoder)]
    assert offsets == [2, 0]


def test_an_encoder_that_makes_its_own_positions_is_refused() -> None:
    config = DistilBertConfig(vocab_size=60, dim=16, n_layers=1, n_heads=2, hidden_dim=16, max_position_embeddings=40)
    model = DistilBertModel(config)
    inner = model.embeddings.forward
    model.embeddings.forward = lambda input_ids, *_, **__: inner(input_ids)
    with pytest.raises(InputError, match="packing: false"):
        check_packing(model, "distilbert", length=32)


def test_a_window_of_attention_that_the_mask_takes_away_is_seen() -> None:
    sizes = {
        "vocab_size": 60,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
    config = ModernBertConfig(**sizes, **special, local_attention=8, initializer_range=0.5)
    torch.manual_seed(1)
    with pytest.raises(InputError, match="packing: false"):
        check_packing(ModernBertModel(config), "modernbert", length=64)


# Paragraphs and text.


def test_long_paragraphs_are_cut_before_words_and_nothing_is_lost(any_encoder: Path) -> None:
    tokenizer = install_normalizer(load_tokenizer(str(any_encoder)))
    text = " ".join(LINES)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    encoder = ParagraphTokenizer(tokenizer, length=24, clitics=True)
    (segments,) = encoder.encode([text])
    assert len(segments) > 2
    assert all(len(pieces) <= 24 for pieces, _ in segments)
    inner = [pieces[1:-1] for pieces, _ in segments]
    assert np.concatenate(inner).tolist() == ids
    whole = tokenizer(text, add_special_tokens=True)["input_ids"]
    assert {(int(p[0]), int(p[-1])) for p, _ in segments} == {(whole[0], whole[-1])}
    offsets = np.array(tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"])
    words, _ = piece_borders(text, offsets, clitics=False)
    assert words[np.cumsum([len(one) for one in inner])[:-1]].all()
    # One word that is longer than a row.
    (segments,) = encoder.encode(["ثق" * 60])
    assert (
        np.concatenate([pieces[1:-1] for pieces, _ in segments]).tolist()
        == tokenizer("ثق" * 60, add_special_tokens=False)["input_ids"]
    )
    assert list(encoder.encode(["\u200f"])) == [[]]


def config(encoder: Path, text: Path | list[str], output: Path, **changes: Any) -> PretrainConfig:
    content = {"encoder": str(encoder), "text": text if isinstance(text, list) else str(text), "output": str(output)}
    return PretrainConfig.model_validate(content | {"length": 40, "held_out": {"every": 4}} | changes)


def prepared(encoder: Path, text: Path, output: Path, **changes: Any) -> PackedText:
    return prepare_text(config(encoder, text, output, **changes), install_normalizer(load_tokenizer(str(encoder))))


@pytest.fixture
def news(tmp_path: Path) -> Path:
    path = tmp_path / "news.txt.gz"
    path.write_bytes(gzip.compress("\n".join(f"{line} {number}" for number in range(10) for line in LINES).encode()))
    return path


def test_text_is_split_by_position_and_kept_whole(any_encoder: Path, news: Path, tmp_path: Path) -> None:
    text = prepared(any_encoder, news, tmp_path / "run")
    tokenizer = install_normalizer(load_tokenizer(str(any_encoder)))

    def paragraphs(rows: Any) -> list[str]:
        taken = rows.take(np.arange(len(rows)))
        return [
            tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "")
            for row in taken
            for ids in np.split(row.input_ids, np.cumsum(row.documents)[:-1])
        ]

    train, held_out = paragraphs(text.train), paragraphs(text.held_out)
    letters = lambda lines: sorted("".join(lines).replace(" ", ""))  # noqa: E731
    lines = gzip.decompress(news.read_bytes()).decode().splitlines()
    assert letters(held_out) == letters(lines[3::4])
    assert letters(train) == letters(line for number, line in enumerate(lines, 1) if number % 4)
    assert text.train.lengths.max() <= 40
    counts = text.counts
    assert (counts["paragraphs"], counts["held_out_paragraphs"]) == (40, 10)
    assert counts["train_pieces"] == text.train.lengths.sum()
    assert not (tmp_path / "run/text.part").exists()


def test_a_kill_while_the_text_is_cut_leaves_nothing_half_done(
    wordpiece_encoder: Path, news: Path, tmp_path: Path
) -> None:
    part = tmp_path / "run/text.part"
    part.mkdir(parents=True)
    (part / "train-00007.arrow").write_bytes(b"half")
    text = prepared(wordpiece_encoder, news, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run/text").glob("train-*")] == ["train-00000.arrow"]
    assert len(text.train) == text.counts["train_rows"]


def test_a_lost_shard_is_told(wordpiece_encoder: Path, news: Path, tmp_path: Path) -> None:
    prepared(wordpiece_encoder, news, tmp_path / "run")
    (tmp_path / "run/text/held-out-00000.arrow").unlink()
    with pytest.raises(InputError, match=r"held-out rows.*copy the folder anew"):
        prepared(wordpiece_encoder, news, tmp_path / "run")


def test_shards_are_small_and_are_read_as_one(
    wordpiece_encoder: Path, news: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepared(wordpiece_encoder, news, tmp_path / "whole")
    monkeypatch.setattr("musamma.training.pretraining.packing._SHARD_BYTES", 600)
    cut = prepared(wordpiece_encoder, news, tmp_path / "cut")
    assert len(list((tmp_path / "cut/text").glob("train-*"))) > 3
    numbers = np.arange(len(whole.train))[::-1]
    for one, other in zip(whole.train.take(numbers), cut.train.take(numbers), strict=True):
        assert one.input_ids.dtype == np.uint16
        for name in ("input_ids", "units", "documents"):
            assert getattr(one, name).tolist() == getattr(other, name).tolist()


def test_shards_stay_below_64_megabytes(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "train", length=256, width=np.uint16)
    # Ids, flags as bits, the three offsets, and one paragraph's length a row at the least; forty at the most here.
    assert writer._limit * (256 * 2 + 256 / 8 + 12 + 40 * 2) < 64 * 10**6


# The order of rows.


def test_the_course_is_a_function_of_the_item(wordpiece_encoder: Path, news: Path, tmp_path: Path) -> None:
    text = prepared(wordpiece_encoder, news, tmp_path / "run")
    masks = MaskingConfig(text.special, 0.2, 7)
    items = 3 * len(text.train)
    course = RowSchedule(text.train, items=items, masks=masks, stream=MAIN)
    rows = course.__getitems__(list(range(items)))
    each = [
        [row.row.input_ids.tolist() for row in rows[start : start + len(text.train)]]
        for start in range(0, items, len(text.train))
    ]
    assert sorted(each[0]) == sorted(each[1]) == sorted(each[2])
    assert each[0] != each[1]
    place = items - 5
    assert course[place].masked.tolist() == rows[place].masked.tolist()
    again = RowSchedule(text.train, items=items, masks=masks, stream=MAIN)[place]
    assert again.masked.tolist() == rows[place].masked.tolist()
    # Masks change from pass to pass, and with the stream.
    first = {tuple(row.row.input_ids): row.masked.tolist() for row in rows[: len(text.train)]}
    assert any(first[tuple(row.row.input_ids)] != row.masked.tolist() for row in rows[len(text.train) :])
    other = RowSchedule(text.train, items=items, masks=masks, stream=HEAD).__getitems__(list(range(items)))
    assert [row.row.input_ids.tolist() for row in other] != [row.row.input_ids.tolist() for row in rows]


def test_tokens_are_counted_exactly(wordpiece_encoder: Path, news: Path, tmp_path: Path) -> None:
    text = prepared(wordpiece_encoder, news, tmp_path / "run")
    course = RowSchedule(text.train, items=99, masks=MaskingConfig(text.special, 0.2, 7), stream=MAIN)
    total = 0
    for item in range(2 * len(text.train) + 3):
        assert course.tokens(item) == total
        length = len(course[item].row.input_ids)
        assert course.items_for(total + 1) == item + 1
        total += length
        assert course.items_for(total) == item + 1


def test_a_batch_hides_what_it_asks_for(wordpiece_encoder: Path, news: Path, tmp_path: Path) -> None:
    text = prepared(wordpiece_encoder, news, tmp_path / "run")
    tokenizer = AutoTokenizer.from_pretrained(wordpiece_encoder)
    rows = held_out_rows(text.held_out, limit=3, masks=MaskingConfig(text.special, 0.2, 7))
    assert len(rows) == 3
    batch = MaskCollator(tokenizer.pad_token_id, tokenizer.mask_token_id, 40)(rows)
    masked = batch["labels"] != IGNORE_INDEX
    assert (batch["input_ids"][masked] == tokenizer.mask_token_id).all()
    assert batch["plain"][masked].all()
    for row, ids, labels, documents in zip(rows, batch["input_ids"], batch["labels"], batch["documents"], strict=True):
        length = len(row.row.input_ids)
        assert torch.where(labels == IGNORE_INDEX, ids, labels)[:length].tolist() == row.row.input_ids.tolist()
        assert (ids[length:] == tokenizer.pad_token_id).all()
        assert torch.bincount(documents[:length])[1:].tolist() == row.row.documents.tolist()
        assert documents[length:].eq(0).all()


def test_proposals_follow_their_distribution() -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0, 0.5]]).expand(40_000, 4)
    drawn = torch.bincount(sample_pieces(logits, torch.Generator().manual_seed(1)), minlength=4) / 40_000
    torch.testing.assert_close(drawn, logits[0].softmax(0), rtol=0, atol=0.01)
