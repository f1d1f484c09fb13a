"""The files of a checkpoint, and the positions that an encoder has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from transformers import AutoModel

from musamma.models.classifier import position_offset
from tests.support import file_modes, write_random_checkpoint


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_files_of_a_checkpoint_follow_the_umask(wordpiece_encoder, tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_random_checkpoint(tmp_path, wordpiece_encoder)
    finally:
        os.umask(before)
    names = (
        "config.json",
        "model.safetensors",
        "proclitic_head.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    )
    assert file_modes(tmp_path) == dict.fromkeys(names, mode)


def test_roberta_positions_start_after_the_padding(unigram_encoder: Path, wordpiece_encoder: Path) -> None:
    offsets = [position_offset(AutoModel.from_pretrained(path)) for path in (unigram_encoder, wordpiece_encoder)]
    assert offsets == [2, 0]
