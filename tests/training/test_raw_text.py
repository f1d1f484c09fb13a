"""Raw text of a distillation: stretches spaced evenly over the files, and their windows."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.windows import DocumentTokenizer
from musamma.models.checkpoint import load_tokenizer
from musamma.training.distillation import raw_text
from musamma.training.distillation.raw_text import RawText, RawWindows, read_raw_text


@pytest.fixture(autouse=True)
def _short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_text, "_STRETCH_WORDS", 10)


def write_text(path: Path, words: int, *, start: int = 0, per_line: int = 5) -> Path:
    """Write numbered words, five a line."""
    numbers = [f"كلمة{number}" for number in range(start, start + words)]
    lines = [" ".join(numbers[first : first + per_line]) for first in range(0, words, per_line)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def test_without_a_limit_all_text_is_taken_in_order(tmp_path: Path) -> None:
    files = [write_text(tmp_path / "a.txt.gz", 25), write_text(tmp_path / "b.txt.gz", 10, start=25)]
    text = read_raw_text(files)
    assert text.words == 35
    assert " ".join(text.stretches).split() == [f"كلمة{number}" for number in range(35)]
    # Stretches are lines that follow each other, of one file.
    assert [len(stretch.split("\n")) for stretch in text.stretches] == [2, 2, 1, 2]


def test_a_limit_takes_stretches_spaced_evenly_over_the_files(tmp_path: Path) -> None:
    files = [write_text(tmp_path / "a.txt.gz", 1_000), write_text(tmp_path / "b.txt.gz", 1_000, start=1_000)]
    text = read_raw_text(files, words=200)
    assert 190 <= text.words <= 210
    starts = [int(stretch.split()[0].removeprefix("كلمة")) for stretch in text.stretches]
    distances = np.diff(starts)
    assert starts[0] == 0
    assert starts[-1] > 1_800
    assert distances.max() <= 2 * distances.min()
    assert read_raw_text(files, words=200).digest() == text.digest()
    assert read_raw_text(files, words=300).digest() != text.digest()
    assert read_raw_text(files, words=5_000).words == 2_000
    assert len(read_raw_text(files, words=1).stretches) == 1


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "blank.txt").write_text("\n  \n\n", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes("كلمة\n".encode() + b"caf\xe9\n")
    for name, message in {
        "none.txt": "none.txt: no such file",
        "empty.txt": "empty.txt: the file is empty; expected one paragraph a line; remove it from text",
        "blank.txt": "blank.txt: no words; expected raw text, one paragraph a line",
        "latin.txt": "latin.txt:2: byte 0xe9",
    }.items():
        with pytest.raises(InputError) as raised:
            read_raw_text([tmp_path / name], words=10)
        assert str(raised.value).startswith(str(tmp_path / message))


def test_windows_are_full_and_hold_every_word_once(any_encoder: Path) -> None:
    tokenizer = DocumentTokenizer(load_tokenizer(str(any_encoder)), max_length=32, overlap=8)
    stretches = ("وصل محمد السعيد إلى بيروت وبالقاهرة\nثم غادر إلى دمشق " * 6, "حزب الله، مجلس الأمن")
    windows = RawWindows(RawText(stretches, 0), tokenizer)
    rows = [windows[index] for index in range(len(windows))]
    assert windows.lengths == [len(row["input_ids"]) for row in rows]
    assert max(windows.lengths) <= 32
    # All but the last window of a stretch have no room for another word.
    assert min(windows.lengths[:-2]) > 20
    whole = DocumentTokenizer(tokenizer.backend, max_length=512, overlap=0)
    tokenized = [whole.tokenize(Document("d", stretch)) for stretch in stretches]
    first_pieces = [window.input_ids[window.positions] for item in tokenized for window in item.windows]
    assert np.array_equal(
        np.concatenate([row["input_ids"][row["words"]] for row in rows]), np.concatenate(first_pieces)
    )
