"""The documents as a site and as files: every page is in the navigation, every link and anchor resolves."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]


def test_every_page_is_in_the_navigation_once() -> None:
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```$", (DOCS / "index.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    listed = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    pages = [path.stem for path in DOCS.iterdir() if path.suffix in (".md", ".ipynb") and path.stem != "index"]
    assert sorted(listed) == sorted(pages), "list every page of docs/ in a toctree of docs/index.md"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_anchors_resolve(path: Path) -> None:
    assert list(broken_links(path)) == []


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_links_out_of_the_site_have_no_anchor(path: Path) -> None:
    # Documents outside docs/ are files to download there, so `make docs` fails on an anchor.
    assert [link for link in links(path) if re.match(r"\.\./.*\.md#", link)] == []


def test_broken_links_and_anchors_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# One `code`, two\n\n## Twice\n\n## Twice\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](other.md) [b](other.md#one-code-two) [c](other.md#twice-1) [d](#here) [e](https://example.org/none)\n"
        "`[f](gone.md)` [g](other.md#three) [h](#there) ![i](gone.png) [j](gone.md#one)\n\n[k]: gone.md\n",
        encoding="utf-8",
    )
    assert list(broken_links(page)) == ["other.md#three", "#there", "gone.png", "gone.md#one"]


def broken_links(path: Path) -> Iterator[str]:
    """Yield the relative links of a document that lead to no file, or to no heading of a document."""
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def links(path: Path) -> Iterator[str]:
    """Yield the targets of the links and pictures of a document, those in code aside."""
    for token in tokens(path):
        for inner in (token, *(token.children or ())):
            target = inner.attrGet("href") or inner.attrGet("src")
            # A picture in a link is a child of the same token.
            if target is not None:
                yield str(target)


def anchors(path: Path) -> set[str]:
    """Return the anchors that code hosts and the site give to the headings of a document."""
    seen: Counter[str] = Counter()
    found = set()
    headings = tokens(path)
    for opening, content in pairwise(headings):
        if opening.type == "heading_open":
            text = "".join(child.content for child in content.children or ())
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def tokens(path: Path) -> list[Token]:
    """Parse a Markdown file."""
    return MarkdownIt("commonmark").enable("table").parse(path.read_text("utf-8"))
