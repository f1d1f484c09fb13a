"""`musamma encoder trim` and `unpack`, through their commands."""

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


def call(*arguments):
    return CliRunner().invoke(encoder, [str(one) for one in arguments])


def test_trim_prints_what_it_measured_and_writes_a_folder_to_fine_tune(source, text, tmp_path):
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


def test_trim_names_a_text_that_is_not_there(source, tmp_path):
    result = call("trim", source, tmp_path / "out", "--text", tmp_path / "none.txt.zst")
    assert isinstance(result.exception, InputError)
    assert "none.txt.zst" in str(result.exception)


def test_a_wrong_type_of_weights_is_a_usage_error(source, text, tmp_path):
    result = call("trim", source, tmp_path / "out", "--text", text, "--dtype", "int4")
    assert result.exit_code == 2
    assert "int4" in result.stderr


def test_unpack_refuses_another_file(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"GGUF" + bytes(60))
    result = call("unpack", tmp_path / "model.bin", tmp_path / "out")
    assert isinstance(result.exception, InputError)
    assert "magic b'GGUF'" in str(result.exception)
    assert not (tmp_path / "out").exists()
