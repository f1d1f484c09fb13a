"""Packing of a finished run for distribution: 8-bit weights, checked against the run's, with a model card made from its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from musamma.data.corpora import load_khabar
from musamma.data.document import Document
from musamma.data.errors import InputError, ThresholdError, not_readable, not_yaml
from musamma.data.files import atomic_folder, check_replaceable, write_json
from musamma.evaluation.development_set import read_development_set
from musamma.evaluation.matching import ALL, NESTED, OUTERMOST
from musamma.evaluation.metrics import score_documents
from musamma.models.loading import load_predictor
from musamma.models.model_names import PACKED_FILE, resolve_model
from musamma.models.packed_weights import is_packed, write_packed_checkpoint
from musamma.models.pretrained_encoder import count_weight_bytes
from musamma.models.runtimes.runtime import read_graph_description
from musamma.models.runtimes.torch import TorchRuntime
from musamma.training.config_mistakes import describe_mistakes
from musamma.training.data_config import SourceConfig
from musamma.training.packed_card import PackedCard, format_packed_card
from musamma.training.run_dir import CARD_FILE, RUN_FILE, SCORES_FILE

#: Files of a run that are read for the card if they exist: what the run's own files do not say, and reports of ``musamma evaluate``.
ABOUT_FILE, EVALUATIONS = "about.yaml", "evaluations"
_REPORT_FILE = "report.json"
_RECORD_FILE = "packing.json"
# The keys of a report that the card needs.
_REPORT_KEYS = ("documents", "scores", "intervals", "mistakes")


class CorpusFacts(BaseModel):
    """A corpus that a model was trained on, in ``about.yaml``.

    Args:
        name: its name.
        license: its licence, or the permission to use it.
        url: where it is found.
        documents: number of its documents used.
        names: number of their names.
        note: what a reader of the card must know.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    license: str
    url: str | None = None
    documents: int | None = None
    names: int | None = None
    note: str | None = None


class About(BaseModel):
    """The content of ``about.yaml``: facts for the card that no other file of the run has.

    Args:
        license: identifier of the licence of the weights on the Hugging Face hub, such as ``mit``.
        sources: the training data.
        training: a sentence on the machine and the time, in Markdown.
        limits: further limits, in Markdown.
    """

    model_config = ConfigDict(extra="forbid")

    license: str | None = None
    sources: list[CorpusFacts] = []
    training: str | None = None
    limits: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackRecord:
    """The measurements of a packed checkpoint, on annotated documents.

    Args:
        gold: name of the documents.
        documents: number of documents.
        names: number of gold names in them.
        before: strict micro F1 of the run's weights, in [0, 1].
        after: that of the packed ones.
        agreeing: strict micro F1 of the names found with the packed weights against those found with the run's.
        bytes_before: size of the run's weights.
        bytes_after: size of the packed ones.
        nested: the same for nested names; ``None`` for a run that finds none.
    """

    gold: str
    documents: int
    names: int
    before: float
    after: float
    agreeing: float
    bytes_before: int
    bytes_after: int
    nested: NestedPackRecord | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the record as it stands in ``packing.json``; the values of nested names only for a run that finds some."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class NestedPackRecord:
    """The measurements of the nested names of a packed checkpoint, on annotated documents.

    Args:
        names: number of gold nested names; 0 if they are not annotated.
        before: strict micro F1 of the nested names found with the run's weights, in [0, 1].
        after: that of those found with the packed ones.
        agreeing: strict micro F1 of the nested names found with the packed weights against those found with the run's.
        all_before: strict micro F1 of the names of both layers together, with the run's weights.
        all_after: the same with the packed ones.
    """

    names: int
    before: float
    after: float
    agreeing: float
    all_before: float
    all_after: float


def pack_checkpoint(
    run: str,
    output: Path,
    *,
    gold: str | None = None,
    labels: str | None = None,
    max_f1_change: float = 0.1,
    overwrite: bool = False,
    progress: Callable[[Iterable[Document]], Iterable[Document]] = iter,
) -> PackRecord:
    """Write a checkpoint with 8-bit weights and a model card, if it scores as before. The same run gives the same bytes.

    The folder appears under its name only after the check has passed. For the card, the run may have an ``about.yaml`` (see
    :class:`About`) and reports of ``musamma evaluate --report`` in ``evaluations/NAME/``.

    Args:
        run: the folder of a checkpoint.
        output: the folder to write; its name is the model's name in the card.
        gold: annotated documents to measure F1 on, before and after; by default Khabar's test part.
        labels: the name or file of a label map to rename the labels of ``gold`` with.
        max_f1_change: maximum change of strict micro F1, in points of 100; of the outermost names, and of those together with the nested
            ones if the documents have some.
        overwrite: replace an earlier packed checkpoint.
        progress: wraps the iteration over predicted documents, e.g. in a progress bar.

    Raises:
        InputError: an input cannot be read, or the output is taken.
        ThresholdError: F1 changes too much; nothing is written.
    """
    check_replaceable(output, PACKED_FILE, kind="a packed checkpoint", overwrite=overwrite)
    source = Path(resolve_model(run))
    config = _read_config(source, run)
    settings, scores = _read_settings(source), _read_scores(source)
    about, evaluations = read_about(source), read_evaluations(source)
    documents = load_khabar("test") if gold is None else read_development_set(gold, labels=labels)
    reference = load_predictor(str(source), device="cpu", bfloat16=False)
    assert isinstance(reference.runtime, TorchRuntime), "checkpoints run in PyTorch"
    backbone = reference.runtime.classifier.backbone
    with atomic_folder(output, remedy="choose an `output` that can be written") as folder:
        weights = {name: tensor.numpy() for name, tensor in backbone.state_dict().items()}
        write_packed_checkpoint(source, config, weights, folder, prefix=f"{backbone.base_model_prefix}.")
        if settings:
            (folder / RUN_FILE).write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), "utf-8")
        before, after = (
            list(progress(predictor.predict([document.with_spans(()) for document in documents])))
            for predictor in (reference, load_predictor(str(folder), device="cpu", bfloat16=False))
        )
        record = PackRecord(
            gold="khabar (test)" if gold is None else Path(gold).name,
            documents=len(documents),
            names=sum(len(document.spans) for document in documents),
            before=_micro_f1(documents, before),
            after=_micro_f1(documents, after),
            agreeing=_micro_f1(before, after),
            bytes_before=count_weight_bytes(source) or 0,
            bytes_after=count_weight_bytes(folder) or 0,
            nested=None if reference.nested_tag_set is None else _compare_nested(documents, before, after),
        )
        _check_f1(record, max_f1_change)
        write_json(record.to_dict(), folder / _RECORD_FILE)
        card = PackedCard(
            name=output.name,
            labels=reference.tag_set.labels,
            encoder=settings.get("encoder"),
            teacher=settings.get("teacher"),
            training=_name_sources(settings.get("data", {}).get("train")),
            about=about.model_dump(),
            scores=scores,
            evaluations=evaluations,
            calibration=reference.calibration,
            packing=record.to_dict(),
        )
        (folder / CARD_FILE).write_text(format_packed_card(card), encoding="utf-8")
    return record


def read_about(folder: Path) -> About:
    """Read ``about.yaml`` of a run; empty if there is none.

    Raises:
        InputError: the file cannot be read, or has an unknown or wrong entry.
    """
    path = folder / ABOUT_FILE
    content = _read_yaml(path) or {}
    if not isinstance(content, dict):
        raise InputError(f"a YAML {type(content).__name__}", where=str(path), expected="keys and values")
    try:
        return About.model_validate(content)
    except ValidationError as error:
        mistakes, known_keys = describe_mistakes(error, content, About)
        raise InputError(mistakes, where=str(path), remedy=known_keys) from error


def read_evaluations(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the reports in ``evaluations/NAME/report.json`` of a run, by name, in alphabetical order.

    Raises:
        InputError: a report cannot be read, or is none of ``musamma evaluate``.
    """
    reports = {path: _read_json(path) for path in sorted((folder / EVALUATIONS).glob(f"*/{_REPORT_FILE}"))}
    for path, report in reports.items():
        if missing := [key for key in _REPORT_KEYS if key not in report]:
            raise InputError(
                f"no {missing[0]!r}",
                where=str(path),
                expected="a report of musamma evaluate",
                remedy="write it anew with --report",
            )
    return {path.parent.name: report for path, report in reports.items()}


def _micro_f1(gold: Sequence[Document], predicted: Sequence[Document], *, layer: str = OUTERMOST) -> float:
    layers = score_documents(gold, predicted, modes=["strict"]).layers
    return layers[layer].micro.f1 if layer in layers else 1.0  # nobody has nested names


def _compare_nested(
    gold: Sequence[Document], before: Sequence[Document], after: Sequence[Document]
) -> NestedPackRecord:
    return NestedPackRecord(
        names=sum(len(document.nested) for document in gold),
        before=_micro_f1(gold, before, layer=NESTED),
        after=_micro_f1(gold, after, layer=NESTED),
        agreeing=_micro_f1(before, after, layer=NESTED),
        all_before=_micro_f1(gold, before, layer=ALL),
        all_after=_micro_f1(gold, after, layer=ALL),
    )


def _check_f1(record: PackRecord, max_f1_change: float) -> None:
    """Check that the names are found as before: the outermost ones, and if nested ones are annotated, those of both layers.

    Nested names are few, so that one of them would often change their own F1 by more than the limit.

    Raises:
        ThresholdError: F1 changes too much.
    """
    measured = [("", record.names, record.before, record.after)]
    if (nested := record.nested) is not None and nested.names:
        measured.append((", nested ones included", record.names + nested.names, nested.all_before, nested.all_after))
    for kind, names, before, after in measured:
        if round(100 * abs(after - before), 9) > max_f1_change:
            raise ThresholdError(
                f"{record.gold}: F1 {100 * before:.2f} before and {100 * after:.2f} after on {names} names{kind}, "
                f"but `max_f1_change` allows {max_f1_change:g}; nothing was written"
            )


def _read_config(source: Path, run: str) -> dict[str, Any]:
    if not source.is_dir():
        raise InputError("a hub id", where=run, expected="the folder of a checkpoint", remedy="download it first")
    config = _read_json(source / "config.json")
    if is_packed(config.get("musamma"), where=run):
        raise InputError("is packed already", where=run, expected="the folder that musamma train wrote")
    if read_graph_description(config.get("musamma"), where=run) is not None:
        raise InputError("an exported model", where=run, expected="the checkpoint that it was exported from")
    return config


def _read_settings(folder: Path) -> dict[str, Any]:
    """Return the settings in ``run.yaml``, with paths shortened to their last part; empty without the file."""
    path = folder / RUN_FILE
    if not path.is_file():
        return {}
    settings = _read_yaml(path)
    is_run = isinstance(settings, dict) and isinstance(settings.get("data", {}), dict)
    if not is_run or not all(isinstance(settings.get(key, ""), str) for key in ("encoder", "teacher")):
        raise _not_of_a_run(path, "the settings")
    return dict(_shorten_paths(settings))


def _read_scores(folder: Path) -> dict[str, Any]:
    """Return the content of ``scores.json``; empty without the file."""
    path = folder / SCORES_FILE
    scores = _read_json(path)
    seeds = scores.get("seeds", [])
    if not isinstance(seeds, list) or not all(
        isinstance(seed, dict) and "seed" in seed and isinstance(seed.get("seconds"), int | float) for seed in seeds
    ):
        raise _not_of_a_run(path, "the scores")
    return scores


def _not_of_a_run(path: Path, expected: str) -> InputError:
    return InputError(
        f"not {expected} of a run",
        where=str(path),
        expected="the file that musamma train wrote",
        remedy="copy it again, or delete it: the card then says less",
    )


def _shorten_paths(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _shorten_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shorten_paths(item) for item in value]
    return Path(value).name if isinstance(value, str) and value.startswith(("/", "~", "..")) else value


def _read_yaml(path: Path) -> Any:
    """Return the content of a YAML file; ``None`` if there is none."""
    if not path.is_file():
        return None
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise not_yaml(path, error) from error
    except (OSError, ValueError) as error:
        raise not_readable(path, error) from error


def _read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; empty if there is none."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise not_readable(path, error) from error
    if not isinstance(content, dict):
        raise InputError(f"a JSON {type(content).__name__}", where=str(path), expected="an object")
    return content


def _name_sources(train: Any) -> list[str]:
    """Return the names of the entries of ``data.train``: files, or sections with a name."""
    entries = train if isinstance(train, list) else [train] if train else []
    return [str(SourceConfig.default_name(entry) if isinstance(entry, dict) else entry) for entry in entries]
