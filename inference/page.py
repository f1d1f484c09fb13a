"""Tagged articles as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from musamma.data.document import Document, Span

#: The look of articles and of their names, labels' colours included.
STYLE = """body{font:1.15rem/2.1 "Noto Naskh Arabic","Amiri","Segoe UI",Tahoma,serif;max-width:48rem;margin:0 auto;padding:1rem;color:#1c1c1c;background:#fff}
article{border-bottom:1px solid #ccc;padding-bottom:1rem}h2{font:600 .9rem/1.6 system-ui,sans-serif;color:#555;direction:ltr;text-align:right}
.text{white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext}
mark{padding:.1em .25em;border-radius:.3em;color:inherit;background:#e6e6e6;border-bottom:2px solid #777}
mark small{font:600 .62em system-ui,sans-serif;margin-inline-start:.35em;color:#333;unicode-bidi:isolate}
.PER{background:#fde2e2;border-color:#c0392b}.GPE,.LOC,.FAC{background:#dff0e3;border-color:#1e8449}
.ORG{background:#dfe9fb;border-color:#2456b3}.NORP,.EVENT,.PROD,.MISC{background:#f6ecd2;border-color:#9a7d0a}
"""
HEAD = f"""<!DOCTYPE html>
<html lang="ar" dir="rtl"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"><title>Musamma</title><style>
{STYLE}</style></head><body>
"""
TAIL = "</body></html>\n"


def page(documents: Iterable[Document]) -> Iterator[str]:
    """The page, in parts: each name marked with its label in words and colour, its score in the tooltip.

    Text from documents is escaped, every id, name and label is isolated from the writing direction around it, and the page
    forbids scripts.
    """
    yield HEAD
    for document in documents:
        yield article(document)
    yield TAIL


def article(document: Document) -> str:
    """What stands between the page's head and tail for one document."""
    return f"<article><h2><bdi>{escape(document.id)}</bdi></h2><div class=text>{''.join(_parts(document))}</div></article>\n"


def _parts(document: Document) -> Iterator[str]:
    position = 0
    for span in document.spans:
        yield _text(document.text[position : span.start])
        yield _mark(document, span)
        position = span.end
    yield _text(document.text[position:])


def _text(text: str) -> str:
    # A browser makes a line feed of a carriage return, unless it is written as a number.
    return escape(text).replace("\r", "&#13;")


def _mark(document: Document, span: Span) -> str:
    # A label is free text too: as a class only its letters count.
    name = "".join(c for c in span.label if c.isalnum())
    title = "" if span.score is None else f' title="{span.score:.3f}"'
    surface, label = _text(document.surface(span)), escape(span.label)
    return f'<mark class="{escape(name)}"{title}><bdi>{surface}</bdi><small><bdi>{label}</bdi></small></mark>'
