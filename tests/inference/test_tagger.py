"""The tagger, from Python."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

from musamma.data.arabic import proclitic_offsets, word_offsets
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.inference import Tagger

MIXED = [
    "وصل محمد إلى بغداد",
    "",
    " \n\t ",
    "الموصل",
    "قَالَ مُحَمَّدٌ السَّعِيد لـــ«رويترز» 😀 في \u202bبيروت\u202c (لبنان)\r\nنعم",
    "فاز النادي الأهلي على الزمالك بهدفين في مباراة أقيمت بالإسكندرية مساء الجمعة 12 يناير 2024 " * 4,
    "…، ؛ «» 3.5",
    "\ufeff\u200f\u200e",
]


@pytest.fixture(scope="module")
def tagger(checkpoint: Path) -> Tagger:
    return Tagger(str(checkpoint), device="cpu", bfloat16=False)


def keys(spans):
    return [span.key for span in spans]


def test_names_are_found_to_the_character(tagger, known):
    for document in known:
        spans = tagger.tag(document.text)
        assert keys(spans) == keys(document.spans)
        assert all(0 < span.score <= 1 for span in spans)
    assert tagger.labels == ("LOC", "ORG", "PER")


def test_one_by_one_and_in_batches_of_any_size_it_finds_the_same(checkpoint, tagger, known):
    texts = [document.text for document in known] + MIXED
    alone = [tagger.tag(text) for text in texts]
    assert sum(map(bool, alone)) >= len(known)
    for batch_tokens in (1, 100, 100_000):
        other = Tagger(str(checkpoint), device="cpu", bfloat16=False, batch_tokens=batch_tokens)
        together = list(other.tag_texts(texts))
        assert list(map(keys, together)) == list(map(keys, alone))
        scores = [[[span.score for span in spans] for spans in result] for result in (together, alone)]
        for found, expected in zip(*scores, strict=True):
            assert found == pytest.approx(expected, abs=1e-4)


def test_texts_without_words_have_no_names(tagger):
    assert [tagger.tag(text) for text in ("", " \n\u00a0\t", "\u200f\u202b", "ـــ")] == [[], [], [], []]


def test_documents_keep_order_ids_texts_and_meta(tagger, known):
    given_ = [Document(f"{i}-٣", known[i % 4].text, meta={"page": i}) for i in range(30)]
    found = list(tagger.tag_documents(iter(given_)))
    assert [(d.id, d.text, d.meta) for d in found] == [(d.id, d.text, d.meta) for d in given_]
    assert [keys(d.spans) for d in found] == [keys(known[i % 4].spans) for i in range(30)]


def test_what_was_annotated_before_is_replaced(tagger, known):
    moved = known[0].with_spans(known[0].spans[:1])
    assert keys(next(tagger.tag_documents([moved])).spans) == keys(known[0].spans)


def test_a_text_of_five_thousand_words_is_tagged_to_its_end(tagger, known):
    text = "\n".join(document.text for document in known) + "\n"
    copies = 5_000 // len(text.split()) + 1
    spans = tagger.tag(text * copies)
    counts, _ = np.histogram([span.start for span in spans], bins=20, range=(0, len(text) * copies))
    assert counts.min() > 0
    # The last sentence has nothing behind it, wherever the windows were cut.
    assert spans[-1].end > len(text) * copies - 60
    assert all(a.end <= b.start for a, b in pairwise(spans))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(
        st.one_of(
            st.sampled_from("وبلكسفالموصلبغداد \n\r،.-«»()َّـ٣4😀\u200d\u200f\u202e\ufeffﷺﻻA"),
            st.characters(codec="utf-8"),
        ),
        max_size=60,
    )
)
def test_names_begin_and_end_with_words_whatever_the_text(tagger, text):
    words = word_offsets(text)
    starts = {offset for word in words for offset in proclitic_offsets(text, *word)}
    for span in tagger.tag(text):
        assert span.start in starts
        assert span.end in {end for _, end in words}


# Of pieces that no word model cut, transformers tells words by the spaces between them, and says so.
@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
def test_plain_transformers_find_the_same_words(checkpoint, tagger, known):
    model = AutoModelForTokenClassification.from_pretrained(checkpoint)
    pipe = pipeline(
        "token-classification",
        model=model,
        tokenizer=AutoTokenizer.from_pretrained(checkpoint),
        aggregation_strategy="first",
        device="cpu",
    )
    document = known[0]
    words = word_offsets(document.text)
    expected = []
    for span in tagger.tag(document.text):
        start = next(start for start, end in words if start <= span.start < end)  # the proclitic is a part of the word
        expected.append((start, span.end, span.label))
    found = []
    for item in pipe(document.text):
        surface = document.text[item["start"] : item["end"]]
        lead = len(surface) - len(surface.lstrip())
        found.append((item["start"] + lead, item["end"], item["entity_group"]))
    assert found == expected
    assert len(found) == 3


def test_a_checkpoint_of_another_tool_works(checkpoint, known, tmp_path):
    """No second head, tags in another order, no word of ours in its configuration."""
    plain = AutoModelForTokenClassification.from_pretrained(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    order = [6, 4, 0, 2, 1, 5, 3]
    names = plain.config.id2label
    weights = plain.classifier.state_dict()
    plain.classifier.load_state_dict({name: weight[order] for name, weight in weights.items()})
    plain.config.id2label = {new: names[old] for new, old in enumerate(order)}
    plain.config.label2id = {name: new for new, name in plain.config.id2label.items()}
    del plain.config.musamma
    plain.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert "musamma" not in json.loads((tmp_path / "config.json").read_text("utf-8"))
    tagger = Tagger(str(tmp_path), device="cpu", bfloat16=False)
    document = known[0]
    words = word_offsets(document.text)
    whole = [
        (next(start for start, end in words if start <= span.start < end), span.end, span.label)
        for span in document.spans
    ]
    assert whole != keys(document.spans)
    assert keys(tagger.tag(document.text)) == whole


def test_where_names_begin_is_read_from_the_second_head(checkpoint, known, tmp_path):
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    head = load_file(tmp_path / "proclitic_head.safetensors")
    head["bias"][0] += 100  # "no letter is a proclitic"
    save_file(head, tmp_path / "proclitic_head.safetensors")
    document = known[0]
    spans = Tagger(str(tmp_path), device="cpu", bfloat16=False).tag(document.text)
    assert [document.surface(span) for span in spans] == ["محمد السعيد", "بيروت", "وبغداد"]
    assert [document.surface(span) for span in document.spans] == ["محمد السعيد", "بيروت", "بغداد"]


def test_an_encoder_is_no_recogniser(wordpiece_encoder):
    with pytest.raises(InputError, match=r"the weights lack 'classifier.bias'.*; fine-tune it with musamma train"):
        Tagger(str(wordpiece_encoder), device="cpu")
