"""Inline markup: its grammar, its errors, and writing as the inverse of reading."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.formats.markup import (
    parse_article,
    parse_markup,
    read_article,
    read_articles,
    render_article,
    render_markup,
)

ARTICLE = """---
topic: conflict
country: NO
date: 2016-10-18
time: 10:30
number: 12
---
قالت [وزارة الدفاع العراقية|ORG] إن قواتها دخلت [جامعة [الموصل|GPE]|ORG]
و\\[هامش\\] أ|ب \\\\ ل[داعش|ORG]."""


def test_article_gives_text_spans_nested_and_meta(tmp_path):
    path = tmp_path / "m01.txt"
    path.write_text(ARTICLE, "utf-8")
    document = read_article(path)
    assert document.id == "m01"
    assert document.text == "قالت وزارة الدفاع العراقية إن قواتها دخلت جامعة الموصل\nو[هامش] أ|ب \\ لداعش."
    assert [(document.surface(s), s.label) for s in document.spans] == [
        ("وزارة الدفاع العراقية", "ORG"),
        ("جامعة الموصل", "ORG"),
        ("داعش", "ORG"),
    ]
    assert [(document.surface(s), s.label) for s in document.nested] == [("الموصل", "GPE")]
    # A country and a time of day are no boolean and no sexagesimal number, as plain YAML has it.
    assert document.meta == {"topic": "conflict", "country": "NO", "date": "2016-10-18", "time": "10:30", "number": 12}


def test_a_file_is_written_as_it_was_read():
    written = ARTICLE.replace("country: NO", "country: 'NO'").replace("time: 10:30", "time: '10:30'")
    assert render_article(parse_article(ARTICLE.encode(), id="m01", where="m01.txt")) == written


@pytest.mark.parametrize(
    ("markup", "text", "spans", "nested"),
    [
        ("[أ|ب|ORG]", "أ|ب", [(0, 3, "ORG")], []),
        ("[حي [القاهرة|GPE]|GPE]", "حي القاهرة", [(0, 10, "GPE")], [(3, 10, "GPE")]),
        ("[[مصر|GPE]|ORG]", "مصر", [(0, 3, "ORG")], [(0, 3, "GPE")]),
        ("[بنك|ال[مصر|GPE]|ORG]", "بنك|المصر", [(0, 9, "ORG")], [(6, 9, "GPE")]),
        ("[أ|PER][ب|PER]", "أب", [(0, 1, "PER"), (1, 2, "PER")], []),
        ("", "", [], []),
    ],
)
def test_markup(markup, text, spans, nested):
    found = parse_markup(markup, where="x.txt")
    assert found == (text, tuple(Span(*s) for s in spans), tuple(Span(*s) for s in nested))
    document = Document("x", *found)
    assert render_markup(document) == markup


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        ("---\ntopic: x\n---\nقالت\n[بغداد|GPE", 5, "'[' is not closed: 'بغداد|GPE'"),
        ("---\ntopic: x\n---\nقالت بغداد|GPE]", 4, "']' without '['"),
        ("---\n---\nقالت [بغداد] اليوم", 3, "the name 'بغداد' has no label"),
        ("---\n---\n\n[بغداد|مدينة كبيرة]", 4, "has the label 'مدينة كبيرة'"),
        ("---\n---\n[|GPE]", 3, "a name GPE without surface"),
        ("---\n---\n[بنك|[مصر|GPE]]", 3, "has no label"),
        ("---\n---\nسطر\nأ\\ن", 4, "a backslash before 'ن'"),
        ("---\n---\nسطر\\", 3, "a backslash at the end"),
        ("---\ntopic: x\nقالت", 1, "the header is not closed"),
        ("---\ntopic: [x\n---\nقالت", 2, "broken YAML header"),
        ("---\njust words\n---\nقالت", 2, "the header is 'just words'"),
    ],
)
def test_errors_name_file_and_line(tmp_path, content, line, found):
    path = tmp_path / "m02.txt"
    path.write_text(content, "utf-8")
    with pytest.raises(InputError) as caught:
        read_article(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert found in str(caught.value)


def test_file_in_another_encoding_is_named_with_its_line(tmp_path):
    path = tmp_path / "m03.txt"
    path.write_bytes(b"---\n---\nok\n" + "قالت بغداد".encode("windows-1256"))
    with pytest.raises(InputError, match=r"m03\.txt:4: byte 0xde is not UTF-8"):
        read_article(path)
    with pytest.raises(InputError, match=r"nowhere\.txt: No such file"):
        read_article(tmp_path / "nowhere.txt")


def test_byte_order_mark_and_windows_line_ends_are_accepted_in_the_header():
    document = parse_article("\ufeff---\r\ntopic: x\r\n---\r\nقالت\r\n[بغداد|GPE]".encode(), id="w", where="w.txt")
    assert document.meta == {"topic": "x"}
    assert document.text == "قالت\r\nبغداد"


def test_names_that_markup_cannot_hold_are_errors():
    crossing = Document("x", "جامعة الموصل", (Span(0, 9, "ORG"),), (Span(6, 12, "GPE"),))
    with pytest.raises(InputError, match=r"'x': nested span .* crosses"):
        render_markup(crossing)
    with pytest.raises(InputError, match="lies in no name"):
        render_markup(Document("x", "جامعة الموصل", (), (Span(6, 12, "GPE"),)))
    with pytest.raises(InputError, match=r"label 'A\]B'"):
        render_markup(Document("x", "جامعة", (Span(0, 5, "A]B"),)))


def test_articles_are_named_by_their_path(tmp_path):
    (tmp_path / "news").mkdir()
    for name in ("b.txt", "a.txt", "news/a.txt"):
        (tmp_path / name).write_text("---\n---\n[بغداد|GPE]", "utf-8")
    assert [document.id for _, document in read_articles(tmp_path)] == ["a", "b", "news/a"]


TEXTS = st.text(st.sampled_from("ابتال وف[]\\|-\n\r\t\u064b\u0640\u200f\u2028:#'\"😀x1"), max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def documents(draw):
    """Documents with names inside names, some adjacent or equal."""
    text = draw(TEXTS)
    spans, nested = [], []
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    labels = st.sampled_from(["PER", "GPE", "ORG-1"])
    for start, end in zip(cuts[::2], cuts[1::2], strict=False):
        if start == end:
            continue
        spans.append(Span(start, end, draw(labels)))
        outer = (start, end)
        for _ in range(draw(st.integers(0, 2))):
            inner = sorted(draw(st.tuples(st.integers(*outer), st.integers(*outer))))
            if inner[0] < inner[1]:
                outer = tuple(inner)
                nested.append(Span(*outer, draw(labels)))
    meta = draw(st.dictionaries(st.text(max_size=6), VALUES, max_size=3))
    return Document("x", text, tuple(spans), tuple(nested), meta)


@settings(deadline=None)
@given(documents())
@example(Document("x", "", meta={"\x85": "\u2028\ufeff", "no": "NO", "t": "10:30", "n": "012", "d": "2016-10-18"}))
def test_reading_is_the_inverse_of_writing(document):
    assert parse_article(render_article(document).encode(), id="x", where="x.txt") == document
