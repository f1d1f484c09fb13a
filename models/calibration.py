"""What a checkpoint knows about its own scores: temperatures, and the score from which each label's names can be trusted.

It stands in ``config.json`` under ``musamma``, beside what belongs to encoding. A checkpoint without it has temperatures of 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from musamma.data.arabic import proclitic_offsets
from musamma.data.errors import InputError
from musamma.data.files import atomic_write
from musamma.data.tags import TagSet
from musamma.data.windows import IGNORE_INDEX, TokenizedDocument, build_targets
from musamma.models.decoding import PROCLITIC_CLASSES, log_softmax

#: Where a temperature is looked for. A model that is right about every word of the development set has no finite best one.
TEMPERATURE_BOUNDS = (0.1, 10.0)

#: Of every word: its tags' logits, (words, tags), and its borders', (words, proclitic classes), ``None`` without that head.
WordLogits: TypeAlias = tuple[np.ndarray, np.ndarray | None]

_KEY = "calibration"


@dataclass(frozen=True, slots=True)
class Calibration:
    """How scores are made from logits, and which of them are enough.

    Args:
        tag_temperature: what tag logits are divided by before they become scores; above 1 for a model too sure of itself.
        proclitic_temperature: the same for the proclitic head's.
        thresholds: by label, the smallest score from which its names reached ``precision``; ``None`` where none did.
        precision: the precision that was wanted.
        documents: documents that it was fitted on.
        names: gold names in them.
        ece_before: expected calibration error of the names' scores on them, with temperatures of 1.
        ece_after: the same with these temperatures.
    """

    tag_temperature: float = 1.0
    proclitic_temperature: float = 1.0
    thresholds: Mapping[str, float | None] = field(default_factory=dict)
    precision: float | None = None
    documents: int = 0
    names: int = 0
    ece_before: float | None = None
    ece_after: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The calibration as it stands in ``config.json``."""
        return {
            "tag_temperature": self.tag_temperature,
            "proclitic_temperature": self.proclitic_temperature,
            "thresholds": dict(self.thresholds),
            "precision": self.precision,
            "fitted_on": {"documents": self.documents, "names": self.names},
            "ece_before": self.ece_before,
            "ece_after": self.ece_after,
        }


def fit_temperature(logits: np.ndarray, gold: np.ndarray) -> float:
    """The temperature that makes the gold classes most likely (Guo et al. 2017, "On calibration of modern neural networks").

    The mean negative log likelihood of ``softmax(logits / T)`` is convex in 1/T, so there is one minimum within :data:`TEMPERATURE_BOUNDS`.

    Args:
        logits: (rows, classes); ``-inf`` for a class that a row cannot have.
        gold: the right class of every row, int64, (rows,).

    Returns:
        The temperature; 1.0 without a row.
    """
    if not len(gold):
        return 1.0
    from scipy.optimize import minimize_scalar  # half a second to load, and tagging does without it

    rows = np.arange(len(gold))
    table = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(table / math.exp(log_temperature))[rows, gold].mean())

    best = minimize_scalar(loss, bounds=tuple(map(math.log, TEMPERATURE_BOUNDS)), method="bounded")
    return round(math.exp(best.x), 4)


def fit_temperatures(classified: Iterable[tuple[TokenizedDocument, WordLogits]], tags: TagSet) -> tuple[float, float]:
    """The temperatures of both heads, from annotated documents.

    Args:
        classified: the documents and what the classifier says of their words: :meth:`Predictor.classify`.
        tags: the tag set.

    Returns:
        The tag head's, fitted on the tags of all words, and the proclitic head's, fitted on the words that open a name and
        allow more than one border.

    Raises:
        InputError: a document has a label that is not in ``tags``.
    """
    tag_rows, tag_gold = [np.empty((0, len(tags)))], [np.empty(0, np.int64)]
    border_rows = [np.empty((0, PROCLITIC_CLASSES))]
    border_gold: list[int] = []
    for item, (tag_logits, proclitic_logits) in classified:
        goal = build_targets(item, tags, proclitics=proclitic_logits is not None)
        tag_rows.append(tag_logits)
        tag_gold.append(goal.tags)
        if proclitic_logits is None:
            continue
        for word in np.flatnonzero(goal.proclitics != IGNORE_INDEX):
            borders = len(proclitic_offsets(item.document.text, *item.words[word].tolist()))
            if borders > 1:
                row = proclitic_logits[word].astype(np.float64)
                row[borders:] = -np.inf
                border_rows.append(row[None])
                border_gold.append(int(goal.proclitics[word]))
    return (
        fit_temperature(np.concatenate(tag_rows), np.concatenate(tag_gold)),
        fit_temperature(np.concatenate(border_rows), np.array(border_gold, dtype=np.int64)),
    )


def read_calibration(stored: object, labels: Sequence[str], *, where: str) -> Calibration:
    """The calibration of a checkpoint, from what its ``config.json`` holds under ``musamma``.

    Args:
        stored: that object, or ``None`` in a checkpoint of another tool.
        labels: the model's labels.
        where: the checkpoint, for the message of an error.

    Raises:
        InputError: the calibration cannot be.
    """
    record = stored.get(_KEY) if isinstance(stored, Mapping) else None
    if record is None:
        return Calibration()
    try:
        fitted_on = record.get("fitted_on") or {}
        return Calibration(
            _number(record, "tag_temperature", 0.01, 100.0),
            _number(record, "proclitic_temperature", 0.01, 100.0),
            _thresholds(record.get("thresholds") or {}, labels),
            None if record.get("precision") is None else _number(record, "precision", 0.0, 1.0),
            int(fitted_on.get("documents", 0)),
            int(fitted_on.get("names", 0)),
            *(
                None if record.get(key) is None else _number(record, key, 0.0, 1.0)
                for key in ("ece_before", "ece_after")
            ),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"'musamma.{_KEY}' in config.json: {reason}",
            where=where,
            expected="what musamma calibrate writes",
            remedy="run musamma calibrate again, or delete the key to have scores as the model gives them",
        ) from error


def write_calibration(calibration: Calibration, folder: Path) -> None:
    """Put a calibration into a checkpoint's ``config.json``; every other key keeps its value.

    Raises:
        InputError: the file is not there, is no JSON object, or cannot be written.
    """
    path = folder / "config.json"
    try:
        # Not orjson, which makes floats of integers that are longer than a machine word.
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path), remedy="copy the checkpoint anew") from error
    if not isinstance(record, dict):
        raise InputError(f"a JSON {type(record).__name__}", where=str(path), expected="an object")
    own = record.get("musamma")
    record["musamma"] = {**(own if isinstance(own, dict) else {}), _KEY: calibration.to_dict()}
    with atomic_write(path, remedy="give --output FOLDER that can be written") as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _thresholds(record: Mapping[str, Any], labels: Sequence[str]) -> dict[str, float | None]:
    if strange := sorted(set(record) - set(labels)):
        raise ValueError(f"a threshold for {strange[0]!r}, which is none of the model's labels ({', '.join(labels)})")
    return {label: None if value is None else _number(record, label, 0.0, 1.0) for label, value in record.items()}


def _number(record: Mapping[str, Any], key: str, low: float, high: float) -> float:
    value = record[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{key!r} is {value!r}, not a number from {low:g} to {high:g}")
    return float(value)
