"""The packed text: paragraphs cut into segments, both parts written to shards and read back."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musamma.data.errors import InputError
from musamma.data.normalization import install_normalizer
from musamma.models.checkpoint import load_tokenizer
from musamma.training.pretraining.masking import find_starts
from musamma.training.pretraining.packed_text import PackedText, ParagraphTokenizer, ShardWriter

Prepare = Callable[..., PackedText]


def test_long_paragraphs_are_cut_before_words_and_nothing_is_lost(any_encoder: Path, paragraphs: list[str]) -> None:
    tokenizer = install_normalizer(load_tokenizer(str(any_encoder)))
    text = " ".join(paragraphs)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    paragraph_tokenizer = ParagraphTokenizer(tokenizer, length=24, clitics=True)
    (segments,) = paragraph_tokenizer.encode([text])
    assert len(segments) > 2
    assert all(len(pieces) <= 24 for pieces, _ in segments)
    inner = [pieces[1:-1] for pieces, _ in segments]
    assert np.concatenate(inner).tolist() == ids
    whole = tokenizer(text, add_special_tokens=True)["input_ids"]
    assert {(int(p[0]), int(p[-1])) for p, _ in segments} == {(whole[0], whole[-1])}
    offsets = np.array(tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"])
    is_word_start, _ = find_starts(text, offsets, clitics=False)
    assert is_word_start[np.cumsum([len(segment) for segment in inner])[:-1]].all()
    # A word that is longer than a row.
    (segments,) = paragraph_tokenizer.encode(["ثق" * 60])
    assert (
        np.concatenate([pieces[1:-1] for pieces, _ in segments]).tolist()
        == tokenizer("ثق" * 60, add_special_tokens=False)["input_ids"]
    )
    assert list(paragraph_tokenizer.encode(["\u200f"])) == [[]]


def test_running_text_fills_rows_and_only_its_end_is_left_out(any_encoder: Path, paragraphs: list[str]) -> None:
    tokenizer = install_normalizer(load_tokenizer(str(any_encoder)))
    lines = ["\u200f", *paragraphs] * 3
    paragraph_tokenizer = ParagraphTokenizer(tokenizer, length=24, clitics=True)
    rows = list(paragraph_tokenizer.encode_continuously(lines))
    assert {(len(ids), len(unit_starts)) for ids, unit_starts in rows} == {(24, 24)}
    pieces = [tokenizer(line, add_special_tokens=False)["input_ids"] for line in lines]
    expected = [piece for line in pieces for piece in line]
    found = np.concatenate([ids[1:-1] for ids, _ in rows]).tolist()
    assert found == expected[: len(found)]
    assert 0 <= len(expected) - len(found) < 22
    # Units start where those of the lines start, and with each row.
    expected_starts = np.zeros(len(expected), dtype=bool)
    line_start = 0
    for line, ids in zip(lines, pieces, strict=True):
        offsets = np.array(tokenizer(line, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"])
        expected_starts[line_start : line_start + len(ids)] = find_starts(line, offsets.reshape(-1, 2), clitics=True)[1]
        line_start += len(ids)
    expected_starts[::22] = True
    starts = np.concatenate([unit_starts[1:-1] for _, unit_starts in rows])
    assert starts.tolist() == expected_starts[: len(starts)].tolist()


def test_the_text_is_split_by_position_and_complete(
    any_encoder: Path, news: Path, prepared: Prepare, tmp_path: Path
) -> None:
    text = prepared(any_encoder, tmp_path / "run")
    tokenizer = install_normalizer(load_tokenizer(str(any_encoder)))

    def decode(rows: Any) -> list[str]:
        return [
            tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "")
            for row in rows.take(np.arange(len(rows)))
            for ids in np.split(row.input_ids, np.cumsum(row.paragraph_lengths)[:-1])
        ]

    train, held_out = decode(text.train), decode(text.held_out)
    letters = lambda lines: sorted("".join(lines).replace(" ", ""))  # noqa: E731
    lines = gzip.decompress(news.read_bytes()).decode().splitlines()
    assert letters(held_out) == letters(lines[3::4])
    assert letters(train) == letters(line for number, line in enumerate(lines, 1) if number % 4)
    assert text.train.lengths.max() <= 40
    counts = text.counts
    assert (counts["paragraphs"], counts["held_out_paragraphs"]) == (40, 10)
    assert counts["train_pieces"] == text.train.lengths.sum()
    assert not (tmp_path / "run/text.part").exists()


def test_a_kill_during_preparation_leaves_no_partial_text(
    wordpiece_encoder: Path, prepared: Prepare, tmp_path: Path
) -> None:
    partial = tmp_path / "run/text.part"
    partial.mkdir(parents=True)
    (partial / "train-00007.arrow").write_bytes(b"half")
    text = prepared(wordpiece_encoder, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run/text").glob("train-*")] == ["train-00000.arrow"]
    assert len(text.train) == text.counts["train_rows"]


def test_a_missing_shard_is_reported(wordpiece_encoder: Path, prepared: Prepare, tmp_path: Path) -> None:
    prepared(wordpiece_encoder, tmp_path / "run")
    (tmp_path / "run/text/held-out-00000.arrow").unlink()
    with pytest.raises(InputError, match=r"held-out rows.*copy the folder again"):
        prepared(wordpiece_encoder, tmp_path / "run")


def test_several_shards_are_read_as_one(
    wordpiece_encoder: Path, prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = prepared(wordpiece_encoder, tmp_path / "single")
    monkeypatch.setattr("musamma.training.pretraining.packed_text._SHARD_BYTES", 600)
    several = prepared(wordpiece_encoder, tmp_path / "several")
    assert len(list((tmp_path / "several/text").glob("train-*"))) > 3
    numbers = np.arange(len(single.train))[::-1]
    for expected, row in zip(single.train.take(numbers), several.train.take(numbers), strict=True):
        assert row.input_ids.dtype == np.uint16
        for name in ("input_ids", "unit_starts", "paragraph_lengths"):
            assert getattr(row, name).tolist() == getattr(expected, name).tolist()


def test_shards_stay_below_64_megabytes(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "train", length=256, id_type=np.uint16)
    # Ids, flags as bits, three offsets, and the lengths of at most forty paragraphs a row.
    assert writer._rows_per_shard * (256 * 2 + 256 / 8 + 12 + 40 * 2) < 64 * 10**6
