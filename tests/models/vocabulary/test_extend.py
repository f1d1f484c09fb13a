"""Extending small encoders with whole-word pieces: choice, scores, embedding rows and measurements."""

import json
from collections import Counter
from itertools import pairwise, product
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import nn
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, T5Config, T5Model

from musamma.data.errors import InputError, ThresholdError
from musamma.data.normalization import fast_backend, has_normalizer
from musamma.data.tags import TagSet
from musamma.models.checkpoint import build_classifier
from musamma.models.vocabulary import extend
from musamma.models.vocabulary.embeddings import INITIALIZATIONS, build_rows, check_single_table
from musamma.models.vocabulary.encoder_similarity import measure_fertility, measure_similarity
from musamma.models.vocabulary.extend import extend_encoder
from musamma.models.vocabulary.tokenizer import find_required_pieces, trim_tokenizer
from musamma.models.vocabulary.word_vocabulary import (
    WordVocabulary,
    choose_vocabulary,
    count_piece_uses,
    count_words,
    extend_tokenizer,
    split_words,
    tokenize_words,
)

SENTENCES = [
    "وصل الوفد الوزاري إلى العاصمة الأردنية عمّان مساء الخميس.",
    "قالت المتحدثة باسم المفوضية إن 300 عائلة عادت إلى تدمر،",
    "تأهل منتخب المغرب إلى النهائي بعد فوزه على السنغال (2-1).",
    "يدرس البرلمان التونسي مشروع قانون المالية في جلسة علنية؟",
    "رممت مكتبة الإسكندرية مخطوطات من القرن السابع للهجرة!",
    "ارتفعت أسعار النفط في لندن ونيويورك وطوكيو يوم الاثنين.",
]
LINES = [f"{a} {b}" for a, b in product(SENTENCES, repeat=2)] * 3
WORDS = 12


@pytest.fixture(scope="module", params=["wordpiece_encoder", "unigram_encoder"])
def extended(request, tmp_path_factory):
    """A source encoder and its extension by a dozen words."""
    source = request.getfixturevalue(request.param)
    folder = tmp_path_factory.mktemp("extended") / "out"
    report = extend_encoder(source, {"news": LINES[:54], "wiki": LINES[54:]}, folder, words=WORDS)
    before, after = (fast_backend(AutoTokenizer.from_pretrained(path)) for path in (source, folder))
    before.normalizer, before.pre_tokenizer = after.normalizer, after.pre_tokenizer  # the Arabic ones
    words = sorted(set(after.get_vocab()) - set(before.get_vocab()))
    return SimpleNamespace(source=source, folder=folder, report=report, before=before, after=after, words=words)


def names(tokenizer, ids):
    return [tokenizer.id_to_token(i) for i in ids]


def test_the_words_that_save_most_become_one_piece_each(extended):
    assert len(extended.words) == WORDS == extended.report.words_added
    seen = Counter(word for line in LINES for word in split_words(extended.before, line))
    cuts = tokenize_words(extended.before, seen)
    saving = {word: seen[word] * (len(ids) - 1) for word, ids in cuts.items() if word.lstrip("▁").isalpha()}
    least = min(saving[word] for word in extended.words if word in saving)
    assert least > 0
    # One line in 50 is not counted, so that neighbours in the order may change places.
    assert least >= 0.9 * sorted(saving.values())[-WORDS]
    assert all(len(ids) == 1 for ids in tokenize_words(extended.after, extended.words).values())


def test_the_folder_is_a_plain_encoder_that_knows_the_words(extended):
    model = AutoModel.from_pretrained(extended.folder, add_pooling_layer=False)
    tokenizer = AutoTokenizer.from_pretrained(extended.folder)
    assert model.dtype == torch.float32
    assert len(tokenizer) == model.config.vocab_size == len(model.get_input_embeddings().weight)
    assert model.config.vocab_size == len(extended.before.get_vocab()) + WORDS
    assert has_normalizer(tokenizer)
    with safe_open(extended.folder / "model.safetensors", "pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118
    word = extended.words[0].removeprefix("▁")
    assert tokenizer(word)["input_ids"][1:-1] == [tokenizer.convert_tokens_to_ids(extended.words[0])]
    one = tokenizer(word, return_tensors="pt")
    assert model(input_ids=one["input_ids"], attention_mask=one["attention_mask"])[0].isfinite().all()


def test_it_can_be_fine_tuned(extended):
    model = build_classifier(str(extended.folder), TagSet(("LOC", "PER")))
    assert model.config.vocab_size == extended.report.pieces_after


def test_the_report_agrees_with_the_files_and_the_tokenizers(extended):
    report = extended.report
    record = json.loads((extended.folder / "extension.json").read_text(encoding="utf-8"))
    held_out = {"news": LINES[:54][49], "wiki": LINES[54:][49]}  # every 50th line of a text
    for name, line in held_out.items():
        for side, tokenizer in (("before", extended.before), ("after", extended.after)):
            pieces = tokenizer.encode(line, add_special_tokens=False).ids
            assert record["files"][name][f"pieces_per_word_{side}"] == pytest.approx(len(pieces) / len(line.split()))
    assert {key: record[key] for key in ("dtype", "normalized", "initial", "words_added", "pieces_dropped")} == {
        "dtype": "float16",
        "normalized": True,
        "initial": "letters",
        "words_added": WORDS,
        "pieces_dropped": 0,
    }
    assert record["source"] == str(extended.source)
    assert (record["pieces_before"], record["pieces_after"]) == (
        len(extended.before.get_vocab()),
        len(extended.after.get_vocab()),
    )
    assert record["file_bytes"] == (extended.folder / "model.safetensors").stat().st_size
    assert set(record["likeness"]) == {
        "lines", "words", "changed", "changed_words", "other_words", "sentences", "chance", "old_cuts",
        "hidden_difference",
    }  # fmt: skip
    assert report.file_bytes == (extended.folder / "model.safetensors").stat().st_size
    assert report.file_bytes_before == (extended.source / "model.safetensors").stat().st_size
    assert report.parameters_after - report.parameters_before == WORDS * 48
    assert (report.pieces_dropped, report.words_forgotten) == (0, 0)
    assert (report.lines_counted, report.total.lines) == (len(LINES) - 2, 2)
    assert {name: one.lines for name, one in report.files.items()} == {"news": 1, "wiki": 1}
    assert report.total.pieces_per_word_after < report.total.pieces_per_word_before
    assert report.total.one_piece_after > report.total.one_piece_before
    assert report.total.offsets_exact == 1
    assert report.hidden_difference == 0 < report.similarity.hidden_difference < 0.01
    assert 0 < report.similarity.changed < 1
    assert report.similarity.changed_words > report.similarity.chance
    saved = [saving for _, saving in report.most_saving]
    assert saved == sorted(saved, reverse=True)
    assert set(dict(report.most_saving)) == set(extended.words)


LETTERS = sorted({c for line in SENTENCES for c in line if not c.isspace()} | {" "})
TEXTS = st.lists(
    st.one_of(st.sampled_from(" ".join(SENTENCES).split()), st.text(alphabet=LETTERS, max_size=8)), max_size=8
).map(" ".join)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_new_words_keep_their_offsets_and_other_words_their_pieces(extended, text):
    old, new = (one.encode(text, add_special_tokens=False) for one in (extended.before, extended.after))
    words = split_words(extended.before, text)
    assert words == split_words(extended.after, text)
    for number, word in enumerate(words):
        one, two = (
            [(start, end) for i, (start, end) in zip(line.word_ids, line.offsets, strict=True) if i == number]
            for line in (old, new)
        )
        assert (one[0][0], one[-1][1]) == (two[0][0], two[-1][1])
        # The mark before a word has the offsets of the letter after it.
        assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(two))
        pieces = [
            [piece for i, piece in zip(line.word_ids, line.tokens, strict=True) if i == number] for line in (old, new)
        ]
        if not any(word.startswith(one) for one in extended.words):
            assert pieces[0] == pieces[1]
        elif word in extended.words:
            assert pieces[1] == [word]
        elif "▁" in word:
            assert len(pieces[1]) <= len(pieces[0])


def backend_of(folder):
    backend = fast_backend(AutoTokenizer.from_pretrained(folder))
    backend.no_truncation()
    backend.no_padding()
    return backend


@pytest.mark.parametrize("words", [1, 20])
@pytest.mark.parametrize("more", [1, 60, -1])
def test_the_number_of_pieces_is_exact(any_encoder, tmp_path, words, more):
    backend = backend_of(any_encoder)
    least, size = len(find_required_pieces(backend)) + words, backend.get_vocab_size()
    pieces = least + more if more > 0 else size + words - 3
    report = extend_encoder(any_encoder, {"news": LINES}, tmp_path / "out", words=words, pieces=pieces, normalize=False)
    assert report.pieces_after == pieces == len(AutoTokenizer.from_pretrained(tmp_path / "out"))
    assert report.pieces_dropped == size - (pieces - words)
    assert report.words_added == words
    assert report.total.unknown_after == report.total.unknown_before
    for wrong in (least - 1, size + words + 1):
        with pytest.raises(InputError, match=f"{wrong} pieces; expected {least} to {size + words} with"):
            extend_encoder(any_encoder, {"a": LINES}, tmp_path / "no", words=words, pieces=wrong, normalize=False)


def test_the_least_used_pieces_are_dropped(unigram_encoder):
    backend = backend_of(unigram_encoder)
    word_vocabulary = count_words(backend, LINES)
    required = find_required_pieces(backend)
    pieces = len(required) + 30
    choice = choose_vocabulary(backend, word_vocabulary, words=10, pieces=pieces)
    everything = list(range(backend.get_vocab_size()))
    uses = count_piece_uses(
        word_vocabulary, tokenize_words(extend_tokenizer(trim_tokenizer(backend, everything), choice.words), word_vocabulary.counts),
        backend.get_vocab_size() + 10,
    )  # fmt: skip
    kept = sorted(uses[i] for i in choice.ids if i not in required)
    dropped = sorted(uses[i] for i in everything if i not in choice.ids)
    assert len(kept) == 20
    # Dropping changes other words a little; the median retained piece is used far more than the median dropped one.
    assert kept[len(kept) // 2] > 3 * dropped[len(dropped) // 2]


def test_added_tokens_come_after_the_new_pieces(wordpiece_encoder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(wordpiece_encoder)
    tokenizer.add_tokens(["[رابط]", "[مستخدم]"])
    model = AutoModel.from_pretrained(wordpiece_encoder, add_pooling_layer=False)
    model.resize_token_embeddings(len(tokenizer))
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "source")
    extend_encoder(tmp_path / "source", {"a": LINES}, tmp_path / "out", words=5, dtype="float32")
    after, new = AutoTokenizer.from_pretrained(tmp_path / "out"), AutoModel.from_pretrained(tmp_path / "out")
    tokens = after.tokenize("[مستخدم] في [رابط]")
    assert (tokens[0], tokens[-1]) == ("[مستخدم]", "[رابط]")
    for token in ("[رابط]", "[مستخدم]", "[SEP]", "[PAD]"):
        row = new.get_input_embeddings().weight[after.convert_tokens_to_ids(token)]
        assert torch.equal(row, model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids(token)])
    assert after.convert_tokens_to_ids("[مستخدم]") == len(after) - 1
    assert new.config.pad_token_id == after.pad_token_id == new.get_input_embeddings().padding_idx


def wordpiece(pieces):
    backend = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


def test_a_word_whose_piece_cuts_other_words_finer_is_passed_over():
    backend = wordpiece(["[UNK]", "كت", "##اب", "##ابنا", "##ن", "##ا", "##2", "من", "##زل"])
    # With كتاب as a piece, the longest match leaves ##ن ##ا after it, where كت ##ابنا was shorter.
    for others, words, savings in ((4, ["كتاب"], [6]), (12, ["منزل"], [2])):
        choice = choose_vocabulary(backend, WordVocabulary({"كتاب": 10, "كتابنا2": others, "منزل": 2}), words=1)
        assert (choice.words, choice.savings) == (words, savings)


def test_a_word_whose_piece_makes_others_unknown_is_passed_over():
    backend = wordpiece(["[UNK]", "كت", "##اب", "##ابنا", "من", "##زل"])
    choice = choose_vocabulary(backend, WordVocabulary({"كتاب": 50, "كتابنا": 20, "منزل": 2}), words=1)
    assert choice.words == ["كتابنا"]
    assert "[UNK]" not in extend_tokenizer(backend, choice.words).encode("كتاب كتابنا منزل").tokens
    assert "[UNK]" in extend_tokenizer(backend, ["كتاب"]).encode("كتابنا").tokens


def test_numbers_latin_and_unknown_signs_are_not_eligible():
    backend = wordpiece(["[UNK]", "في", "ال", "##عا", "##م", "1", "##9", "B", "##C", "-"])
    choice = choose_vocabulary(backend, WordVocabulary({"19": 90, "BC": 80, "☎": 70, "العام": 3, "العا": 2}), words=2)
    assert choice.words == ["العام", "العا"]


def test_a_piece_that_loses_against_its_parts_is_not_chosen():
    scores = {"<unk>": 0.0, "▁": -1.0, "من": -1.0, "▁من": -3.0, "زل": -1.0}
    backend = Tokenizer(models.Unigram(list(scores.items()), unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    assert choose_vocabulary(backend, WordVocabulary({"▁من": 9, "▁منزل": 1}), words=1).words == ["▁منزل"]


def test_a_single_sign_may_become_a_piece():
    backend = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁", -2.0), (".", -3.0), ("▁في", -3.0)], unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    choice = choose_vocabulary(backend, count_words(backend, ["في . في ."]), words=1)
    assert (choice.words, choice.savings) == (["▁."], [2])
    assert extend_tokenizer(backend, ["▁."]).encode("في .").tokens == ["▁في", "▁."]


def test_a_unigram_word_wins_over_its_parts_and_leaves_longer_words_alone():
    scores = {
        "<unk>": 0.0,
        "▁كت": -5.0,
        "▁ك": -4.0,
        "اب": -5.0,
        "تا": -6.0,
        "ب": -4.0,
        "تاب": -7.0,
        "ه": -3.0,
        "ابه": -5.5,
    }
    backend = Tokenizer(models.Unigram(list(scores.items()), unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    assert backend.encode("كتاب كتابه").tokens == ["▁كت", "اب", "▁كت", "ابه"]
    assert extend_tokenizer(backend, ["▁كتاب"]).encode("كتاب كتابه").tokens == ["▁كتاب", "▁كت", "ابه"]
    assert extend_tokenizer(backend, ["▁كتاب", "▁كتابه"]).encode("كتاب كتابه").tokens == ["▁كتاب", "▁كتابه"]


def test_rows_are_built_from_their_parts():
    backend = wordpiece(["[UNK]", "كتا", "##ب"])
    table = torch.tensor([[9.0, 9.0], [6.0, 0.0], [0.0, 2.0]])
    made = {initial: build_rows(table, backend, ["كتاب"], initial=initial)[0] for initial in INITIALIZATIONS}
    torch.testing.assert_close(made["mean"], torch.tensor([3.0, 1.0]))
    for initial, direction in {"scaled": (3.0, 1.0), "first": (6.0, 1.0), "letters": (9.0, 1.0)}.items():
        expected = torch.tensor(direction) * 4 / torch.tensor(direction).norm()  # (6 + 2) / 2 long
        torch.testing.assert_close(made[initial], expected)


def test_the_word_table_stays_small():
    backend = wordpiece(["[UNK]"])
    lines = [f"كلمة{i} كلمة{i % 3} في" for i in range(200)]
    small, full = count_words(backend, lines, max_words=20), count_words(backend, lines)
    assert len(small.counts) <= 21 < len(full.counts)
    assert full.forgotten == 0 < small.forgotten
    assert sum(small.counts.values()) + small.forgotten == sum(full.counts.values()) == 600
    assert small.counts["في"] == 200


def test_an_encoder_is_similar_to_itself(any_encoder):
    backend = backend_of(any_encoder)
    model = AutoModel.from_pretrained(any_encoder, add_pooling_layer=False).eval()
    same = {i: i for i in range(backend.get_vocab_size())}
    similarity = measure_similarity((model, model), (backend, backend), [*LINES[:9], " "], same, max_lines=4)
    assert (similarity.lines, similarity.old_cuts, similarity.changed, similarity.hidden_difference) == (4, 4, 0, 0)
    assert similarity.changed_words is None
    assert similarity.other_words == pytest.approx(1) == similarity.sentences
    assert similarity.chance < 0.99
    cuts = measure_fertility((backend, backend), LINES[:9], (-1, -1))
    assert cuts.pieces_per_word_before == cuts.pieces_per_word_after > 1
    assert (cuts.cut_finer, cuts.offsets_exact, cuts.lines) == (0, 1, 9)


def test_cuts_are_counted_by_hand():
    old = wordpiece(["[UNK]", "كت", "##اب", "في", "بيت"])
    new = wordpiece(["[UNK]", "كتاب", "في", "بي", "##ت"])
    cuts = measure_fertility((old, new), ["كتاب في", "بيت كتاب غريب"], (0, 0))
    assert (cuts.pieces_per_word_before, cuts.pieces_per_word_after) == (7 / 5, 6 / 5)
    assert (cuts.one_piece_before, cuts.one_piece_after, cuts.cut_finer) == (3 / 5, 4 / 5, 1 / 5)
    assert (cuts.unknown_before, cuts.unknown_after, cuts.offsets_exact) == (1, 1, 1)


def test_offsets_that_move_are_seen():
    one = wordpiece(["[UNK]", "في", "##ه"])
    two = wordpiece(["[UNK]", "في", "##ه"])
    two.normalizer = normalizers.Replace("ى", "")
    assert measure_fertility((one, two), ["فيه", "فيىه"], (0, 0)).offsets_exact == 1
    two.normalizer = normalizers.Strip()
    two.pre_tokenizer = pre_tokenizers.Split("ه", "isolated")
    assert measure_fertility((one, two), ["في", "فيه"], (0, 0)).offsets_exact == 0.5


def test_an_encoder_that_computes_something_else_fails(unigram_encoder, tmp_path, monkeypatch):
    real = extend.extend_embeddings

    def shuffled(*arguments, **options):
        model = real(*arguments, **options)
        model.get_input_embeddings().weight.data = model.get_input_embeddings().weight.data.flip(0)
        return model

    monkeypatch.setattr(extend, "extend_embeddings", shuffled)
    with pytest.raises(ThresholdError, match="hidden states differ by"):
        extend_encoder(unigram_encoder, {"a": LINES}, tmp_path / "out", words=3)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": 0}, "0 words to add; expected at least 1"),
        ({"words": -4}, "-4 words to add"),
        ({"words": 1, "held_out": 0}, "0 lines to hold out"),
        ({"words": 1, "dtype": "int4"}, "dtype 'int4'; expected one of float32"),
        ({"words": 1, "initial": "sum"}, "initial 'sum'; expected one of mean"),
        ({"words": 9999}, "words that are more than one piece; expected at least 9999"),
    ],
)
def test_an_invalid_option_is_named(unigram_encoder, tmp_path, options, message):
    with pytest.raises(InputError) as error:
        extend_encoder(unigram_encoder, {"a": LINES}, tmp_path / "out", **options)
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_files_is_left_alone(unigram_encoder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="the folder is not empty; choose a new folder"):
        extend_encoder(unigram_encoder, {"a": LINES}, tmp_path, words=1)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_too_little_text_is_refused(unigram_encoder, tmp_path):
    for lines, message in (
        (LINES[:49], "49 lines of text; expected at least 50"),
        ([], "0 lines"),
        ([" "] * 60, "no word"),
    ):
        with pytest.raises(InputError, match=message):
            extend_encoder(unigram_encoder, {"a": lines}, tmp_path / "out", words=1)


def test_tokenizers_and_models_that_cannot_be_extended_are_refused():
    bpe = Tokenizer(models.BPE())
    with pytest.raises(InputError, match="a BPE tokenizer; expected Unigram or WordPiece"):
        choose_vocabulary(bpe, WordVocabulary({"في": 1}), words=1)
    size = {"vocab_size": 60, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    with pytest.raises(InputError, match="a model with a decoder"):
        check_single_table(T5Model(T5Config(**size)))
    bert = BertModel(
        BertConfig(
            vocab_size=60, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
            max_position_embeddings=60,
        )
    )  # fmt: skip
    check_single_table(bert)
    bert.second = nn.Embedding(60, 4)
    with pytest.raises(InputError, match="second is a second table of 60 rows"):
        check_single_table(bert)
