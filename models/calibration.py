"""Calibration of a checkpoint's scores: temperatures, and for each label the score from which names are precise enough.

The calibration is stored in ``config.json`` under ``musamma``, next to the window options. A checkpoint without one has
temperatures of 1.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from musamma.data.arabic import proclitic_offsets
from musamma.data.document import Span
from musamma.data.errors import InputError
from musamma.data.files import atomic_folder, atomic_write
from musamma.data.tags import TagSet
from musamma.data.windows import IGNORE_INDEX, TokenizedDocument, build_targets
from musamma.models.decoding import PROCLITIC_CLASSES, decode, decode_nested, log_softmax

if TYPE_CHECKING:
    from musamma.evaluation.reliability import Reliability
    from musamma.evaluation.thresholds import Threshold

#: Range in which a temperature is searched. It is bounded because a model that is right about every word has no finite best
#: temperature.
TEMPERATURE_BOUNDS = (0.1, 10.0)

_KEY = "calibration"


class WordLogits(NamedTuple):
    """The logits of a document's words.

    Args:
        tags: logits of the tags; (words, tags).
        proclitics: logits of the proclitic head; (words, proclitic classes), or ``None`` without that head.
        nested: logits of the tags of nested names; (words, nested tags), or ``None`` without that head.
    """

    tags: np.ndarray
    proclitics: np.ndarray | None = None
    nested: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Temperatures that turn logits into scores, and thresholds on those scores.

    Args:
        tag_temperature: divisor of the tag logits; above 1 for an overconfident model.
        proclitic_temperature: divisor of the proclitic logits.
        thresholds: by label, the lowest score from which names reached ``precision``; ``None`` if no score did.
        precision: the target precision.
        documents: number of documents that the calibration was fitted on.
        names: number of gold names in them.
        ece_before: expected calibration error of the names' scores on these documents, with temperatures of 1.
        ece_after: the same with these temperatures.
        nested_temperature: divisor of the logits of nested names.
        nested_thresholds: thresholds on the scores of nested names, by label; empty if the documents have no nested names.
    """

    tag_temperature: float = 1.0
    proclitic_temperature: float = 1.0
    thresholds: Mapping[str, float | None] = field(default_factory=dict)
    precision: float | None = None
    documents: int = 0
    names: int = 0
    ece_before: float | None = None
    ece_after: float | None = None
    nested_temperature: float = 1.0
    nested_thresholds: Mapping[str, float | None] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration as it stands in ``config.json``; values of nested names only if they were fitted."""
        record: dict[str, Any] = {
            "tag_temperature": self.tag_temperature,
            "proclitic_temperature": self.proclitic_temperature,
            "thresholds": dict(self.thresholds),
            "precision": self.precision,
            "fitted_on": {"documents": self.documents, "names": self.names},
            "ece_before": self.ece_before,
            "ece_after": self.ece_after,
        }
        if self.nested_thresholds:
            record["nested_temperature"] = self.nested_temperature
            record["nested_thresholds"] = dict(self.nested_thresholds)
        return record


@dataclass(frozen=True, slots=True)
class CalibrationFit:
    """A calibration and its effect on the documents it was fitted on.

    Args:
        calibration: the calibration for the checkpoint.
        before: reliability of the names' scores with temperatures of 1.
        after: reliability of the calibrated scores.
        thresholds: the thresholds by label.
        nested_thresholds: those of nested names.
    """

    calibration: Calibration
    before: Reliability
    after: Reliability
    thresholds: Mapping[str, Threshold]
    nested_thresholds: Mapping[str, Threshold] = field(default_factory=dict)


def decode_names(
    tokenized: TokenizedDocument,
    logits: WordLogits,
    tag_set: TagSet,
    calibration: Calibration,
    *,
    nested: TagSet | None = None,
) -> tuple[list[Span], list[Span]]:
    """Decode the names and the nested names of a document, with calibrated scores.

    Args:
        tokenized: the document.
        logits: the logits of its words.
        tag_set: the tag set.
        calibration: the temperatures.
        nested: the tag set of nested names; ``None`` to decode none.
    """
    names = decode(
        tokenized,
        logits.tags,
        logits.proclitics,
        tag_set,
        tag_temperature=calibration.tag_temperature,
        proclitic_temperature=calibration.proclitic_temperature,
    )
    if logits.nested is None or nested is None:
        return names, []
    return names, decode_nested(
        tokenized,
        names,
        logits.nested,
        logits.proclitics,
        nested,
        nested_temperature=calibration.nested_temperature,
        proclitic_temperature=calibration.proclitic_temperature,
    )


def fit_calibration(
    classified: Iterable[tuple[TokenizedDocument, WordLogits]],
    tag_set: TagSet,
    *,
    precision: float,
    nested: TagSet | None = None,
) -> CalibrationFit:
    """Fit temperatures and thresholds on annotated documents.

    Args:
        classified: the annotated documents with the logits of their words, from :meth:`Predictor.classify`.
        tag_set: the tag set.
        precision: the target precision of the names of each label, in (0, 1).
        nested: the tag set of nested names; ``None`` for a model without them. Their values are fitted if the documents have any.

    Raises:
        InputError: a document has a label that is not in ``tag_set``, or ``precision`` is outside (0, 1).
    """
    # Loads scikit-learn and seqeval, which tagging does not need.
    from musamma.evaluation.reliability import measure_reliability
    from musamma.evaluation.thresholds import find_thresholds

    classified = list(classified)
    documents = [tokenized.document for tokenized, _ in classified]
    gold, nested_gold = [document.spans for document in documents], [document.nested for document in documents]
    if not any(nested_gold):
        nested = None
    calibration = Calibration(*fit_temperatures(classified, tag_set))
    if nested is not None:
        calibration = replace(calibration, nested_temperature=fit_nested_temperature(classified, tag_set, nested))
    uncalibrated = [decode_names(*item, tag_set, Calibration())[0] for item in classified]
    before = measure_reliability(*_judge_names(uncalibrated, gold)[:2])
    decoded = [decode_names(*item, tag_set, calibration, nested=nested) for item in classified]
    scores, correct, labels = _judge_names([names for names, _ in decoded], gold)
    after = measure_reliability(scores, correct)
    support = _count_labels(gold, tag_set)
    thresholds = find_thresholds(scores, correct, labels, precision=precision, support=support)
    nested_thresholds: Mapping[str, Threshold] = {}
    if nested is not None:
        nested_thresholds = find_thresholds(
            *_judge_names([nested_names for _, nested_names in decoded], nested_gold),
            precision=precision,
            support=_count_labels(nested_gold, nested),
        )
    calibration = replace(
        calibration,
        thresholds={label: threshold.value for label, threshold in thresholds.items()},
        precision=precision,
        documents=len(classified),
        names=sum(support.values()),
        ece_before=round(before.ece, 6),
        ece_after=round(after.ece, 6),
        nested_thresholds={label: threshold.value for label, threshold in nested_thresholds.items()},
    )
    return CalibrationFit(calibration, before, after, thresholds, nested_thresholds)


def fit_temperature(logits: np.ndarray, gold: np.ndarray) -> float:
    """Find the temperature that makes the gold classes most likely.

    Method: Guo et al. 2017, "On calibration of modern neural networks". The mean negative log likelihood of
    ``softmax(logits / T)`` is convex in 1/T, so there is one minimum within :data:`TEMPERATURE_BOUNDS`.

    Args:
        logits: (rows, classes); ``-inf`` for a class that a row cannot have.
        gold: the gold class of every row, int64, (rows,).

    Returns:
        The temperature; 1.0 if there are no rows.
    """
    if not len(gold):
        return 1.0
    from scipy.optimize import minimize_scalar  # takes half a second to load; tagging does not need it

    rows = np.arange(len(gold))
    values = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(values / math.exp(log_temperature))[rows, gold].mean())

    best = minimize_scalar(loss, bounds=tuple(map(math.log, TEMPERATURE_BOUNDS)), method="bounded")
    return round(math.exp(best.x), 4)


def fit_temperatures(
    classified: Iterable[tuple[TokenizedDocument, WordLogits]], tag_set: TagSet
) -> tuple[float, float]:
    """Fit the temperatures of both heads on annotated documents.

    Args:
        classified: the documents with the logits of their words, from :meth:`Predictor.classify`.
        tag_set: the tag set.

    Returns:
        The temperature of the tag head, fitted on the tags of all words, and that of the proclitic head, fitted on the
        words that open a name and allow more than one border.

    Raises:
        InputError: a document has a label that is not in ``tag_set``.
    """
    tag_rows, tag_gold = [np.empty((0, len(tag_set)))], [np.empty(0, np.int64)]
    border_rows = [np.empty((0, PROCLITIC_CLASSES))]
    border_gold: list[int] = []
    for tokenized, logits in classified:
        proclitic_logits = logits.proclitics
        targets = build_targets(tokenized, tag_set, proclitics=proclitic_logits is not None)
        tag_rows.append(logits.tags)
        tag_gold.append(targets.tags)
        if proclitic_logits is None:
            continue
        for word in np.flatnonzero(targets.proclitics != IGNORE_INDEX):
            borders = len(proclitic_offsets(tokenized.document.text, *tokenized.words[word].tolist()))
            if borders > 1:
                row = proclitic_logits[word].astype(np.float64)
                row[borders:] = -np.inf
                border_rows.append(row[None])
                border_gold.append(int(targets.proclitics[word]))
    return (
        fit_temperature(np.concatenate(tag_rows), np.concatenate(tag_gold)),
        fit_temperature(np.concatenate(border_rows), np.array(border_gold, dtype=np.int64)),
    )


def fit_nested_temperature(
    classified: Iterable[tuple[TokenizedDocument, WordLogits]], tag_set: TagSet, nested: TagSet
) -> float:
    """Fit the temperature of the head for nested names, on the words of gold names of two words or more.

    Args:
        classified: as of :func:`fit_temperatures`.
        tag_set: the tag set.
        nested: the tag set of nested names.
    """
    rows, gold = [np.empty((0, len(nested)))], [np.empty(0, np.int64)]
    for tokenized, logits in classified:
        if logits.nested is not None:
            targets = build_targets(tokenized, tag_set, nested=nested).nested
            rows.append(logits.nested[targets != IGNORE_INDEX])
            gold.append(targets[targets != IGNORE_INDEX])
    return fit_temperature(np.concatenate(rows), np.concatenate(gold))


def read_calibration(
    stored: object, labels: Sequence[str], *, where: str, nested_labels: Sequence[str] = ()
) -> Calibration:
    """Read the calibration from the ``musamma`` entry of a checkpoint's ``config.json``.

    Args:
        stored: the entry, or ``None`` for a checkpoint of another tool.
        labels: the model's labels.
        where: the checkpoint, for errors.
        nested_labels: the labels of the model's nested names.

    Raises:
        InputError: the calibration is malformed.
    """
    record = stored.get(_KEY) if isinstance(stored, Mapping) else None
    if record is None:
        return Calibration()
    try:
        fitted_on = record.get("fitted_on") or {}
        return Calibration(
            _read_number(record, "tag_temperature", 0.01, 100.0),
            _read_number(record, "proclitic_temperature", 0.01, 100.0),
            _read_thresholds(record.get("thresholds") or {}, labels),
            None if record.get("precision") is None else _read_number(record, "precision", 0.0, 1.0),
            int(fitted_on.get("documents", 0)),
            int(fitted_on.get("names", 0)),
            None if record.get("ece_before") is None else _read_number(record, "ece_before", 0.0, 1.0),
            None if record.get("ece_after") is None else _read_number(record, "ece_after", 0.0, 1.0),
            _read_number(record, "nested_temperature", 0.01, 100.0) if "nested_temperature" in record else 1.0,
            _read_thresholds(record.get("nested_thresholds") or {}, nested_labels),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"'musamma.{_KEY}' in config.json: {reason}",
            where=where,
            expected="what musamma calibrate writes",
            remedy="run musamma calibrate again, or delete the key to use the model's own scores",
        ) from error


def drop_calibration(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a ``config.json`` without the calibration: it holds for the weights that it was fitted on."""
    stored = config.get("musamma")
    if not isinstance(stored, Mapping):
        return dict(config)
    return {**config, "musamma": {key: value for key, value in stored.items() if key != _KEY}}


def write_calibration(calibration: Calibration, folder: Path) -> None:
    """Write a calibration into a checkpoint's ``config.json``; every other key keeps its value.

    Raises:
        InputError: the file does not exist, is not a JSON object, or cannot be written.
    """
    path = folder / "config.json"
    try:
        # Not orjson, which turns integers longer than a machine word into floats.
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path), remedy="copy the checkpoint anew") from error
    if not isinstance(record, dict):
        raise InputError(f"a JSON {type(record).__name__}", where=str(path), expected="an object")
    stored = record.get("musamma")
    record["musamma"] = {**(stored if isinstance(stored, dict) else {}), _KEY: calibration.to_dict()}
    with atomic_write(path, remedy="give an `output` that can be written") as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def write_calibrated_copy(calibration: Calibration, checkpoint: Path, output: Path) -> None:
    """Copy the files of a checkpoint to a new folder and write a calibration into the copy.

    The folder appears complete or not at all. Folders inside the checkpoint are not copied.

    Raises:
        InputError: the folder cannot be written.
    """
    with atomic_folder(output, remedy="choose an `output` that can be written") as partial:
        for file in checkpoint.iterdir():
            if file.is_file():
                shutil.copyfile(file, partial / file.name)
        write_calibration(calibration, partial)


def _count_labels(documents: Iterable[Sequence[Span]], tag_set: TagSet) -> Counter[str]:
    """Count the names of each label of a tag set; other labels are left out."""
    counts = Counter(dict.fromkeys(tag_set.labels, 0))
    counts.update(span.label for spans in documents for span in spans if span.label in counts)
    return counts


def _judge_names(
    predicted: Iterable[Sequence[Span]], annotated: Iterable[Sequence[Span]]
) -> tuple[list[float], list[bool], list[str]]:
    """Return score, strict correctness and label of every predicted name; both arguments have an item for each document."""
    scores: list[float] = []
    correct: list[bool] = []
    labels: list[str] = []
    for names, gold_names in zip(predicted, annotated, strict=True):
        gold = {span.key for span in gold_names}
        for span in names:
            scores.append(span.score or 0.0)
            correct.append(span.key in gold)
            labels.append(span.label)
    return scores, correct, labels


def _read_thresholds(record: Mapping[str, Any], labels: Sequence[str]) -> dict[str, float | None]:
    if unknown := sorted(set(record) - set(labels)):
        raise ValueError(
            f"a threshold for {unknown[0]!r}, which is not one of the model's labels ({', '.join(labels)})"
        )
    return {label: None if value is None else _read_number(record, label, 0.0, 1.0) for label, value in record.items()}


def _read_number(record: Mapping[str, Any], key: str, low: float, high: float) -> float:
    value = record[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{key!r} is {value!r}, not a number from {low:g} to {high:g}")
    return float(value)
