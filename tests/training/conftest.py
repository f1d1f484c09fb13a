"""Raw text for pre-training, and its packed rows."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from musamma.data.normalization import install_normalizer
from musamma.models.loading import load_tokenizer
from musamma.training.pretraining.packed_text import PackedText, prepare_text
from musamma.training.pretraining.pretrain_config import PretrainConfig

_LINES = [
    "أعلنت وزارة الدفاع العراقية تقدم القوات نحو الموصل وبلدة قره قوش شرقي المدينة",
    "وقال محمد السعيد لوكالة رويترز في بيروت إن الاجتماع سيعقد في القاهرة غدا",
    "فاز النادي الأهلي على الزمالك بهدفين",
    "حزب الله، مجلس الأمن",
]


@pytest.fixture(scope="session")
def paragraphs() -> list[str]:
    """Four paragraphs, from long to short."""
    return list(_LINES)


@pytest.fixture
def news(tmp_path: Path) -> Path:
    """Forty paragraphs in a compressed file."""
    path = tmp_path / "news.txt.gz"
    path.write_bytes(gzip.compress("\n".join(f"{line} {number}" for number in range(10) for line in _LINES).encode()))
    return path


@pytest.fixture
def prepared(news: Path) -> Callable[..., PackedText]:
    """Prepares the text of ``news`` in a folder: rows of 40 pieces, every fourth paragraph held out."""

    def prepare(encoder: Path, output: Path, **changes: Any) -> PackedText:
        content = {"encoder": str(encoder), "text": str(news), "output": str(output)}
        config = PretrainConfig.model_validate(content | {"length": 40, "held_out": {"every": 4}} | changes)
        return prepare_text(config, install_normalizer(load_tokenizer(str(encoder))))

    return prepare
