"""The report in a real browser: reading, filtering, searching; no document text runs or reaches the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from musamma.data.document import Document, Span
from musamma.evaluation.analysis import analyse
from musamma.evaluation.report import write_report
from tests.support import span

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
# One browser for all tests, in a process of their own.
pytestmark = [pytest.mark.xdist_group("report-browser"), pytest.mark.own_process(timeout=240)]

HOSTILE = (
    "زار <script>window.hacked=1;alert(1)</script> بغداد]]> </script><img src=x onerror='window.hacked=2;alert(2)'> "
    "<svg onload=alert(3)> \u202eالموصل\u2066 \x00\x01\x1b\x7f\u2028 javascript:alert(4) {{7*7}}"
)
LONG = "اسم" * 150

Open = Callable[..., Any]


def spans(text: str, *names: tuple[str, str]) -> tuple[Span, ...]:
    return tuple(span(text, name, label, score=0.9) for name, label in names)


def compared() -> list[tuple[Document, Document]]:
    texts = {
        "خبر-أ": (
            "وصل محمد السعيد إلى المُوصِل ثم بالقاهرة، ووكالة رويترز وبغداد",
            [("محمد السعيد", "PER"), ("المُوصِل", "LOC"), ("القاهرة", "LOC"), ("بغداد", "LOC")],
            [("محمد", "PER"), ("المُوصِل", "ORG"), ("بالقاهرة", "LOC"), ("رويترز", "ORG"), ("بغداد", "LOC")],
        ),
        "خبر-ب": ("زار الرئيس مكتبة الإسكندريـــة أمس", [("مكتبة الإسكندريـــة", "FAC")], []),
        "خبر-ج": ("سافر إلى دمشق", [("دمشق", "LOC")], [("دمشق", "LOC")]),
        "a\u202eb<i>c": (
            HOSTILE,
            [("<script>window", "PER"), ("بغداد", '"><b onclick=alert(5)>\u202e')],
            [("\u202eالموصل", "LOC"), ("<img", "ORG")],
        ),
        "english-" + "x" * 200: (f"{LONG} and Paris", [(LONG, "PER")], [(LONG, "PER"), ("Paris", "LOC")]),
    }
    return [
        (Document(name, text, spans(text, *gold), meta={"source": "<i>"}), Document(name, text, spans(text, *found)))
        for name, (text, gold, found) in texts.items()
    ]


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    gold, predicted = zip(*compared(), strict=True)
    folder: Path = tmp_path_factory.mktemp("report")
    write_report(analyse(gold, predicted, system="نواة <script>alert(0)</script>", training=gold, resamples=50), folder)
    return (folder / "report.html").as_uri()


@pytest.fixture
def opened(open_page: Open, report: str) -> Open:
    """Opens the report."""

    def open_report(*, fragment: str = "", **options: Any) -> Any:
        return open_page(report + fragment, own=lambda url: url.split("#")[0] == report, **options)

    return open_report


def shown(page: Any) -> list[str]:
    """The headings of the articles that are shown, without the marker of hidden characters."""
    return page.eval_on_selector_all("article:not([hidden]) h3", "found => found.map(one => one.textContent)")


FIRST, SECOND, THIRD, WORST, ENGLISH = "خبر-أ", "خبر-ب", "خبر-ج", "ab<i>c", "english-" + "x" * 200


def test_it_opens_and_nothing_in_it_runs(opened: Open) -> None:
    page = opened()
    assert page.title() == "نواة <script>alert(0)</script>: evaluation"
    assert page.locator("h1").inner_text() == "نواة <script>alert(0)</script>"
    assert page.locator("#shown").inner_text() == "5 of 5 shown"
    assert page.evaluate("typeof window.hacked") == "undefined"
    assert page.evaluate("document.scripts.length") == 1
    assert page.evaluate("document.querySelectorAll('img, main b[onclick], main i:not(.control), [style]').length") == 0
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0


def test_the_policy_stops_what_would_run(browser: Any, report: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(report)
    # Simulate a gap in the escaping: an element with a handler and a script from a document enter the page.
    page.evaluate("""() => {
        window.stopped = [];
        document.addEventListener('securitypolicyviolation', (event) => stopped.push(event.effectiveDirective));
        document.querySelector('#errors').innerHTML = '<img src="https://example.invalid/x" onerror="window.hacked=1">';
        const script = document.createElement('script');
        script.textContent = 'window.hacked = 2';
        document.body.append(script);
        const frame = document.createElement('iframe');
        frame.src = 'data:text/html,<script>top.hacked = 3</script>';
        document.body.append(frame);
        fetch('https://example.invalid/').catch(() => stopped.push('fetch'));
    }""")
    for _ in range(100):  # The page's own policy forbids Playwright's way to wait for a value.
        if "fetch" in page.evaluate("stopped"):
            break
        page.wait_for_timeout(50)
    stopped = set(page.evaluate("stopped"))
    assert stopped >= {"img-src", "script-src-elem", "script-src-attr", "frame-src", "connect-src"}
    assert page.evaluate("typeof window.hacked") == "undefined"
    context.close()


def test_hostile_text_is_read_as_text(opened: Open) -> None:
    page = opened()
    text = page.locator("article", has_text="window.hacked=2").locator(".text")
    words = text.evaluate("""element => {
        const copy = element.cloneNode(true);
        for (const tag of copy.querySelectorAll('.tag')) tag.remove();
        return copy.textContent;
    }""")
    assert words == "".join(c for c in HOSTILE if c not in "\u202e\u2066\x00\x01\x1b\x7f\u2028")
    marks = text.locator(":not(.tag *).control").evaluate_all("found => found.map(one => one.dataset.mark)")
    assert marks == ["RLO", "LRI", "NUL", "U+0001", "U+001B", "U+007F", "LS"]
    shown_mark = text.locator(".control").first.evaluate("one => getComputedStyle(one, '::after').content")
    assert shown_mark in ('"RLO"', "attr(data-mark)")


def test_a_bidi_override_in_an_id_reorders_nothing(opened: Open) -> None:
    left = (
        opened()
        .locator("article h3", has_text="<i>c")
        .evaluate("""heading => {
        const walker = document.createTreeWalker(heading, NodeFilter.SHOW_TEXT), found = {};
        while (walker.nextNode())
            for (let at = 0; at < walker.currentNode.length; at++) {
                const range = document.createRange();
                range.setStart(walker.currentNode, at);
                range.setEnd(walker.currentNode, at + 1);
                found[range.toString()] = range.getBoundingClientRect().left;
            }
        return found;
    }""")
    )
    assert left["a"] < left["b"] < left["<"] < left["c"]


def test_borders_do_not_break_the_joining_of_letters(opened: Open) -> None:
    cut, whole = (
        opened()
        .locator("article .text")
        .first.evaluate("""text => {
        const width = (node) => {
            const range = document.createRange();
            range.selectNodeContents(node);
            return range.getBoundingClientRect().width;
        };
        const names = Array.from(text.querySelectorAll('.name')).find((one) => one.textContent === 'بالقاهرة');
        const word = width(names);
        names.replaceChildren('بالقاهرة');
        return [word, width(names)];
    }""")
    )
    assert abs(cut - whole) < 0.6


def test_filters_by_kind_label_and_errors(opened: Open) -> None:
    page = opened()
    page.select_option("#kind", "missed")
    assert sorted(shown(page)) == sorted([SECOND, WORST])
    page.select_option("#label", "FAC")
    assert shown(page) == [SECOND]
    assert page.locator(".tag.hit").count() == 1
    assert page.locator("#shown").inner_text() == "1 of 5 shown"
    page.select_option("#kind", "proclitic")  # There is one, but not of this label.
    assert shown(page) == []
    assert page.locator("#none").is_visible()
    page.click("#reset")
    sync_api.expect(page.locator("#shown")).to_have_text("5 of 5 shown")
    assert page.locator("#none").is_hidden()
    page.check("#wrong")
    assert sorted(shown(page)) == sorted([FIRST, SECOND, WORST, ENGLISH])
    page.select_option("#label", "ORG")  # Of a wrong label both are found.
    assert sorted(shown(page)) == sorted([FIRST, WORST])


def test_search_folds_letters(opened: Open) -> None:
    page = opened()
    for wanted, found in {
        "الموصل": [FIRST, WORST],
        "مُوصـــل": [FIRST, WORST],
        "مكتبه الاسكندريه": [SECOND],
        "إلي": [FIRST, THIRD],
        "PARIS": [ENGLISH],
        "خبر-ج": [THIRD],
        "محمد السعيد": [FIRST],  # across a border of a prediction
        "wrong border": [],  # what stands on the page, not in a text
        "<img src=x": [WORST],
    }.items():
        page.fill("#search", wanted)
        assert sorted(shown(page)) == sorted(found), wanted


def test_the_address_keeps_the_filter(opened: Open) -> None:
    page = opened()
    page.select_option("#kind", "border")
    page.fill("#search", "محمد")
    address = page.evaluate("location.hash")
    assert address == f"#kind=border&search={quote('محمد')}"
    again = opened(fragment=address)
    assert shown(again) == [FIRST]
    assert again.input_value("#search") == "محمد"
    # A link to an article that the filter hides shows it.
    target = again.locator("article", has_text="دمشق").get_attribute("id")
    again.evaluate("(id) => { location.hash = id; }", target)
    sync_api.expect(again.locator("#shown")).to_have_text("5 of 5 shown")
    assert again.locator(f"#{target}").is_visible()
    again.evaluate("location.hash = '#kind=nonsense&label=%'")  # Nobody's filter: all is shown, and nothing fails.
    assert len(shown(again)) == 5


@pytest.mark.parametrize("width", [320, 375])
def test_a_phone_scrolls_vertically_only(opened: Open, width: int) -> None:
    page = opened(viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.querySelector('#labels .scroll').scrollWidth") > width
    for control in ("#kind", "#label", "#search", "#wrong", "#reset"):
        box = page.locator(control).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


CONTRAST = """() => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgb = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return canvas.getImageData(0, 0, 1, 1).data;
    };
    const light = (color) => {
        const [r, g, b] = Array.from(rgb(color)).slice(0, 3).map((c) => c / 255)
            .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const color = getComputedStyle(at).backgroundColor;
            if (rgb(color)[3] === 255) return color;
        }
        return 'white';
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || element.closest('script, .unseen, svg, option')) continue;
        const a = light(getComputedStyle(element).color), b = light(behind(element));
        found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.className, walker.currentNode.data]);
    }
    return found.sort((one, other) => one[0] - other[0]);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(opened: Open, scheme: str) -> None:
    page = opened(color_scheme=scheme)
    page.wait_for_timeout(50)
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 200
    assert contrasts[0][0] >= 4.5, contrasts[0]
    bright = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] > 128")
    assert bright == (scheme == "light")


def test_it_works_without_javascript_and_on_paper(opened: Open) -> None:
    page = opened(java_script_enabled=False)
    assert page.locator("#filter").is_hidden()
    assert page.locator("article .text").count() == 5
    assert all(article.is_visible() for article in page.locator("article").all())
    page.locator("article .text").first.scroll_into_view_if_needed()
    sync_api.expect(page.locator("article .text").first).to_contain_text("محمد السعيد", use_inner_text=True)
    printed = opened()
    printed.emulate_media(media="print")
    assert printed.locator("#filter").is_hidden()
    assert printed.locator("article .text").first.is_visible()


def test_the_keyboard_reaches_every_control(opened: Open) -> None:
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the documents"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#articles"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "kind"
    reached = page.evaluate("""() => Array.from(document.querySelectorAll('.scroll'))
        .every((one) => one.tabIndex === 0 && one.getAttribute('aria-label'))""")
    assert reached
