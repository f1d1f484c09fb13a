"""Trimming small encoders: the same pieces, offsets and hidden states as the source."""

import json
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from musamma.data.errors import InputError, ThresholdError
from musamma.data.normalization import has_normalizer
from musamma.models.vocabulary import trim
from musamma.models.vocabulary.encoder_similarity import LineSplit
from musamma.models.vocabulary.tokenizer import choose_pieces, count_pieces, trim_tokenizer
from musamma.models.vocabulary.trim import trim_encoder
from musamma.models.vocabulary.trim_check import TrimCheck, check_trim

ARABIC = [
    "وصل وزير الخارجية الأمريكي جون كيري إلى القاهرة يوم الأحد.",
    "أعلنت القوات العراقية تحرير حي الزهراء شرقي الموصل من تنظيم داعش،",
    "قال المتحدث باسم الأمم المتحدة في جنيف إن 250 أسرة نزحت من حلب.",
    "افتتحت شركة أرامكو السعودية مكتبها الجديد (الثالث) في الرياض.",
    "التقى الرئيس عبد الفتاح السيسي بالملك عبد الله في عمّان؟",
    "يلعب محمد صلاح في نادي ليفربول ومنتخب مصر لكرة القدم.",
    "وَقّعت الجزائر وتونس اتفاقًا للتعاون بين جامعتي وهران وصفاقس؛",
    "ولدت الكاتبة مي زيادة في الناصرة عام ١٨٨٦ وعاشت في القاهرة.",
]
OTHERS = [
    "The council of ministers announced a programme for renewable energy in the northern provinces.",
    "Правительство объявило о новых мерах поддержки промышленности и сельского хозяйства.",
    "政府宣布了支持工业和农业的新措施。",
]
LINES = [f"{a} {b}" for a, b in product(ARABIC, repeat=2)] * 3
SPECIAL = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
SPECIAL |= {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}


def unigram(folder):
    """An XLM-R-like encoder: its positions are counted from the padding id."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    backend.train_from_iterator(
        ARABIC * 3 + OTHERS * 3,
        trainers.UnigramTrainer(vocab_size=420, special_tokens=names, unk_token="<unk>", show_progress=False),
    )
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **SPECIAL)
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer) + 5, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=130, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    return save(folder, XLMRobertaModel(config), tokenizer)


def wordpiece(folder):
    """An AraBERT-like BERT with added tokens for links and users, and a ``[MASK]`` with a high id."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    backend.train_from_iterator(
        ARABIC + OTHERS, trainers.WordPieceTrainer(vocab_size=500, special_tokens=names, show_progress=False)
    )
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=64, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip
    tokenizer.add_tokens(["[رابط]", "[مستخدم]"])
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=130,
    )  # fmt: skip
    return save(folder, BertModel(config), tokenizer)


def byte_bpe(folder):
    """A RoBERTa with byte-level BPE."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    backend.train_from_iterator(
        ARABIC * 2 + OTHERS * 2,
        trainers.BpeTrainer(
            vocab_size=700,
            special_tokens=names,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=True)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **SPECIAL)
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=260, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    return save(folder, RobertaModel(config), tokenizer)


def save(folder, model, tokenizer):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[unigram, wordpiece, byte_bpe], ids=lambda make: make.__name__)
def source(request, tmp_path_factory):
    torch.manual_seed(5)
    return request.param(tmp_path_factory.mktemp(request.param.__name__))


@pytest.fixture(scope="module")
def unigram_source(tmp_path_factory):
    torch.manual_seed(5)
    return unigram(tmp_path_factory.mktemp("unigram"))


def pieces_of(folder):
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]


def test_arabic_lines_keep_their_pieces_offsets_and_hidden_states(source, tmp_path):
    report = trim_encoder(source, LINES, tmp_path, dtype="float32", normalize=False)
    before, after = AutoTokenizer.from_pretrained(source), AutoTokenizer.from_pretrained(tmp_path)
    old, new = AutoModel.from_pretrained(source).eval(), AutoModel.from_pretrained(tmp_path).eval()
    assert pieces_of(tmp_path) == report.pieces_after == len(after) < pieces_of(source) - 60
    for text in ARABIC:
        one = before(text, return_offsets_mapping=True, return_tensors="pt")
        two = after(text, return_offsets_mapping=True, return_tensors="pt")
        assert one.tokens() == two.tokens()
        assert one.pop("offset_mapping").tolist() == two.pop("offset_mapping").tolist()
        with torch.inference_mode():
            difference = old(input_ids=one["input_ids"])[0] - new(input_ids=two["input_ids"])[0]
        assert difference.abs().max() == 0
        assert after.decode(two["input_ids"][0]) == before.decode(one["input_ids"][0])
    assert report.check.identical == 1
    assert report.check.hidden_lines > 0
    assert report.check.hidden_difference == report.check.hidden_difference_saved == 0 < report.check.hidden_scale
    assert report.coverage == 1


def test_special_pieces_are_renumbered_everywhere(source, tmp_path):
    trim_encoder(source, LINES, tmp_path)
    before, after = AutoTokenizer.from_pretrained(source), AutoTokenizer.from_pretrained(tmp_path)
    assert after.special_tokens_map == before.special_tokens_map
    assert after.model_max_length == before.model_max_length
    assert sorted(after.get_vocab().values()) == list(range(len(after)))
    assert after.mask_token_id == after.get_vocab()[after.mask_token] < len(after)
    pair = after("في بغداد", "في عمّان")
    names = before("في بغداد", "في عمّان").tokens()
    assert [t for t in pair.tokens() if t in after.all_special_tokens] == [
        t for t in names if t in before.all_special_tokens
    ]
    assert after(ARABIC[0])["input_ids"][0] == after.cls_token_id
    assert after(ARABIC[0])["input_ids"][-1] == after.sep_token_id
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["pad_token_id"] == after.pad_token_id
    old = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    new = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    assert [{**token, "id": 0} for token in new] == [{**token, "id": 0} for token in old]
    assert all(after.convert_tokens_to_ids(token["content"]) == token["id"] for token in new)


def test_added_tokens_are_retained(tmp_path):
    source = wordpiece(tmp_path / "source")
    trim_encoder(source, LINES, tmp_path / "trimmed")
    tokens = AutoTokenizer.from_pretrained(tmp_path / "trimmed").tokenize("[مستخدم] في القاهرة [رابط]")
    assert tokens[0] == "[مستخدم]"
    assert tokens[-1] == "[رابط]"


def test_half_precision_is_for_storage_only(unigram_source, tmp_path):
    report = trim_encoder(unigram_source, LINES, tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118
        assert not [key for key in file.keys() if "pooler" in key]  # noqa: SIM118
    model = AutoModelForTokenClassification.from_pretrained(tmp_path, num_labels=3)
    assert model.dtype == torch.float32
    assert 0 < report.check.hidden_difference_saved < 0.01
    assert report.check.hidden_difference == 0
    assert report.file_bytes == (tmp_path / "model.safetensors").stat().st_size
    assert json.loads((tmp_path / "trimming.json").read_text(encoding="utf-8")) == report.to_dict()


def test_the_normaliser_is_in_the_saved_tokenizer(source, tmp_path):
    trim_encoder(source, LINES, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert has_normalizer(tokenizer)
    plain, marked = tokenizer("في القاهرة"), tokenizer("فِي القــاهِرة", return_offsets_mapping=True)
    assert marked["input_ids"] == plain["input_ids"]
    assert marked["offset_mapping"][-2][1] == len("فِي القــاهِرة")


@pytest.mark.parametrize(
    ("make", "name"), [(unigram, "XLMRobertaTokenizer"), (wordpiece, "BertTokenizer"), (byte_bpe, "RobertaTokenizer")]
)
def test_tokenizer_classes_of_one_model_keep_the_normaliser(tmp_path, make, name):
    """As on the hub: ``BertTokenizer`` builds its own normaliser whenever it is loaded."""
    source = make(tmp_path / "source")
    config = json.loads((source / "tokenizer_config.json").read_text(encoding="utf-8"))
    (source / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": name}), encoding="utf-8")
    assert type(AutoTokenizer.from_pretrained(source)).__name__ == name
    report = trim_encoder(source, LINES, tmp_path / "trimmed")
    assert report.check.identical == 1
    assert has_normalizer(AutoTokenizer.from_pretrained(tmp_path / "trimmed"))


@pytest.fixture(scope="module")
def few(unigram_source):
    """A tokenizer, and the same with hardly more than single characters."""
    backend = AutoTokenizer.from_pretrained(unigram_source).backend_tokenizer
    return backend, trim_tokenizer(backend, choose_pieces(backend, count_pieces(backend, LINES), coverage=0.4))


LETTERS = sorted({c for line in ARABIC for c in line if not c.isspace()} | {" "})


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=LETTERS, max_size=40))
def test_nothing_arabic_becomes_unknown(few, text):
    before, after = (one.encode(text, add_special_tokens=False) for one in few)
    unknown = few[0].token_to_id("<unk>"), few[1].token_to_id("<unk>")
    assert unknown[0] not in before.ids
    assert unknown[1] not in after.ids
    assert "".join(after.tokens) == "".join(before.tokens)
    assert len(after.ids) >= len(before.ids)


def test_fewer_pieces_change_lines_and_fail(unigram_source, tmp_path):
    rare = [*LINES, "استقبل أهالي بغداد فريق القوة الجوية العراقي"] * 2
    backend = AutoTokenizer.from_pretrained(unigram_source).backend_tokenizer
    required = len(choose_pieces(backend, count_pieces(backend, rare), coverage=1e-9))
    with pytest.raises(ThresholdError, match=r"lines are cut as before, below 0\.9"):
        trim_encoder(unigram_source, rare, tmp_path, pieces=required + 1, normalize=False)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_computes_something_else_fails(unigram_source, tmp_path, monkeypatch):
    real = trim.trim_embeddings

    def shuffled(model, ids):
        trimmed = real(model, ids)
        trimmed.get_input_embeddings().weight.data = trimmed.get_input_embeddings().weight.data.flip(0)
        return trimmed

    monkeypatch.setattr(trim, "trim_embeddings", shuffled)
    with pytest.raises(ThresholdError, match="hidden states differ by"):
        trim_encoder(unigram_source, LINES, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_states_that_are_not_finite_fail():
    check = TrimCheck(10, 1.0, 1.5, 1.5, 0, 0, 4, 0.0, 0.0, 1.0)
    check_trim(check, min_identical=1.0, tolerance=0.0)
    for broken in (float("inf"), float("nan"), 1e-3):
        with pytest.raises(ThresholdError, match="hidden states"):
            check_trim(replace(check, hidden_difference=broken), min_identical=0.9, tolerance=1e-5)
    with pytest.raises(ThresholdError, match="no hidden state could be compared"):
        check_trim(replace(check, hidden_lines=0), min_identical=0.0, tolerance=1e-5)


@given(st.integers(0, 3000), st.integers(1, 40))
def test_held_out_lines_are_spread_and_never_counted(total, most):
    split = LineSplit(most)
    lines = [str(i) for i in range(total)]
    counted = list(split.skip_held_out(lines))
    assert not set(counted) & set(split.held_out)
    assert len(split.held_out) <= most
    assert (len(split.held_out) > 0) == (total >= 50)
    assert (split.num_seen, split.num_counted) == (total, len(counted))
    numbers = [int(line) for line in split.held_out]
    assert len({b - a for a, b in pairwise(numbers)}) <= 1


def test_counts_are_those_of_encoding_line_by_line(unigram_source):
    backend = AutoTokenizer.from_pretrained(unigram_source).backend_tokenizer
    expected = np.zeros(backend.get_vocab_size(), np.int64)
    for line in LINES[:20]:
        for i in backend.encode(line, add_special_tokens=False).ids:
            expected[i] += 1
    np.testing.assert_array_equal(count_pieces(backend, iter(LINES[:20]), batch=3), expected)


def test_pieces_are_retained_by_frequency_and_unseen_ones_dropped(unigram_source):
    backend = AutoTokenizer.from_pretrained(unigram_source).backend_tokenizer
    counts = count_pieces(backend, LINES)
    required = choose_pieces(backend, counts, coverage=1e-9)
    chosen = choose_pieces(backend, counts, pieces=len(required) + 20)
    assert len(chosen) == len(required) + 20
    extra = set(chosen) - set(required)
    assert min(counts[i] for i in extra) >= max(counts[i] for i in range(len(counts)) if i not in chosen)
    whole = choose_pieces(backend, counts)
    assert set(np.flatnonzero(counts)) <= set(whole)
    assert choose_pieces(backend, counts, pieces=10**6) == whole
    half = choose_pieces(backend, counts, coverage=0.9)
    assert counts[half].sum() >= 0.9 * counts.sum()
    assert len(required) < len(half) < len(whole)


def test_bpe_pieces_bring_the_pieces_they_are_merged_from(tmp_path):
    backend = AutoTokenizer.from_pretrained(byte_bpe(tmp_path)).backend_tokenizer
    counts = count_pieces(backend, LINES)
    trimmed = trim_tokenizer(backend, choose_pieces(backend, counts, coverage=0.8))
    state = json.loads(trimmed.to_str())["model"]
    merged = {"".join(pair) for pair in state["merges"]}
    assert len(state["merges"]) > 20
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    assert merged | alphabet >= {piece for piece in state["vocab"] if piece not in SPECIAL.values()}
    assert all(part in state["vocab"] for pair in state["merges"] for part in pair)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pieces": 10}, "10 pieces; expected at least"),
        ({"pieces": 300, "coverage": 0.9}, "expected one of the two"),
        ({"coverage": 1.5}, "coverage 1.5; expected a share"),
        ({"coverage": 0.0}, "coverage 0.0; expected a share"),
        ({"dtype": "int4"}, "dtype 'int4'; expected one of float32"),
        ({"held_out": 0}, "0 lines to hold out"),
    ],
)
def test_an_invalid_option_is_named(unigram_source, tmp_path, options, message):
    with pytest.raises(InputError) as error:
        trim_encoder(unigram_source, LINES, tmp_path / "out", **options)
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()


def test_too_little_text_is_refused(unigram_source, tmp_path):
    with pytest.raises(InputError, match="49 lines of text; expected at least 50"):
        trim_encoder(unigram_source, LINES[:49], tmp_path / "out")
    with pytest.raises(InputError, match="0 lines of text"):
        trim_encoder(unigram_source, [], tmp_path / "out")
    with pytest.raises(InputError, match="no piece was counted"):
        trim_encoder(unigram_source, [" "] * 60, tmp_path / "out", normalize=True)


def test_a_tokenizer_of_another_kind_is_refused():
    words = Tokenizer(models.WordLevel({"<unk>": 0, "في": 1}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(InputError, match="a WordLevel tokenizer; expected one of Unigram, WordPiece, BPE"):
        choose_pieces(words, count_pieces(words, ["في بغداد"]))


def test_special_pieces_must_be_retained(unigram_source):
    backend = AutoTokenizer.from_pretrained(unigram_source).backend_tokenizer
    with pytest.raises(InputError, match="special piece '<s>' is not retained"):
        trim_tokenizer(backend, [1, 2, 3, 10])


def test_an_embedding_too_small_for_the_tokenizer_is_refused(tmp_path):
    source = wordpiece(tmp_path / "source")
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens(["[بريد]"])
    tokenizer.save_pretrained(source)
    with pytest.raises(InputError, match="the rows of the embedding"):
        trim_encoder(source, LINES, tmp_path / "out")


def test_missing_weights_are_refused(tmp_path):
    source = unigram(tmp_path / "source")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    (source / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}), encoding="utf-8")
    with pytest.raises(InputError, match=r"the weights lack 'encoder\.layer\.2"):
        trim_encoder(source, LINES, tmp_path / "out")


def test_a_missing_encoder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        trim_encoder(str(tmp_path / "none"), LINES, tmp_path / "out")
