"""The report as one HTML page that asks nothing of the network and runs nothing that a document brings along."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from musamma.data.document import Document
from musamma.evaluation.error_analysis import CONTEXT_LENGTH, ErrorExample, SuspectAnnotation
from musamma.evaluation.matching import PAIR_KINDS, NamePair, pair_names
from musamma.evaluation.report import charts
from musamma.evaluation.report import figure_rows as rows
from musamma.evaluation.report.articles import Part, articles, excerpt
from musamma.evaluation.report.hidden_characters import broken, inline, plain, running
from musamma.evaluation.report.kinds import MEANINGS, SIGNS, TITLES, labels
from musamma.evaluation.significance import FEW_DOCUMENTS

if TYPE_CHECKING:
    from musamma.evaluation.analysis import Analysis

#: The most examples of a kind, forms and suspects that the page shows.
MOST_EXAMPLES, MOST_FORMS, MOST_SUSPECTS = 12, 30, 30

#: The most labels of a confusion matrix that can still be read.
MOST_CONFUSED = 40


def page(analysis: Analysis) -> str:
    """The page.

    Everything that comes from the data is escaped by Jinja, has no control or bidi character left in it (see
    :mod:`musamma.evaluation.report.hidden_characters`) and is isolated from the text around it. The page allows itself its own
    style and script by their hashes, and nothing else.
    """
    style, script = _asset("style.css"), _asset("filter.js")
    documents = {gold.id: gold for gold, _ in analysis.document_pairs}
    shown = articles(analysis.document_pairs, analysis.name_pairs)
    found = analysis.errors
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            analysis=analysis,
            style=style,
            script=script,
            policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
            "base-uri 'none'; form-action 'none'",
            headline=rows.headline(analysis),
            modes=rows.mode_rows(analysis),
            labels=rows.label_rows(analysis),
            totals=rows.total_rows(analysis),
            layers=rows.layer_rows(analysis),
            remarks=rows.remarks(analysis),
            slices=rows.slice_rows(analysis),
            findings=rows.findings(analysis),
            bars=charts.reliability_bars(analysis.reliability) if analysis.reliability else [],
            side=charts.SIDE,
            shades=charts.shades(found.confusion) if len(found.confusion.labels) <= MOST_CONFUSED else None,
            names=sum(found.kinds.values()),
            examples={kind: _examples(documents, _spread(own, MOST_EXAMPLES)) for kind, own in found.examples.items()},
            costly=found.costly[:MOST_FORMS],
            suspects=[
                (suspect, _in_context(documents, suspect), *_whole_words(suspect))
                for suspect in found.suspects[:MOST_SUSPECTS]
            ],
            articles=shown,
            anchors={article.id: article.anchor for article in shown},
            known_labels=sorted(analysis.scores.strict.per_label),
        )
    )


def _examples(documents: dict[str, Document], found: Sequence[ErrorExample]) -> list[tuple[str, tuple[Part, ...]]]:
    cases = [NamePair(example.document, example.kind, example.gold, example.predicted) for example in found]
    return [(case.document, excerpt(documents[case.document].text, case)) for case in cases]


def _in_context(documents: dict[str, Document], suspect: SuspectAnnotation) -> tuple[Part, ...]:
    """The names in question, drawn over each other; empty where there is no name, only a form."""
    document = documents[suspect.document]
    gold, predicted = ([span] if span else [] for span in (suspect.gold, suspect.predicted))
    cases = pair_names(document.with_spans(gold), predicted)
    return excerpt(document.text, cases[0]) if len(cases) == 1 else ()


def _whole_words(suspect: SuspectAnnotation) -> tuple[str, str]:
    """What stands before and after the form in question, without the word that the context cuts."""
    before, after = suspect.before, suspect.after
    if len(before) == CONTEXT_LENGTH:
        before = re.sub(r"^\S*(?=\s)", "…", before)
    if len(after) == CONTEXT_LENGTH:
        after = re.sub(r"(?<=\s)\S*$", "…", after)
    return before, after


def _spread(found: Sequence[ErrorExample], most: int) -> Sequence[ErrorExample]:
    """At most ``most`` of them, evenly spread."""
    return found[:: -(-len(found) // most)] if found else found


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("musamma.evaluation.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "inline": inline,
        "running": running,
        "broken": broken,
        "plain": plain,
        "percent": rows.percent,
        "between": rows.between,
        "thousands": rows.thousands,
        "counted": rows.counted,
    }
    environment.globals |= {
        "kinds": PAIR_KINDS,
        "titles": TITLES,
        "meanings": MEANINGS,
        "signs": SIGNS,
        "labels_of": labels,
        "mode_meanings": rows.MODES,
        "schema_meanings": rows.SCHEMAS,
        "layer_meanings": rows.LAYERS,
        "dimension_title": rows.dimension_title,
        "least_documents": FEW_DOCUMENTS,
    }
    return environment


def _asset(name: str) -> Markup:
    """A file of this folder, which is the page's own and goes into it as it is."""
    return Markup(files("musamma.evaluation.report").joinpath(name).read_text(encoding="utf-8"))


def _hash(content: str) -> str:
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
