"""The model card of a packed checkpoint: its data, its scores with intervals, its errors, and what packing changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from musamma.evaluation.matching import ALL, NESTED, OUTERMOST
from musamma.models.calibration import Calibration
from musamma.training.cards import build_eval_result, render_card

#: Kinds of errors, with the titles of their columns.
ERROR_TITLES = {
    "missed": "missed",
    "spurious": "spurious",
    "label": "wrong label",
    "border": "wrong border",
    "proclitic": "proclitic only",
    "label_and_border": "label and border",
}
# Number of confused pairs of labels that a card shows for a part.
_CONFUSIONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedCard:
    """What the card of a packed checkpoint is made from.

    Args:
        name: the model's name.
        labels: its labels.
        encoder: the encoder it was fine-tuned from; ``None`` if unknown.
        teacher: the model it was distilled from; ``None`` if it was not.
        training: names of the training files.
        about: the content of ``about.yaml``, see :class:`musamma.training.checkpoint_packing.About`.
        scores: the content of the run's ``scores.json``; empty if there is none.
        evaluations: the content of ``report.json`` by part, see :meth:`musamma.evaluation.analysis.Analysis.to_dict`.
        calibration: the calibration of the model.
        packing: the content of ``packing.json``.
    """

    name: str
    labels: Sequence[str]
    encoder: str | None
    teacher: str | None = None
    training: Sequence[str]
    about: Mapping[str, Any]
    scores: Mapping[str, Any]
    evaluations: Mapping[str, Mapping[str, Any]]
    calibration: Calibration
    packing: Mapping[str, Any]


def format_packed_card(card: PackedCard) -> str:
    """Format the model card of a packed checkpoint."""
    packing = card.packing
    return render_card(
        "packed",
        _build_card_data(card),
        name=card.name,
        labels=card.labels,
        encoder=card.encoder,
        teacher=card.teacher,
        files=[Path(file).name for file in card.training],
        **_format_sources(card.about["sources"]),
        **_format_scores(card.labels, card.evaluations),
        **_format_calibration(card.calibration),
        **_format_errors(card.evaluations),
        training=card.about["training"],
        seeds=[result["seed"] for result in card.scores.get("seeds", [])],
        minutes=[f"{result['seconds'] / 60:.1f}" for result in card.scores.get("seeds", [])],
        megabytes={side: f"{packing[f'bytes_{side}'] / 1e6:.1f}" for side in ("before", "after")},
        quality={
            "gold": packing["gold"],
            **_format_quality(packing),
        },
        # Without annotated ones, their F1 is 0.
        nested=_format_quality(nested) if (nested := packing.get("nested")) and nested["names"] else None,
        limits=card.about["limits"],
    )


def _build_card_data(card: PackedCard) -> ModelCardData:
    reports = card.evaluations
    origin = card.encoder or card.teacher
    return ModelCardData(
        language="ar",
        library_name="musamma",
        license=card.about["license"],
        pipeline_tag="token-classification",
        tags=["named-entity-recognition", "arabic", "musamma"],
        # Of a folder, only the name is known here.
        base_model=origin if origin and "/" in origin else None,
        model_name=card.name,
        metrics=["f1"] if reports else None,
        eval_results=[
            build_eval_result(part, report["scores"]["micro"]["f1"], part) for part, report in reports.items()
        ]
        or None,
    )


def _format_quality(measured: Mapping[str, Any]) -> dict[str, str]:
    """Return the number of names, and the F1 of the names before and after, as the template shows them."""
    scores = {key: f"{100 * measured[key]:.2f}" for key in ("before", "after", "agreeing")}
    return {"names": f"{measured['names']:,}", **scores}


def _format_sources(sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the template's values for the corpora: their table, and a line for each that has a note."""
    counts = [key for key in ("documents", "names") if any(source[key] is not None for source in sources)]
    rows = [_source_row(source, counts) for source in sources]
    return {
        "source_table": _format_table(["corpus", "licence", *counts], rows, left=2),
        "notes": [f"{source['name']}: {source['note']}" for source in sources if source["note"]],
    }


def _format_scores(labels: Sequence[str], reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the template's values for the scores: tables by part, by layer and by label."""
    scored = [label for label in labels if any(label in report["scores"]["per_label"] for report in reports.values())]
    return {
        "intervals": any(report["intervals"] for report in reports.values()),
        "score_table": _format_table(
            ["part", "documents", "names", "precision", "recall", "F1", "F1, whole words"],
            [_score_row(part, report) for part, report in reports.items()],
        ),
        "layer_table": _format_table(
            ["part", "outermost names", "names inside names", "all"],
            [row for part, report in reports.items() if (row := _layer_row(part, report))],
        ),
        "label_table": _format_table(
            ["label", *reports],
            [[label, *(_label_cell(report, label) for report in reports.values())] for label in scored],
        ),
    }


def _format_calibration(calibration: Calibration) -> dict[str, Any]:
    """Return the template's values for the calibration and the thresholds; empty ones without a calibration."""
    thresholds = [
        [label, "not reached" if value is None else f"{value:.2f}"] for label, value in calibration.thresholds.items()
    ]
    described = {
        "documents": calibration.documents,
        "names": f"{calibration.names:,}",
        "tags": f"{calibration.tag_temperature:.2f}",
        "proclitics": f"{calibration.proclitic_temperature:.2f}",
        "ece": _format_ece(calibration),
        "precision": "" if calibration.precision is None else f"{100 * calibration.precision:g}",
    }
    return {
        "calibration": described if calibration.documents else None,
        "threshold_table": _format_table(["label", "lowest score"], thresholds),
    }


def _format_errors(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the template's values for the errors: the table of their kinds, and the confused labels of each part."""
    return {
        "error_table": _format_table(
            ["part", *ERROR_TITLES.values()],
            [
                [part, *(f"{report['mistakes']['kinds'].get(kind, 0):,}" for kind in ERROR_TITLES)]
                for part, report in reports.items()
            ],
        ),
        "confusions": [line for part, report in reports.items() if (line := _describe_confusions(part, report))],
    }


def _format_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Format a Markdown table, empty without rows. The columns after the first ``left`` ones are aligned to the right."""
    if not rows:
        return ""
    rules = ["---" if column < left else "---:" for column in range(len(headings))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, rules, *rows))


def _source_row(source: Mapping[str, Any], counts: Sequence[str]) -> list[str]:
    title = f"[{source['name']}]({source['url']})" if source["url"] else source["name"]
    return [title, source["license"], *("" if source[key] is None else f"{source[key]:,}" for key in counts)]


def _score_row(part: str, report: Mapping[str, Any]) -> list[str]:
    scores, intervals = report["scores"], report["intervals"]
    micro = scores["micro"]
    cells = [
        _with_interval(micro[metric], intervals.get("strict", {}).get(metric))
        for metric in ("precision", "recall", "f1")
    ]
    words = _with_interval(scores["whole_word"]["micro"]["f1"], intervals.get("whole_word", {}).get("f1"))
    return [part, f"{report['documents']:,}", f"{micro['support']:,}", *cells, words]


def _layer_row(part: str, report: Mapping[str, Any]) -> list[str]:
    """Return the F1 of each layer of names with the number of names; empty if no nested name is annotated."""
    layers = report["scores"].get("layers", {})
    if NESTED not in layers or not layers[NESTED]["micro"]["support"]:
        return []
    counts = [layers[layer]["micro"] for layer in (OUTERMOST, NESTED, ALL)]
    return [part, *(f"{100 * count['f1']:.1f} ({count['support']:,})" for count in counts)]


def _label_cell(report: Mapping[str, Any], label: str) -> str:
    counts = report["scores"]["per_label"].get(label)
    if counts is None or not counts["support"]:
        return ""
    f1 = _with_interval(counts["f1"], report["intervals"].get(f"strict/{label}", {}).get("f1"))
    return f"{f1} ({counts['support']:,})"


def _with_interval(value: float, interval: Sequence[float] | None) -> str:
    figure = f"{100 * value:.1f}"
    return figure if interval is None else f"{figure} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _describe_confusions(part: str, report: Mapping[str, Any]) -> str:
    """Return the labels that are most often taken for others in a part; empty if none is."""
    labels, matrix = report["mistakes"]["confusion"]["labels"], report["mistakes"]["confusion"]["matrix"]
    pairs = sorted(
        (-matrix[row][column], gold, predicted)
        for row, gold in enumerate(labels)
        for column, predicted in enumerate(labels)
        if row != column and matrix[row][column]
    )[:_CONFUSIONS]
    if not pairs:
        return ""
    listed = ", ".join(f"{gold} as {predicted} ({-count})" for count, gold, predicted in pairs)
    return f"{part}, labels taken for others: {listed}"


def _format_ece(calibration: Calibration) -> str:
    if calibration.ece_before is None or calibration.ece_after is None:
        return "was not recorded"
    return f"went from {calibration.ece_before:.3f} to {calibration.ece_after:.3f}"
