"""Export of a checkpoint from start to end: convert, verify against the checkpoint, measure F1, and only then publish."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

from musamma.data.corpora import load_khabar
from musamma.data.corpus_files import read_documents
from musamma.data.document import Document
from musamma.data.errors import InputError, one_line
from musamma.data.files import atomic_folder, check_replaceable, write_json
from musamma.evaluation.development_set import check_known_labels, read_development_set
from musamma.models.checkpoint import load_tokenizer
from musamma.models.export.export_record import ExportRecord, count_checkpoint_bytes, read_versions
from musamma.models.export.graph import check_packages, write_exported
from musamma.models.export.quality_gate import (
    MAX_F1_LOSS,
    MIN_AGREEMENT,
    check_gate_options,
    check_quality,
    measure_quality,
)
from musamma.models.export.quantize import GraphInputs, sample_windows, split_samples
from musamma.models.export.verify import ParityReport, build_excerpts, check_parity, compare_predictors, measure_speeds
from musamma.models.exported_model import read_exported
from musamma.models.loading import load_predictor
from musamma.models.model_names import RECORD_FILE, find_model_file, resolve_model
from musamma.models.optional_packages import disable_telemetry
from musamma.models.predictor import Predictor
from musamma.models.runtimes.runtime import GRAPH_FILES
from musamma.models.runtimes.torch import TorchRuntime
from musamma.models.window_options import WindowOptions


def export_model(
    model: str,
    output: Path,
    *,
    runtime: str = "openvino",
    quantize: str | None = None,
    dev: str | None = None,
    labels: str | None = None,
    max_f1_loss: float = MAX_F1_LOSS,
    min_agreement: float = MIN_AGREEMENT,
    sample: str | None = None,
    overwrite: bool = False,
    warn: Callable[[str], None] | None = None,
    progress: Callable[[Iterable[Document]], Iterable[Document]] = iter,
) -> ExportRecord:
    """Write a copy of a checkpoint for another runtime, if it predicts what the checkpoint predicts.

    The folder appears under its name only after all checks have passed.

    Args:
        model: a checkpoint: a folder, the name of a packaged model, or a hub id.
        output: the folder to write.
        runtime: a key of :data:`GRAPH_FILES`.
        quantize: ``"int8"`` to write 8-bit integers, which requires ``dev``.
        dev: annotated documents to measure F1 on, before and after: a path, or the name of a packaged corpus.
        labels: a label map to apply to ``dev``: its name, or a YAML or JSON file.
        max_f1_loss: maximum loss of strict micro F1, in points of 100. An export is refused if the loss exceeds it by more than
            chance, i.e. if the whole 95% interval of the loss is above it.
        min_agreement: minimum agreement of an int8 model's names with the checkpoint's, in percent.
        sample: texts on which activations are measured, for int8 with OpenVINO; by default Khabar's training part. If the texts
            suffice, a part of them is set apart to measure agreement on.
        overwrite: replace an earlier export.
        warn: receives a warning if there are too few gold names to compare the loss with the limit.
        progress: wraps the iteration over predicted documents, e.g. in a progress bar.

    Raises:
        InputError: an option is invalid, the output is taken, a package is missing, or the model cannot be converted.
        ThresholdError: the exported model differs too much from the checkpoint, or lost too much F1; nothing is written.
    """
    check_gate_options(quantize=quantize, dev=dev, labels=labels)
    if sample is not None:
        _check_sample(runtime=runtime, quantize=quantize)
    check_replaceable(output, RECORD_FILE, kind="an exported model", overwrite=overwrite)
    gold = None if dev is None else read_development_set(dev, labels=labels)
    check_packages(runtime, quantized=quantize is not None)
    disable_telemetry()
    sample_texts, held_texts = (load_khabar("train"), []) if sample is None else split_samples(read_documents(sample))
    source = _find_checkpoint_folder(model)
    reference = load_predictor(model, device="cpu", bfloat16=False)
    if gold is not None and dev is not None:
        check_known_labels(gold, reference.tag_set.labels, where=dev)
    with atomic_folder(output, remedy="choose an `output` that can be written") as folder:
        float_layers, samples = _convert(
            reference, model, folder, runtime=runtime, quantize=quantize is not None, sample_texts=sample_texts
        )
        exported = load_predictor(str(folder), device="cpu")
        parity = _compare(reference, exported, gold or (), model=model, folder=folder, quantized=quantize is not None)
        quality = None
        if gold is not None and dev is not None:
            quality = measure_quality(
                reference,
                exported,
                gold,
                name=dev,
                limit=max_f1_loss,
                # Texts that set no ranges. In floating point the comparison above is stricter.
                texts=chain(held_texts, load_khabar("test")) if quantize else (),
                min_agreement=min_agreement if quantize else None,
                progress=progress,
            )
            check_quality(quality, quantized=quantize is not None)
            if warn and not quality.is_within_limit:
                warn(f"{dev}: {quality.reason}")
        record = ExportRecord(
            source=Path(model).name if Path(model).is_dir() else model,
            runtime=runtime,
            quantization=quantize,
            float_layers=float_layers,
            samples=samples,
            parity=parity,
            quality=quality,
            bytes=(
                count_checkpoint_bytes(source),
                sum((folder / file).stat().st_size for file in GRAPH_FILES[runtime]),
            ),
            words_per_second=measure_speeds(reference, exported, documents=load_khabar("test")[:3]),
            versions=read_versions(runtime),
        )
        _write_record(record, folder, source=source)
    return record


def _check_sample(*, runtime: str, quantize: str | None) -> None:
    if not (quantize and runtime == "openvino"):
        raise InputError(
            "`sample`",
            where="export",
            expected="it with `runtime='openvino'` and `quantize='int8'` only, which measure activations",
            remedy="leave it out",
        )


def _find_checkpoint_folder(model: str) -> Path:
    """Return the folder with the checkpoint's files; for a hub id, its folder in the local cache."""
    name = resolve_model(model)
    if read_exported(name) is not None:
        raise InputError(
            "an exported model cannot be exported again", where=model, remedy="give the checkpoint it was made from"
        )
    if Path(name).is_dir():
        return Path(name)
    find_model_file(name, "README.md")
    return (find_model_file(name, "config.json") or Path(name)).parent


def _convert(
    predictor: Predictor,
    model: str,
    folder: Path,
    *,
    runtime: str,
    quantize: bool,
    sample_texts: Iterable[Document],
) -> tuple[tuple[str, ...], int]:
    """Write the exported classifier.

    Args:
        predictor: the checkpoint in PyTorch, in float32 and on the CPU.
        model: its name, folder or hub id.
        folder: an existing folder.
        runtime: a key of :data:`GRAPH_FILES`.
        quantize: whether to write 8-bit integers.
        sample_texts: texts on which activations are measured.

    Returns:
        Paths of the linear layers left in floating point by quantisation, and the number of measured windows.

    Raises:
        InputError: a package is missing, or the model cannot be converted.
    """
    assert isinstance(predictor.runtime, TorchRuntime), "checkpoints run in PyTorch"
    classifier, document_tokenizer = predictor.runtime.classifier, predictor.document_tokenizer
    samples: list[GraphInputs] = []
    if quantize and runtime == "openvino":
        samples = sample_windows(sample_texts, document_tokenizer)
    try:
        float_layers = write_exported(
            classifier,
            WindowOptions(max_length=document_tokenizer.max_length, overlap=document_tokenizer.overlap),
            # Not the predictor's, which keeps the settings of its last call.
            load_tokenizer(resolve_model(model)),
            folder,
            runtime=runtime,
            samples=samples,
            quantize=quantize,
        )
    except (InputError, OSError):
        raise
    except Exception as error:  # converters have more ways to fail than can be named
        raise InputError(
            f"its {type(classifier.backbone).__name__} cannot be converted: {one_line(error, limit=200)}",
            where=model,
            remedy=f"try `runtime={('onnx' if runtime == 'openvino' else 'openvino')!r}`",
        ) from error
    return float_layers, len(samples)


def _compare(
    reference: Predictor,
    exported: Predictor,
    gold: Iterable[Document],
    *,
    model: str,
    folder: Path,
    quantized: bool,
) -> ParityReport:
    """Compare the exported model with the checkpoint; without quantisation it must agree.

    Args:
        reference: the checkpoint, in float32.
        exported: the exported model.
        gold: the annotated documents, if there are any.
        model: the checkpoint's name, folder or hub id.
        folder: the exported model's folder.
        quantized: whether it was quantised.

    Raises:
        ThresholdError: they do not agree.
    """
    # Without quantisation the comparison is strict: in float32, where only rounding may differ.
    compared = exported if quantized else load_predictor(str(folder), device="cpu", bfloat16=False)
    # Khabar fills up the annotated documents if they give too few windows.
    excerpts = build_excerpts(chain(gold, load_khabar("test")), reference)
    parity = compare_predictors(reference, compared, excerpts)
    if not quantized:
        check_parity(parity, where=model)
    return parity


def _write_record(record: ExportRecord, folder: Path, *, source: Path) -> None:
    """Write the record and the model card, which continues that of the checkpoint's folder ``source``."""
    write_json(record.to_dict(), folder / RECORD_FILE)
    card = source / "README.md"
    text = record.format_card(card.read_text("utf-8") if card.is_file() else None)
    (folder / "README.md").write_text(text, encoding="utf-8")
