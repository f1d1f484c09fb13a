"""Quality gate of an export: the loss of F1 and the agreement with the checkpoint are measured, and too bad an export is refused.

F1 on a few hundred names moves by several tenths of a point if any prediction changes, for better or worse. So the loss is compared
with its limit by a paired confidence interval over documents, and where that leaves the question open, agreement decides: how many
names the checkpoint and its export have in common, on texts that need no annotation. Nested names are measured, too: the interval of
their loss is compared with the same limit, and names must agree both without them and with them. They are too few for a limit of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from musamma.data.document import Document
from musamma.data.errors import InputError, ThresholdError
from musamma.evaluation.counts import count_table
from musamma.evaluation.document_pairing import pair_documents
from musamma.evaluation.matching import NESTED, OUTERMOST, STRICT
from musamma.evaluation.significance import Comparison, compare_systems
from musamma.models.export.verify import measure_name_agreement
from musamma.models.predictor import Predictor

#: Default maximum loss of strict micro F1, in points of 100.
MAX_F1_LOSS = 0.3
#: Default minimum agreement of names, in percent; measured in ``docs/export.md``.
MIN_AGREEMENT = 97.0
#: Number of words from which on no more texts are read to measure agreement.
AGREEMENT_WORDS = 40_000

# The confidence level of the loss.
_LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Agreement of an export's names with those of its checkpoint.

    Args:
        documents: number of texts.
        words: number of words in them.
        names: number of names that the checkpoint predicts in them.
        agreeing: strict F1 of the export's names against the checkpoint's, in [0, 1]; 1 if neither predicts a name.
        minimum: the minimum that is required, in percent; ``None`` if none is.
        nested_names: number of nested names that the checkpoint predicts; ``None`` if neither predicts any.
        all_agreeing: like ``agreeing``, of the names of both layers together; ``None`` if neither predicts nested names.
    """

    documents: int
    words: int
    names: int
    agreeing: float
    minimum: float | None
    nested_names: int | None = None
    all_agreeing: float | None = None

    @property
    def least(self) -> float:
        """The lower one of ``agreeing`` and ``all_agreeing``."""
        return self.agreeing if self.all_agreeing is None else min(self.agreeing, self.all_agreeing)

    @property
    def is_sufficient(self) -> bool:
        """True unless the names agree less than required, without nested names or with them."""
        return self.minimum is None or round(100 * self.least, 9) >= self.minimum


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityMeasurement:
    """The strict micro F1 of a checkpoint and of its export on annotated documents, and the agreement of their names.

    Args:
        gold: name of the documents.
        documents: number of documents.
        names: number of gold names in them.
        before: F1 of the checkpoint in float32, in [0, 1].
        after: F1 of the exported model with its default settings on the machine that made it.
        interval: ends of the 95% interval of the loss, in points of 100, from resampled documents.
        limit: maximum loss in points of 100.
        agreement: agreement on the documents and on further texts.
        nested_names: number of gold nested names; ``None`` if the model or the documents have none.
        nested_before: F1 of the checkpoint's nested names.
        nested_after: F1 of the exported model's nested names.
        nested_interval: like ``interval``, for the nested names.
    """

    gold: str
    documents: int
    names: int
    before: float
    after: float
    interval: tuple[float, float]
    limit: float
    agreement: Agreement
    nested_names: int | None = None
    nested_before: float | None = None
    nested_after: float | None = None
    nested_interval: tuple[float, float] | None = None

    @property
    def loss(self) -> float:
        """The loss in points of 100; negative if the export scores higher."""
        return 100 * (self.before - self.after)

    @property
    def exceeds_limit(self) -> bool:
        """True if the loss is above the limit, by more than chance."""
        return round(self.interval[0], 9) > self.limit

    @property
    def is_within_limit(self) -> bool:
        """True if the whole interval of the loss is within the limit. If it holds the limit, the names are too few to tell."""
        return round(self.interval[1], 9) <= self.limit

    @property
    def nested_exceeds_limit(self) -> bool:
        """True if the loss of nested names is above the limit, by more than chance."""
        return self.nested_interval is not None and round(self.nested_interval[0], 9) > self.limit

    @property
    def passed(self) -> bool:
        """True if the export may be written."""
        return not self.exceeds_limit and not self.nested_exceeds_limit and self.agreement.is_sufficient

    @property
    def reason(self) -> str:
        """The reason why the export passed, or did not."""
        loss = _describe_loss(self.loss, self.interval, self.names, "name")
        agreement = self.agreement
        included = ", nested ones included," if agreement.least < agreement.agreeing else ""
        names = f"{100 * agreement.least:.2f}% of the names{included} agree with the checkpoint's"
        if self.exceeds_limit:
            return f"{loss} is above the limit of {self.limit:g}"
        if self.nested_exceeds_limit and self.nested_interval is not None:
            nested_loss = 100 * ((self.nested_before or 0.0) - (self.nested_after or 0.0))
            nested = _describe_loss(nested_loss, self.nested_interval, self.nested_names or 0, "nested name")
            return f"{nested} is above the limit of {self.limit:g}"
        if not agreement.is_sufficient:
            return f"{names}, less than {agreement.minimum:g}%, in {agreement.words:,} words"
        if self.is_within_limit:
            return f"{loss} is within the limit of {self.limit:g}"
        required = "" if agreement.minimum is None else f", at least {agreement.minimum:g}% are required"
        return f"{loss} is too uncertain to compare with the limit of {self.limit:g}, but {names}{required}"

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement as it stands in ``export.json``; the values of nested names only for a model with them."""
        record = {name: value for name, value in asdict(self).items() if value is not None}
        # A minimum of ``None`` says that none is required.
        agreement = {
            name: value for name, value in record["agreement"].items() if value is not None or name == "minimum"
        }
        return {**record, "agreement": agreement, "loss": self.loss, "passed": self.passed, "reason": self.reason}


def _describe_loss(loss: float, interval: tuple[float, float], names: int, kind: str) -> str:
    low, high = interval
    counted = f"1 {kind}" if names == 1 else f"{names:,} {kind}s"
    return f"a loss of {loss:.2f} (95% interval {low:.2f} to {high:.2f}) on {counted}"


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


def measure_quality(
    reference: Predictor,
    exported: Predictor,
    gold: Sequence[Document],
    *,
    name: str,
    limit: float,
    texts: Iterable[Document] = (),
    min_agreement: float | None = None,
    progress: Callable[[Iterable[Document]], Iterable[Document]] = iter,
) -> QualityMeasurement:
    """Score both predictors on annotated documents, and compare their names there and in further texts.

    Args:
        reference: the checkpoint's predictor.
        exported: the exported model's predictor.
        gold: the documents.
        name: the name of the documents.
        limit: maximum loss in points of 100.
        texts: further texts, as many of which are read as give :data:`AGREEMENT_WORDS` words together with the documents.
        min_agreement: minimum agreement of names in percent; ``None`` requires none.
        progress: wraps the iteration over predicted documents, e.g. in a progress bar.
    """
    unannotated = [document.with_spans(()) for document in gold]
    words = sum(len(document.text.split()) for document in unannotated)
    for document in texts:
        if words >= AGREEMENT_WORDS:
            break
        unannotated.append(document.with_spans(()))
        words += len(document.text.split())
    before, after = (list(progress(predictor.predict(unannotated))) for predictor in (reference, exported))
    return compare_predictions(gold, before, after, name=name, limit=limit, min_agreement=min_agreement)


def compare_predictions(
    gold: Sequence[Document],
    before: Sequence[Document],
    after: Sequence[Document],
    *,
    name: str,
    limit: float,
    min_agreement: float | None = None,
) -> QualityMeasurement:
    """Compare predictions before and after an export.

    Args:
        gold: annotated documents.
        before: the checkpoint's predictions for the annotated documents and any further texts, in this order.
        after: the exported model's predictions for the same.
        name: the name of the annotated documents.
        limit: maximum loss in points of 100.
        min_agreement: minimum agreement of names in percent; ``None`` requires none.
    """
    tables = [
        count_table(pair_documents(gold, predicted[: len(gold)]), modes=[STRICT], layers=True)
        for predicted in (before, after)
    ]
    has_nested = any(document.nested for document in before) and any(document.nested for document in gold)
    comparison, *others = compare_systems(*tables, rows=[STRICT, NESTED] if has_nested else [STRICT], level=_LEVEL)
    nested = others[0] if others else None
    return QualityMeasurement(
        gold=name,
        documents=len(gold),
        names=sum(len(document.spans) for document in gold),
        before=comparison.first,
        after=comparison.second,
        interval=_loss_interval(comparison),
        limit=limit,
        agreement=_measure_agreement(before, after, minimum=min_agreement),
        nested_names=sum(len(document.nested) for document in gold) if nested else None,
        nested_before=nested.first if nested else None,
        nested_after=nested.second if nested else None,
        nested_interval=_loss_interval(nested) if nested else None,
    )


def _loss_interval(comparison: Comparison) -> tuple[float, float]:
    """Return the interval of a loss in points of 100: that of the difference with the other sign."""
    return 0.0 - 100 * comparison.interval.high, 0.0 - 100 * comparison.interval.low  # no negative zero


def _measure_agreement(before: Sequence[Document], after: Sequence[Document], *, minimum: float | None) -> Agreement:
    names, nested = (
        [
            {(n, span.key) for n, document in enumerate(side) for span in getattr(document, layer)}
            for side in (before, after)
        ]
        for layer in ("spans", "nested")
    )
    joined = [
        {*((OUTERMOST, *name) for name in names[side]), *((NESTED, *name) for name in nested[side])} for side in (0, 1)
    ]
    return Agreement(
        documents=len(before),
        words=sum(len(document.text.split()) for document in before),
        names=len(names[0]),
        agreeing=measure_name_agreement(*names),
        minimum=minimum,
        nested_names=len(nested[0]) if any(nested) else None,
        all_agreeing=measure_name_agreement(*joined) if any(nested) else None,
    )


def check_quality(measured: QualityMeasurement, *, quantized: bool) -> None:
    """Refuse an export that lost too much F1 in one of the layers, or whose names agree too little with the checkpoint's.

    Raises:
        ThresholdError: the message states both scores, and what was measured and required.
    """
    if measured.passed:
        return
    alternative = "export without `quantize`" if quantized else "keep the checkpoint"
    if measured.exceeds_limit or measured.nested_exceeds_limit:
        greatest = max(low for low, _ in (measured.interval, measured.nested_interval or measured.interval))
        option, allowed = "max_f1_loss", f"{math.ceil(100 * greatest) / 100:.2f}"
    else:
        option, allowed = "min_agreement", f"{math.floor(10_000 * measured.agreement.least) / 100:.2f}"
    raise ThresholdError(
        f"{measured.gold}: F1 {100 * measured.before:.2f} before and {100 * measured.after:.2f} after: {measured.reason}; "
        f"nothing was written; {alternative}, try the other `runtime`, or give `{option}` {allowed}"
    )
