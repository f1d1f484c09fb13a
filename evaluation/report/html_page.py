"""Report as one HTML page that needs no network and runs no code from the documents."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from musamma.data.document import Document
from musamma.evaluation.error_analysis import CONTEXT_LENGTH, ConfusionMatrix, ErrorExample, SuspectAnnotation
from musamma.evaluation.matching import PAIR_KINDS, NamePair, pair_names
from musamma.evaluation.reliability import Reliability
from musamma.evaluation.report import score_rows as rows
from musamma.evaluation.report import wording
from musamma.evaluation.report.annotated_text import Segment, cut_excerpt, pair_labels, select_articles
from musamma.evaluation.report.escaping import escape_block, escape_inline, escape_name, escape_plain
from musamma.evaluation.significance import FEW_DOCUMENTS

if TYPE_CHECKING:
    from musamma.evaluation.analysis import Analysis

#: Maximum number of examples of a kind, of forms and of suspect annotations on the page.
MAX_EXAMPLES, MAX_FORMS, MAX_SUSPECTS = 12, 30, 30

#: Maximum number of labels for a readable confusion matrix.
MAX_CONFUSION_LABELS = 40

#: Side of the square chart of reliability, in SVG units.
CHART_SIDE = 200

#: Number of shades in the confusion matrix, without the one for zero.
SHADES = 6


def render_html(analysis: Analysis) -> str:
    """Render the page.

    Jinja escapes all text from the data; :mod:`musamma.evaluation.report.escaping` removes control and bidi characters
    and isolates the text from its surroundings. The page's policy allows its own style and script by their hashes, and
    nothing else.
    """
    style, script = _read_asset("report.css"), _read_asset("document_filter.js")
    documents = {gold.id: gold for gold, _ in analysis.document_pairs}
    articles = select_articles(analysis.document_pairs, analysis.name_pairs)
    errors = analysis.errors
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            analysis=analysis,
            style=style,
            script=script,
            policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
            "base-uri 'none'; form-action 'none'",
            overall=rows.overall_row(analysis),
            modes=rows.mode_rows(analysis),
            labels=rows.label_rows(analysis),
            totals=rows.total_rows(analysis),
            layers=rows.layer_rows(analysis),
            losses=rows.describe_losses(analysis),
            slices=rows.slice_rows(analysis),
            weak_slices=rows.find_weak_slices(analysis),
            bars=build_reliability_bars(analysis.reliability) if analysis.reliability else [],
            side=CHART_SIDE,
            shades=shade_confusion(errors.confusion) if len(errors.confusion.labels) <= MAX_CONFUSION_LABELS else None,
            names=sum(errors.kinds.values()),
            examples={
                kind: _cut_examples(documents, _sample_evenly(examples, MAX_EXAMPLES))
                for kind, examples in errors.examples.items()
            },
            costly=errors.costly[:MAX_FORMS],
            suspects=[
                (suspect, _cut_suspect(documents, suspect), *_whole_words(suspect))
                for suspect in errors.suspects[:MAX_SUSPECTS]
            ],
            articles=articles,
            anchors={article.id: article.anchor for article in articles},
            known_labels=sorted(analysis.scores.strict.per_label),
        )
    )


@dataclass(frozen=True, slots=True)
class ReliabilityBar:
    """A bin of scores in the chart, whose origin is its upper left corner.

    Args:
        x: left side.
        width: width of the bar.
        y: upper side, at the bin's precision.
        height: height down to the axis.
        mean: horizontal position of the bin's mean score.
        count: number of names in the bin.
        share: length of the bar for the count; :data:`CHART_SIDE` for the fullest bin.
    """

    x: float
    width: float
    y: float
    height: float
    mean: float
    count: int
    share: float


def build_reliability_bars(reliability: Reliability) -> list[ReliabilityBar]:
    """Build a bar for each bin that contains names."""
    max_count = max((part.count for part in reliability.bins), default=0)
    return [
        ReliabilityBar(
            x=round(CHART_SIDE * part.low, 2),
            width=round(CHART_SIDE * (part.high - part.low), 2),
            y=round(CHART_SIDE * (1 - part.precision), 2),
            height=round(CHART_SIDE * part.precision, 2),
            mean=round(CHART_SIDE * part.confidence, 2),
            count=part.count,
            share=round(CHART_SIDE * part.count / max_count, 2),
        )
        for part in reliability.bins
        if part.count
    ]


def shade_confusion(confusion: ConfusionMatrix) -> list[list[int]]:
    """Return the shade of every cell, from 0 for zero to :data:`SHADES`: the root of its share of the row, rounded up.

    The root makes a few errors among many names visible.
    """
    shares = confusion.matrix / np.maximum(1, confusion.matrix.sum(axis=1, keepdims=True))
    return [[int(shade) for shade in row] for row in np.ceil(SHADES * np.sqrt(shares))]


def _sample_evenly(examples: Sequence[ErrorExample], maximum: int) -> Sequence[ErrorExample]:
    return examples[:: -(-len(examples) // maximum)] if examples else examples


def _cut_examples(
    documents: dict[str, Document], examples: Sequence[ErrorExample]
) -> list[tuple[str, tuple[Segment, ...]]]:
    """Return the document id and the cut excerpt of each example."""
    pairs = [NamePair(example.document, example.kind, example.gold, example.predicted) for example in examples]
    return [(pair.document, cut_excerpt(documents[pair.document].text, pair)) for pair in pairs]


def _cut_suspect(documents: dict[str, Document], suspect: SuspectAnnotation) -> tuple[Segment, ...]:
    """Cut the excerpt with the suspect's names; empty if it has no names, only a form."""
    document = documents[suspect.document]
    gold, predicted = ([span] if span else [] for span in (suspect.gold, suspect.predicted))
    pairs = pair_names(document.with_spans(gold), predicted)
    return cut_excerpt(document.text, pairs[0]) if len(pairs) == 1 else ()


def _whole_words(suspect: SuspectAnnotation) -> tuple[str, str]:
    """Return the context before and after a suspect's form, without words that the context cuts."""
    before, after = suspect.before, suspect.after
    if len(before) == CONTEXT_LENGTH:
        before = re.sub(r"^\S*(?=\s)", "…", before)
    if len(after) == CONTEXT_LENGTH:
        after = re.sub(r"(?<=\s)\S*$", "…", after)
    return before, after


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
        "inline": escape_inline,
        "block": escape_block,
        "name": escape_name,
        "plain": escape_plain,
        "percent": rows.format_percent,
        "interval": rows.format_interval,
        "thousands": rows.format_thousands,
        "count_of": rows.format_count,
    }
    environment.globals |= {
        "kinds": PAIR_KINDS,
        "kind_titles": wording.KIND_TITLES,
        "kind_meanings": wording.KIND_MEANINGS,
        "kind_signs": wording.KIND_SIGNS,
        "pair_labels": pair_labels,
        "mode_meanings": wording.MODE_MEANINGS,
        "schema_meanings": wording.SCHEMA_MEANINGS,
        "layer_meanings": wording.LAYER_MEANINGS,
        "dimension_title": wording.dimension_title,
        "min_documents": FEW_DOCUMENTS,
    }
    return environment


def _read_asset(name: str) -> Markup:
    """Read a file of this package, which goes into the page unescaped."""
    return Markup(files("musamma.evaluation.report").joinpath(name).read_text(encoding="utf-8"))


def _hash(content: str) -> str:
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
