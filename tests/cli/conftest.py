"""What several commands are called with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from musamma.cli.main import run
from musamma.data.normalization import install_normalizer
from musamma.data.tags import TagSet
from musamma.models.classifier import EncodingOptions, new_classifier
from musamma.models.loading import load_tokenizer


@pytest.fixture(scope="module")
def model(wordpiece_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint that finds names in anything: its heads are drawn at random, and wide."""
    torch.manual_seed(5)
    classifier = new_classifier(str(wordpiece_encoder), TagSet.from_labels(["PER", "LOC", "ORG"]))
    torch.nn.init.normal_(classifier.backbone.classifier.weight, std=2)
    torch.nn.init.normal_(classifier.proclitic_head.weight, std=2)
    folder = tmp_path_factory.mktemp("model")
    tokenizer = install_normalizer(load_tokenizer(str(wordpiece_encoder)))
    classifier.save_pretrained(folder, tokenizer, EncodingOptions(max_length=64, overlap=16))
    return str(folder)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command; it must leave with status 2, print nothing, and say one line, which is returned."""

    def failing(*arguments: object) -> str:
        capsys.readouterr()
        status = run([*map(str, arguments)])
        captured = capsys.readouterr()
        assert captured.out == ""
        assert len(captured.err.splitlines()) == 1, captured.err
        assert captured.err.startswith("musamma: ")
        assert status == 2
        return captured.err.removeprefix("musamma: ").removesuffix("\n")

    return failing
