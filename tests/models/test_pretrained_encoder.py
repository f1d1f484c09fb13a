"""An encoder on disk."""

from __future__ import annotations

import os

import pytest

from musamma.models.pretrained_encoder import load_encoder, save_encoder, staged_files
from tests.support import file_modes


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_the_files_of_an_encoder_follow_the_umask(unigram_encoder, tmp_path, umask, mode):
    encoder, tokenizer = load_encoder(str(unigram_encoder))
    before = os.umask(umask)
    try:
        with staged_files(tmp_path) as folder:
            save_encoder(encoder, tokenizer, folder, "float16")
    finally:
        os.umask(before)
    names = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
    assert file_modes(tmp_path) == dict.fromkeys(names, mode)
