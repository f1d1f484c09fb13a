"""Fixtures of several commands' tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support import refused_command, write_random_checkpoint


@pytest.fixture(scope="module")
def model(wordpiece_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint that finds names in any text: its heads are drawn at random, and wide."""
    return str(write_random_checkpoint(tmp_path_factory.mktemp("model"), wordpiece_encoder))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must fail with status 2 and one line on stderr, which is returned."""
    return partial(refused_command, capsys)
