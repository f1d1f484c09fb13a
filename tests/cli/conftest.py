"""What several commands are called with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from musamma.data.normalization import install_normalizer
from musamma.data.tags import TagSet
from musamma.models.registry import load_tokenizer
from musamma.models.token_classifier import EncodingOptions, new_classifier


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
