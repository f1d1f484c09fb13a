"""Model cards of fine-tuned and pre-trained checkpoints: Markdown with the metadata of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from musamma.evaluation.matching import NESTED
from musamma.models.model_names import packaged_models
from musamma.training.config import NoiseSection, RunConfig
from musamma.training.dataset import Corpus
from musamma.training.distillation.distill_config import DistillConfig
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
    return _format_tagger_card(
        config,
        corpus,
        results,
        base_model=_base_model(config.encoder),
        origin=f"`{config.encoder}`, fine-tuned",
        verb="train",
        noise=config.noise,
    )


def format_distilled_card(
    config: DistillConfig, corpus: Corpus, results: Sequence[SeedResult], *, layers: int, depth: int, text_words: int
) -> str:
    """Format the model card of a distilled checkpoint.

    Args:
        config: the run.
        corpus: the documents of the run.
        results: one result per seed; the card gives means and standard deviations over them.
        layers: number of layers of the student.
        depth: number of layers of the teacher.
        text_words: number of words of raw text.
    """
    return _format_tagger_card(
        config,
        corpus,
        results,
        base_model=_base_model(config.teacher),
        origin=f"{layers} of the {depth} layers of `{config.teacher}`, distilled",
        verb="distill",
        raw_words=text_words,
        raw_files=[Path(file).name for file in config.text],
    )


def _format_tagger_card(
    config: RunConfig | DistillConfig,
    corpus: Corpus,
    results: Sequence[SeedResult],
    *,
    base_model: str | None,
    origin: str,
    verb: str,
    raw_words: int = 0,
    raw_files: Sequence[str] = (),
    noise: NoiseSection | None = None,
) -> str:
    """Format the model card of a token classifier.

    Args:
        config: the run.
        corpus: its annotated documents.
        results: one result per seed.
        base_model: hub id of the model that the run started from; ``None`` without one.
        origin: that model and what was done to it, without "with Musamma".
        verb: the command of the run.
        raw_words: number of words of raw text.
        raw_files: names of the files with raw text.
        noise: the noisy copies of the training documents.
    """
    parts = scored_parts(results)
    name = Path(config.output).name
    data_name = ", ".join(Path(file).name for file in config.data.train_names)
    card_data = ModelCardData(
        language="ar",
        library_name="transformers",
        pipeline_tag="token-classification",
        tags=["named-entity-recognition", "arabic", "musamma"],
        base_model=base_model,
        model_name=name,
        metrics=["f1"],
        eval_results=[
            build_eval_result(
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
    return render_card(
        "finetuned",
        card_data,
        name=name,
        labels=corpus.tag_set.labels,
        nested_labels=corpus.nested_tag_set.labels if corpus.nested_tag_set else (),
        origin=origin,
        noise=noise,
        verb=verb,
        raw_words=raw_words,
        raw_files=raw_files,
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
    return render_card(
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


def build_eval_result(part: str, f1: float, dataset: str) -> EvalResult:
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


def render_card(template: str, card_data: ModelCardData, **values: Any) -> str:
    """Fill a template of this package.

    Args:
        template: its name, without suffix.
        card_data: the metadata at the head of the card.
        values: the values of its variables.
    """
    path = Path(str(resources.files("musamma.training"))) / "templates" / f"{template}.md.jinja"
    return str(ModelCard.from_template(card_data, template_path=str(path), **values)) + "\n"
