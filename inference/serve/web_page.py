"""The web page of the service, with its style and script. It loads nothing from other servers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from musamma.data.formats.markup import parse_article
from musamma.inference.output_formats import STYLE

#: Headers that allow the page its own style and script, requests to its own server and an empty icon (``data:,``), nothing else.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def render_page(*, labels: Sequence[str], version: str) -> str:
    """Render the HTML of the page.

    Args:
        labels: the labels the model knows.
        version: the version of the service.
    """
    environment = Environment(
        loader=PackageLoader("musamma.inference.serve", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(labels=labels, version=version, sample=read_sample())


def read_style() -> str:
    """Return the style sheet: the style of tagged articles in HTML, with the colours of labels, and that of the page."""
    return STYLE + _read_asset("page.css")


def read_script() -> str:
    """Return the script."""
    return _read_asset("page.js")


def read_sample() -> str:
    """Return the sample text: a paragraph of the seed article."""
    name = "seed-mosul.txt"
    article = (files("musamma.data.corpora") / "khabar/articles" / name).read_bytes()
    lines = parse_article(article, id="seed-mosul", where=name).text.splitlines()
    return next(line.strip() for line in lines if len(line) > 100)


def _read_asset(name: str) -> str:
    return (files("musamma.inference.serve") / name).read_text(encoding="utf-8")
