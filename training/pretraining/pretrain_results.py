"""The result of a pre-training run: its metrics, read from the log and kept in ``pretraining.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from musamma.data.files import write_json

#: File with the result; its presence marks the run as finished.
RESULT_FILE = "pretraining.json"

METRIC_TITLES = {
    "mlm_loss": "loss, nats per masked piece",
    "mlm_accuracy": "masked pieces predicted correctly",
    "rtd_loss": "loss of replaced token detection, nats per piece",
    "rtd_recall": "replaced pieces detected",
    "rtd_precision": "detected pieces that are replaced",
}


@dataclass(frozen=True)
class PretrainResult:
    """The metrics of a run.

    Args:
        encoder: the original encoder.
        objective: ``mlm`` or ``rtd``.
        steps: optimizer steps, without those of the new heads alone.
        tokens: pieces seen in these steps, special tokens included.
        passes: passes over the text in these steps.
        text: counts of the prepared text.
        curve: held-out metrics by step, from step 0 to the last. Step 0 is the original encoder with heads that were trained
            alone.
        milestones: encoders written during the run: ``tokens`` as configured, the exact ``tokens_seen``, ``step``,
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
        """Held-out metrics of the original encoder."""
        return self.curve[0]

    @property
    def after(self) -> dict[str, float]:
        """Held-out metrics at the end."""
        return self.curve[-1]

    def write(self, output: Path) -> None:
        """Write ``pretraining.json`` into the output folder."""
        write_json(asdict(self), output / RESULT_FILE)


def read_result(output: Path) -> PretrainResult:
    """Read the result of a finished run from its output folder."""
    return PretrainResult(**json.loads((output / RESULT_FILE).read_text(encoding="utf-8")))


def read_curve(log: Path, before: dict[str, float]) -> list[dict[str, float]]:
    """Read the held-out metrics by step from a run's ``log.jsonl``.

    Args:
        log: the log.
        before: the metrics of step 0.
    """
    points = {0: {"step": 0, "tokens": 0, **before}}
    for line in log.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        metrics = {key.removeprefix("eval_"): value for key, value in event.items() if key.startswith("eval_")}
        if metrics:
            points[event["step"]] = {"step": event["step"], "tokens": event["tokens"], **metrics}
    return [points[step] for step in sorted(points)]


def format_metric(name: str, value: float) -> str:
    """Format a held-out metric: a loss as a number, a share in per cent."""
    return f"{value:.3f}" if name.endswith("loss") else f"{100 * value:.1f} %"
