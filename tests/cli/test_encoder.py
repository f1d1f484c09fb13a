"""The commands `musamma encoder trim`, `extend` and `unpack`."""

import json
from itertools import product

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoModelForTokenClassification, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast
from typer.testing import CliRunner

from musamma.cli.encoder import encoder
from musamma.data.errors import InputError, ThresholdError

ARABIC = [
    "استقبل أمير الكويت وزير الخارجية القطري في قصر بيان.",
    "فاز الأهلي على الزمالك بهدفين في ملعب القاهرة الدولي،",
    "انعقد مؤتمر المناخ في مراكش برعاية الأمم المتحدة.",
    "كتب نجيب محفوظ الثلاثية عن حي الجمالية في القاهرة.",
    "تدرس جامعة الدول العربية طلب العراق عقد قمة طارئة في ٢٠١٦؟",
    "هاجم التنظيم قرية قرب سنجار فنزح 120 من أهلها إلى دهوك.",
    "أطلقت شركة اتصالات المغرب خدمة جديدة في الدار البيضاء؛",
    "سافر الوفد اللبناني من بيروت إلى باريس صباح الاثنين!",
]
FOREIGN = ["The parliament adopted the budget of the federal administration after a long debate in autumn."]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("bert")
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend.train_from_iterator(
        (ARABIC + FOREIGN) * 2, trainers.WordPieceTrainer(vocab_size=600, special_tokens=names, show_progress=False)
    )
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=64,
    )  # fmt: skip
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=130,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "news.txt"
    file.write_text("\n".join(f"{a} {b}" for a, b in product(ARABIC, repeat=2)) * 2, encoding="utf-8")
    return file


@pytest.fixture
def unseen(tmp_path):
    """Words that the vocabulary has in parts only: each with a conjunction before it."""
    file = tmp_path / "unseen.txt"
    lines = [" ".join(f"و{word}" for word in line.split()) for line in ARABIC]
    file.write_text("\n".join(f"{a} {b}" for a, b in product(lines, repeat=2)) * 2, encoding="utf-8")
    return file


def call(*arguments):
    return CliRunner().invoke(encoder, [str(one) for one in arguments])


def test_trim_prints_its_measurements_and_writes_a_folder_to_fine_tune(source, text, tmp_path):
    output = tmp_path / "compact"
    result = call("trim", source, output, "--text", text, "--dtype", "float32")
    assert result.exit_code == 0, result.output
    report = json.loads((output / "trimming.json").read_text(encoding="utf-8"))
    assert f"{report['pieces_before']} " in result.stdout
    assert f"{report['pieces_after']}" in result.stdout
    assert report["pieces_after"] < report["pieces_before"]
    assert "lines cut as before: 100.00% of 2 held out" in result.stdout
    assert "hidden states differ by 0 in float32, 0 as saved (float32)" in result.stdout
    files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "trimming.json"}
    assert {file.name for file in output.iterdir()} == files
    model = AutoModelForTokenClassification.from_pretrained(output, num_labels=5)
    pieces = AutoTokenizer.from_pretrained(output)(ARABIC[0], return_tensors="pt")
    assert model(**pieces).logits.shape == (1, pieces["input_ids"].shape[1], 5)


def test_trim_options_reach_the_function(source, text, tmp_path):
    result = call("trim", source, tmp_path / "a", "--text", text, "--every", "2", "--no-normalize", "--coverage", "1")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "a" / "trimming.json").read_text(encoding="utf-8"))
    # 127 lines: the last of the first copy and the first of the second share one. Every second makes 64, one held out.
    assert (report["lines_counted"], report["proof"]["lines"], report["normalized"]) == (63, 1, False)
    assert (report["dtype"], report["coverage"]) == ("float16", 1.0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--pieces", "3"], InputError, "3 pieces; expected at least"),
        (["--limit", "40"], InputError, "40 lines of text; expected at least 50"),
        (["--min-identical", "1.1"], ThresholdError, "below 1.1"),
    ],
)
def test_trim_fails_with_the_reason(source, text, tmp_path, options, error, message):
    result = call("trim", source, tmp_path / "out", "--text", text, *options)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_trim_names_a_missing_text(source, tmp_path):
    result = call("trim", source, tmp_path / "out", "--text", tmp_path / "none.txt.zst")
    assert isinstance(result.exception, InputError)
    assert "none.txt.zst" in str(result.exception)


def test_an_invalid_type_of_weights_is_a_usage_error(source, text, tmp_path):
    result = call("trim", source, tmp_path / "out", "--text", text, "--dtype", "int4")
    assert result.exit_code == 2
    assert "int4" in result.stderr


def test_extend_prints_its_measurements_and_writes_a_folder_to_fine_tune(source, unseen, tmp_path):
    output = tmp_path / "extended"
    result = call("extend", source, output, "--text", unseen, "--words", 9, "--pieces", 250)
    assert result.exit_code == 0, result.output
    report = json.loads((output / "extension.json").read_text(encoding="utf-8"))
    assert (report["words_added"], report["pieces_after"], report["dtype"]) == (9, 250, "float16")
    assert report["pieces_dropped"] == report["pieces_before"] - 241
    assert f"9 words added, {report['pieces_dropped']} pieces dropped" in result.stdout
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["pieces", str(report["pieces_before"]), "250"] in lines
    before, after = (report["files"][str(unseen)][f"pieces_per_word_{when}"] for when in ("before", "after"))
    assert ["pieces", "per", "word,", "unseen.txt", f"{before:.4f}", f"{after:.4f}"] in lines
    assert "lines with offsets as before: 100.00% of 2 held out" in result.stdout
    assert all(word in result.stdout for word, _ in report["most_saving"])
    files = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "extension.json"}
    assert {file.name for file in output.iterdir()} == files
    model = AutoModelForTokenClassification.from_pretrained(output, num_labels=5)
    pieces = AutoTokenizer.from_pretrained(output)(ARABIC[0], return_tensors="pt")
    assert model(**pieces).logits.shape == (1, pieces["input_ids"].shape[1], 5)


def test_extend_options_reach_the_function(source, unseen, tmp_path):
    options = ("--every", "2", "--no-normalize", "--dtype", "float32", "--held-out", "1", "--limit", "60")
    result = call("extend", source, tmp_path / "a", "--text", unseen, "--words", "3", *options)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "a" / "extension.json").read_text(encoding="utf-8"))
    assert (report["lines_counted"], report["total"]["lines"], report["normalized"]) == (59, 1, False)
    assert (report["dtype"], report["pieces_dropped"], report["likeness"]["hidden_difference"]) == ("float32", 0, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--words", "0"], "0 words to add; expected at least 1"),
        (["--words", "5000"], "words that are more than one piece; expected at least 5000"),
        (["--words", "3", "--pieces", "4"], "4 pieces; expected"),
        (["--words", "3", "--limit", "40"], "40 lines of text; expected at least 50"),
        (["--words", "3", "--text", "none.txt.zst"], "none.txt.zst: no such file"),
    ],
)
def test_extend_fails_with_the_reason(source, unseen, tmp_path, options, message):
    result = call("extend", source, tmp_path / "out", "--text", unseen, *options)
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_extend_leaves_a_folder_with_files_alone(source, unseen, tmp_path):
    result = call("extend", source, tmp_path, "--text", unseen, "--words", "3")
    assert isinstance(result.exception, InputError)
    assert "the folder is not empty" in str(result.exception)


def test_unpack_refuses_another_file(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"GGUF" + bytes(60))
    result = call("unpack", tmp_path / "model.bin", tmp_path / "out")
    assert isinstance(result.exception, InputError)
    assert "magic b'GGUF'" in str(result.exception)
    assert not (tmp_path / "out").exists()
