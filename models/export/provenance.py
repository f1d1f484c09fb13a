"""Where an exported model comes from, and how well it agrees with its source: ``export.json`` and the model card."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from musamma.models.export.verify import ParityReport

_PACKAGES = ("musamma", "torch", "transformers")
_OWN = {"openvino": ("openvino", "nncf"), "onnx": ("onnx", "onnxruntime", "onnxscript")}
_TOOLS = {"openvino": "OpenVINO", "onnx": "ONNX Runtime"}


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityGate:
    """Strict micro F1 on annotated documents, of the checkpoint and of what was exported.

    Args:
        gold: the documents, as they were called.
        documents: how many.
        names: gold names in them.
        before: F1 of the checkpoint in float32, in [0, 1].
        after: F1 of the exported model as it runs by default on the machine that made it.
        limit: how many points of 100 may be lost.
    """

    gold: str
    documents: int
    names: int
    before: float
    after: float
    limit: float

    @property
    def loss(self) -> float:
        """Points of 100 that were lost; below zero for a gain."""
        return 100 * (self.before - self.after)

    @property
    def missed(self) -> bool:
        """Whether more was lost than may be."""
        return round(self.loss, 9) > self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRecord:
    """How an exported model was made, and what was measured.

    Args:
        source: the checkpoint, as it was called.
        runtime: ``"openvino"`` or ``"onnx"``.
        quantization: ``"int8"``, or ``None``.
        kept: linear layers that were left in floating point; empty without quantisation.
        samples: windows that activations were measured on; 0 where none were needed.
        parity: agreement with the checkpoint.
        gate: F1 before and after; ``None`` where no annotated documents were given.
        bytes: size of the weights, before and after.
        words_a_second: one quick measure on the texts of the comparison, before and after.
        versions: of the packages that had a part in it.
    """

    source: str
    runtime: str
    quantization: str | None
    kept: tuple[str, ...]
    samples: int
    parity: ParityReport
    gate: QualityGate | None
    bytes: tuple[int, int]
    words_a_second: tuple[float, ...]
    read_versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The record as it stands in ``export.json``."""
        return {
            "source": self.source,
            "runtime": self.runtime,
            "quantization": self.quantization,
            "kept_in_floating_point": list(self.kept),
            "samples": self.samples,
            "parity": asdict(self.parity),
            "f1": None if self.gate is None else asdict(self.gate),
            "bytes": dict(zip(("before", "after"), self.bytes, strict=True)),
            "words_a_second_approximately": {
                side: round(speed) for side, speed in zip(("before", "after"), self.words_a_second, strict=True)
            },
            "versions": dict(self.versions),
        }

    def card(self, source: str | None) -> str:
        """The model card: the checkpoint's own with a section on the export, before its other sections.

        Args:
            source: the checkpoint's card; ``None`` if it has none.
        """
        text = source or f"---\nlanguage: ar\npipeline_tag: token-classification\n---\n\n# {self.source}\n"
        # This folder is none that transformers loads, whatever the card said of the checkpoint.
        text = re.sub(r"(?m)^library_name: .*$", f"library_name: {self.runtime}", text, count=1)
        head, mark, rest = text.partition("\n## ")
        return f"{head.rstrip()}\n\n{self._section()}{mark}{rest}"

    def _section(self) -> str:
        numbers = "8-bit integers" if self.quantization else "floating point"
        lines = [
            "## Export",
            "",
            f"This folder holds the model as a graph for {_TOOLS[self.runtime]}, in {numbers}, made from "
            f"`{self.source}` with `musamma export`. `Tagger(FOLDER)` and `musamma predict --model FOLDER` run it; "
            "transformers does not.",
            "",
            "| | checkpoint | export |",
            "| --- | --- | --- |",
        ]
        if self.gate is not None:
            title = f"strict F1, {self.gate.names:,} names of `{self.gate.gold}`"
            lines.append(f"| {title} | {100 * self.gate.before:.2f} | {100 * self.gate.after:.2f} |")
        before, after = (f"{size / 1e6:.1f}" for size in self.bytes)
        parity = self.parity
        lines += [
            f"| weights, MB | {before} | {after} |",
            "",
            f"Compared on {parity.windows:,} windows with {parity.words:,} words: {100 * parity.words_agreeing:.2f}% of the "
            f"words have the same tag as in the checkpoint, {100 * parity.names_agreeing:.2f}% of the names agree; log "
            f"probabilities of tags differ by {parity.mean_difference:.2g} in the mean, by {parity.greatest_difference:.2g} at most. "
            "`export.json` has all figures.",
            "",
        ]
        return "\n".join(lines)


def checkpoint_bytes(folder: Path) -> int:
    """Bytes of a checkpoint's weights: its safetensors, else its ``.bin`` files."""
    found = list(folder.glob("*.safetensors")) or list(folder.glob("*.bin"))
    return sum(path.stat().st_size for path in found)


def read_versions(runtime: str) -> dict[str, str]:
    """The versions of the packages that have a part in an export to a runtime, of those that are there."""
    found = {}
    for name in (*_PACKAGES, *_OWN[runtime]):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
