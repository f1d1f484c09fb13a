"""Temperatures: fitted, without effect on the names, stored in the checkpoint."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax as reference
from scipy.special import softmax

from musamma.data.arabic import word_offsets
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.tags import TagSet
from musamma.data.windows import TokenizedDocument
from musamma.models.calibration import (
    TEMPERATURE_BOUNDS,
    Calibration,
    WordLogits,
    fit_calibration,
    fit_nested_temperature,
    fit_temperature,
    fit_temperatures,
    read_calibration,
    write_calibration,
)
from musamma.models.decoding import PROCLITIC_CLASSES, decode, find_best_tags, log_softmax

TAGS = TagSet(("LOC", "PER"))
TEXT = "قال محمد السعيد إن الوفد وصل إلى بيروت وبغداد وبالموصل أمس"
WORDS = np.array(word_offsets(TEXT))
FULL = Calibration(1.4, 0.8, {"LOC": 0.75, "PER": None}, 0.9, 12, 34, 0.13, 0.04)


def encoded(*spans: Span) -> TokenizedDocument:
    return TokenizedDocument(Document("d", TEXT, spans), WORDS, ())


def drawn(random: np.random.Generator, logits: np.ndarray, temperature: float) -> np.ndarray:
    """Classes drawn from the logits' distribution at a temperature."""
    return np.array([random.choice(len(row), p=row) for row in softmax(logits / temperature, axis=1)])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7, 3.0])
def test_the_temperature_of_drawn_outcomes_is_recovered(temperature):
    random = np.random.default_rng(7)
    logits = random.normal(size=(6_000, 5)) * 3
    gold = drawn(random, logits, temperature)
    found = fit_temperature(logits, gold)
    assert found == pytest.approx(temperature, rel=0.06)
    loss = {
        t: -reference(logits / t, axis=1)[np.arange(len(gold)), gold].mean() for t in (found, *np.linspace(0.2, 6, 60))
    }
    assert min(loss, key=loss.__getitem__) == found


def test_classes_that_a_row_cannot_have_do_not_count():
    random = np.random.default_rng(1)
    logits = random.normal(size=(3_000, 2)) * 3
    gold = drawn(random, logits, 2.0)
    wider = np.column_stack([logits, np.full(len(logits), -np.inf)])
    assert fit_temperature(wider, gold) == fit_temperature(logits, gold)


def test_extreme_temperatures_stay_within_the_bounds():
    logits = np.eye(3) * 4
    assert fit_temperature(logits, np.arange(3)) == pytest.approx(TEMPERATURE_BOUNDS[0], rel=0.1)
    assert fit_temperature(logits, np.array([1, 2, 0])) == pytest.approx(TEMPERATURE_BOUNDS[1], rel=0.01)
    assert fit_temperature(np.empty((0, 3)), np.empty(0, dtype=np.int64)) == 1.0


def test_each_head_gets_its_own_temperature():
    """Gold is drawn from the logits at temperature 2 for tags and 0.5 for borders."""
    random = np.random.default_rng(11)
    classified = []
    for _ in range(700):
        tags = random.normal(size=(len(WORDS), len(TAGS))) * 4
        # One-word names only, so that every tag can be drawn independently: inside tags are made impossible.
        tags[:, 2::2] = -60.0
        borders = random.normal(size=(len(WORDS), PROCLITIC_CLASSES)) * 2
        spans = []
        for (start, end), tag, row in zip(WORDS.tolist(), drawn(random, tags, 2.0), borders, strict=True):
            if label := TAGS.label_of(int(tag)):
                # Only these words allow other borders: two in وبغداد, three in وبالموصل.
                kinds = {"وصل": 1, "وبغداد": 2, "وبالموصل": 2, "بيروت": 1}.get(TEXT[start:end], 0)
                shift = int(drawn(random, row[None, : kinds + 1], 0.5)[0])
                spans.append(Span(start + shift, end, label))
        classified.append((encoded(*spans), WordLogits(tags, borders)))
    tag_temperature, border_temperature = fit_temperatures(classified, TAGS)
    assert tag_temperature == pytest.approx(2.0, rel=0.08)
    assert border_temperature == pytest.approx(0.5, rel=0.15)


def test_without_a_proclitic_head_its_temperature_stays_one():
    logits = np.eye(len(TAGS))[np.zeros(len(WORDS), dtype=int)] * 3
    assert fit_temperatures([(encoded(), WordLogits(logits))], TAGS)[1] == 1.0


def test_the_head_of_nested_names_gets_its_own_temperature():
    """Gold is drawn at temperature 2 for the words of names of two words or more; other words do not count."""
    nested = TagSet(("GPE", "PER"))
    random = np.random.default_rng(5)
    outer = Span(int(WORDS[1, 0]), int(WORDS[5, 1]), "PER")
    classified = []
    for _ in range(700):
        rows = random.normal(size=(len(WORDS), len(nested))) * 4
        rows[:, 2::2] = -60.0
        tags = drawn(random, rows, 2.0)
        names = [
            Span(int(start), int(end), nested.label_of(int(tag)) or "")
            for (start, end), tag in zip(WORDS[1:6], tags[1:6], strict=True)
            if tag
        ]
        rows[:1], rows[6:] = 50.0, -50.0
        encoded_document = TokenizedDocument(Document("d", TEXT, (outer,), tuple(names)), WORDS, ())
        classified.append((encoded_document, WordLogits(np.zeros((len(WORDS), len(TAGS))), None, rows)))
    assert fit_nested_temperature(classified, TAGS, nested) == pytest.approx(2.0, rel=0.1)


def test_thresholds_of_nested_names_are_fitted_written_and_read():
    """All predicted nested names are right, so their threshold is the lowest score."""
    nested = TagSet(("GPE", "PER"))
    outer = Span(int(WORDS[1, 0]), int(WORDS[2, 1]), "PER")
    inner = Span(int(WORDS[2, 0]), int(WORDS[2, 1]), "GPE")
    tags, rows = np.zeros((len(WORDS), len(TAGS))), np.zeros((len(WORDS), len(nested)))
    tags[:, 0] = rows[:, 0] = 3.0
    tags[1, TAGS.begin("PER")] = tags[2, TAGS.inside("PER")] = rows[2, nested.begin("GPE")] = 6.0
    document = TokenizedDocument(Document("d", TEXT, (outer,), (inner,)), WORDS, ())
    classified = [(document, WordLogits(tags, None, rows))] * 60
    fit = fit_calibration(classified, TAGS, precision=0.9, nested=nested)
    assert fit.nested_thresholds["GPE"].support == 60
    assert fit.calibration.nested_thresholds["PER"] is None
    assert 0.5 < (fit.calibration.nested_thresholds["GPE"] or 0.0) <= 1.0
    record = json.loads(json.dumps({"calibration": fit.calibration.to_dict()}))
    assert read_calibration(record, TAGS.labels, where="m", nested_labels=nested.labels) == fit.calibration
    with pytest.raises(InputError, match="a threshold for 'GPE'"):
        read_calibration(record, TAGS.labels, where="m")
    flat = fit_calibration([(document, WordLogits(tags))], TAGS, precision=0.9)
    assert "nested_temperature" not in flat.calibration.to_dict()


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 10), st.floats(0.1, 10))
def test_no_temperature_changes_a_name(seed, tag_temperature, proclitic_temperature):
    random = np.random.default_rng(seed)
    tags = random.normal(size=(len(WORDS), len(TAGS))) * 4
    borders = random.normal(size=(len(WORDS), PROCLITIC_CLASSES)) * 4
    plain = decode(encoded(), tags, borders, TAGS)
    heated = decode(
        encoded(), tags, borders, TAGS, tag_temperature=tag_temperature, proclitic_temperature=proclitic_temperature
    )
    assert [span.key for span in heated] == [span.key for span in plain]
    assert all(0 <= span.score <= 1 for span in heated if span.score is not None)
    # The search on scaled logits would give the same tags.
    best = find_best_tags(log_softmax(tags), TAGS.allowed_transitions())
    assert (find_best_tags(log_softmax(tags / tag_temperature), TAGS.allowed_transitions()) == best).all()


def test_a_score_by_hand():
    """The product of the probabilities of the tags, the name's end and its border, each at its head's temperature."""
    tags = np.log(np.full((len(WORDS), 5), 0.05))
    tags[:, 0] = np.log(0.8)
    tags[1] = np.log(np.array([0.1, 0.0, 0.0, 0.7, 0.2]) + 1e-9)  # محمد: B-PER
    tags[2] = np.log(np.array([0.2, 0.0, 0.0, 0.1, 0.7]) + 1e-9)  # السعيد: I-PER
    tags[3] = np.log(np.array([0.6, 0.0, 0.0, 0.0, 0.4]) + 1e-9)  # إن: might continue the name
    tags[-2] = np.log(np.array([0.1, 0.9, 0.0, 0.0, 0.0]) + 1e-9)  # وبالموصل: B-LOC
    tags[-1] = np.log([0.75, 0.05, 0.1, 0.05, 0.05])
    borders = np.log(np.full((len(WORDS), 3), 1 / 3))
    borders[-2] = np.log([0.2, 0.3, 0.5])
    per, loc = decode(encoded(), tags, borders, TAGS)
    assert (TEXT[per.start : per.end], TEXT[loc.start : loc.end]) == ("محمد السعيد", "الموصل")
    assert per.score == pytest.approx(0.7 * 0.7 * 0.6, abs=1e-5)
    assert loc.score == pytest.approx(0.9 * 0.9 * 0.5, abs=1e-5)
    _, heated = decode(encoded(), tags, borders, TAGS, tag_temperature=2.0, proclitic_temperature=0.5)
    begins = np.sqrt(0.9) / (np.sqrt(0.9) + np.sqrt(0.1))
    roots = np.sqrt([0.75, 0.05, 0.1, 0.05, 0.05])
    ends = 1 - roots[2] / roots.sum()
    border = 0.5**2 / (0.2**2 + 0.3**2 + 0.5**2)
    assert heated.score == pytest.approx(begins * ends * border, abs=1e-4)


def test_no_word_after_the_last_one_can_continue_a_name():
    tags = np.full((len(WORDS), 5), -30.0)
    tags[:, 0] = 0.0
    tags[-1] = np.log([0.25, 0.6, 0.05, 0.05, 0.05])
    (span,) = decode(encoded(), tags, None, TAGS)
    assert span == Span(int(WORDS[-1, 0]), int(WORDS[-1, 1]), "LOC", pytest.approx(0.6, abs=1e-5))


def test_a_calibration_is_read_as_it_was_written():
    record = json.loads(json.dumps({"format": 1, "calibration": FULL.to_dict()}))
    assert read_calibration(record, ("LOC", "PER"), where="m") == FULL
    assert record["calibration"]["fitted_on"] == {"documents": 12, "names": 34}


@pytest.mark.parametrize("stored", [None, {}, {"format": 1, "encoding": {}}, "other tool", {"calibration": None}])
def test_checkpoints_without_a_calibration_have_temperatures_of_one(stored):
    assert read_calibration(stored, ("LOC",), where="m") == Calibration()
    assert (Calibration().tag_temperature, Calibration().proclitic_temperature) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tag_temperature": 0}, "'tag_temperature' is 0, not a number from 0.01 to 100"),
        ({"tag_temperature": float("nan")}, "'tag_temperature' is nan"),
        ({"proclitic_temperature": "1"}, "'proclitic_temperature' is '1'"),
        ({"proclitic_temperature": True}, "'proclitic_temperature' is True"),
        ({"thresholds": {"ORG": 0.5}}, r"a threshold for 'ORG', which is not one of the model's labels \(LOC, PER\)"),
        ({"thresholds": {"LOC": 1.5}}, "'LOC' is 1.5"),
        ({"thresholds": [0.5]}, "in config.json: "),
        ({"fitted_on": 3}, "in config.json: "),
        ({"precision": -0.1}, "'precision' is -0.1"),
        ({"ece_after": "low"}, "'ece_after' is 'low'"),
    ],
)
def test_a_malformed_calibration_is_an_error_with_a_remedy(change, message):
    with pytest.raises(InputError, match=r"^runs/m: 'musamma.calibration' in config.json: ") as caught:
        read_calibration({"calibration": {**FULL.to_dict(), **change}}, ("LOC", "PER"), where="runs/m")
    assert caught.match(message)
    assert caught.match("run musamma calibrate again")


def test_a_missing_temperature_is_named():
    with pytest.raises(InputError, match="'tag_temperature' is missing"):
        read_calibration({"calibration": {"proclitic_temperature": 1.0}}, ("LOC",), where="m")
    with pytest.raises(InputError, match=r"in config\.json: .*what musamma calibrate writes"):
        read_calibration({"calibration": 3}, ("LOC",), where="m")


def test_every_other_key_of_the_configuration_keeps_its_value(tmp_path: Path):
    before = {
        "id2label": {"0": "O", "1": "B-مكان"},
        "layer_norm_eps": 1e-12,
        "model_max_length": 1000000000000000019884624838656,
        "rope": float("inf"),
        "musamma": {"format": 1, "encoding": {"max_length": 64, "overlap": 16}, "calibration": {"tag_temperature": 9}},
    }
    text = json.dumps(before, indent=2)
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    os.link(tmp_path / "config.json", tmp_path / "linked.json")  # as the best seed of a run is published
    write_calibration(FULL, tmp_path)
    after = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert after["musamma"].pop("calibration") == FULL.to_dict()
    del before["musamma"]["calibration"]  # type: ignore[attr-defined]
    assert after == before
    assert list(after) == list(before)
    assert (tmp_path / "linked.json").read_text("utf-8") == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "linked.json"]


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_an_unreadable_configuration_is_left_alone(tmp_path: Path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"config\.json: "):
        write_calibration(FULL, tmp_path)
    assert [path.read_text("utf-8") for path in tmp_path.iterdir()] == ([] if content is None else [content])
