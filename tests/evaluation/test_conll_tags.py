"""CoNLL files scored by the tags that stand in them."""

from pathlib import Path

import pytest

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.evaluation import Counts
from musamma.evaluation.conll_tags import locate_tags, read_tagged_sentences, score_conll_tags

GOLD = """\ufeffفرانكفورت B-LOC
(د O
ب O
أ) O

\u200eأعلن O
محمد I-PERS
السعيد I-PERS
بغداد B-LOC
"""


def conll(folder: Path, content: str, name: str = "gold.conll") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def documents(*texts: str, spans: tuple[Span, ...] = ()) -> list[Document]:
    return [Document(str(number), text, spans if number == 0 else ()) for number, text in enumerate(texts)]


def test_sentences_are_read_as_they_stand(tmp_path):
    first, second = read_tagged_sentences(conll(tmp_path, GOLD))
    assert first.words == ("فرانكفورت", "(د", "ب", "أ)")
    assert second.tags == ("O", "I-PERS", "I-PERS", "B-LOC")
    assert (first.where, second.where) == (f"{tmp_path}/gold.conll:1", f"{tmp_path}/gold.conll:6")


def test_windows_lines_tabs_and_document_marks_are_read(tmp_path):
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
def test_words_are_found_in_documents_however_they_are_joined(tmp_path, texts):
    placed = list(locate_tags(documents(*texts), read_tagged_sentences(conll(tmp_path, GOLD))))
    surfaces = [
        [document.text[start:end] for start, end in sentence.borders]
        for document, sentences in placed
        for sentence in sentences
    ]
    assert surfaces == [["فرانكفورت", "(د", "ب", "أ)"], ["أعلن", "محمد", "السعيد", "بغداد"]]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("فرانكفورت (د ب أ)",), "gold.conll:6: a sentence that is in no document"),
        (
            ("فرانكفورت (د ب أ)", "أعلن محمود السعيد بغداد"),
            "gold.conll:6: 'محمد' where document '1' goes on with 'محمود السعيد بغداد'",
        ),
        (("فرانكفورت (د ب", "أ)"), "gold.conll:1: 'أ)' where document '0' goes on with ''"),
        (
            ("فرانكفورت (د ب أ)", "أعلن محمد السعيد بغداد", "زيادة"),
            "the end of the file where document '2' goes on with 'زيادة'",
        ),
    ],
)
def test_other_texts_are_an_error(tmp_path, texts, message):
    with pytest.raises(InputError) as error:
        list(locate_tags(documents(*texts), read_tagged_sentences(conll(tmp_path, GOLD))))
    assert str(error.value).removeprefix(f"{tmp_path}/").startswith(message)


def gold_documents() -> list[Document]:
    """As a reader makes them that lets a stray I- open a name."""
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
        # محمد السعيد opens with I-: valid IOB2 has no such name, and the prediction of it is wrong.
        assert scores.modes["iob2_strict"].micro == Counts(2, 1, 0)


def test_predictions_in_another_order_meet_their_own_sentences(tmp_path):
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


def test_predictions_can_bring_tags_of_their_own(tmp_path):
    gold = gold_documents()
    theirs = conll(tmp_path, GOLD.replace("بغداد B-LOC", "بغداد I-LOC"), "predicted.conll")
    scores = score_conll_tags(gold, read_tagged_sentences(conll(tmp_path, GOLD)), gold, read_tagged_sentences(theirs))
    assert scores.modes["conlleval"].micro == Counts(3, 0, 0)
    assert scores.modes["iob2_strict"].micro == Counts(1, 0, 1)


def test_missing_predictions_have_no_tags(tmp_path):
    gold = gold_documents()
    path = conll(tmp_path, GOLD)
    scores = score_conll_tags(gold, read_tagged_sentences(path), gold[1:], missing_as_empty=True)
    assert (scores.missing, scores.modes["conlleval"].micro) == (1, Counts(2, 0, 1))


def test_predicted_tags_must_stand_on_the_same_words(tmp_path):
    gold = gold_documents()
    ours = conll(tmp_path, GOLD)
    parted = conll(tmp_path, GOLD.replace("(د O", "( O\nد O"), "parted.conll")
    with pytest.raises(
        InputError, match=r"parted\.conll:1: words that differ from those of the gold at .*gold\.conll:1"
    ):
        score_conll_tags(gold, read_tagged_sentences(ours), gold, read_tagged_sentences(parted))
    cut = conll(tmp_path, GOLD.replace("بغداد", "\nبغداد"), "cut.conll")
    with pytest.raises(InputError, match=r"cut\.conll:6: words that differ"):
        score_conll_tags(gold, read_tagged_sentences(ours), gold, read_tagged_sentences(cut))
