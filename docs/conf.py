"""Configuration of the documentation site: ``make docs`` builds it into build/docs.

Why Sphinx: MkDocs 1.x has had no release since 2024 and MkDocs 2 drops its plugins; Material for MkDocs received its last fixes
in November 2026; their successor Zensical is at 0.0.x, and mkdocstrings prints the cross-references in the docstrings (``:meth:``,
``:func:``) as they stand. Sphinx is maintained, reads these docstrings with napoleon and the pages with MyST-NB, and fails on a
page outside the navigation, a broken link or an unknown anchor (``-W``).

The pages stay plain Markdown that reads well on a code host; only api.md and the list of pages in index.md need Sphinx.
"""

import re
from importlib.metadata import version as installed_version
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

project = "Musamma"
author = "The Musamma authors"
copyright = author
release = version = installed_version("musamma")
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_static"]
highlight_language = "none"  # blocks without a language are commands and files

# The anchors that code hosts make of headings: the same links work there and here.
myst_heading_anchors = 3
# Pages use the Markdown of code hosts only. Without this, MyST-NB reads $ as the start of a formula.
myst_enable_extensions: list[str] = []
# Nothing is executed during the build.
nb_execution_mode = "off"

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_rtype = False
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
# Single backticks in docstrings mark parameters, as in `overwrite=True`.
default_role = "literal"

html_theme = "furo"
html_title = "Musamma"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False

_RTL = '<div dir="rtl" lang="ar">'


def setup(app: Sphinx) -> None:
    """Link to documents outside of docs/, and make pages with ``<div dir="rtl" lang="ar">`` right-to-left as a whole."""
    app.connect("source-read", _link_outside_documents)
    app.connect("doctree-read", _remove_rtl_elements)
    app.connect("html-page-context", _wrap_rtl_page)


def _link_outside_documents(app: Sphinx, page: str, source: list[str]) -> None:
    # The card of a model or a corpus is no page of the site: `path:` makes it a file to download. A missing one is a warning.
    source[0] = re.sub(r"\]\((\.\./[^()#\s]+\.md)\)", r"](path:\1)", source[0])


def _remove_rtl_elements(app: Sphinx, doctree: nodes.document) -> None:
    # A code host needs an element around every stretch between two blocks of code. Here such elements would cut through sections.
    elements = [node for node in doctree.findall(nodes.raw) if node.astext().strip() in (_RTL, "</div>")]
    if any(node.astext().strip() == _RTL for node in elements):
        app.env.metadata[app.env.docname]["direction"] = "rtl"
        for node in elements:
            node.parent.remove(node)


def _wrap_rtl_page(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    if app.env.metadata.get(page, {}).get("direction") == "rtl":
        context["body"] = f"{_RTL}{context['body']}</div>"
