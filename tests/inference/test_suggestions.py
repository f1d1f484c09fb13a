"""Suggestions from a pool, with checkpoints whose heads are drawn at random."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from musamma.data.document import Document, write_jsonl
from musamma.data.errors import InputError
from musamma.inference import Tagger
from musamma.inference.inputs import Inputs, read_inputs
from musamma.inference.suggestions import META_KEY, Scorer, Suggestions, load_scorer, read_annotated, suggest
from musamma.models.calibration import Calibration
from musamma.models.decoding import log_softmax
from musamma.models.loading import load_predictor
from tests.support import write_random_checkpoint

pytestmark = pytest.mark.xdist_group("suggestions")


@pytest.fixture(scope="module")
def models(wordpiece_encoder: Path, unigram_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three checkpoints: two of the same encoder with other heads, and one whose tokenizer has other pieces."""
    folder = tmp_path_factory.mktemp("models")
    encoders = [wordpiece_encoder, wordpiece_encoder, unigram_encoder]
    return [
        str(write_random_checkpoint(folder / f"{seed}", encoder, seed=seed, calibration=Calibration(1.5, 1.0)))
        for seed, encoder in enumerate(encoders)
    ]


@pytest.fixture(scope="module")
def scorers(models: list[str]) -> dict[int, Scorer]:
    """Scorers by their number of models."""
    predictors = [load_predictor(model, device="cpu") for model in models]
    return {count: Scorer(predictors[:count], names=models[:count]) for count in (1, 2, 3)}


@pytest.fixture(scope="module")
def texts() -> list[Document]:
    """Twelve texts of forty words, each of other letters, so that none is like another."""
    documents = []
    for number in range(12):
        draw = random.Random(number)
        letters = draw.sample("ابتثجحخدذرزسشصضطظعغفقكلمنهوي", 6)
        words = ["".join(draw.choices(letters, k=draw.randint(3, 7))) for _ in range(40)]
        documents.append(Document(f"text-{number}", " ".join(words)))
    return documents


def choose(tmp_path: Path, documents: list[Document], scorer: Scorer, **options) -> Suggestions:
    pool = tmp_path / "pool.jsonl"
    write_jsonl(documents, pool)
    return suggest(read_inputs(Inputs(names=(str(pool),))), lambda: scorer, **{"count": 50} | options)


def ids(suggestions: Suggestions) -> list[str]:
    return [document.id for document in suggestions.documents]


def test_the_score_is_the_mean_over_the_words(models, scorers, texts):
    predictor = load_predictor(models[0], device="cpu")
    for scored, (tokenized, logits) in zip(scorers[1].score(texts), predictor.classify(texts), strict=True):
        log_probabilities = log_softmax(logits.tags.astype(np.float64) / 1.5)
        # Valid sequences are at most as probable as the best tags of all words.
        assert scored.score >= -log_probabilities.max(axis=1).mean() - 1e-6
        assert scored.score <= -log_probabilities[:, 0].mean()  # the sequence without names
        assert scored.words == len(tokenized.words)
        assert scored.reason.split(" (")[0] in scored.document.text


def test_names_are_those_of_the_tagger(models, scorers, texts, tmp_path):
    suggestions = choose(tmp_path, texts, scorers[1])
    tagged = {document.id: document.spans for document in Tagger(models[0], device="cpu").tag_documents(texts)}
    assert len(suggestions.documents) == len(texts)
    for document in suggestions.documents:
        assert [span.key for span in document.spans] == [span.key for span in tagged[document.id]]
        assert [span.score for span in document.spans] == pytest.approx(
            [span.score for span in tagged[document.id]], abs=1e-3
        )


def test_meta_holds_rank_score_and_reason(scorers, texts, tmp_path):
    documents = [Document(item.id, item.text, meta={"source": "news"}) for item in texts]
    suggestions = choose(tmp_path, documents, scorers[1], count=5, diversity=0)
    entries = [document.meta[META_KEY] for document in suggestions.documents]
    assert all(document.meta["source"] == "news" for document in suggestions.documents)
    assert [entry["rank"] for entry in entries] == [1, 2, 3, 4, 5]
    scores = {scored.document.id: scored.score for scored in scorers[1].score(texts)}
    assert ids(suggestions) == sorted(scores, key=lambda id: -scores[id])[:5]
    for document, entry in zip(suggestions.documents, entries, strict=True):
        assert entry["score"] == pytest.approx(scores[document.id], abs=1e-4)
        assert entry["measure"] == "confidence"
        assert entry["reason"].startswith("confidence ")
        assert "; least certain: " in entry["reason"]
    assert "above 100% of the pool" in entries[0]["reason"]


def test_repeated_runs_give_the_same(scorers, texts, tmp_path):
    assert choose(tmp_path, texts, scorers[2]).documents == choose(tmp_path, texts, scorers[2]).documents


def test_near_copies_come_last_and_copies_not_at_all(scorers, texts, tmp_path):
    near = [Document(f"near-{item.id}", item.text + " .") for item in texts[:3]]
    copies = [Document(f"copy-{item.id}", f"  {item.text}\n") for item in texts[:3]]
    suggestions = choose(tmp_path, [*texts, *near, *copies], scorers[1])
    assert (suggestions.pool, suggestions.copies, suggestions.near_copies) == (15, 3, 3)
    pairs = [id.removeprefix("near-") for id in ids(suggestions)]
    assert len(set(pairs[:12])) == 12
    assert "near copy" in suggestions.documents[-1].meta[META_KEY]["reason"]


def test_annotated_texts_are_left_out_and_those_like_them_come_last(scorers, texts, tmp_path):
    write_jsonl(texts[:4], tmp_path / "annotated.jsonl")
    near = Document("near", texts[0].text + " .")
    annotated = read_annotated([str(tmp_path / "annotated.jsonl")])
    suggestions = choose(tmp_path, [*texts, near], scorers[1], annotated=annotated)
    assert (suggestions.pool, suggestions.copies) == (9, 4)
    assert ids(suggestions)[-1] == "near"


def test_vectors_alone_are_those_of_the_scored_texts(scorers, texts, monkeypatch):
    scored = [item.vector for item in scorers[3].score(texts)]
    for predictor in scorers[3]._predictors[1:]:
        monkeypatch.setattr(predictor, "classify_groups", None)
    np.testing.assert_array_equal(list(scorers[3].compute_vectors(texts)), scored)


@pytest.mark.parametrize("count", [2, 3])
def test_several_models_disagree(scorers, texts, count):
    alone = list(scorers[1].score(texts))
    together = list(scorers[count].score(texts))
    assert scorers[count].measure == "disagreement"
    assert all(scored.score > 0 for scored in together)
    # Names and vectors are those of the first model.
    assert [scored.document for scored in together] == [scored.document for scored in alone]
    np.testing.assert_allclose(together[0].vector, alone[0].vector, rtol=1e-3, atol=1e-4)


def test_equal_models_do_not_disagree(models, texts):
    predictor = load_predictor(models[0], device="cpu")
    scorer = Scorer([predictor, predictor], names=models[:2], vectors=False)
    assert [scored.score for scored in scorer.score(texts)] == pytest.approx([0.0] * len(texts))


def test_short_and_empty_texts_are_left_out(scorers, texts, tmp_path):
    short = [Document("empty", ""), Document("space", " \n"), Document("four", "وصل الوفد إلى بيروت")]
    suggestions = choose(tmp_path, [*short, *texts[:2]], scorers[1])
    assert (suggestions.pool, suggestions.short, suggestions.copies) == (2, 2, 1)
    assert len(choose(tmp_path, [*short, *texts[:2]], scorers[1], min_words=4).documents) == 3
    with pytest.raises(InputError, match=r"no text to suggest among 3.*expected texts of 5 words or more"):
        choose(tmp_path, short, scorers[1])


def test_windows_of_one_batch_do_not_change_the_vectors(models, texts):
    vectors = []
    for tokens in (64, 4096):
        predictor = load_predictor(models[0], device="cpu", batch_tokens=tokens, bfloat16=False)
        vectors.append([scored.vector for scored in Scorer([predictor], names=models[:1]).score(texts)])
    np.testing.assert_allclose(*vectors, rtol=1e-3, atol=1e-5)


def test_models_of_other_labels_are_refused(models, wordpiece_encoder, tmp_path):
    other = str(write_random_checkpoint(tmp_path / "other", wordpiece_encoder, labels=("PER", "GPE")))
    with pytest.raises(InputError, match=r"other: the labels GPE, PER; expected those of .*LOC, ORG, PER"):
        load_scorer([models[0], other], device="cpu")
