"""The web page in a real browser: it tags, filters by score and copies; nothing in a text is run or sent elsewhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

import pytest
import uvicorn

from musamma.data.document import Document, Span
from musamma.inference.serve import Limits, create_app
from musamma.inference.serve.server import listen, listener_url
from musamma.inference.serve.web_page import read_sample

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
# One browser and one server for all tests, in a process of their own.
pytestmark = [pytest.mark.xdist_group("service-browser"), pytest.mark.own_process(timeout=240)]

#: An emoji before the names, markup, a name after a proclitic, and a name whose label looks like code.
TEXT = "😀 <img src=x onerror='window.hacked=1'><script>window.hacked=2</script> قال محمد إنه وبغداد قرب بيروت\u202e."
NAMES = {"محمد": ("PER", 0.3), "بغداد": ("GPE", 0.9), "بيروت": ("<b onclick=alert(1)>", 0.6), "الموصل": ("GPE", 0.8)}

Open = Callable[..., Any]


class Tagger:
    """Knows four names."""

    model, labels, batch_tokens = "runs/<i>", ("GPE", "<b onclick=alert(1)>", "PER"), 512

    def tag_documents(self, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            yield document.with_spans(
                Span(at, at + len(name), *kind) for name, kind in NAMES.items() if (at := document.text.find(name)) >= 0
            )

    def tag_in_steps(self, documents: Sequence[Document]) -> Generator[float, None, list[Document]]:
        yield 0.0
        return list(self.tag_documents(documents))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    app = create_app(Tagger(), limits=Limits(max_characters=1000))
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, http="h11", ws="none", log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener_url(listener)[0]
        server.should_exit = True
        thread.join(60)
    assert not thread.is_alive()


@pytest.fixture
def opened(open_page: Open, address: str) -> Open:
    """Return a function that opens the page."""

    def open_service(**options: Any) -> Any:
        return open_page(f"{address}/", own=lambda url: url.startswith((f"{address}/", "data:,")), **options)

    return open_service


def marks(page: Any) -> list[str]:
    return page.locator("#tagged mark").all_inner_texts()


def tagged(page: Any, text: str) -> None:
    page.fill("#text", text)
    page.press("#text", "Control+Enter")
    sync_api.expect(page.locator("#result")).to_be_visible()


def test_hostile_text_is_tagged_and_read_as_text(opened: Open) -> None:
    page = opened()
    tagged(page, TEXT)
    assert marks(page) == ["محمد", "بغداد", "بيروت"]
    words = page.locator("#tagged").evaluate("""shown => {
        const copy = shown.cloneNode(true);
        for (const label of copy.querySelectorAll('small')) label.remove();
        return copy.textContent;
    }""")
    assert words == TEXT
    assert page.locator("#tagged small").all_text_contents() == ["PER 0.30", "GPE 0.90", "<b onclick=alert(1)> 0.60"]
    assert page.locator("#legend li").all_text_contents() == ["<b onclick=alert(1)> 1", "GPE 1", "PER 1"]
    assert page.evaluate("typeof window.hacked") == "undefined"
    assert page.evaluate("document.scripts.length") == 1
    assert page.evaluate("document.querySelectorAll('img, #tagged b, #legend b, [onclick], [style]').length") == 0
    assert page.locator("#status").inner_text().startswith("عدد الأسماء: 3")


def test_names_have_the_colours_of_their_labels(opened: Open) -> None:
    page = opened()
    tagged(page, TEXT)
    colours = page.locator("#tagged mark").evaluate_all("all => all.map(one => getComputedStyle(one).backgroundColor)")
    assert colours == ["rgb(253, 226, 226)", "rgb(223, 240, 227)", "rgb(230, 230, 230)"]
    assert page.locator("#text").evaluate("area => getComputedStyle(area).direction") == "rtl"


def test_the_letters_of_a_name_and_its_proclitic_stay_joined(opened: Open) -> None:
    page = opened()
    tagged(page, "قرب الموصل كبغداد")
    cut, whole = page.locator("#tagged").evaluate("""shown => {
        const width = (node) => {
            const range = document.createRange();
            range.selectNodeContents(node);
            return range.getBoundingClientRect().width;
        };
        for (const label of shown.querySelectorAll('small')) label.remove();
        const cut = width(shown);
        shown.replaceChildren('قرب الموصل كبغداد');
        return [cut, width(shown)];
    }""")
    assert abs(cut - whole) < 0.6


def test_the_minimum_score_hides_names(opened: Open) -> None:
    page = opened()
    tagged(page, TEXT)
    for minimum, shown, counts in [
        ("0.6", ["بغداد", "بيروت"], ["<b onclick=alert(1)> 1", "GPE 1", "PER 0"]),
        ("0.95", [], ["<b onclick=alert(1)> 0", "GPE 0", "PER 0"]),
        ("0", ["محمد", "بغداد", "بيروت"], ["<b onclick=alert(1)> 1", "GPE 1", "PER 1"]),
    ]:
        page.fill("#min-score", minimum)
        assert marks(page) == shown
        assert page.locator("#legend li").all_text_contents() == counts
        assert float(page.locator("#shown-min-score").inner_text()) == float(minimum)


@pytest.mark.parametrize("clipboard", [True, False])
def test_copied_json_counts_code_points(opened: Open, address: str, clipboard: bool) -> None:
    page = opened()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    if not clipboard:
        page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    tagged(page, TEXT)
    page.fill("#min-score", "0.5")
    page.click("#copy")
    sync_api.expect(page.locator("#status")).to_contain_text("نُسخ")
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert copied["text"] == TEXT
    assert [TEXT[span["start"] : span["end"]] for span in copied["spans"]] == ["بغداد", "بيروت"]


def test_the_example_and_an_empty_text(opened: Open) -> None:
    page = opened()
    page.click("#example")
    sync_api.expect(page.locator("#tagged mark")).to_have_text(["الموصل"])
    assert page.input_value("#text") == read_sample()
    page.fill("#text", "")
    page.click("#tag")
    sync_api.expect(page.locator("#status")).to_contain_text("لا أسماء في النص")
    assert marks(page) == []


def test_an_error_is_shown_in_words(opened: Open) -> None:
    page = opened(expected="413")
    page.fill("#text", "ن" * 1001)
    page.click("#tag")
    sync_api.expect(page.locator("#status.error")).to_contain_text("1,001 characters; expected at most 1,000")
    assert page.locator("#result").is_hidden()
    assert page.locator("#tag").is_enabled()


def test_the_page_fits_a_phone(opened: Open) -> None:
    page = opened(viewport={"width": 375, "height": 700})
    tagged(page, TEXT + " " + "اسم" * 250)
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    heights = page.locator("button").evaluate_all("all => all.map(one => one.getBoundingClientRect().height)")
    assert min(heights) >= 40


def test_the_content_security_policy_blocks_foreign_code(opened: Open) -> None:
    page = opened(expected="has been blocked|Content Security Policy|example.invalid")
    page.evaluate("""() => {
        window.stopped = [];
        document.addEventListener('securitypolicyviolation', (event) => stopped.push(event.effectiveDirective));
        const script = document.createElement('script');
        try { script.textContent = 'window.hacked = 2'; document.body.append(script); } catch { stopped.push('script'); }
        try { document.body.insertAdjacentHTML('beforeend', '<img src=x>'); } catch { stopped.push('markup'); }
        const image = document.createElement('img');
        image.src = 'https://example.invalid/x';
        document.body.append(image);
        fetch('https://example.invalid/').catch(() => stopped.push('fetch'));
    }""")
    page.wait_for_function("['fetch', 'img-src', 'connect-src'].every((kind) => stopped.includes(kind))")
    assert set(page.evaluate("stopped")) >= {"script", "markup", "img-src", "connect-src"}
    assert page.evaluate("typeof window.hacked") == "undefined"
