"""Nawah, the packaged encoder."""

import json
import statistics

import pytest
import torch
from transformers import AutoModel, AutoModelForTokenClassification, AutoTokenizer

from musamma.data.normalization import has_normalizer
from musamma.models.model_names import packaged_models
from musamma.training.pretraining.pretrain_results import read_result

FOLDER = packaged_models()["nawah"]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def encoder():
    return AutoModel.from_pretrained(FOLDER, add_pooling_layer=False).eval()


def test_its_folder_has_the_expected_files_and_size():
    files = {file.name: file.stat().st_size for file in FOLDER.iterdir()}
    expected = {"README.md", "LICENSE", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert set(files) == expected | {"extension.json", "pretraining.json", "run.yaml", "curve.jsonl", "curve.svg"}
    assert files["model.safetensors"] <= 62_000_000


def test_it_has_at_most_31_million_parameters(encoder):
    assert encoder.num_parameters() <= 31_000_000


def test_its_records_and_its_card_agree_with_the_weights(encoder, tokenizer):
    """Figures measured on the files themselves must stand in the record of the extension and in the card."""
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    extension = json.loads((FOLDER / "extension.json").read_text(encoding="utf-8"))
    # Pre-training changes the values of the weights, not their number.
    measured = {
        "pieces_after": len(tokenizer),
        "parameters_after": sum(weight.numel() for weight in encoder.parameters()),
    }
    for key, value in measured.items():
        assert extension[key] == value
        assert f"{value:,}" in card
    assert f"{(FOLDER / 'model.safetensors').stat().st_size:,}" in card
    assert f"{extension['words_added']:,}" in card
    assert f"{extension['total']['one_piece_after']:.1%}" in card
    for text in extension["files"].values():
        assert f"| {text['pieces_per_word_before']:.3f} | {text['pieces_per_word_after']:.3f} |" in card
    assert "license: mit" in card
    assert "base_model: intfloat/multilingual-e5-small" in card


def test_its_card_has_the_figures_of_its_pre_training():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    run = read_result(FOLDER)
    assert f"{run.tokens:,}" in card
    assert f"{run.steps:,}" in card
    for point in (run.before, run.after):
        assert f"{point['mlm_loss']:.3f}" in card
    scores = [json.loads(line) for line in (FOLDER / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    for recipe in ("nawah-anercorp", "nawah-aqmar"):
        for tokens in (-1, 0, run.tokens):
            f1 = [score["f1"] for score in scores if (score["recipe"], score["tokens"]) == (recipe, tokens)]
            assert len(f1) == 3
            mean, deviation = 100 * statistics.mean(f1), 100 * statistics.stdev(f1)
            assert f"{mean:.1f} ± {deviation:.1f}" in card


def test_it_loads_as_a_token_classifier_in_full_precision():
    model, info = AutoModelForTokenClassification.from_pretrained(FOLDER, num_labels=9, output_loading_info=True)
    assert type(model).__name__ == "BertForTokenClassification"
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert not info["unexpected_keys"]
    assert model.dtype == torch.float32


def test_model_and_tokenizer_agree(tokenizer, encoder):
    config = encoder.config
    assert len(tokenizer) == config.vocab_size == len(encoder.get_input_embeddings().weight)
    assert tokenizer.pad_token_id == config.pad_token_id == encoder.get_input_embeddings().padding_idx
    assert tokenizer.model_max_length == config.max_position_embeddings == 512
    special = (tokenizer.cls_token, tokenizer.sep_token, tokenizer.mask_token, tokenizer.unk_token)
    assert special == ("<s>", "</s>", "<mask>", "<unk>")
    assert has_normalizer(tokenizer)


ARABIC_SIGNS = [chr(c) for c in (*range(0x0621, 0x063B), *range(0x0641, 0x064B), *range(0x0660, 0x066A))]


@pytest.mark.parametrize("place", ["{}", "ب{}", "{}ب", "ب{}ب"])
def test_no_arabic_letter_digit_or_sign_is_unknown(tokenizer, place):
    for sign in [*ARABIC_SIGNS, *"پچڤگڨ،؛؟«»“”…–—%٪0123456789().,:;!?\"'-/[]@#&*+=<>_abcXYZ"]:
        assert tokenizer.unk_token not in tokenizer.tokenize(place.format(sign)), ascii(sign)


def test_offsets_refer_to_the_original_text(tokenizer):
    text = "زارَ «أنطونيو غوتيريش» مـدينةَ الموصـل، أمس"
    pieces = tokenizer(text, return_offsets_mapping=True)
    plain = tokenizer("زار «أنطونيو غوتيريش» مدينة الموصل، أمس")
    assert pieces["input_ids"] == plain["input_ids"]
    covered = {i for start, end in pieces["offset_mapping"] for i in range(start, end)}
    assert {i for i, c in enumerate(text) if c.isalpha() and c != "ـ"} <= covered
