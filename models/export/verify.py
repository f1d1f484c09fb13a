"""Whether two predictors say the same: a checkpoint, and what was exported from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from musamma.data.document import Document
from musamma.data.windows import TokenizedDocument
from musamma.models.calibration import WordLogits
from musamma.models.decoding import PROCLITIC_CLASSES, log_softmax
from musamma.models.predictor import Predictor, pad_rows
from musamma.models.runtimes.runtime import Batch

#: Windows that a comparison should have at least.
WINDOWS = 200
#: The greatest share of words with another tag, ties aside, that rounding explains.
PARTED = 0.001
#: Two tags whose log probabilities are nearer than this are a tie, which rounding may settle either way.
TIE = 0.05
#: The greatest mean difference of log probabilities that it explains, with weights in 16 bits.
DIFFERENCE = 0.01
#: The greatest that it explains where only padding differs.
PADDING = 0.001

# A batch holds windows from the longest to the shortest, so that the short ones are mostly padding.
_ROWS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """How far two predictors agree on the same windows.

    Args:
        windows: windows that were compared.
        words: words in them.
        names: names that the first predictor finds in them.
        words_agreeing: share of the words whose best tag is the same.
        words_parted: share of the words whose best tag is another one without having been a tie, see `TIE`.
        names_agreeing: strict F1 of the second predictor's names against the first's.
        mean_difference: mean absolute difference of the log probabilities of tags.
        greatest_difference: the greatest one.
        padding_parted: the same share between what the second predictor says and what it says when windows are computed one
            by one, without other windows' padding.
        padding_difference: mean absolute difference of its log probabilities then.
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

    def fault(self) -> str | None:
        """What more than rounding in float32 has done to the second predictor; ``None`` if nothing has."""
        if self.padding_parted > PARTED or self.padding_difference > PADDING:
            return (
                f"padding changes what it says ({100 * self.padding_parted:.2f}% of the words change their tag, "
                f"log probabilities differ by {self.padding_difference:.2g} in the mean)"
            )
        if self.words_parted > PARTED or self.mean_difference > DIFFERENCE:
            return (
                f"it does not say what the checkpoint says ({100 * self.words_agreeing:.2f}% of the words have the "
                f"same tag, log probabilities differ by {self.mean_difference:.2g} in the mean)"
            )
        return None


def build_excerpts(
    documents: Iterable[Document], predictor: Predictor, *, windows: int = WINDOWS
) -> list[TokenizedDocument]:
    """Texts of very different lengths: whole documents, their lines, and lines cut short.

    Args:
        documents: where to take them from.
        predictor: encodes them.
        windows: stop as soon as there are so many.
    """
    found: list[TokenizedDocument] = []
    count = 0
    for encoded in predictor.document_tokenizer.tokenize_all(_cut(documents)):
        found.append(encoded)
        count += len(encoded.windows)
        if count >= windows:
            break
    return found


def compare_predictors(reference: Predictor, exported: Predictor, encoded: Sequence[TokenizedDocument]) -> ParityReport:
    """Compare two predictors with the same tags and tokenizer on documents.

    Args:
        reference: the checkpoint's.
        exported: the graph's.
        encoded: see :func:`build_excerpts`.
    """
    # Without padding the reference needs no mask to be right.
    ours, alone = compute_logits(reference, encoded, rows=1), compute_logits(exported, encoded, rows=1)
    theirs = compute_logits(exported, encoded)
    agreeing, parted, difference = _differences(ours, theirs)
    _, padding_parted, padding_difference = _differences(theirs, alone)
    found = [_names(reference, encoded, ours), _names(exported, encoded, theirs)]
    total = sum(map(len, found))
    return ParityReport(
        windows=sum(len(item.windows) for item in encoded),
        words=len(agreeing),
        names=len(found[0]),
        words_agreeing=float(agreeing.mean()),
        words_parted=float(parted.mean()),
        names_agreeing=2 * len(found[0] & found[1]) / total if total else 1.0,
        mean_difference=float(difference.mean()),
        greatest_difference=float(difference.max()),
        padding_parted=float(padding_parted.mean()),
        padding_difference=float(padding_difference.mean()),
    )


def compute_logits(
    predictor: Predictor, encoded: Sequence[TokenizedDocument], *, rows: int = _ROWS
) -> list[WordLogits]:
    """The logits of all documents' words, from batches that mix long windows with short ones.

    Args:
        predictor: the predictor.
        encoded: the documents.
        rows: windows a batch.
    """
    limit, padding = predictor.document_tokenizer.max_length, predictor.document_tokenizer.tokenizer.pad_token_id or 0
    windows = [(index, window) for index, item in enumerate(encoded) for window in item.windows]
    windows.sort(key=lambda item: len(item[1].input_ids), reverse=True)
    count = -(-len(windows) // rows)
    groups = [windows[index::count] for index in range(count)]
    results: list[WordLogits] = [
        (
            np.zeros((len(item.words), len(predictor.tag_set)), dtype=np.float32),
            np.zeros((len(item.words), PROCLITIC_CLASSES), dtype=np.float32) if predictor.runtime.proclitics else None,
        )
        for item in encoded
    ]

    def batches() -> Iterator[Batch]:
        for group in groups:
            ids = [window.input_ids for _, window in group]
            yield Batch(
                pad_rows(ids, padding, limit=limit), pad_rows([np.ones_like(row) for row in ids], 0, limit=limit)
            )

    for group, (tags, proclitics) in zip(groups, predictor.runtime.stream(batches()), strict=True):
        for row, (index, window) in enumerate(group):
            words, places = window.words[window.owned], window.positions[window.owned]
            tag_result, proclitic_result = results[index]
            tag_result[words] = tags[row][places][:, predictor.columns]
            if proclitic_result is not None and proclitics is not None:
                proclitic_result[words] = proclitics[row, places]
    return results


def _cut(documents: Iterable[Document]) -> Iterator[Document]:
    """Each document, then its lines, of which every second loses all but its first words."""
    for document in documents:
        yield replace(document, spans=(), nested=())
        for number, line in enumerate(filter(str.strip, document.text.splitlines()), 1):
            text = " ".join(line.split()[: number % 9 + 1]) if number % 2 else line
            yield Document(f"{document.id}:{number}", text)


def _differences(ours: Sequence[WordLogits], theirs: Sequence[WordLogits]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether words' best tags are the same, whether they part beyond a tie, and how far log probabilities differ.

    Returns:
        Booleans, (words,), twice, and floats, (words, tags).
    """
    one, other = (log_softmax(np.concatenate([tags for tags, _ in side]).astype(np.float64)) for side in (ours, theirs))
    chosen = np.take_along_axis(one, other.argmax(axis=1, keepdims=True), axis=1)[:, 0]
    return one.argmax(axis=1) == other.argmax(axis=1), one.max(axis=1) - chosen > TIE, np.abs(one - other)


def _names(
    predictor: Predictor, encoded: Sequence[TokenizedDocument], found: Sequence[WordLogits]
) -> set[tuple[int, tuple[int, int, str]]]:
    documents = (predictor.decode(item, own, predictor.calibration) for item, own in zip(encoded, found, strict=True))
    return set(chain.from_iterable(((n, span.key) for span in d.spans) for n, d in enumerate(documents)))
