"""Findings about the consistency of a corpus."""

import pytest

from musamma.data.consistency import (
    find_ambiguous_forms,
    find_border_issues,
    find_missed_forms,
    find_repeated_texts,
    find_unknown_labels,
)
from musamma.data.document import Document, Span


def document(markup, id="d"):
    """Build a document from ``[surface|LABEL]`` without nesting."""
    text, spans = "", []
    for piece in markup.split("["):
        name, bar, rest = piece.partition("|")
        if not bar:
            text += piece
            continue
        label, _, rest = rest.partition("]")
        spans.append(Span(len(text), len(text) + len(name), label))
        text += name + rest
    return Document(id, text, tuple(spans))


@pytest.mark.parametrize(
    ("markup", "kinds"),
    [
        ("قاتل [داعش|ORG] اليوم", []),
        ("و[داعش|ORG]", ["behind_proclitic"]),
        ("وب[الموصل|GPE]", ["behind_proclitic"]),
        ("ل[لجيش|ORG]", ["behind_proclitic"]),
        ("وَ[داعش|ORG]", ["behind_proclitic"]),  # a vowel mark between
        ("وـ[داعش|ORG]", ["behind_proclitic"]),  # a tatweel
        ("مو[داعش|ORG]", ["starts_inside_word"]),
        ("[رحلات|ORG]هم", ["before_suffix"]),
        ("[الولايات المتحد|GPE]ة", ["ends_inside_word"]),
        ('["داعش"|ORG]', ["punctuation_at_border"]),
        ("[داعش،|ORG]", ["punctuation_at_border"]),
        ("[أ. ف. ب.|ORG]", []),  # an abbreviation ends in a full stop
        ("[حماس (الحركة)|ORG]", []),
        ("[\u200fداعش|ORG]", ["mark_at_border"]),
        ("ب[\u0640بغداد|GPE]", ["starts_inside_word"]),
    ],
)
def test_border_issues(markup, kinds):
    issues = list(find_border_issues([document(markup)]))
    assert [issue.kind for issue in issues] == kinds
    for issue in issues:
        assert issue.document == "d"
        assert issue.surface in issue.context


def test_a_proclitic_inside_a_name_is_found_by_comparison():
    corpus = [
        document("[الموصل|GPE] ثم [الموصل|GPE]", "a"),
        document("[بالموصل|GPE] و[الجيش|ORG] ثم [الجيش|ORG]", "b"),
        document("[للجيش|ORG] في [لبنان|GPE]", "c"),
    ]
    found = [(r.document, r.surface) for r in find_border_issues(corpus) if r.kind == "proclitic_inside"]
    assert found == [("b", "بالموصل"), ("c", "للجيش")]


def test_ambiguous_forms_name_their_documents():
    corpus = [document("[عمان|GPE] و[عُمـان|LOC]", "a"), document("[عمان|GPE] [مسقط|GPE]", "b")]
    [form] = find_ambiguous_forms(corpus)
    assert (form.surface, form.tagged) == ("عمان", {"GPE": ("a", "b"), "LOC": ("a",)})
    assert form.to_dict() == {
        "surface": "عمان",
        "labels": {"GPE": 2, "LOC": 1},
        "documents": {"GPE": ["a", "b"], "LOC": ["a"]},
    }


def test_missed_forms_are_whole_words_or_follow_proclitics():
    corpus = [
        document("[داعش|ORG] و[الجيش العراقي|ORG] [داعش|ORG]", "a"),
        document("قال داعش وبداعش: للجيش العراقي", "b"),
        document("داعشي، الداعش و[داعش|ORG] الجيش العراقية", "c"),  # other words
        document("[داعش في بغداد|ORG]", "d"),  # inside another name
    ]
    forms = {form.surface: form for form in find_missed_forms(corpus)}
    assert {surface: form.missed for surface, form in forms.items()} == {"داعش": ("b", "b"), "الجيش العراقي": ("b",)}
    assert forms["داعش"].tagged == {"ORG": ("a", "a", "c")}
    assert forms["داعش"].share == 0.6
    assert forms["داعش"].to_dict()["missed_in"] == ["b"]


def test_the_longest_missed_form_counts():
    corpus = [document("[الموصل|GPE] [جامعة الموصل|ORG]", "a"), document("في جامعة الموصل", "b")]
    assert [(form.surface, form.missed) for form in find_missed_forms(corpus)] == [("جامعة الموصل", ("b",))]


def test_mostly_annotated_forms_come_first():
    corpus = [document("[مصر|GPE] [مصر|GPE] [الجزيرة|ORG]", "a"), document("مصر الجزيرة الجزيرة", "b")]
    assert [form.surface for form in find_missed_forms(corpus)] == ["مصر", "الجزيرة"]


def test_repeated_texts_and_unknown_labels():
    corpus = [document("في [بغداد|GPE]", "a"), document("فِي  [بغداد|CITY]", "b"), document("في الموصل", "c")]
    assert find_repeated_texts(corpus) == [["a", "b"]]
    assert find_unknown_labels(corpus, ("GPE",)) == {"CITY": ["b"]}
