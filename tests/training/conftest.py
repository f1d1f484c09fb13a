"""Raw text for pre-training, its packed rows, and commands that are killed while they run."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from musamma.data.normalization import install_normalizer
from musamma.models.checkpoint import load_tokenizer
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


@pytest.fixture
def run_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``musamma`` with arguments in a process of its own, optionally of several processes."""

    def run(
        *arguments: object, processes: int = 1, environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        return subprocess.run(
            [sys.executable, *(launcher if processes > 1 else []), "-m", "musamma", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=540,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
            check=False,
        )

    return run


@pytest.fixture
def kill_command() -> Callable[..., None]:
    """Starts ``musamma`` with arguments and kills it as soon as a file of a pattern exists below a folder."""

    def kill(*arguments: object, folder: Path, pattern: str) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "musamma", *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 120
            while not list(folder.glob(pattern)):
                assert process.poll() is None, "the run ended before it could be killed"
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait(timeout=60)

    return kill
