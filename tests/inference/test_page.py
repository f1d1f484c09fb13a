"""Tagged articles as an HTML page: read back with a parser, as a browser would."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from musamma.data.document import Document, Span
from musamma.inference.writers import format_page

OVERRIDE = "\u202e"
VOID = {"meta"}


class Page(HTMLParser):
    """Texts of the articles, their headings, and surface, label, class and tooltip of every name."""

    def __init__(self, documents: list[Document]) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self.headings: list[str] = []
        self.names: list[tuple[str, str, str, str | None]] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self._open: list[str] = []
        self.feed("".join(format_page(documents)))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        self.attributes |= set(found)
        if tag not in VOID:
            self._open.append(tag)
        if tag == "h2":
            self.headings.append("")
        if found.get("class") == "text":
            self.texts.append("")
        if tag == "mark":
            self.names.append(("", "", found["class"] or "", found.get("title")))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "article" not in self._open:
            return
        inner = self._open[self._open.index("article") + 1 :]
        if inner[:1] == ["h2"]:
            assert inner == ["h2", "bdi"]
            self.headings[-1] += data
        elif inner[:1] == ["div"]:
            if "mark" in inner:
                # Whatever writing direction a name or label asks for ends with it.
                assert inner[-1] == "bdi"
                surface, label, *rest = self.names[-1]
                small = "small" in inner
                self.names[-1] = (surface + data * (not small), label + data * small, *rest)
            if "small" not in inner:
                self.texts[-1] += data


HOSTILE = Document(
    f'</h2><script>alert("id")</script>{OVERRIDE}',
    f"قال <script>alert(1)</script> & {OVERRIDE}محمد\r\n</div></article> &amp; في «بيروت»",
    (Span(4, 12, '"><script>', 0.98765), Span(32, 37, f"PER{OVERRIDE}"), Span(66, 71, "LOC", 0.5)),
)


def test_nothing_in_a_document_is_taken_for_html():
    found = Page([HOSTILE, Document("2", "بغداد", (Span(0, 5, "LOC"),))])
    assert found.texts == [HOSTILE.text, "بغداد"]
    assert found.headings == [HOSTILE.id, "2"]
    assert "script" not in found.tags
    assert not {name for name in found.attributes if name.startswith("on")}
    assert found.names == [
        ("<script>", '"><script>', "script", "0.988"),
        (f"{OVERRIDE}محمد", f"PER{OVERRIDE}", "PER", None),
        ("بيروت", "LOC", "LOC", "0.500"),
        ("بغداد", "LOC", "LOC", None),
    ]


def test_the_page_reads_from_right_to_left_and_allows_no_scripts():
    head = "".join(format_page([]))
    assert '<html lang="ar" dir="rtl">' in head
    assert "default-src 'none'" in head
    assert '<meta charset="utf-8">' in head


@given(st.text(st.sampled_from("بغداد <>&\"'\r\n\t\u202e\u2066;#x0a"), max_size=40), st.data())
def test_every_text_comes_back_as_it_was(text, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    spans = tuple(Span(a, b, "LOC", 0.5) for a, b in zip(cuts[::2], cuts[1::2], strict=False))
    document = Document("d", text, spans)
    found = Page([document])
    assert found.texts == [text]
    assert [name[0] for name in found.names] == [document.surface(span) for span in spans]
