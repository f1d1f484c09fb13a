"""The report: document text never becomes markup, every name is drawn, and scores without enough names are not shown."""

from __future__ import annotations

import html
import json
import unicodedata
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musamma.data.arabic import word_offsets
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.evaluation.analysis import Analysis, analyse
from musamma.evaluation.error_analysis import ConfusionMatrix
from musamma.evaluation.matching import MODES, PAIR_KINDS, NamePair, pair_names
from musamma.evaluation.partial_credit import SCHEMAS
from musamma.evaluation.reliability import Reliability, ReliabilityBin
from musamma.evaluation.report import write_report
from musamma.evaluation.report.annotated_text import cut_excerpt, cut_text, select_articles, text_direction
from musamma.evaluation.report.escaping import escape_block, escape_inline, escape_plain
from musamma.evaluation.report.html_page import build_reliability_bars, render_html, shade_confusion
from musamma.evaluation.report.markdown import escape_markdown, render_markdown
from musamma.evaluation.report.score_rows import find_weak_slices, label_rows, slice_rows
from musamma.evaluation.report.wording import (
    DIMENSION_TITLES,
    KIND_MEANINGS,
    KIND_SIGNS,
    KIND_TITLES,
    MODE_MEANINGS,
    SCHEMA_MEANINGS,
)
from musamma.evaluation.slices import DIMENSIONS
from tests.support import make_document, span

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
HOSTILE = (
    "زار <script>alert(1)</script> بغداد]]> </script><img src=x onerror=alert(2)> &lt;b&gt; "
    "\u202eالموصل\u2066 \x00\x01\x1b\x7f\u2028 {{ 7 * 7 }} {% raw %} -->"
)
HOSTILE_LABEL = '"><i onclick=alert(3)>\u202e'

_letters = st.sampled_from("وبالموصل دمشق، <&\n\u202eab1")


class Page(HTMLParser):
    """Elements, attributes, and the text of every element with a class or an id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.data: list[tuple[str, tuple[tuple[str, dict[str, str | None]], ...]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "input"):
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))  # SVG shapes.

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        self.data.append((data, tuple(self.open)))

    def texts(self, name: str, *, without: str = "") -> list[str]:
        """The texts of the elements of a class, in order, without inner elements of the class ``without``."""
        found: dict[int, str] = {}
        for data, above in self.data:
            classes = [str(attributes.get("class", "")).split() for _, attributes in above]
            at = next((index for index, names in enumerate(classes) if name in names), None)
            if at is not None:
                key = id(above[at][1])
                found[key] = found.get(key, "") + ("" if any(without in names for names in classes[at:]) else data)
        return list(found.values())


def visible(text: str) -> str:
    """A text without the characters a page shows as markers."""
    retained = (
        "\n\t\u200d" + "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"
    )  # signs above numbers
    return "".join(c for c in text if c in retained or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))


def pairs() -> list[tuple[Document, Document]]:
    """Name pairs of all kinds, and texts with markup and bidi characters."""
    news = "وصل محمد السعيد إلى الموصل، ثم بالقاهرة مع وفد الأمم المتحدة ووكالة رويترز أمس"
    gold = make_document(news, ("محمد السعيد", "PER"), ("الموصل", "LOC"), ("القاهرة", "LOC"), ("الأمم المتحدة", "ORG"), id="خبر-1", meta={"source": "رويترز", "date": "2024-01-12"})  # fmt: skip
    predicted = make_document(news, ("محمد", "PER", 0.9), ("الموصل", "ORG", 0.8), ("بالقاهرة", "LOC", 0.7), ("رويترز", "ORG", 0.99), id="خبر-1", meta=gold.meta)  # fmt: skip
    hostile = make_document(
        HOSTILE, ("<script>", "PER"), ("بغداد", HOSTILE_LABEL), id="<b>&\u202eid", meta={"<i>": "<u>"}
    )
    hostile_prediction = make_document(
        HOSTILE, ("<script>alert(1)</script>", "ORG", 0.5), ("\u202eالموصل", "LOC", 0.6), id="<b>&\u202eid"
    )
    good = make_document("سافر إلى دمشق", ("دمشق", "LOC"), id="خبر-2")
    return [
        (gold, predicted),
        (hostile, hostile_prediction),
        (good, make_document("سافر إلى دمشق", ("دمشق", "LOC", 0.95), id="خبر-2")),
    ]


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    gold, predicted = zip(*pairs(), strict=True)
    return analyse(gold, predicted, system="<script>\u202enawah|`x`", training=gold[2:], resamples=50)


@pytest.fixture(scope="module")
def parsed(analysis: Analysis) -> Page:
    return Page(render_html(analysis))


def test_every_kind_mode_schema_and_dimension_has_wording() -> None:
    assert tuple(KIND_TITLES) == tuple(KIND_SIGNS) == tuple(KIND_MEANINGS) == PAIR_KINDS
    assert len(set(KIND_SIGNS.values())) == len(PAIR_KINDS)
    assert set(MODE_MEANINGS) == set(MODES)
    assert set(SCHEMA_MEANINGS) == set(SCHEMAS)
    assert set(DIMENSION_TITLES) == set(DIMENSIONS)


@given(st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=()), max_size=60))
def test_escaping_retains_the_text_and_removes_bidi_characters(text: str) -> None:
    for shown in (escape_block(text), escape_inline(text)):
        found = Page(str(shown))
        assert {name for name, _ in found.elements} <= {"i", "bdi"}
        assert not set(str(shown)) & set(BIDI)
        assert "".join(data for data, _ in found.data) == visible(text)
        assert len(visible(text)) + str(shown).count("data-mark") >= len(text)


def test_hidden_characters_are_named() -> None:
    assert [attributes["title"] for _, attributes in Page(str(escape_block("a\u202eb\x00"))).elements] == [
        "U+202E right-to-left override",
        "U+0000 control character",
    ]
    assert "data-mark" not in escape_block("a\nb\tc")
    assert escape_inline("a\nb").count("data-mark") == 1
    assert escape_block("ه\u200dم") == "ه\u200dم"  # a joiner only joins
    assert escape_plain("a\u202e\n  b") == "a‹U+202E› b"


@st.composite
def _compared(draw: st.DrawFn) -> tuple[str, list[NamePair]]:
    text = draw(st.text(_letters, min_size=1, max_size=40))

    def names() -> tuple[Span, ...]:
        borders = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
        labels = st.sampled_from(["PER", "LOC"])
        return tuple(Span(a, b, draw(labels)) for a, b in pairwise(borders) if draw(st.booleans()))

    return text, pair_names(Document("x", text, names()), names())


@given(_compared())
def test_cutting_retains_every_character_and_name(compared: tuple[str, list[NamePair]]) -> None:
    text, cases = compared
    cut = list(cut_text(text, cases))
    assert "".join(segment.text + "".join(fragment.text for fragment in segment.fragments) for segment in cut) == text
    shown = [pair for segment in cut for pair in segment.pairs]
    assert len(shown) == len(cases)
    assert all(pair in shown for pair in cases)
    inside = {offset for start, end in word_offsets(text) for offset in range(start + 1, end)}
    at = 0
    for segment in cut:
        assert not (segment.pairs and at in inside), "a tag inside a word breaks the joining of its letters"
        for fragment in segment.fragments:
            for side, kind in (("gold", fragment.gold), ("predicted", fragment.predicted)):
                covering = [c.kind for c in cases if (s := getattr(c, side)) and s.start <= at < s.end]
                assert covering == ([kind] if kind else [])
            at += len(fragment.text)
        at += len(segment.text)


def test_a_name_after_a_proclitic_shows_both_borders() -> None:
    text = "ثم بالقاهرة أمس"
    gold, predicted = Span(4, 11, "LOC"), Span(3, 11, "LOC", 0.7)
    cut = list(cut_text(text, pair_names(Document("x", text, (gold,)), [predicted])))
    fragments = cut[1].fragments
    assert [(p.text, p.gold, p.predicted, p.edges) for p in fragments] == [
        ("ب", None, "proclitic", ("right",)),
        ("القاهرة", "proclitic", "proclitic", ("left",)),
    ]
    assert [segment.text for segment in cut if segment.text] == ["ثم ", " أمس"]
    assert text_direction("ABC بغداد") == "ltr"
    assert text_direction("12 بغداد") == text_direction("12") == "rtl"


def test_a_name_split_into_two_predictions_is_drawn_as_one_group() -> None:
    text = "مجلس الأمن الدولي"
    cases = pair_names(Document("x", text, (Span(0, 17, "ORG"),)), [Span(0, 10, "ORG"), Span(11, 17, "ORG")])
    name, outcome = cut_text(text, cases)
    assert [(p.gold, p.predicted) for p in name.fragments] == [
        ("border", "border"),
        ("border", None),
        ("border", "spurious"),
    ]
    assert [case.kind for case in outcome.pairs] == ["border", "spurious"]


def test_an_excerpt_is_cut_at_words() -> None:
    text = "كلمة " * 20 + "بغداد" + " كلمة" * 20
    shown = cut_excerpt(text, NamePair("x", "missed", span(text, "بغداد"), None), width=12)
    assert "".join(p.text or "".join(q.text for q in p.fragments) for p in shown) == "… كلمة كلمة بغداد كلمة كلمة …"


def test_articles_with_most_errors_come_first_up_to_the_limits() -> None:
    compared = pairs()
    cases = [case for gold, predicted in compared for case in pair_names(gold, predicted.spans)]
    assert [article.errors for article in select_articles(compared, cases)] == [5, 3, 0]
    assert [article.id for article in select_articles(compared, cases, max_articles=1)] == ["خبر-1"]
    # The longest document does not fit; the others still do.
    assert [article.id for article in select_articles(compared, cases, max_characters=100)] == ["خبر-1", "خبر-2"]


def test_no_text_becomes_markup(parsed: Page) -> None:
    names = [name for name, _ in parsed.elements]
    assert names.count("script") == names.count("style") == 1
    assert not {"img", "iframe", "object", "embed", "link", "base", "u"} & set(names)
    for _, attributes in parsed.elements:
        assert not [key for key in attributes if key.startswith("on") or key in ("style", "src", "srcset", "srcdoc")]
        assert str(attributes.get("href", "#")).startswith("#")
        assert not set("".join(map(str, attributes.values()))) & set(BIDI)


def test_the_page_has_no_control_characters(analysis: Analysis) -> None:
    text = render_html(analysis)
    assert not {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")} - set("\n\t")


def test_articles_show_the_documents_text(parsed: Page) -> None:
    shown = parsed.texts("text", without="tag")
    assert sorted(shown) == sorted(visible(gold.text) for gold, _ in pairs())


def test_the_policy_allows_the_page_its_own_style_and_script_only(parsed: Page) -> None:
    policy = next(str(a["content"]) for _, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for element in ("style", "script"):
        content = "".join(data for data, above in parsed.data if above and above[-1][0] == element)
        digest = b64encode(sha256(content.encode()).digest()).decode()
        assert rules[f"{element}-src"] == f"'sha256-{digest}'"
        assert "http" not in content
        assert "url(" not in content
        assert "@import" not in content
        assert "innerHTML" not in content
        assert "insertAdjacentHTML" not in content


def test_every_pair_is_described_in_words(analysis: Analysis, parsed: Page) -> None:
    tags = [a for name, a in parsed.elements if "data-kind" in a]
    assert {str(a["data-kind"]) for a in tags} == {case.kind for case in analysis.name_pairs}
    assert len(tags) >= len(analysis.name_pairs)
    words = " ".join(parsed.texts("tag"))
    for kind in {case.kind for case in analysis.name_pairs}:
        assert KIND_TITLES[kind] in words
    assert "LOC → ORG" in words


def test_small_slices_show_no_scores_and_are_not_weak(analysis: Analysis, parsed: Page) -> None:
    assert analysis.slices
    assert not any(part.enough for part in analysis.slices)
    assert find_weak_slices(analysis) == []
    assert parsed.texts("few")
    assert set(parsed.texts("few")) == {"too few"}
    assert not any(row.intervals for rows in slice_rows(analysis).values() for row in rows)
    assert not any(row.intervals for row in label_rows(analysis))  # three documents


def test_a_slice_far_below_all_names_is_weak() -> None:
    text = "بغداد دمشق"
    gold = [make_document(text, ("بغداد", "LOC"), ("دمشق", "ORG"), id=f"n{i}", meta={"source": "أ" if i < 30 else "ب"})
            for i in range(80)]  # fmt: skip
    predicted = [truth.with_spans([span for span in truth.spans if span.label == "LOC" or i % 8 == 0])
              for i, truth in enumerate(gold)]  # fmt: skip
    found = find_weak_slices(analysis := analyse(gold, predicted, system="x", resamples=200))
    assert {(dimension, row.name) for dimension, row in found} == {("label", "ORG"), ("position", "rest")}
    assert label_rows(analysis)[1].intervals is not None
    assert "### Scores by label" in render_markdown(analysis)
    row = next(line for line in render_markdown(analysis).splitlines() if line.startswith("| <code>ORG</code> |"))
    assert [cell.split()[0] for cell in row.strip("| ").split(" | ")[1:]] == ["100.00", "12.50", "22.22", "80"]
    one = [
        (truth, guess) for truth, guess in zip(gold, predicted, strict=True) if truth.id in ("n1", "n8", "n9", "n10")
    ]
    few = analyse(*zip(*one, strict=True), system="x", resamples=50)
    assert all(row.intervals is None for row in label_rows(few))


def test_reliability_is_drawn_to_scale() -> None:
    bins = ReliabilityBin(0.0, 0.5, 0, 0.0, 0.0), ReliabilityBin(0.5, 1.0, 40, 0.8, 0.75)
    reliability = Reliability(bins, ece=0.05, ace=0.05, brier=0.2, count=40, confidence=0.8, precision=0.75)
    (bar,) = build_reliability_bars(reliability)
    assert (bar.x, bar.width, bar.y, bar.height, bar.mean, bar.count, bar.share) == (100, 100, 50, 150, 160, 40, 200)


def test_one_error_among_many_is_shaded() -> None:
    matrix = np.array([[999, 1, 0], [0, 0, 0], [0, 4, 0]])
    assert shade_confusion(ConfusionMatrix(("LOC", "PER"), matrix)) == [[6, 1, 0], [0, 0, 0], [0, 6, 0]]


def test_without_scores_a_sentence_replaces_the_chart() -> None:
    gold, predicted = zip(*pairs(), strict=True)
    bare = [guess.with_spans([Span(*span.key) for span in guess.spans]) for guess in predicted]
    text = render_html(analyse(gold, bare, system="x", resamples=0))
    assert "The predictions carry no scores" in text
    assert 'class="reliability"' not in text
    assert "There are no confidence intervals." in text


def test_a_missing_prediction_is_named() -> None:
    gold, predicted = zip(*pairs(), strict=True)
    text = render_html(analyse(gold, predicted[:2], system="x", resamples=0, missing_as_empty=True))
    assert text.count("<p>no prediction, which counts as an empty one") == 1
    assert "1 document had no prediction" in text


def test_a_warning_says_when_intervals_are_too_narrow() -> None:
    gold, predicted = zip(*pairs(), strict=True)
    analysis = analyse(gold, predicted, system="x", resamples=50)
    for text in (render_html(analysis), render_markdown(analysis)):
        assert "On the intervals: 3 documents with names: intervals over so few are too narrow" in text
    whole = analyse(gold, predicted, system="x", resamples=0)
    assert "On the intervals" not in render_html(whole) + render_markdown(whole)


def test_a_suspect_form_is_shown_between_whole_words() -> None:
    annotated = [make_document("زار الوفد بغداد", ("بغداد", "LOC"), id=f"n{i}") for i in range(3)]
    text = "كان الاجتماع الذي قد عقد أمس الأول في العاصمة بغداد قصيرا ولم يحضره من الوزراء غير ثلاثة منهم فقط"
    gold = [*annotated, Document("x", text)]
    (shown,) = Page(render_html(analyse(gold, gold, system="x", resamples=0))).texts("context")
    assert shown == "… الذي قد عقد أمس الأول في العاصمة بغداد قصيرا ولم يحضره من الوزراء غير ثلاثة …"


def test_names_a_mode_cannot_represent_are_counted() -> None:
    gold = [make_document("دخل (داعش)-الموصل أمس", ("داعش", "ORG"), ("الموصل", "LOC"), id="x")]
    analysis = analyse(gold, [truth.with_spans([]) for truth in gold], system="x", resamples=0)
    for text in (render_html(analysis), render_markdown(analysis)):
        assert "IOB modes: 1 annotated name without a separate tag." in text
        assert "predicted name without a tag" not in text


def test_documents_without_names_have_a_report() -> None:
    empty = [Document("x", "لا اسم هنا")]
    analysis = analyse(empty, empty, system="x", resamples=50)
    assert "0.00" in render_html(analysis)
    assert render_markdown(analysis).startswith("## Evaluation of <code>x</code>")


@given(st.text(max_size=40))
def test_data_cannot_become_markdown(text: str) -> None:
    shown = escape_markdown(text)
    assert shown.startswith("<code>")
    assert shown.endswith("</code>")
    assert "\n" not in shown
    inner = shown.removeprefix("<code>").removesuffix("</code>")
    assert html.unescape(inner) == escape_plain(text)
    assert not set(inner) & set('|`<>*[]\\@:.!~$"{}')
    assert not set(inner) & set(BIDI)


def test_markdown_tables_have_their_columns(analysis: Analysis) -> None:
    text = render_markdown(analysis)
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) >= 5
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
    assert "nawah&#124;&#96;x&#96;" in text
    assert "with too few names left out." in text
    assert "| proclitic only | 1 |" in text
    assert "<code>الموصل</code>" in text


def test_three_files_are_written(analysis: Analysis, tmp_path) -> None:
    folder = tmp_path / "new" / "report"
    write_report(analysis, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json", "report.md"]
    assert (folder / "report.html").read_text(encoding="utf-8") == render_html(analysis)
    record = json.loads((folder / "report.json").read_bytes())
    assert record["scores"]["micro"]["tp"] == 1
    assert record["system"] == analysis.system


def test_a_file_in_place_of_the_folder_is_an_error(analysis: Analysis, tmp_path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(InputError, match="taken"):
        write_report(analysis, tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    assert (tmp_path / "taken").read_text() == "mine"
