"""Scoring of IOB2 tags, as sequences and in CoNLL files. Metrics equal seqeval's in both its modes, to the last digit."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.evaluation import Counts, score_documents, score_tags
from musamma.evaluation.conll_tags import (
    lenient_chunks,
    locate_tags,
    read_tagged_sentences,
    score_conll_tags,
    strict_chunks,
)
from musamma.evaluation.word_boundaries import tag_words, whitespace_words

LABELS = ("PER", "LOC", "ORG", "MISC")
WORDS = ("أعلن", "(داعش)-الموصل", "وبالموصل", "محمد", "السعيد،", "«الآن»", "،")
ANY_TAG = st.sampled_from(["O", *(f"{prefix}-{label}" for prefix in "BI" for label in LABELS)])

GOLD = """\ufeffفرانكفورت B-LOC
(د O
ب O
أ) O

\u200eأعلن O
محمد I-PERS
السعيد I-PERS
بغداد B-LOC
"""


def seqeval_record(gold: list[list[str]], predicted: list[list[str]], mode: str) -> dict:
    options = {"mode": "strict", "scheme": IOB2} if mode == "iob2_strict" else {}
    report = classification_report(gold, predicted, output_dict=True, zero_division=0, **options)
    return {
        name: tuple(figures[key] for key in ("precision", "recall", "f1-score", "support"))
        for name, figures in report.items()
        if name != "weighted avg"
    }


def musamma_record(scores) -> dict:
    rows = {"micro avg": scores.micro, "macro avg": scores.macro, **scores.per_label}
    return {name: (row.precision, row.recall, row.f1, row.support) for name, row in rows.items()}


def corpus(seed: int, sentences: int = 925, labels=LABELS) -> tuple[list[list[str]], list[list[str]]]:
    """About 25,000 words and 2,200 names, some of which start with I-, and imperfect predictions."""
    random_ = random.Random(seed)
    gold, predicted = [], []
    for _ in range(sentences):
        tags = ["O"] * random_.randint(1, 53)
        for at in range(len(tags)):
            if random_.random() < 0.1 and tags[at] == "O":
                label = random_.choice(labels)
                tags[at] = ("I-" if random_.random() < 0.04 else "B-") + label
                for after in range(at + 1, min(len(tags), at + random_.choice((1, 1, 2, 3, 5)))):
                    tags[after] = f"I-{label}"
        guess = [random_.choice(["O", "B-PER", "I-LOC", "I-PER"]) if random_.random() < 0.05 else tag for tag in tags]
        gold.append(tags)
        predicted.append(guess)
    return gold, predicted


@pytest.mark.parametrize("labels", [LABELS, tuple(f"T{number}" for number in range(21))])
def test_a_corpus_of_real_size_scores_as_in_seqeval(labels):
    gold, predicted = corpus(1, labels=labels)
    assert 23_000 < sum(map(len, gold)) < 27_000
    scores = score_tags(gold, predicted)
    assert 2_000 < scores.modes["conlleval"].micro.support < 2_600
    assert scores.modes["iob2_strict"].micro.support < scores.modes["conlleval"].micro.support
    for mode in ("iob2_strict", "conlleval"):
        assert musamma_record(scores.modes[mode]) == seqeval_record(gold, predicted, mode)


def large_corpus(seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Return tags of 4,000 sentences with 9,000 names, the size of ANERcorp's training part, and imperfect predictions.

    Some names start with I-, as in ANERcorp.
    """
    random_ = random.Random(seed)
    gold, predicted = [], []
    for number in range(4_000):
        tags = ["O"] * random_.randint(24, 38)
        cells = sorted(random_.sample(range(len(tags) // 4), 3 if number % 4 == 0 else 2))
        for at in (4 * cell for cell in cells):
            label, length = random_.choice(LABELS), random_.choice((1, 1, 2, 3))
            opening = "I" if random_.random() < 0.01 else "B"
            tags[at : at + length] = [f"{opening}-{label}"] + [f"I-{label}"] * (length - 1)
        gold.append(tags)
        kinds = ["O", "B-PER", "I-LOC", "I-PER"]
        predicted.append([random_.choice(kinds) if random_.random() < 0.03 else tag for tag in tags])
    return gold, predicted


@pytest.mark.parametrize("mode", ["iob2_strict", "conlleval"])
def test_a_corpus_of_the_size_of_anercorp_scores_as_in_seqeval(mode):
    """To the last digit, from the tags and from documents with the same names as spans."""
    tags = large_corpus(4)
    assert sum(len(sentence) for sentence in tags[0]) > 110_000
    scores = score_tags(*tags).modes[mode]
    assert musamma_record(scores) == seqeval_record(*tags, mode)
    assert scores.micro.support == 9_000 if mode == "conlleval" else 8_850 < scores.micro.support < 9_000
    sides = [[tagged_document(str(number), tag) for number, tag in enumerate(side)] for side in tags]
    again = [[tag_words(whitespace_words(document.text), document.spans) for document in side] for side in sides]
    assert musamma_record(score_documents(*sides).modes[mode]) == seqeval_record(*again, mode)


def tagged_document(id: str, tags: list[str]) -> Document:
    """Return a document of words with these tags, with the names of the lenient reading."""
    text = " ".join(WORDS[number % len(WORDS)] for number in range(len(tags)))
    words = whitespace_words(text)
    names = [(words[start][0], words[end - 1][1], label) for start, end, label in lenient_chunks(tags)]
    return Document(id, text, tuple(Span(*name) for name in names))


@given(st.lists(st.tuples(ANY_TAG, ANY_TAG), min_size=1, max_size=12))
def test_any_tags_are_read_as_in_seqeval(pairs):
    for tags in map(list, zip(*pairs, strict=True)):
        assert [(label, start, end - 1) for start, end, label in lenient_chunks(tags)] == get_entities(tags)
        expected = {(e.start, e.end, e.tag) for e in Entities([tags], IOB2).entities[0]}
        assert set(strict_chunks(tags)) == expected


def test_a_name_that_starts_with_inside_counts_only_in_the_lenient_reading():
    gold = [["I-PER", "I-PER", "O", "B-LOC", "I-ORG"]]
    scores = score_tags(gold, [["B-PER", "I-PER", "O", "B-LOC", "O"]])
    assert scores.modes["conlleval"].micro == Counts(2, 0, 1)
    assert scores.modes["iob2_strict"].micro == Counts(1, 1, 0)
    assert scores.documents == 1
    assert "micro" not in scores.to_dict()


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ([["O"], ["O"]], [["O"]], "sentence 2: the predicted tags end after 1 sentences"),
        ([["O"]], [["O"], ["O"]], "sentence 2: the gold tags end after 1 sentences"),
        ([["O"], ["O", "O"]], [["O"], ["O"]], "sentence 2: 2 gold tags and 1 predicted tags"),
        ([["S-PER"]], [["O"]], "sentence 1: tag 'S-PER'; expected O, B-label or I-label"),
        ([["O"]], [["PER"]], "sentence 1: tag 'PER'"),
        ([["B-"]], [["O"]], "sentence 1: tag 'B-'"),
    ],
)
def test_tags_that_cannot_be_scored_raise_an_error(gold, predicted, message):
    with pytest.raises(InputError) as error:
        score_tags(gold, predicted)
    assert str(error.value).startswith(message)


def test_documents_scored_by_tags_are_scored_as_in_seqeval():
    random_ = random.Random(3)
    sides: list[list[Document]] = [[], []]
    for number in range(300):
        text = " ".join(random_.choices(WORDS, k=20))
        for side in sides:
            cuts = sorted(random_.sample(range(len(text)), 14))
            spans = [Span(*cut, random_.choice(LABELS)) for cut in zip(cuts[::2], cuts[1::2], strict=True)]
            side.append(Document(str(number), text, tuple(spans)))
    scores = score_documents(*sides)
    gold, predicted = ([tag_words(whitespace_words(d.text), d.spans) for d in side] for side in sides)
    assert scores.gold_losses.dropped_iob > 50
    assert scores.modes["iob2_strict"].micro.tp > 20
    for mode in ("iob2_strict", "conlleval"):
        assert musamma_record(scores.modes[mode]) == seqeval_record(gold, predicted, mode)


def conll(folder: Path, content: str, name: str = "gold.conll") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def documents(*texts: str, spans: tuple[Span, ...] = ()) -> list[Document]:
    return [Document(str(number), text, spans if number == 0 else ()) for number, text in enumerate(texts)]


def test_sentences_are_read_without_repair(tmp_path):
    first, second = read_tagged_sentences(conll(tmp_path, GOLD))
    assert first.words == ("فرانكفورت", "(د", "ب", "أ)")
    assert second.tags == ("O", "I-PERS", "I-PERS", "B-LOC")
    assert (first.where, second.where) == (f"{tmp_path}/gold.conll:1", f"{tmp_path}/gold.conll:6")


def test_windows_line_ends_tabs_and_document_marks_are_read(tmp_path):
    path = conll(tmp_path, "-DOCSTART- O\r\n\r\nبغداد\tNN\tB-LOC\r\n\r\n\r\nاليوم\tNN\tO\r\n")
    assert [(s.words, s.tags) for s in read_tagged_sentences(path)] == [(("بغداد",), ("B-LOC",)), (("اليوم",), ("O",))]


def test_labels_are_renamed_and_dropped(tmp_path):
    (sentence,) = read_tagged_sentences(
        conll(tmp_path, "محمد B-PERS\nالسعيد I-PERS\nسومر B-MISC\n"), relabel={"PERS": "PER", "MISC": None}.get
    )
    assert sentence.tags == ("B-PER", "I-PER", "O")


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        ("بغداد B-LOC\nاليوم\n", 2, "the token 'اليوم' has no tag"),
        ("بغداد B-LOC\n\nاليوم S-LOC\n", 3, "tag 'S-LOC'"),
        ("جامعة B-ORG\nبغداد I-ORG B-LOC\n", 2, "the tags I-ORG B-LOC on one word"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path, content, line, found):
    path = conll(tmp_path, content)
    with pytest.raises(InputError) as error:
        list(read_tagged_sentences(path))
    assert str(error.value).startswith(f"{path}:{line}: {found}; expected")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.conll: No such file"):
        list(read_tagged_sentences(tmp_path / "none.conll"))
    (tmp_path / "old.conll").write_bytes("بغداد B-LOC\n".encode("windows-1256"))
    with pytest.raises(InputError, match=r"old\.conll:1: byte 0xc8 at byte 1 is not UTF-8"):
        list(read_tagged_sentences(tmp_path / "old.conll"))


@pytest.mark.parametrize(
    "texts",
    [
        ("فرانكفورت (د ب أ)", "أعلن محمد السعيد بغداد"),
        ("فرانكفورت (د ب أ)\nأعلن محمد السعيد بغداد\n",),
        ("فرانكفورت(دبأ)", "\u200eأعلن محمدالسعيد بغداد"),
    ],
)
def test_words_are_located_in_documents_however_they_are_joined(tmp_path, texts):
    located = list(locate_tags(documents(*texts), read_tagged_sentences(conll(tmp_path, GOLD))))
    surfaces = [
        [document.text[start:end] for start, end in sentence.words]
        for document, sentences in located
        for sentence in sentences
    ]
    assert surfaces == [["فرانكفورت", "(د", "ب", "أ)"], ["أعلن", "محمد", "السعيد", "بغداد"]]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("فرانكفورت (د ب أ)",), "gold.conll:6: a sentence that is in no document"),
        (
            ("فرانكفورت (د ب أ)", "أعلن محمود السعيد بغداد"),
            "gold.conll:6: 'محمد' where document '1' continues with 'محمود السعيد بغداد'",
        ),
        (("فرانكفورت (د ب", "أ)"), "gold.conll:1: 'أ)' where document '0' continues with ''"),
        (
            ("فرانكفورت (د ب أ)", "أعلن محمد السعيد بغداد", "زيادة"),
            "the end of the file where document '2' continues with 'زيادة'",
        ),
    ],
)
def test_other_texts_are_an_error(tmp_path, texts, message):
    with pytest.raises(InputError) as error:
        list(locate_tags(documents(*texts), read_tagged_sentences(conll(tmp_path, GOLD))))
    assert str(error.value).removeprefix(f"{tmp_path}/").startswith(message)


def gold_documents() -> list[Document]:
    """The documents of ``GOLD``, with the names a reader makes of tags repaired."""
    spans = (Span(0, 9, "LOC"),), (Span(5, 16, "PERS"), Span(17, 22, "LOC"))
    texts = "فرانكفورت (د ب أ)", "أعلن محمد السعيد بغداد"
    return [Document(str(number), text, names) for number, (text, names) in enumerate(zip(texts, spans, strict=True))]


def test_predicted_names_are_scored_against_the_tags_of_the_file(tmp_path):
    gold = gold_documents()
    path = conll(tmp_path, GOLD)
    for predictions in (gold, gold[::-1]):
        scores = score_conll_tags(gold, read_tagged_sentences(path), predictions)
        assert scores.strict.micro == Counts(3, 0, 0)
        assert scores.modes["conlleval"].micro == Counts(3, 0, 0)
        # محمد السعيد starts with I-: valid IOB2 has no such name, so predicting it is wrong.
        assert scores.modes["iob2_strict"].micro == Counts(2, 1, 0)


def test_predictions_in_another_order_are_scored_on_their_sentences(tmp_path):
    path = conll(tmp_path, "بغداد B-LOC\n\nاليوم O\n\nمحمد B-PER\n\nإلى O\n")
    gold = [
        Document("0", "بغداد", (Span(0, 5, "LOC"),)),
        Document("1", "اليوم"),
        Document("2", "محمد", (Span(0, 4, "PER"),)),
        Document("3", "إلى"),
    ]
    for turned in (gold, gold[2:] + gold[:2], gold[1:] + gold[:1]):
        scores = score_conll_tags(gold, read_tagged_sentences(path), turned)
        assert scores.modes["iob2_strict"].per_label == {"LOC": Counts(1, 0, 0), "PER": Counts(1, 0, 0)}
    turned_path = conll(tmp_path, "محمد B-PER\n\nإلى O\n\nبغداد B-LOC\n\nاليوم O\n", "turned.conll")
    scores = score_conll_tags(
        gold, read_tagged_sentences(path), gold[2:] + gold[:2], read_tagged_sentences(turned_path)
    )
    assert scores.modes["iob2_strict"].micro == Counts(2, 0, 0)


def test_predictions_in_a_conll_file_are_scored_by_its_tags(tmp_path):
    gold = gold_documents()
    other = conll(tmp_path, GOLD.replace("بغداد B-LOC", "بغداد I-LOC"), "predicted.conll")
    scores = score_conll_tags(gold, read_tagged_sentences(conll(tmp_path, GOLD)), gold, read_tagged_sentences(other))
    assert scores.modes["conlleval"].micro == Counts(3, 0, 0)
    assert scores.modes["iob2_strict"].micro == Counts(1, 0, 1)


def test_missing_predictions_have_no_tags(tmp_path):
    gold = gold_documents()
    path = conll(tmp_path, GOLD)
    scores = score_conll_tags(gold, read_tagged_sentences(path), gold[1:], missing_as_empty=True)
    assert (scores.missing, scores.modes["conlleval"].micro) == (1, Counts(2, 0, 1))


def test_predicted_tags_must_be_on_the_same_words(tmp_path):
    gold = gold_documents()
    gold_path = conll(tmp_path, GOLD)
    parted = conll(tmp_path, GOLD.replace("(د O", "( O\nد O"), "parted.conll")
    with pytest.raises(
        InputError, match=r"parted\.conll:1: words that differ from those of the gold at .*gold\.conll:1"
    ):
        score_conll_tags(gold, read_tagged_sentences(gold_path), gold, read_tagged_sentences(parted))
    cut = conll(tmp_path, GOLD.replace("بغداد", "\nبغداد"), "cut.conll")
    with pytest.raises(InputError, match=r"cut\.conll:6: words that differ"):
        score_conll_tags(gold, read_tagged_sentences(gold_path), gold, read_tagged_sentences(cut))
