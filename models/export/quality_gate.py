"""Quality gate of an export: F1 on annotated documents is measured before and after, and too great a loss is refused.

An int8 model is written only after this measurement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from musamma.data.document import Document
from musamma.data.errors import InputError, ThresholdError
from musamma.evaluation.metrics import score_documents
from musamma.models.predictor import Predictor

#: With fewer gold names, a few tenths of a point of F1 are chance.
MIN_RELIABLE_NAMES = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityMeasurement:
    """The strict micro F1 of a checkpoint and of its export on annotated documents.

    Args:
        gold: name of the documents.
        documents: number of documents.
        names: number of gold names in them.
        before: F1 of the checkpoint in float32, in [0, 1].
        after: F1 of the exported model with its default settings on the machine that made it.
        limit: maximum loss in points of 100.
    """

    gold: str
    documents: int
    names: int
    before: float
    after: float
    limit: float

    @property
    def loss(self) -> float:
        """The loss in points of 100; negative if the export scores higher."""
        return 100 * (self.before - self.after)

    @property
    def exceeds_limit(self) -> bool:
        """True if the loss is above the limit."""
        return round(self.loss, 9) > self.limit


def check_gate_options(*, quantize: str | None, dev: str | None, labels: str | None) -> None:
    """Check that an int8 export and a label map come with annotated documents.

    Raises:
        InputError: ``quantize`` or ``labels`` is given without ``dev``.
    """
    if quantize and dev is None:
        raise InputError(
            f"`quantize={quantize!r}` without `dev`",
            where="export",
            expected="annotated documents, because an int8 model is written only after its F1 was measured",
            remedy="give `dev`, the documents that the model was chosen on",
        )
    if labels is not None and dev is None:
        raise InputError("`labels` without `dev`", where="export", expected="documents whose labels are renamed")


def few_names_warning(gold: Sequence[Document], name: str) -> str | None:
    """Return a warning if there are too few gold names for a reliable F1."""
    names = sum(len(document.spans) for document in gold)
    if names >= MIN_RELIABLE_NAMES:
        return None
    return f"{name}: only {names} names; their F1 may miss a loss, or show one by chance"


def measure_quality(
    reference: Predictor,
    exported: Predictor,
    gold: Sequence[Document],
    *,
    name: str,
    limit: float,
    progress: Callable[[Iterable[Document]], Iterable[Document]] = iter,
) -> QualityMeasurement:
    """Score both predictors on annotated documents.

    Args:
        reference: the checkpoint's predictor.
        exported: the exported model's predictor.
        gold: the documents.
        name: the name of the documents.
        limit: maximum loss in points of 100.
        progress: wraps the iteration over predicted documents, e.g. in a progress bar.
    """
    unannotated = [document.with_spans(()) for document in gold]
    before, after = (
        score_documents(gold, progress(predictor.predict(unannotated)), modes=["strict"]).modes["strict"].micro
        for predictor in (reference, exported)
    )
    return QualityMeasurement(
        gold=name, documents=len(gold), names=before.support, before=before.f1, after=after.f1, limit=limit
    )


def check_quality(measured: QualityMeasurement, *, quantized: bool) -> None:
    """Refuse an export that lost too much F1.

    Raises:
        ThresholdError: the loss is above the limit; the message states both scores.
    """
    if not measured.exceeds_limit:
        return
    alternative = "export without `quantize`" if quantized else "keep the checkpoint"
    raise ThresholdError(
        f"{measured.gold}: F1 {100 * measured.before:.2f} before and {100 * measured.after:.2f} after on {measured.names} names, "
        f"a loss of {measured.loss:.2f}, but `max_f1_loss` allows {measured.limit:g}; nothing was written; {alternative}, try "
        f"the other `runtime`, or allow {math.ceil(100 * measured.loss) / 100:.2f}"
    )
