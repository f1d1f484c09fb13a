"""Files of a tokenizer: no writer of models records how the tokenizer was loaded."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from transformers import BertTokenizer, PreTrainedTokenizerFast

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.inference import Tagger
from musamma.models.averaging import average_checkpoints
from musamma.models.checkpoint import load_classifier, load_tokenizer
from musamma.models.packed_weights import unpack
from musamma.models.pretrained_encoder import load_encoder, save_encoder
from musamma.models.tokenizer_files import TOKENIZER_CONFIG_FILE, remove_load_options, save_tokenizer
from tests.support import write_packed

LOAD_OPTIONS = {"is_local": True, "local_files_only": True}


@pytest.fixture
def source(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint as earlier versions wrote it, with the entries."""
    folder = Path(shutil.copytree(checkpoint, tmp_path / "source"))
    (folder / TOKENIZER_CONFIG_FILE).write_text(json.dumps(read_options(folder) | LOAD_OPTIONS), encoding="utf-8")
    return folder


def read_options(folder: Path) -> dict[str, object]:
    return json.loads((folder / TOKENIZER_CONFIG_FILE).read_text(encoding="utf-8"))


def test_no_writer_records_how_the_tokenizer_was_loaded(source: Path, tmp_path: Path) -> None:
    classifier, options = load_classifier(str(source))
    tokenizer = load_tokenizer(str(source))
    assert "is_local" in tokenizer.init_kwargs
    classifier.save_pretrained(tmp_path / "checkpoint", tokenizer, options)
    encoder, tokenizer = load_encoder(str(source))
    (tmp_path / "encoder").mkdir()
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    save_encoder(encoder, tokenizer, tmp_path / "encoder", "float32")
    for name in ("checkpoint", "encoder"):
        assert LOAD_OPTIONS.keys().isdisjoint(read_options(tmp_path / name)), name
        assert load_tokenizer(str(tmp_path / name)).tokenize("في بغداد") == tokenizer.tokenize("في بغداد")


def test_no_copy_of_a_tokenizer_has_the_entries(source: Path, tmp_path: Path) -> None:
    packed = write_packed(source, tmp_path / "packed")
    old = Path(shutil.copytree(packed, tmp_path / "old"))
    shutil.copyfile(source / TOKENIZER_CONFIG_FILE, old / TOKENIZER_CONFIG_FILE)
    unpack(str(old), tmp_path / "plain")
    average_checkpoints([str(source), str(source)], tmp_path / "mean")
    expected = {key: value for key, value in read_options(source).items() if key not in LOAD_OPTIONS}
    for name in ("packed", "plain", "mean"):
        assert read_options(tmp_path / name) == expected, name


@pytest.mark.parametrize("content", ["{", "[]", '{"model_max_length": 1000000000000000019884624838656}'])
def test_a_file_without_the_entries_stays_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / TOKENIZER_CONFIG_FILE
    path.write_text(content, encoding="utf-8")
    remove_load_options(path)
    assert path.read_text(encoding="utf-8") == content


def test_a_checkpoint_without_a_tokenizer_config_finds_the_same_names_or_is_refused(
    source: Path, tmp_path: Path, known: list[Document]
) -> None:
    """transformers then takes the class of the architecture, and OpenVINO the tokenizer.json."""
    expected = [[span.key for span in document.spans] for document in known]
    packed = write_packed(source, tmp_path / "packed")
    for model in (source, packed):
        (model / TOKENIZER_CONFIG_FILE).unlink()
        with pytest.raises(InputError) as caught:
            Tagger(str(model), device="cpu")
        message = rf"{model}: no tokenizer_config\.json, and without it (Bert|XLMRoberta)Tokenizer of transformers replaces .*"
        assert re.fullmatch(message, str(caught.value))
        remedy = str(caught.value).partition("write the file as ")[2]
        (model / TOKENIZER_CONFIG_FILE).write_text(remedy, encoding="utf-8")
        tagger = Tagger(str(model), device="cpu", bfloat16=False)
        assert [[span.key for span in document.spans] for document in tagger.tag_documents(known)] == expected


def test_a_tokenizer_config_that_makes_no_difference_may_be_missing(wordpiece_encoder: Path, tmp_path: Path) -> None:
    BertTokenizer(vocab=str(wordpiece_encoder / "vocab.txt")).save_pretrained(tmp_path)
    shutil.copyfile(wordpiece_encoder / "config.json", tmp_path / "config.json")
    expected = load_tokenizer(str(tmp_path)).tokenize("وصل محمد إلى بغداد")
    (tmp_path / TOKENIZER_CONFIG_FILE).unlink()
    assert load_tokenizer(str(tmp_path)).tokenize("وصل محمد إلى بغداد") == expected


def test_a_tokenizer_without_a_limit_can_be_saved(source: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(source))
    tokenizer.model_max_length = 10**30
    save_tokenizer(tokenizer, tmp_path)
    assert read_options(tmp_path)["model_max_length"] == 10**30
    assert "is_local" not in read_options(tmp_path)
