"""The tagger: results, threads, pickles and streams."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import count, islice, pairwise
from pathlib import Path
from threading import Barrier
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

from musamma.data.arabic import proclitic_offsets, word_offsets
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.inference import Tagger
from tests.support import tag_in_turns

THREADS = 8
# The number of documents that docs/tag.md and the docstring call a few hundred.
AHEAD = 512
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


def test_names_are_character_exact(tagger, known):
    for document in known:
        spans = tagger.tag(document.text)
        assert keys(spans) == keys(document.spans)
        assert all(0 < span.score <= 1 for span in spans)
    assert tagger.labels == ("LOC", "ORG", "PER")


def test_the_batch_size_does_not_change_the_names(checkpoint, tagger, known):
    texts = [document.text for document in known] + MIXED
    alone = [tagger.tag(text) for text in texts]
    assert sum(map(bool, alone)) >= len(known)
    for batch_tokens in (1, 100, 100_000):
        batched = Tagger(str(checkpoint), device="cpu", bfloat16=False, batch_tokens=batch_tokens)
        together = list(batched.tag_texts(texts))
        assert list(map(keys, together)) == list(map(keys, alone))
        scores = [[[span.score for span in spans] for spans in result] for result in (together, alone)]
        for found, expected in zip(*scores, strict=True):
            assert found == pytest.approx(expected, abs=1e-4)


def test_texts_without_words_have_no_names(tagger):
    assert [tagger.tag(text) for text in ("", " \n\u00a0\t", "\u200f\u202b", "ـــ")] == [[], [], [], []]


def test_documents_keep_order_ids_texts_and_meta(tagger, known):
    documents = [Document(f"{i}-٣", known[i % 4].text, meta={"page": i}) for i in range(30)]
    found = list(tagger.tag_documents(iter(documents)))
    assert [(d.id, d.text, d.meta) for d in found] == [(d.id, d.text, d.meta) for d in documents]
    assert [keys(d.spans) for d in found] == [keys(known[i % 4].spans) for i in range(30)]


def test_previous_spans_are_replaced(tagger, known):
    partly = known[0].with_spans(known[0].spans[:1])
    assert keys(next(tagger.tag_documents([partly])).spans) == keys(known[0].spans)


def test_a_text_of_five_thousand_words_is_tagged_to_its_end(tagger, known):
    text = "\n".join(document.text for document in known) + "\n"
    copies = 5_000 // len(text.split()) + 1
    spans = tagger.tag(text * copies)
    counts, _ = np.histogram([span.start for span in spans], bins=20, range=(0, len(text) * copies))
    assert counts.min() > 0
    # The last sentence ends the text, wherever the windows were cut.
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
def test_names_start_and_end_at_word_borders_in_any_text(tagger, text):
    words = word_offsets(text)
    starts = {offset for word in words for offset in proclitic_offsets(text, *word)}
    for span in tagger.tag(text):
        assert span.start in starts
        assert span.end in {end for _, end in words}


# If a tokenizer has no word model, transformers splits words at spaces, and warns about it.
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
        start = next(
            start for start, end in words if start <= span.start < end
        )  # The pipeline tags whole words, proclitics included.
        expected.append((start, span.end, span.label))
    found = []
    for item in pipe(document.text):
        surface = document.text[item["start"] : item["end"]]
        lead = len(surface) - len(surface.lstrip())
        found.append((item["start"] + lead, item["end"], item["entity_group"]))
    assert found == expected
    assert len(found) == 3


def test_a_checkpoint_of_another_tool(checkpoint, known, tmp_path):
    """It has no proclitic head, another order of tags, and no ``musamma`` key in its configuration."""
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


def test_the_proclitic_head_decides_where_a_name_starts(checkpoint, known, tmp_path):
    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    head = load_file(tmp_path / "proclitic_head.safetensors")
    head["bias"][0] += 100  # "no letter is a proclitic"
    save_file(head, tmp_path / "proclitic_head.safetensors")
    document = known[0]
    spans = Tagger(str(tmp_path), device="cpu", bfloat16=False).tag(document.text)
    assert [document.surface(span) for span in spans] == ["محمد السعيد", "بيروت", "وبغداد"]
    assert [document.surface(span) for span in document.spans] == ["محمد السعيد", "بيروت", "بغداد"]


def test_an_encoder_is_not_a_recogniser(wordpiece_encoder):
    with pytest.raises(InputError, match=r"the weights lack 'classifier.bias'.*; fine-tune it with musamma train"):
        Tagger(str(wordpiece_encoder), device="cpu")


# Threads, processes and streams


def in_threads(tagger: Tagger, lists: list[list[str]]) -> list[list[list[Span]]]:
    """Tag each list of texts in a thread of its own, all starting at once."""
    barrier = Barrier(len(lists))

    def work(texts: list[str]) -> list[list[Span]]:
        barrier.wait()
        return [*tagger.tag_texts(texts), *map(tagger.tag, texts)]

    with ThreadPoolExecutor(len(lists)) as pool:
        return list(pool.map(work, lists))


def test_threads_find_what_one_thread_finds(tagger, known):
    # Texts of different lengths, some of several windows: shared state would mix them up.
    lists = [
        [f"{known[(thread + index) % 4].text} {number} " * (1 + (thread * index) % 7) for index in range(12)]
        for thread, number in zip(range(THREADS), count(10), strict=False)
    ]
    expected = [[*tagger.tag_texts(texts), *map(tagger.tag, texts)] for texts in lists]
    assert all(any(spans for spans in found) for found in expected)
    assert len({str(found) for found in expected}) == THREADS
    for _ in range(3):
        assert in_threads(tagger, lists) == expected


def test_two_streams_of_one_tagger_can_be_read_alternately(tagger, known):
    texts = [document.text for document in known] * 100
    reversed_texts = texts[::-1]
    expected = [list(tagger.tag_texts(texts)), list(tagger.tag_texts(reversed_texts))]
    assert keys(expected[0][0]) == keys(known[0].spans)
    turns = list(zip(tagger.tag_texts(texts), tagger.tag_texts(reversed_texts), strict=True))
    assert [list(stream) for stream in zip(*turns, strict=True)] == expected


def test_steps_in_turns_give_the_result_of_the_whole(checkpoint, known):
    """Down to the last digit of a score, also of more documents than are batched together."""
    tagger = Tagger(str(checkpoint), device="cpu", bfloat16=False, batch_tokens=256, min_score=0.3)
    texts = [document.text for document in known] + MIXED
    requests = [
        [Document("long", "\n".join(texts * 30))],
        [Document(str(number), text) for number, text in enumerate(texts * 30)],
        [Document("empty", "")],
        [],
        known,
    ]
    whole = [list(tagger.tag_documents(request)) for request in requests]
    assert tag_in_turns(tagger, requests) == whole
    assert len(list(tagger.tag_in_steps(requests[0]))) > 10
    assert len(whole[0][0].spans) > 100


def test_closed_steps_compute_nothing_more(tagger, known, monkeypatch):
    computed = []
    build_batch = tagger._predictor.build_batch
    monkeypatch.setattr(tagger._predictor, "build_batch", lambda windows: computed.append(1) or build_batch(windows))
    monkeypatch.setattr(tagger._predictor, "batch_tokens", 64)
    steps = tagger.tag_in_steps([Document("long", known[0].text * 100)])
    assert [next(steps) > 0 for _ in range(3)] == [False, True, True]
    steps.close()
    assert len(computed) == 2


@pytest.mark.parametrize("dump", [pickle.dumps, cloudpickle.dumps])
def test_a_pickle_holds_the_arguments_and_finds_the_same(checkpoint, known, dump):
    options: dict[str, Any] = {"batch_tokens": 100, "min_score": 0.2, "label_min_scores": {"LOC": 1.0}}
    tagger = Tagger(str(checkpoint), device="cpu", bfloat16=False, **options)
    data = dump(tagger)
    assert len(data) < 2_000
    again = pickle.loads(data)
    assert again.settings() == tagger.settings()
    for document in known:
        names = again.tag(document.text)
        assert names == tagger.tag(document.text)
        assert keys(names) == [span.key for span in document.spans if span.label != "LOC"]


def test_a_spawned_process_finds_the_same(tagger, known):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        found = pool.submit(tagger.tag, known[0].text).result(timeout=300)
    assert keys(found) == keys(known[0].spans)
    assert found == tagger.tag(known[0].text)


def test_an_endless_stream_is_read_a_few_hundred_documents_ahead(tagger, known):
    taken = 0

    def articles() -> Iterator[Document]:
        nonlocal taken
        for number in count():
            taken += 1
            assert number < 10 * AHEAD  # Fails instead of hanging.
            yield Document(str(number), known[number % 4].text)

    stream = tagger.tag_documents(articles())
    assert taken == 0
    for yielded, document in enumerate(islice(stream, 1200), 1):
        assert document.id == str(yielded - 1)
        assert yielded <= taken <= yielded + AHEAD
    assert keys(document.spans) == keys(known[3].spans)
