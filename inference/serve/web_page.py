"""The page of the service, with its style and script; it asks nothing of any other server."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from musamma.data.formats.markup import parse_article
from musamma.inference.writers import STYLE

#: What a browser may do with the page: its own style and script, questions to its own server, and no icon (``data:,``).
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def render_page(*, labels: Sequence[str], version: str) -> str:
    """The page.

    Args:
        labels: the labels that the model knows.
        version: the release that runs.
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
    """The style: that of the tagged articles in HTML, labels' colours included, and what the page has beside it."""
    return STYLE + _asset("page.css")


def read_script() -> str:
    """The script."""
    return _asset("page.js")


def read_sample() -> str:
    """A paragraph of the seed article."""
    name = "seed-mosul.txt"
    article = (files("musamma.data.corpora") / "khabar/articles" / name).read_bytes()
    lines = parse_article(article, id="seed-mosul", where=name).text.splitlines()
    return next(line.strip() for line in lines if len(line) > 100)


def _asset(name: str) -> str:
    return (files("musamma.inference.serve") / name).read_text(encoding="utf-8")
