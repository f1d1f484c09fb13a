"""Parity check: compare the predictions of an exported model with those of its checkpoint."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator, Sequence, Set
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from musamma.data.document import Document
from musamma.data.errors import ThresholdError
from musamma.data.windows import TokenizedDocument
from musamma.models.calibration import WordLogits
from musamma.models.decoding import log_softmax
from musamma.models.predictor import Predictor

#: Minimum number of windows for a comparison.
MIN_WINDOWS = 200
#: Maximum share of words, apart from ties, whose best tag may differ because of rounding.
MAX_PARTED_WORDS = 0.001
#: Tags whose log probabilities differ by less than this are a tie, which rounding may decide either way.
TIE_MARGIN = 0.05
#: Maximum mean difference of log probabilities that rounding explains, with weights in 16 bits.
MAX_MEAN_DIFFERENCE = 0.01
#: Maximum mean difference that rounding explains if only padding differs.
MAX_PADDING_DIFFERENCE = 0.001

# A batch mixes windows from the longest to the shortest, so that the short ones are mostly padding.
_BATCH_ROWS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """Agreement of an exported model with its checkpoint on the same windows.

    Args:
        windows: number of compared windows.
        words: number of words in them.
        names: number of names the checkpoint predicts in them, nested ones included.
        words_agreeing: share of the words with the same best tag.
        words_parted: share of the words whose best tag differs and was not a tie, see :data:`TIE_MARGIN`.
        names_agreeing: strict F1 of the exported model's names against the checkpoint's.
        mean_difference: mean absolute difference of the log probabilities of tags.
        greatest_difference: the greatest absolute difference.
        padding_parted: like ``words_parted``, between the exported model's batches and the same windows computed one by
            one, without padding.
        padding_difference: like ``mean_difference``, between these two.
        nested_words_parted: like ``words_parted``, for the tags of nested names; ``None`` without them.
        nested_mean_difference: like ``mean_difference``, for the tags of nested names.
    """

    windows: int
    words: int
    names: int
    words_agreeing: float
    words_parted: float
    names_agreeing: float
    mean_difference: float
    greatest_difference: float
    padding_parted: float
    padding_difference: float
    nested_words_parted: float | None = None
    nested_mean_difference: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as it stands in ``export.json``; the values of nested names only for a model with them."""
        nested = () if self.nested_words_parted is not None else ("nested_words_parted", "nested_mean_difference")
        return {name: value for name, value in asdict(self).items() if name not in nested}

    def fault(self) -> str | None:
        """Describe a difference that float32 rounding does not explain; ``None`` if there is none."""
        if self.padding_parted > MAX_PARTED_WORDS or self.padding_difference > MAX_PADDING_DIFFERENCE:
            return (
                f"padding changes its predictions ({100 * self.padding_parted:.2f}% of the words change their tag, "
                f"log probabilities differ by {self.padding_difference:.2g} on average)"
            )
        if self.words_parted > MAX_PARTED_WORDS or self.mean_difference > MAX_MEAN_DIFFERENCE:
            return (
                f"its predictions differ from the checkpoint's ({100 * self.words_agreeing:.2f}% of the words have the "
                f"same tag, log probabilities differ by {self.mean_difference:.2g} on average)"
            )
        parted, difference = self.nested_words_parted or 0.0, self.nested_mean_difference or 0.0
        if parted > MAX_PARTED_WORDS or difference > MAX_MEAN_DIFFERENCE:
            return (
                f"its nested names differ from the checkpoint's ({100 * parted:.2f}% of the words change their tag, log "
                f"probabilities differ by {difference:.2g} on average)"
            )
        return None


def check_parity(parity: ParityReport, *, where: str) -> None:
    """Check that an exported model in floating point agrees with its checkpoint.

    Raises:
        ThresholdError: rounding does not explain the differences.
    """
    if (fault := parity.fault()) is not None:
        raise ThresholdError(
            f"{where}: the exported graph is wrong, nothing was written: {fault}; try the other `runtime`"
        )


def compare_predictors(
    reference: Predictor, exported: Predictor, excerpts: Sequence[TokenizedDocument]
) -> ParityReport:
    """Compare two predictors with the same tags and tokenizer.

    Args:
        reference: the checkpoint's predictor.
        exported: the exported model's predictor.
        excerpts: the texts, see :func:`build_excerpts`.
    """
    # A batch of one window has no padding, so the reference is right even if the model ignores its mask.
    reference_logits = compute_logits(reference, excerpts, rows=1)
    unpadded_logits = compute_logits(exported, excerpts, rows=1)
    exported_logits = compute_logits(exported, excerpts)
    agreeing, parted, difference = _compare_logits(*map(_tag_logits, (reference_logits, exported_logits)))
    _, padding_parted, padding_difference = _compare_logits(*map(_tag_logits, (exported_logits, unpadded_logits)))
    nested_parted = nested_difference = None
    if reference.nested_tag_set is not None:
        _, nested_parted, nested_difference = _compare_logits(*map(_nested_logits, (reference_logits, exported_logits)))
    reference_names = _decode_names(reference, excerpts, reference_logits)
    exported_names = _decode_names(exported, excerpts, exported_logits)
    return ParityReport(
        windows=sum(len(item.windows) for item in excerpts),
        words=len(agreeing),
        names=len(reference_names),
        words_agreeing=float(agreeing.mean()),
        words_parted=float(parted.mean()),
        names_agreeing=measure_name_agreement(reference_names, exported_names),
        mean_difference=float(difference.mean()),
        greatest_difference=float(difference.max()),
        padding_parted=float(padding_parted.mean()),
        padding_difference=float(padding_difference.mean()),
        nested_words_parted=None if nested_parted is None else float(nested_parted.mean()),
        nested_mean_difference=None if nested_difference is None else float(nested_difference.mean()),
    )


def measure_name_agreement(first: Set[Hashable], second: Set[Hashable]) -> float:
    """Return the strict F1 of one set of names against another, in [0, 1]; 1 if both are empty."""
    total = len(first) + len(second)
    return 2 * len(first & second) / total if total else 1.0


def build_excerpts(
    documents: Iterable[Document], predictor: Predictor, *, windows: int = MIN_WINDOWS
) -> list[TokenizedDocument]:
    """Tokenize texts of very different lengths: whole documents, their lines, and the first words of lines.

    Args:
        documents: the source of the texts.
        predictor: provides the tokenizer.
        windows: stop at this number of windows.
    """
    excerpts: list[TokenizedDocument] = []
    count = 0
    for tokenized in predictor.document_tokenizer.tokenize_all(_split_documents(documents)):
        excerpts.append(tokenized)
        count += len(tokenized.windows)
        if count >= windows:
            break
    return excerpts


def compute_logits(
    predictor: Predictor, documents: Sequence[TokenizedDocument], *, rows: int = _BATCH_ROWS
) -> list[WordLogits]:
    """Compute the logits of all words from batches that mix long windows with short ones.

    Args:
        predictor: the predictor.
        documents: the documents.
        rows: number of windows per batch.
    """
    windows = [(index, window) for index, item in enumerate(documents) for window in item.windows]
    windows.sort(key=lambda item: len(item[1].input_ids), reverse=True)
    count = -(-len(windows) // rows)
    groups = [windows[index::count] for index in range(count)]
    results = [predictor.allocate_logits(item) for item in documents]
    for group, logits in zip(groups, predictor.runtime.stream(map(predictor.build_batch, groups)), strict=True):
        predictor.store_logits(results, group, logits)
    return results


def measure_speeds(*predictors: Predictor, documents: Sequence[Document]) -> tuple[float, ...]:
    """Measure words per second. The predictors take turns, two each; the faster turn counts, since other load only slows one."""
    speeds = [0.0] * len(predictors)
    for number, predictor in 2 * list(enumerate(predictors)):
        start = time.perf_counter()
        words = sum(len(tokenized.words) for tokenized, _ in predictor.classify(documents))
        speeds[number] = max(speeds[number], words / (time.perf_counter() - start))
    return tuple(speeds)


def _split_documents(documents: Iterable[Document]) -> Iterator[Document]:
    """Yield each document and then its lines; every second line is cut to its first words."""
    for document in documents:
        yield replace(document, spans=(), nested=())
        for number, line in enumerate(filter(str.strip, document.text.splitlines()), 1):
            text = " ".join(line.split()[: number % 9 + 1]) if number % 2 else line
            yield Document(f"{document.id}:{number}", text)


def _tag_logits(logits: Sequence[WordLogits]) -> np.ndarray:
    return np.concatenate([item.tags for item in logits])


def _nested_logits(logits: Sequence[WordLogits]) -> np.ndarray:
    return np.concatenate([item.nested for item in logits if item.nested is not None])


def _compare_logits(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare the logits of the same words, (words, tags).

    Returns:
        Whether the best tags are the same, bool, (words,); whether they differ beyond a tie, bool, (words,); absolute
        differences of log probabilities, float, (words, tags).
    """
    first_scores, second_scores = (log_softmax(side.astype(np.float64)) for side in (first, second))
    second_choice = np.take_along_axis(first_scores, second_scores.argmax(axis=1, keepdims=True), axis=1)[:, 0]
    return (
        first_scores.argmax(axis=1) == second_scores.argmax(axis=1),
        first_scores.max(axis=1) - second_choice > TIE_MARGIN,
        np.abs(first_scores - second_scores),
    )


def _decode_names(
    predictor: Predictor, documents: Sequence[TokenizedDocument], logits: Sequence[WordLogits]
) -> set[tuple[int, tuple[int, int, str]]]:
    predicted = (predictor.decode(*item, predictor.calibration) for item in zip(documents, logits, strict=True))
    return set(
        chain.from_iterable(((n, span.key) for span in document.all_spans) for n, document in enumerate(predicted))
    )
