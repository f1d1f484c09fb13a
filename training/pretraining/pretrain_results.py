"""What a run leaves: the encoder as a plain folder, its figures, and a card."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from musamma.data.files import write_json
from musamma.models.loading import packaged_models
from musamma.models.pretrained_encoder import save_encoder
from musamma.training.pretraining.pretrain_config import PretrainConfig
from musamma.training.run_dir import CARD_FILE

#: Its presence says that the run is done.
RESULT_FILE = "pretraining.json"

_TITLES = {
    "mlm_loss": "loss, nats a masked piece",
    "mlm_accuracy": "masked pieces named right",
    "rtd_loss": "loss of finding replaced pieces, nats a piece",
    "rtd_recall": "replaced pieces found",
    "rtd_precision": "replaced among those said to be",
}


@dataclass(frozen=True)
class PretrainResult:
    """The figures of a run.

    Args:
        encoder: what it began with.
        objective: ``mlm`` or ``rtd``.
        steps: optimizer steps, those of the fresh heads aside.
        tokens: pieces that these saw, special tokens included.
        passes: over the text.
        text: counts of the prepared text.
        curve: held-out figures by step, from 0, the encoder as it was under heads that learnt alone, to the last.
        milestones: what was written on the way: ``tokens`` as configured, the exact ``tokens_seen``, ``step``,
            ``folder``.
    """

    encoder: str
    objective: str
    steps: int
    tokens: int
    passes: float
    text: dict[str, int]
    curve: list[dict[str, float]]
    milestones: list[dict[str, Any]]

    @property
    def before(self) -> dict[str, float]:
        """Held-out figures before the encoder learnt."""
        return self.curve[0]

    @property
    def after(self) -> dict[str, float]:
        """Held-out figures at the end."""
        return self.curve[-1]


def read_result(output: Path) -> PretrainResult:
    """The figures of a finished run."""
    return PretrainResult(**json.loads((output / RESULT_FILE).read_text(encoding="utf-8")))


def read_curve(log: Path, before: dict[str, float]) -> list[dict[str, float]]:
    """Held-out figures by step, from a run's ``log.jsonl``.

    Args:
        log: the log.
        before: the figures of step 0.
    """
    points = {0: {"step": 0, "tokens": 0, **before}}
    for line in log.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        found = {key.removeprefix("eval_"): value for key, value in event.items() if key.startswith("eval_")}
        if found:
            points[event["step"]] = {"step": event["step"], "tokens": event["tokens"], **found}
    return [points[step] for step in sorted(points)]


def write_encoder(
    encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, *, dtype: str, record: dict[str, Any]
) -> None:
    """A folder with the encoder alone, which appears when it is whole.

    Args:
        encoder: what to write.
        tokenizer: its tokenizer.
        folder: where to; replaced if it is there.
        dtype: of the saved weights.
        record: goes beside them as ``milestone.json``.
    """
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_encoder(encoder, tokenizer, part, dtype)
    write_json(record, part / "milestone.json")
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)


def write_result(
    config: PretrainConfig, encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, result: PretrainResult
) -> None:
    """The output folder of a finished run: encoder, card, and figures last."""
    output = Path(config.output)
    save_encoder(encoder, tokenizer, output, config.dtype)
    (output / CARD_FILE).write_text(pretraining_card(config, result), encoding="utf-8")
    write_json(asdict(result), output / RESULT_FILE)


def format_metric(name: str, value: float) -> str:
    """A held-out figure as text: losses as they are, shares in per cent."""
    return f"{value:.3f}" if name.endswith("loss") else f"{100 * value:.1f} %"


def pretraining_card(config: PretrainConfig, result: PretrainResult) -> str:
    """The model card, in Markdown with the hub's metadata."""
    name = Path(config.output).name
    data = ModelCardData(
        language="ar",
        library_name="transformers",
        tags=["arabic", "encoder", "musamma"],
        base_model=config.encoder if config.encoder not in packaged_models() else None,
        model_name=name,
    )
    task = (
        "masked pieces, in whole words without their proclitics" if config.clitics else "masked pieces, in whole words"
    )
    if config.objective == "rtd":
        task = f"telling pieces that a generator of {config.generator_layers} layers put in place of {task}"
    names = [key for key in _TITLES if key in result.after]
    points = [
        f"| {point['tokens']:,} | " + " | ".join(format_metric(key, point[key]) for key in names) + " |"
        for point in result.curve
    ]
    text = result.text
    return "\n".join(
        [
            "---",
            data.to_yaml(),
            "---",
            "",
            f"# {name}",
            "",
            f"An Arabic encoder: `{config.encoder}`, pre-trained further with Musamma by {task}.",
            "It is to be fine-tuned:",
            "",
            "```",
            f"musamma train CONFIG --set encoder={config.output}",
            "```",
            "",
            "## Data",
            "",
            f"- files: {', '.join(f'`{Path(file).name}`' for file in config.text)}",
            f"- {text['paragraphs']:,} paragraphs, {text['held_out_paragraphs']:,} of them held out; "
            f"{text['train_pieces']:,} pieces in {text['train_rows']:,} rows to train on",
            f"- seen: {result.tokens:,} tokens in {result.steps:,} steps, {result.passes:.2f} passes",
            "",
            "## Held-out figures",
            "",
            "Masks are always the same. The first line is the encoder as it was, under fresh heads that learnt alone"
            + (
                ", so that the figures of replaced pieces are those of a frozen generator."
                if "rtd_loss" in names
                else "."
            ),
            "",
            "| tokens | " + " | ".join(_TITLES[key] for key in names) + " |",
            "| --- |" + " --- |" * len(names),
            *points,
            "",
            "## Training",
            "",
            "The resolved configuration is in `run.yaml`, all figures in `pretraining.json` and `log.jsonl`.",
            "",
            "## Limits",
            "",
            "An encoder knows the text it was trained on, with its time, its places and its leanings.",
            "",
        ]
    )
