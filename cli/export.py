"""``musamma export``: a copy of a checkpoint for another runtime, written only if it is as good as the checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from musamma.data.corpora import load_khabar
from musamma.data.document import Document
from musamma.data.errors import InputError, ThresholdError
from musamma.data.files import write_json
from musamma.data.formats import read_documents
from musamma.evaluation.development_set import check_known_labels, read_development_set
from musamma.evaluation.metrics import score_documents
from musamma.evaluation.score_tables import build_table, print_table

if TYPE_CHECKING:
    from musamma.models.export.provenance import ExportRecord, QualityGate
    from musamma.models.export.verify import ParityReport
    from musamma.models.predictor import Predictor

_HERE = "musamma export"
# Below so many names a few tenths of a point are chance.
_FEW_NAMES = 300


def export(
    model: Annotated[str, typer.Option("--model", "-m", help="A checkpoint: a name, a folder or a hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    runtime: Annotated[
        Literal["openvino", "onnx"], typer.Option("--format", help="What the folder is for; OpenVINO is faster here.")
    ] = "openvino",
    quantize: Annotated[
        Literal["int8"] | None, typer.Option(help="Write most matrices as 8-bit integers; needs --dev.")
    ] = None,
    dev: Annotated[
        str | None,
        typer.Option(
            metavar="GOLD",
            help="Annotated documents, or khabar for its dev part: the F1 on them is measured before and after.",
        ),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Rename the labels of GOLD first: the name of a map, or a YAML or JSON file.")
    ] = None,
    max_f1_loss: Annotated[
        float, typer.Option(min=0, help="Write nothing if more F1 is lost: points of 100, strict and micro-averaged.")
    ] = 0.3,
    sample: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="OpenVINO int8: texts to measure activations on, in place of Khabar's."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
) -> None:
    """Write a copy of a checkpoint for OpenVINO or ONNX Runtime, once it was seen to find the same names."""
    from musamma.models.export.target import check_target, whole_folder

    _check(quantize=quantize, dev=dev, labels=labels, sample=sample, runtime=runtime)
    check_target(output, overwrite=overwrite)
    gold = None if dev is None else read_development_set(dev, labels=labels)
    if gold is not None and (names := sum(len(document.spans) for document in gold)) < _FEW_NAMES:
        typer.echo(f"musamma: {dev}: only {names} names; their F1 may miss a loss, or show one by chance", err=True)

    from musamma.models.export.graph import check_packages, export_checkpoint
    from musamma.models.loading import load_predictor
    from musamma.models.optional_packages import disable_telemetry

    check_packages(runtime, quantized=quantize is not None)
    disable_telemetry()
    texts = None if sample is None else list(read_documents(sample))
    source = _source(model)
    reference = load_predictor(model, device="cpu", bfloat16=False)
    if gold is not None and dev is not None:
        check_known_labels(gold, reference.tag_set.labels, where=dev)
    with whole_folder(output) as folder:
        kept, samples = export_checkpoint(
            reference, model, folder, runtime=runtime, quantize=quantize is not None, texts=texts
        )
        exported = load_predictor(str(folder), device="cpu")
        exact = exported if quantize else load_predictor(str(folder), device="cpu", bfloat16=False)
        parity = _agreement(reference, exact, gold, where=model, quantized=quantize is not None)
        gate = None if gold is None or dev is None else _gate(reference, exported, gold, dev, limit=max_f1_loss)
        if gate is not None and gate.missed:
            raise _loss(gate, quantized=quantize is not None)
        provenance = _provenance(
            reference,
            exported,
            parity,
            gate,
            source=(model, source),
            folder=folder,
            runtime=runtime,
            quantize=quantize,
            kept=kept,
            samples=samples,
        )
        write_json(provenance.to_dict(), folder / "export.json")
        card = source / "README.md"
        text = provenance.card(card.read_text("utf-8") if card.is_file() else None)
        (folder / "README.md").write_text(text, encoding="utf-8")
    _print(provenance, Console())
    typer.echo(f"\nwritten to {output}")


def _check(*, quantize: str | None, dev: str | None, labels: str | None, sample: str | None, runtime: str) -> None:
    if quantize and dev is None:
        raise InputError(
            f"--quantize {quantize} without --dev",
            where=_HERE,
            expected="annotated documents, as an int8 model is only written with proof",
            remedy="give --dev GOLD, the documents that the model was chosen on",
        )
    if labels is not None and dev is None:
        raise InputError("--labels without --dev", where=_HERE, expected="documents whose labels are renamed")
    if sample is not None and not (quantize and runtime == "openvino"):
        raise InputError(
            "--sample",
            where=_HERE,
            expected="it with --format openvino --quantize int8 alone, which measures activations",
            remedy="leave it out",
        )


def _source(model: str) -> Path:
    """The folder with the checkpoint's files; that of the local cache for a hub id."""
    from musamma.models.loading import find_model_file, read_exported, resolve_model

    name = resolve_model(model)
    if read_exported(name) is not None:
        raise InputError(
            "an exported model cannot be exported again", where=model, remedy="give the checkpoint it was made from"
        )
    if Path(name).is_dir():
        return Path(name)
    find_model_file(name, "README.md")
    return (find_model_file(name, "config.json") or Path(name)).parent


def _agreement(
    reference: Predictor, exported: Predictor, gold: Sequence[Document] | None, *, where: str, quantized: bool
) -> ParityReport:
    """Compare both on texts of GOLD, and Khabar's where those are few; fails where rounding cannot explain it."""
    from musamma.models.export.verify import build_excerpts, compare_predictors

    parity = compare_predictors(reference, exported, build_excerpts(chain(gold or (), load_khabar("test")), reference))
    if not quantized and (fault := parity.fault()) is not None:
        raise ThresholdError(
            f"{where}: the exported graph is wrong, nothing was written: {fault}; try the other --format"
        )
    return parity


def _gate(
    reference: Predictor, exported: Predictor, gold: Sequence[Document], dev: str, *, limit: float
) -> QualityGate:
    """Strict micro F1 of both."""
    from musamma.inference.progress_bar import show_progress
    from musamma.models.export.provenance import QualityGate

    bare = [document.with_spans(()) for document in gold]
    before, after = (
        score_documents(gold, show_progress(predictor.predict(bare)), modes=["strict"]).modes["strict"].micro
        for predictor in (reference, exported)
    )
    return QualityGate(
        gold=dev, documents=len(gold), names=before.support, before=before.f1, after=after.f1, limit=limit
    )


def _loss(gate: QualityGate, *, quantized: bool) -> ThresholdError:
    way = "export without --quantize" if quantized else "keep the checkpoint"
    return ThresholdError(
        f"{gate.gold}: F1 {100 * gate.before:.2f} before and {100 * gate.after:.2f} after on {gate.names} names, "
        f"a loss of {gate.loss:.2f} where --max-f1-loss allows {gate.limit:g}; nothing was written; {way}, try the other "
        f"--format, or allow {math.ceil(100 * gate.loss) / 100:.2f}"
    )


def _provenance(
    reference: Predictor,
    exported: Predictor,
    parity: ParityReport,
    gate: QualityGate | None,
    *,
    source: tuple[str, Path],
    folder: Path,
    runtime: str,
    quantize: str | None,
    kept: tuple[str, ...],
    samples: int,
) -> ExportRecord:
    from musamma.models.export.provenance import ExportRecord, checkpoint_bytes, read_versions
    from musamma.models.runtimes.runtime import GRAPH_FILES

    name, files = source
    after = sum((folder / file).stat().st_size for file in GRAPH_FILES[runtime])
    return ExportRecord(
        source=Path(name).name if Path(name).is_dir() else name,
        runtime=runtime,
        quantization=quantize,
        kept=kept,
        samples=samples,
        parity=parity,
        gate=gate,
        bytes=(checkpoint_bytes(files), after),
        words_a_second=_speeds(reference, exported),
        versions=read_versions(runtime),
    )


def _speeds(*predictors: Predictor) -> tuple[float, ...]:
    """Words a second on a few texts: the better one of two turns each, as other work only slows them down."""
    texts = load_khabar("test")[:3]
    speeds = [0.0] * len(predictors)
    for number, predictor in 2 * list(enumerate(predictors)):
        start = time.perf_counter()
        words = sum(len(encoded.words) for encoded, _ in predictor.classify(texts))
        speeds[number] = max(speeds[number], words / (time.perf_counter() - start))
    return tuple(speeds)


def _print(provenance: ExportRecord, console: Console) -> None:
    gate, parity = provenance.gate, provenance.parity
    table = build_table("", "strict F1", "weights, MB", "words/s, about")
    scores = ("", "") if gate is None else (f"{100 * gate.before:.2f}", f"{100 * gate.after:.2f}")
    title = f"{provenance.runtime} {provenance.quantization or ''}".strip()
    for row in zip(("checkpoint", title), scores, provenance.bytes, provenance.words_a_second, strict=True):
        table.add_row(row[0], row[1], f"{row[2] / 1e6:.1f}", f"{row[3]:,.0f}")
    print_table(table, console)
    lines = [
        "",
        f"{parity.windows:,} windows, {parity.words:,} words, {parity.names:,} names compared with the checkpoint: "
        f"{100 * parity.words_agreeing:.2f}% of the words and {100 * parity.names_agreeing:.2f}% of the names agree",
        f"log probabilities differ by {parity.mean_difference:.2g} in the mean, "
        f"{parity.greatest_difference:.2g} at most",
    ]
    if gate is not None:
        lines.append(f"F1 on {gate.documents} documents with {gate.names:,} names of {gate.gold}")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
