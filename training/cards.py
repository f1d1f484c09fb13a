"""The model card that a run leaves beside its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING

from huggingface_hub import EvalResult, ModelCardData
from rich.console import Console
from rich.table import Table

from musamma.models.loading import packaged_models
from musamma.training.config import RunConfig
from musamma.training.dataset import Corpus

if TYPE_CHECKING:
    from musamma.training.finetune import SeedResult

#: Modes of the table, with what they are called in it.
MODE_TITLES = {
    "strict": "character-exact",
    "whole_word": "whole words",
    "iob2_strict": "IOB2, strict",
    "conlleval": "conlleval, lenient",
    "overlap": "any overlap",
}


def format_mean_std(values: Sequence[float]) -> str:
    """Mean and sample standard deviation in per cent, e.g. ``75.1 ± 0.4``; one value stands alone."""
    figure = f"{100 * mean(values):.1f}"
    return figure if len(values) == 1 else f"{figure} ± {100 * stdev(values):.1f}"


def micro_f1(result: SeedResult, part: str, mode: str) -> float:
    """Micro F1 of a seed's run in a mode."""
    figures = result.scores[part]
    return float((figures if mode == "strict" else figures[mode])["micro"]["f1"])


def build_model_card(config: RunConfig, corpus: Corpus, results: Sequence[SeedResult]) -> str:
    """The card, in Markdown with the hub's metadata.

    Args:
        config: the run.
        corpus: what it was trained and scored on.
        results: one a seed; means and spreads are taken over them.
    """
    parts = [part for part in ("dev", "test") if part in results[0].scores]
    name = Path(config.output).name
    data = ModelCardData(
        language="ar",
        library_name="transformers",
        pipeline_tag="token-classification",
        tags=["named-entity-recognition", "arabic", "musamma"],
        base_model=config.encoder if config.encoder not in packaged_models() else None,
        model_name=name,
        metrics=["f1"],
        eval_results=[
            EvalResult(
                task_type="token-classification",
                dataset_type="musamma",
                dataset_name=f"{', '.join(Path(file).name for file in config.data.train)} ({part})",
                metric_type="f1",
                metric_name="strict, character-exact micro F1",
                metric_value=round(mean(micro_f1(result, part, "strict") for result in results), 4),
            )
            for part in parts
        ],
    )
    sizes = {"training": corpus.train, "dev": corpus.dev, "test": corpus.test}
    rows = [
        f"| {title} | " + " | ".join(format_mean_std([micro_f1(r, p, mode) for r in results]) for p in parts) + " |"
        for mode, title in MODE_TITLES.items()
    ]
    labels = results[0].scores[parts[-1]]["per_label"]
    per_label = [
        f"| {label} | "
        + format_mean_std([float(r.scores[parts[-1]]["per_label"].get(label, {"f1": 0.0})["f1"]) for r in results])
        + f" | {labels[label]['support']} |"
        for label in labels
    ]
    seeds = "one seed" if len(results) == 1 else f"mean ± standard deviation of {len(results)} seeds"
    return "\n".join(
        [
            "---",
            data.to_yaml(),
            "---",
            "",
            f"# {name}",
            "",
            f"An Arabic named-entity recogniser for {', '.join(corpus.tags.labels)}: `{config.encoder}`, fine-tuned with Musamma.",
            "Names come with character-exact offsets into the text as it was given, without the proclitics before them.",
            "",
            "```python",
            "from musamma.inference import Tagger",
            "",
            f'Tagger("{name}").tag("وصل الوفد إلى بيروت وبغداد")',
            "```",
            "",
            'It is a plain Hugging Face checkpoint: `pipeline("token-classification", ..., aggregation_strategy="first")` runs it too, '
            "then by whole words.",
            "",
            "## Data",
            "",
            *(
                f"- {part}: {len(docs):,} documents, {sum(len(d.spans) for d in docs):,} names"
                for part, docs in sizes.items()
                if docs
            ),
            f"- files: {', '.join(f'`{Path(file).name}`' for file in [*config.data.train, *config.data.dev, *config.data.test])}",
            "",
            f"## Scores: micro F1 in per cent, {seeds}",
            "",
            "The development part was used to choose the epoch.",
            "",
            f"| counted by | {' | '.join(parts)} |",
            f"| --- |{' --- |' * len(parts)}",
            *rows,
            "",
            f"| label ({parts[-1]}, character-exact) | F1 | names |",
            "| --- | --- | --- |",
            *per_label,
            "",
            "## Training",
            "",
            "The resolved configuration is in `run.yaml`; `musamma train run.yaml --output DIR` repeats the run.",
            "",
            "## Limits",
            "",
            "A recogniser repeats the conventions and the blind spots of the articles it was trained on; scores on text of another",
            "kind, time or country are lower. Names are found, not judged: do not act on persons by its output alone.",
            "",
        ]
    )


if TYPE_CHECKING:
    from musamma.training.finetune import SeedResult


def print_results(results: Sequence[SeedResult], output: str, console: Console) -> None:
    """Print micro F1 by mode and part, mean and spread over seeds, and where the checkpoint is."""
    parts = [part for part in ("dev", "test") if part in results[0].scores]
    seeds = "1 seed" if len(results) == 1 else f"{len(results)} seeds, mean ± standard deviation"
    table = Table(title=f"micro F1, {seeds}", title_justify="left")
    table.add_column("counted by")
    for part in parts:
        table.add_column(part, justify="right")
    for mode, title in MODE_TITLES.items():
        table.add_row(title, *(format_mean_std([micro_f1(result, part, mode) for result in results]) for part in parts))
    console.print(table)
    minutes = sum(result.seconds for result in results) / 60
    console.print(f"trained in {minutes:.1f} min; checkpoint, card and scores: {output}", soft_wrap=True)
