"""Record of an export: its source, measurements and package versions, for ``export.json`` and the model card."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from musamma.models.export.quality_gate import QualityMeasurement
from musamma.models.export.verify import ParityReport
from musamma.models.pretrained_encoder import count_weight_bytes

_PACKAGES = ("musamma", "torch", "transformers")
_RUNTIME_PACKAGES = {"openvino": ("openvino",), "onnx": ("onnx", "onnxruntime", "onnxscript")}
_RUNTIME_TITLES = {"openvino": "OpenVINO", "onnx": "ONNX Runtime"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRecord:
    """The origin and the measurements of an exported model.

    Args:
        source: the checkpoint's name, or the name of its folder.
        runtime: ``"openvino"`` or ``"onnx"``.
        quantization: ``"int8"``, or ``None``.
        float_layers: linear layers left in floating point; empty without quantisation.
        samples: number of windows that activations were measured on; 0 if none were needed.
        parity: agreement with the checkpoint.
        quality: F1 before and after, and agreement of names; ``None`` if no annotated documents were given.
        bytes: size of the weights, before and after.
        words_per_second: one quick measurement on a few texts, before and after.
        versions: versions of the packages involved.
    """

    source: str
    runtime: str
    quantization: str | None
    float_layers: tuple[str, ...]
    samples: int
    parity: ParityReport
    quality: QualityMeasurement | None
    bytes: tuple[int, int]
    words_per_second: tuple[float, ...]
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the record as it stands in ``export.json``."""
        return {
            "source": self.source,
            "runtime": self.runtime,
            "quantization": self.quantization,
            "kept_in_floating_point": list(self.float_layers),
            "samples": self.samples,
            "parity": self.parity.to_dict(),
            "f1": None if self.quality is None else self.quality.to_dict(),
            "bytes": dict(zip(("before", "after"), self.bytes, strict=True)),
            "words_a_second_approximately": {
                side: round(speed) for side, speed in zip(("before", "after"), self.words_per_second, strict=True)
            },
            "versions": dict(self.versions),
        }

    def format_card(self, source_card: str | None) -> str:
        """Format the model card: the checkpoint's card with a section on the export before its other sections.

        Args:
            source_card: the checkpoint's card; ``None`` if it has none.
        """
        text = source_card or f"---\nlanguage: ar\npipeline_tag: token-classification\n---\n\n# {self.source}\n"
        # transformers cannot load this folder, whatever the card said about the checkpoint.
        text = re.sub(r"(?m)^library_name: .*$", f"library_name: {self.runtime}", text, count=1)
        head, mark, rest = text.partition("\n## ")
        return f"{head.rstrip()}\n\n{self._format_section()}{mark}{rest}"

    def _format_section(self) -> str:
        numbers = "8-bit integers" if self.quantization else "floating point"
        lines = [
            "## Export",
            "",
            f"This folder holds the model as a graph for {_RUNTIME_TITLES[self.runtime]}, in {numbers}, made from "
            f"`{self.source}` with `musamma export`. `Tagger(FOLDER)` and `musamma predict --model FOLDER` run it; "
            "transformers does not.",
            "",
            "| | checkpoint | export |",
            "| --- | --- | --- |",
        ]
        if self.quality is not None:
            title = f"strict F1, {self.quality.names:,} names of `{self.quality.gold}`"
            lines.append(f"| {title} | {100 * self.quality.before:.2f} | {100 * self.quality.after:.2f} |")
            if self.quality.nested_before is not None and self.quality.nested_after is not None:
                title = f"strict F1, {self.quality.nested_names:,} nested names of `{self.quality.gold}`"
                lines.append(
                    f"| {title} | {100 * self.quality.nested_before:.2f} | {100 * self.quality.nested_after:.2f} |"
                )
        before, after = (f"{size / 1e6:.1f}" for size in self.bytes)
        parity = self.parity
        lines += [
            f"| weights, MB | {before} | {after} |",
            "",
            f"Compared on {parity.windows:,} windows with {parity.words:,} words: {100 * parity.words_agreeing:.2f}% of the "
            f"words have the same tag as in the checkpoint, {100 * parity.names_agreeing:.2f}% of the names agree; log "
            f"probabilities of tags differ by {parity.mean_difference:.2g} on average, by {parity.greatest_difference:.2g} at most. "
            "`export.json` has all figures.",
            "",
        ]
        if self.quality is not None:
            agreement = self.quality.agreement
            nested = ""
            if agreement.all_agreeing is not None:
                nested = f", with {agreement.nested_names:,} nested names by {100 * agreement.all_agreeing:.2f}%"
            lines += [
                f"Written because {self.quality.reason}. On {agreement.documents:,} texts with {agreement.words:,} words and "
                f"{agreement.names:,} names, the names agree by {100 * agreement.agreeing:.2f}%{nested} (strict F1 of the export's "
                "names against the checkpoint's).",
                "",
            ]
        return "\n".join(lines)


def count_checkpoint_bytes(folder: Path) -> int:
    """Return the size of a checkpoint's weights: its safetensors, else its ``.bin`` files."""
    return count_weight_bytes(folder) or sum(path.stat().st_size for path in folder.glob("*.bin"))


def read_versions(runtime: str) -> dict[str, str]:
    """Return the versions of the installed packages that take part in an export to a runtime."""
    versions = {}
    for name in (*_PACKAGES, *_RUNTIME_PACKAGES[runtime]):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
