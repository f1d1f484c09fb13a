"""The report: what a document holds stays text, every name is drawn, every figure is told with what stands behind it."""

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
from musamma.evaluation.matching import PAIR_KINDS, NamePair, pair_names
from musamma.evaluation.metrics import MODES as ALL_MODES
from musamma.evaluation.partial_credit import SCHEMAS
from musamma.evaluation.reliability import Reliability, ReliabilityBin
from musamma.evaluation.report import write_report
from musamma.evaluation.report.articles import articles, direction, excerpt, parts
from musamma.evaluation.report.charts import reliability_bars, shades
from musamma.evaluation.report.figure_rows import DIMENSIONS, MODES, findings, label_rows, slice_rows
from musamma.evaluation.report.figure_rows import SCHEMAS as SCHEMA_MEANINGS
from musamma.evaluation.report.hidden_characters import inline, plain, running
from musamma.evaluation.report.html_page import page
from musamma.evaluation.report.kinds import MEANINGS, SIGNS, TITLES
from musamma.evaluation.report.markdown import code, markdown
from musamma.evaluation.slices import DIMENSIONS as ALL_DIMENSIONS

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
        self.elements.append((tag, dict(attrs)))  # Shapes of a drawing.

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        self.data.append((data, tuple(self.open)))

    def texts(self, name: str, *, without: str = "") -> list[str]:
        """The text of the elements of a class, in order, without that of inner elements of another class."""
        found: dict[int, str] = {}
        for data, above in self.data:
            classes = [str(attributes.get("class", "")).split() for _, attributes in above]
            at = next((index for index, own in enumerate(classes) if name in own), None)
            if at is not None:
                key = id(above[at][1])
                found[key] = found.get(key, "") + ("" if any(without in own for own in classes[at:]) else data)
        return list(found.values())


def seen(text: str) -> str:
    """A text without what a page shows as a marker."""
    kept = (
        "\n\t\u200d" + "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"
    )  # these stand over numbers
    return "".join(c for c in text if c in kept or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))


def document(name: str, text: str, *names: tuple[str, str] | tuple[str, str, float], meta: object = None) -> Document:
    spans = []
    for surface, label, *score in names:
        start = text.index(surface)
        spans.append(Span(start, start + len(surface), label, *score))
    return Document(name, text, tuple(spans), meta=meta or {})  # type: ignore[arg-type]


def pairs() -> list[tuple[Document, Document]]:
    """All kinds of case, and texts that would like to be more than text."""
    news = "وصل محمد السعيد إلى الموصل، ثم بالقاهرة مع وفد الأمم المتحدة ووكالة رويترز أمس"
    gold = document(
        "خبر-1", news, ("محمد السعيد", "PER"), ("الموصل", "LOC"), ("القاهرة", "LOC"), ("الأمم المتحدة", "ORG"),
        meta={"source": "رويترز", "date": "2024-01-12"},
    )  # fmt: skip
    predicted = document(
        "خبر-1", news, ("محمد", "PER", 0.9), ("الموصل", "ORG", 0.8), ("بالقاهرة", "LOC", 0.7), ("رويترز", "ORG", 0.99),
        meta=gold.meta,
    )  # fmt: skip
    worst = document("<b>&\u202eid", HOSTILE, ("<script>", "PER"), ("بغداد", HOSTILE_LABEL), meta={"<i>": "<u>"})
    guess = document("<b>&\u202eid", HOSTILE, ("<script>alert(1)</script>", "ORG", 0.5), ("\u202eالموصل", "LOC", 0.6))
    good = document("خبر-2", "سافر إلى دمشق", ("دمشق", "LOC"))
    return [(gold, predicted), (worst, guess), (good, document("خبر-2", "سافر إلى دمشق", ("دمشق", "LOC", 0.95)))]


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    ours, theirs = zip(*pairs(), strict=True)
    return analyse(ours, theirs, system="<script>\u202enawah|`x`", training=ours[2:], resamples=50)


@pytest.fixture(scope="module")
def parsed(analysis: Analysis) -> Page:
    return Page(page(analysis))


def test_every_kind_mode_schema_and_dimension_has_its_words() -> None:
    assert tuple(TITLES) == tuple(SIGNS) == tuple(MEANINGS) == PAIR_KINDS
    assert len(set(SIGNS.values())) == len(PAIR_KINDS)
    assert set(MODES) == set(ALL_MODES)
    assert set(SCHEMA_MEANINGS) == set(SCHEMAS)
    assert set(DIMENSIONS) == set(ALL_DIMENSIONS)


@given(st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=()), max_size=60))
def test_a_text_stays_the_same_text_and_holds_nothing_that_turns_it(text: str) -> None:
    for shown in (running(text), inline(text)):
        found = Page(str(shown))
        assert {name for name, _ in found.elements} <= {"i", "bdi"}
        assert not set(str(shown)) & set(BIDI)
        assert "".join(data for data, _ in found.data) == seen(text)
        assert len(seen(text)) + str(shown).count("data-mark") >= len(text)


def test_hidden_characters_are_named() -> None:
    assert [attributes["title"] for _, attributes in Page(str(running("a\u202eb\x00"))).elements] == [
        "U+202E right-to-left override",
        "U+0000 control character",
    ]
    assert "data-mark" not in running("a\nb\tc")
    assert inline("a\nb").count("data-mark") == 1
    assert running("ه\u200dم") == "ه\u200dم"  # a joiner only joins
    assert plain("a\u202e\n  b") == "a‹U+202E› b"


@st.composite
def _compared(draw: st.DrawFn) -> tuple[str, list[NamePair]]:
    text = draw(st.text(_letters, min_size=1, max_size=40))

    def names() -> tuple[Span, ...]:
        borders = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
        labels = st.sampled_from(["PER", "LOC"])
        return tuple(Span(a, b, draw(labels)) for a, b in pairwise(borders) if draw(st.booleans()))

    return text, pair_names(Document("x", text, names()), names())


@given(_compared())
def test_cutting_a_text_loses_no_character_and_no_name(compared: tuple[str, list[NamePair]]) -> None:
    text, cases = compared
    cut = list(parts(text, cases))
    assert "".join(part.text + "".join(piece.text for piece in part.pieces) for part in cut) == text
    told = [case for part in cut for case in part.cases]
    assert len(told) == len(cases)
    assert all(case in told for case in cases)
    inside = {offset for start, end in word_offsets(text) for offset in range(start + 1, end)}
    at = 0
    for part in cut:
        assert not (part.cases and at in inside), "a tag inside a word breaks the joining of its letters"
        for piece in part.pieces:
            for side, kind in (("gold", piece.gold), ("predicted", piece.predicted)):
                covering = [c.kind for c in cases if (s := getattr(c, side)) and s.start <= at < s.end]
                assert covering == ([kind] if kind else [])
            at += len(piece.text)
        at += len(part.text)


def test_a_name_behind_a_proclitic_shows_both_borders() -> None:
    text = "ثم بالقاهرة أمس"
    gold, predicted = Span(4, 11, "LOC"), Span(3, 11, "LOC", 0.7)
    cut = list(parts(text, pair_names(Document("x", text, (gold,)), [predicted])))
    pieces = cut[1].pieces
    assert [(p.text, p.gold, p.predicted, p.edges) for p in pieces] == [
        ("ب", None, "proclitic", ("right",)),
        ("القاهرة", "proclitic", "proclitic", ("left",)),
    ]
    assert [part.text for part in cut if part.text] == ["ثم ", " أمس"]
    assert direction("ABC بغداد") == "ltr"
    assert direction("12 بغداد") == direction("12") == "rtl"


def test_a_long_name_cut_in_two_predictions_is_one_drawing() -> None:
    text = "مجلس الأمن الدولي"
    cases = pair_names(Document("x", text, (Span(0, 17, "ORG"),)), [Span(0, 10, "ORG"), Span(11, 17, "ORG")])
    name, told = parts(text, cases)
    assert [(p.gold, p.predicted) for p in name.pieces] == [
        ("border", "border"),
        ("border", None),
        ("border", "spurious"),
    ]
    assert [case.kind for case in told.cases] == ["border", "spurious"]


def test_an_excerpt_is_cut_at_words() -> None:
    text = "كلمة " * 20 + "بغداد" + " كلمة" * 20
    start = text.index("بغداد")
    shown = excerpt(text, NamePair("x", "missed", Span(start, start + 5, "LOC"), None), width=12)
    assert "".join(p.text or "".join(q.text for q in p.pieces) for p in shown) == "… كلمة كلمة بغداد كلمة كلمة …"


def test_worst_articles_come_first_and_the_rest_is_left_out() -> None:
    compared = pairs()
    cases = [case for gold, predicted in compared for case in pair_names(gold, predicted.spans)]
    assert [article.errors for article in articles(compared, cases)] == [5, 3, 0]
    assert [article.id for article in articles(compared, cases, most=1)] == ["خبر-1"]
    # The longest document does not fit, and the others are not lost with it.
    assert [article.id for article in articles(compared, cases, most_characters=100)] == ["خبر-1", "خبر-2"]


def test_no_text_becomes_markup(parsed: Page) -> None:
    names = [name for name, _ in parsed.elements]
    assert names.count("script") == names.count("style") == 1
    assert not {"img", "iframe", "object", "embed", "link", "base", "u"} & set(names)
    for _, attributes in parsed.elements:
        assert not [key for key in attributes if key.startswith("on") or key in ("style", "src", "srcset", "srcdoc")]
        assert str(attributes.get("href", "#")).startswith("#")
        assert not set("".join(map(str, attributes.values()))) & set(BIDI)


def test_the_page_holds_no_bidi_control_or_raw_control(analysis: Analysis) -> None:
    text = page(analysis)
    assert not {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp")} - set("\n\t")


def test_articles_read_as_they_are_written(parsed: Page) -> None:
    shown = parsed.texts("text", without="tag")
    assert sorted(shown) == sorted(seen(gold.text) for gold, _ in pairs())


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


def test_every_case_is_told_in_words(analysis: Analysis, parsed: Page) -> None:
    tags = [a for name, a in parsed.elements if "data-kind" in a]
    assert {str(a["data-kind"]) for a in tags} == {case.kind for case in analysis.name_pairs}
    assert len(tags) >= len(analysis.name_pairs)
    words = " ".join(parsed.texts("tag"))
    for kind in {case.kind for case in analysis.name_pairs}:
        assert TITLES[kind] in words
    assert "LOC → ORG" in words


def test_small_slices_are_too_few_and_no_finding(analysis: Analysis, parsed: Page) -> None:
    assert analysis.slices
    assert not any(part.enough for part in analysis.slices)
    assert findings(analysis) == []
    assert parsed.texts("few")
    assert set(parsed.texts("few")) == {"too few"}
    assert not any(row.intervals for rows in slice_rows(analysis).values() for row in rows)
    assert not any(row.intervals for row in label_rows(analysis))  # three documents


def test_a_slice_far_below_the_whole_is_a_finding() -> None:
    text = "بغداد دمشق"
    ours = [document(f"n{i}", text, ("بغداد", "LOC"), ("دمشق", "ORG"), meta={"source": "أ" if i < 30 else "ب"})
            for i in range(80)]  # fmt: skip
    theirs = [own.with_spans([span for span in own.spans if span.label == "LOC" or i % 8 == 0])
              for i, own in enumerate(ours)]  # fmt: skip
    found = findings(analysis := analyse(ours, theirs, system="x", resamples=200))
    assert {(dimension, row.name) for dimension, row in found} == {("label", "ORG"), ("position", "rest")}
    assert label_rows(analysis)[1].intervals is not None
    assert "### Scores by label" in markdown(analysis)
    row = next(line for line in markdown(analysis).splitlines() if line.startswith("| <code>ORG</code> |"))
    assert [cell.split()[0] for cell in row.strip("| ").split(" | ")[1:]] == ["100.00", "12.50", "22.22", "80"]
    one = [(own, found) for own, found in zip(ours, theirs, strict=True) if own.id in ("n1", "n8", "n9", "n10")]
    few = analyse(*zip(*one, strict=True), system="x", resamples=50)
    assert all(row.intervals is None for row in label_rows(few))


def test_reliability_is_drawn_to_scale() -> None:
    bins = ReliabilityBin(0.0, 0.5, 0, 0.0, 0.0), ReliabilityBin(0.5, 1.0, 40, 0.8, 0.75)
    reliability = Reliability(bins, ece=0.05, ace=0.05, brier=0.2, count=40, confidence=0.8, precision=0.75)
    (bar,) = reliability_bars(reliability)
    assert (bar.x, bar.width, bar.y, bar.height, bar.mean, bar.count, bar.share) == (100, 100, 50, 150, 160, 40, 200)


def test_one_error_among_many_is_shaded() -> None:
    matrix = np.array([[999, 1, 0], [0, 0, 0], [0, 4, 0]])
    assert shades(ConfusionMatrix(("LOC", "PER"), matrix)) == [[6, 1, 0], [0, 0, 0], [0, 6, 0]]


def test_without_scores_a_sentence_stands_for_the_plot() -> None:
    ours, theirs = zip(*pairs(), strict=True)
    bare = [own.with_spans([Span(*span.key) for span in own.spans]) for own in theirs]
    text = page(analyse(ours, bare, system="x", resamples=0))
    assert "The predictions carry no scores" in text
    assert 'class="reliability"' not in text
    assert "There are no confidence intervals." in text


def test_a_missing_prediction_is_named() -> None:
    ours, theirs = zip(*pairs(), strict=True)
    text = page(analyse(ours, theirs[:2], system="x", resamples=0, missing_as_empty=True))
    assert text.count("<p>no prediction, which counts as an empty one") == 1
    assert "1 document had no prediction" in text


def test_what_the_intervals_are_not_worth_is_told() -> None:
    ours, theirs = zip(*pairs(), strict=True)
    analysis = analyse(ours, theirs, system="x", resamples=50)
    for text in (page(analysis), markdown(analysis)):
        assert "On the intervals: 3 documents with names: intervals over so few are too narrow" in text
    whole = analyse(ours, theirs, system="x", resamples=0)
    assert "On the intervals" not in page(whole) + markdown(whole)


def test_a_form_in_question_is_shown_between_whole_words() -> None:
    annotated = [document(f"n{i}", "زار الوفد بغداد", ("بغداد", "LOC")) for i in range(3)]
    text = "كان الاجتماع الذي قد عقد أمس الأول في العاصمة بغداد قصيرا ولم يحضره من الوزراء غير ثلاثة منهم فقط"
    ours = [*annotated, Document("x", text)]
    (shown,) = Page(page(analyse(ours, ours, system="x", resamples=0))).texts("context")
    assert shown == "… الذي قد عقد أمس الأول في العاصمة بغداد قصيرا ولم يحضره من الوزراء غير ثلاثة …"


def test_what_a_mode_cannot_represent_is_told() -> None:
    ours = [document("x", "دخل (داعش)-الموصل أمس", ("داعش", "ORG"), ("الموصل", "LOC"))]
    analysis = analyse(ours, [own.with_spans([]) for own in ours], system="x", resamples=0)
    for text in (page(analysis), markdown(analysis)):
        assert "IOB modes: 1 annotated name without a tag of their own." in text
        assert "predicted name without a tag" not in text


def test_no_name_at_all_is_a_report_too() -> None:
    empty = [Document("x", "لا اسم هنا")]
    analysis = analyse(empty, empty, system="x", resamples=50)
    assert "0.00" in page(analysis)
    assert markdown(analysis).startswith("## Evaluation of <code>x</code>")


@given(st.text(max_size=40))
def test_data_cannot_leave_its_place_in_markdown(text: str) -> None:
    shown = code(text)
    assert shown.startswith("<code>")
    assert shown.endswith("</code>")
    assert "\n" not in shown
    inner = shown.removeprefix("<code>").removesuffix("</code>")
    assert html.unescape(inner) == plain(text)
    assert not set(inner) & set('|`<>*[]\\@:.!~$"{}')
    assert not set(inner) & set(BIDI)


def test_markdown_tables_have_their_columns(analysis: Analysis) -> None:
    text = markdown(analysis)
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
    assert (folder / "report.html").read_text(encoding="utf-8") == page(analysis)
    record = json.loads((folder / "report.json").read_bytes())
    assert record["scores"]["micro"]["tp"] == 1
    assert record["system"] == analysis.system


def test_a_folder_that_cannot_be_is_an_error(analysis: Analysis, tmp_path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(InputError, match="taken"):
        write_report(analysis, tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    assert (tmp_path / "taken").read_text() == "mine"
