"""Measure what 8-bit integers cost: loss of F1 with its interval, and agreement with the checkpoint. No network.

    python benchmarks/quantization.py RUN... [--settings NAME...] [--part test] [--json FILE]

Each checkpoint is exported for OpenVINO with each of the settings, as `musamma export --quantize int8` does, and compared with itself in
float32 on Khabar's texts. ``default`` are the settings in use. ``all`` quantises the down-projections of all layers, ``unshifted`` does not
centre ranges at zero, ``undivided`` leaves outlier channels as they are and the down-projections of the first three quarters of the layers
in floating point, and ``none`` quantises nothing.
A checkpoint with other labels than Khabar's is scored on Khabar's names as `khabar-to-anercorp` maps them. The loss is in points of 100,
with the paired 95% interval over documents. The divergence is the mean Kullback-Leibler divergence of the export's tag distribution from
the checkpoint's, in thousandths of a nat per word. Seconds are processor time of the export's predictions.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from musamma.data.corpora import load_khabar
from musamma.data.files import write_json
from musamma.data.labels import KHABAR, apply_labels, load_label_map
from musamma.models.calibration import WordLogits
from musamma.models.checkpoint import load_tokenizer
from musamma.models.decoding import log_softmax
from musamma.models.export.graph import write_exported
from musamma.models.export.quality_gate import MAX_F1_LOSS, compare_predictions
from musamma.models.export.quantize import QuantizationSettings, sample_windows
from musamma.models.loading import load_predictor
from musamma.models.predictor import Predictor
from musamma.models.runtimes.torch import TorchRuntime
from musamma.models.window_options import WindowOptions

SETTINGS: dict[str, QuantizationSettings | None] = {
    "none": None,
    "all": QuantizationSettings(divided_float_share=0.0),
    "unshifted": QuantizationSettings(shift=False),
    "undivided": QuantizationSettings(divide_outliers=False),
    "default": QuantizationSettings(),
}


def export(run: str, predictor: Predictor, folder: Path, settings: QuantizationSettings | None) -> Predictor:
    """Write an export without checks, and load it."""
    assert isinstance(predictor.runtime, TorchRuntime)
    tokenizer = predictor.document_tokenizer
    write_exported(
        predictor.runtime.classifier,
        WindowOptions(max_length=tokenizer.max_length, overlap=tokenizer.overlap),
        load_tokenizer(run),
        folder,
        runtime="openvino",
        samples=sample_windows(load_khabar("train"), tokenizer),
        quantize=settings is not None,
        settings=settings or QuantizationSettings(),
    )
    return load_predictor(str(folder), device="cpu")


def measure_divergence(first: list[WordLogits], second: list[WordLogits]) -> float:
    """Return the mean Kullback-Leibler divergence of the second tag distributions from the first, in nats per word."""
    logs = [
        log_softmax(np.concatenate([logits.tags for logits in side]).astype(np.float64)) for side in (first, second)
    ]
    return float((np.exp(logs[0]) * (logs[0] - logs[1])).sum(axis=1).mean())


def main() -> None:
    """Measure every run with every setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a checkpoint")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=["unshifted", "default"])
    parser.add_argument("--part", choices=["dev", "test"], default="test", help="the part of Khabar")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    articles = list(load_khabar(options.part))
    texts = [document.with_spans(()) for document in articles]
    columns = ("settings", "F1 before", "after", "loss [95% interval]", "names agree", "divergence", "seconds", "run")
    print(" | ".join(columns), flush=True)
    rows: list[dict[str, Any]] = []
    for run in options.runs:
        reference = load_predictor(run, device="cpu", bfloat16=False)
        expected = list(reference.classify(texts))
        before = [reference.decode(*item, reference.calibration) for item in expected]
        gold = articles
        if not set(reference.tag_set.labels) <= set(KHABAR):
            gold = [apply_labels(document, load_label_map("khabar-to-anercorp")) for document in articles]
        for name in options.settings:
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                exported = export(run, reference, Path(folder), SETTINGS[name])
                took, start = time.perf_counter() - start, time.process_time()
                computed = list(exported.classify(texts))
                seconds = time.process_time() - start
                after = [exported.decode(*item, exported.calibration) for item in computed]
            quality = compare_predictions(gold, before, after, name=options.part, limit=MAX_F1_LOSS)
            divergence = measure_divergence([logits for _, logits in expected], [logits for _, logits in computed])
            rows.append(
                {
                    "run": run,
                    "settings": name,
                    "divergence": divergence,
                    "seconds": seconds,
                    "export_seconds": took,
                    **quality.to_dict(),
                }
            )
            low, high = quality.interval
            print(
                f"{name:8} | {100 * quality.before:.2f} | {100 * quality.after:.2f} | {quality.loss:+.2f} [{low:+.2f}, {high:+.2f}] | "
                f"{100 * quality.agreement.agreeing:.2f}% | {1000 * divergence:.2f} | {seconds:.1f} | {run}",
                flush=True,
            )
    for name in options.settings:
        losses = [row["loss"] for row in rows if row["settings"] == name]
        agreeing = [row["agreement"]["agreeing"] for row in rows if row["settings"] == name]
        print(
            f"{name}: loss {np.mean(losses):+.2f} on average, {max(losses):+.2f} at most, on {rows[0]['names']:,} names; "
            f"agreement {100 * np.mean(agreeing):.2f}% on average, {100 * min(agreeing):.2f}% at least"
        )
    if options.json:
        write_json(rows, options.json)


if __name__ == "__main__":
    main()
