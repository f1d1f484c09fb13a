"""Model cards of fine-tuned, packed and pre-trained checkpoints: Markdown with the metadata of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from musamma.evaluation.matching import ALL, NESTED, OUTERMOST
from musamma.models.calibration import Calibration
from musamma.models.model_names import packaged_models
from musamma.training.config import RunConfig
from musamma.training.dataset import Corpus
from musamma.training.pretraining.pretrain_config import PretrainConfig
from musamma.training.pretraining.pretrain_results import METRIC_TITLES, PretrainResult, format_metric
from musamma.training.run_dir import SeedResult

#: Scoring modes of the table, with their titles.
MODE_TITLES = {
    "strict": "character-exact",
    "whole_word": "whole words",
    "iob2_strict": "IOB2, strict",
    "conlleval": "conlleval, lenient",
    "overlap": "any overlap",
}
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
    training: Sequence[str]
    about: Mapping[str, Any]
    scores: Mapping[str, Any]
    evaluations: Mapping[str, Mapping[str, Any]]
    calibration: Calibration
    packing: Mapping[str, Any]


def format_mean_std(values: Sequence[float]) -> str:
    """Format mean and sample standard deviation in per cent, e.g. ``75.1 ± 0.4``; a single value without deviation."""
    figure = f"{100 * mean(values):.1f}"
    return figure if len(values) == 1 else f"{figure} ± {100 * stdev(values):.1f}"


def scored_parts(results: Sequence[SeedResult]) -> list[str]:
    """Return the parts that have scores: ``dev``, or ``dev NAME`` for each source, and, if there is one, ``test``."""
    return list(results[0].scores)


def f1_rows(results: Sequence[SeedResult]) -> list[list[str]]:
    """Return a table of micro F1: one row per scoring mode, with its title and one cell per scored part.

    A last row has the character-exact F1 of the nested names, if the model found any.
    """
    parts = scored_parts(results)
    rows = [
        [title, *(format_mean_std([_micro_f1(result, part, mode) for result in results]) for part in parts)]
        for mode, title in MODE_TITLES.items()
    ]
    if any(_found_nested(result.scores[part]) for result in results for part in parts):
        rows.append(["nested names", *(_nested_f1(results, part) for part in parts)])
    return rows


def _found_nested(scores: Mapping[str, Any]) -> bool:
    losses = scores.get("losses", {}).get("predictions", {})
    return bool(losses.get("nested"))


def _nested_f1(results: Sequence[SeedResult], part: str) -> str:
    layers = [result.scores[part]["layers"].get(NESTED) for result in results]
    return "" if None in layers else format_mean_std([float(layer["micro"]["f1"]) for layer in layers])


def _micro_f1(result: SeedResult, part: str, mode: str) -> float:
    scores = result.scores[part]
    return float((scores if mode == "strict" else scores[mode])["micro"]["f1"])


def format_finetuned_card(config: RunConfig, corpus: Corpus, results: Sequence[SeedResult]) -> str:
    """Format the model card of a fine-tuned checkpoint.

    Args:
        config: the run.
        corpus: the documents of the run.
        results: one result per seed; the card gives means and standard deviations over them.
    """
    parts = scored_parts(results)
    name = Path(config.output).name
    data_name = ", ".join(Path(file).name for file in config.data.train_names)
    card_data = ModelCardData(
        language="ar",
        library_name="transformers",
        pipeline_tag="token-classification",
        tags=["named-entity-recognition", "arabic", "musamma"],
        base_model=_base_model(config.encoder),
        model_name=name,
        metrics=["f1"],
        eval_results=[
            _build_eval_result(
                part, mean(_micro_f1(result, part, "strict") for result in results), f"{data_name} ({part})"
            )
            for part in parts
        ],
    )
    documents = {"training": corpus.train, "dev": corpus.dev, "test": corpus.test}
    if corpus.sources:
        documents = {
            **{f"training, {source.name}": source.train for source in corpus.sources},
            **{f"dev, {source.name}": source.dev for source in corpus.sources},
            "test": corpus.test,
        }
    per_label = [result.scores[parts[-1]]["per_label"] for result in results]
    return _render(
        "finetuned",
        card_data,
        name=name,
        labels=corpus.tag_set.labels,
        nested_labels=corpus.nested_tag_set.labels if corpus.nested_tag_set else (),
        encoder=config.encoder,
        parts=[
            {"title": title, "documents": len(part), "names": sum(len(document.spans) for document in part)}
            for title, part in documents.items()
            if part
        ],
        files=[Path(file).name for file in config.data.file_names],
        seeds=len(results),
        scored_parts=parts,
        score_rows=f1_rows(results),
        label_rows=[
            [
                label,
                format_mean_std([float(scores.get(label, {"f1": 0.0})["f1"]) for scores in per_label]),
                str(per_label[0][label]["support"]),
            ]
            for label in per_label[0]
        ],
    )


def format_pretrained_card(config: PretrainConfig, result: PretrainResult) -> str:
    """Format the model card of a pre-trained encoder.

    Args:
        config: the run.
        result: the metrics of the run.
    """
    name = Path(config.output).name
    metrics = [key for key in METRIC_TITLES if key in result.after]
    data_name = ", ".join(Path(file).name for file in config.text)
    card_data = ModelCardData(
        language="ar",
        library_name="transformers",
        tags=["arabic", "encoder", "musamma"],
        base_model=_base_model(config.encoder),
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="fill-mask",
                dataset_type="musamma",
                dataset_name=f"{data_name} (held out)",
                metric_type=key,
                metric_name=METRIC_TITLES[key],
                metric_value=round(result.after[key], 4),
            )
            for key in metrics
        ],
    )
    task = (
        "masked pieces, in whole words without their proclitics" if config.clitics else "masked pieces, in whole words"
    )
    if config.objective == "rtd":
        task = f"the detection of pieces that a {config.generator_layers}-layer generator put in place of {task}"
    return _render(
        "pretrained",
        card_data,
        name=name,
        encoder=config.encoder,
        task=task,
        output=config.output,
        files=[Path(file).name for file in config.text],
        text=result.text,
        tokens=result.tokens,
        steps=result.steps,
        passes=result.passes,
        replaced="rtd_loss" in metrics,
        titles=[METRIC_TITLES[key] for key in metrics],
        rows=[[f"{point['tokens']:,}", *(format_metric(key, point[key]) for key in metrics)] for point in result.curve],
    )


def format_packed_card(card: PackedCard) -> str:
    """Format the model card of a packed checkpoint."""
    sources, reports = card.about["sources"], card.evaluations
    calibration, packing = card.calibration, card.packing
    card_data = ModelCardData(
        language="ar",
        library_name="musamma",
        license=card.about["license"],
        pipeline_tag="token-classification",
        tags=["named-entity-recognition", "arabic", "musamma"],
        # Of a folder, only the name is known here.
        base_model=card.encoder if card.encoder and "/" in card.encoder else None,
        model_name=card.name,
        metrics=["f1"] if reports else None,
        eval_results=[
            _build_eval_result(part, report["scores"]["micro"]["f1"], part) for part, report in reports.items()
        ]
        or None,
    )
    counted = any(source["documents"] is not None or source["names"] is not None for source in sources)
    labels = [
        label for label in card.labels if any(label in report["scores"]["per_label"] for report in reports.values())
    ]
    return _render(
        "packed",
        card_data,
        name=card.name,
        labels=card.labels,
        encoder=card.encoder,
        files=[Path(file).name for file in card.training],
        source_table=_format_table(
            ["corpus", "licence", "documents", "names"] if counted else ["corpus", "licence"],
            [_source_row(source)[: 4 if counted else 2] for source in sources],
            left=2,
        ),
        notes=[f"{source['name']}: {source['note']}" for source in sources if source["note"]],
        intervals=any(report["intervals"] for report in reports.values()),
        score_table=_format_table(
            ["part", "documents", "names", "precision", "recall", "F1", "F1, whole words"],
            [_score_row(part, report) for part, report in reports.items()],
        ),
        layer_table=_format_table(
            ["part", "outermost names", "names inside names", "all"],
            [row for part, report in reports.items() if (row := _layer_row(part, report))],
        ),
        label_table=_format_table(
            ["label", *reports],
            [[label, *(_label_cell(report, label) for report in reports.values())] for label in labels],
        ),
        calibration={
            "documents": calibration.documents,
            "names": f"{calibration.names:,}",
            "tags": f"{calibration.tag_temperature:.2f}",
            "proclitics": f"{calibration.proclitic_temperature:.2f}",
            "ece": _format_ece(calibration),
            "precision": "" if calibration.precision is None else f"{100 * calibration.precision:g}",
        }
        if calibration.documents
        else None,
        threshold_table=_format_table(
            ["label", "lowest score"],
            [
                [label, "not reached" if value is None else f"{value:.2f}"]
                for label, value in calibration.thresholds.items()
            ],
        ),
        error_table=_format_table(
            ["part", *ERROR_TITLES.values()],
            [
                [part, *(f"{report['mistakes']['kinds'].get(kind, 0):,}" for kind in ERROR_TITLES)]
                for part, report in reports.items()
            ],
        ),
        confusions=[line for part, report in reports.items() if (line := _describe_confusions(part, report))],
        training=card.about["training"],
        minutes=_training_minutes(card.scores),
        megabytes={side: f"{packing[f'bytes_{side}'] / 1e6:.1f}" for side in ("before", "after")},
        quality={
            "gold": packing["gold"],
            "names": f"{packing['names']:,}",
            **{key: f"{100 * packing[key]:.2f}" for key in ("before", "after", "agreeing")},
        },
        limits=card.about["limits"],
    )


def _format_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Format a Markdown table, empty without rows. The columns after the first ``left`` ones are aligned to the right."""
    if not rows:
        return ""
    rules = ["---" if column < left else "---:" for column in range(len(headings))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (headings, rules, *rows))


def _source_row(source: Mapping[str, Any]) -> list[str]:
    title = f"[{source['name']}]({source['url']})" if source["url"] else source["name"]
    counts = ("" if source[key] is None else f"{source[key]:,}" for key in ("documents", "names"))
    return [title, source["license"], *counts]


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


def _training_minutes(scores: Mapping[str, Any]) -> str | None:
    """Return how many minutes the seed of the checkpoint was trained; ``None`` if unknown."""
    for result in scores.get("seeds", []):
        if result["seed"] == scores.get("best_seed"):
            return f"{result['seconds'] / 60:.1f}"
    return None


def _build_eval_result(part: str, f1: float, dataset: str) -> EvalResult:
    """Build the entry for a tagger's strict micro F1 on a part, in the metadata of the hub."""
    return EvalResult(
        task_type="token-classification",
        dataset_type="musamma",
        dataset_name=dataset,
        dataset_split=part,  # without it, the hub puts the scores of all parts under the first one
        metric_type="f1",
        metric_name="strict, character-exact micro F1",
        metric_value=round(f1, 4),
    )


def _base_model(encoder: str) -> str | None:
    """Return the hub id of the encoder; packaged encoders have none."""
    return encoder if encoder not in packaged_models() else None


def _render(template: str, card_data: ModelCardData, **values: Any) -> str:
    path = Path(str(resources.files("musamma.training"))) / "templates" / f"{template}.md.jinja"
    return str(ModelCard.from_template(card_data, template_path=str(path), **values)) + "\n"
