"""The tagger: articles in, the same articles with their names out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.inference.run_state import checkpoint_digest
from musamma.models.calibration import Calibration
from musamma.models.loading import load_predictor, resolve_model

# No score is as high: a label of which no score was shown to be enough.
_NEVER = 1.01


class Tagger:
    """Finds names with a fine-tuned checkpoint, or with what ``musamma export`` made of one.

    Several threads may use one tagger. It is pickled as the arguments that it was made with, and loads its model again where it
    is unpickled: workers need the same model under the same name.

    >>> tagger = Tagger("runs/quickstart")                                          # doctest: +SKIP
    >>> tagger.tag("وصل الوفد إلى بيروت وبغداد")                                    # doctest: +SKIP
    [Span(start=15, end=20, label='GPE', score=0.98), Span(start=22, end=27, label='GPE', score=0.97)]

    Args:
        model: a folder, the name of a model that comes with the project, or a hub id.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``...; by default the GPU where there is one.
        batch_tokens: pieces a batch, padding included; by default 4,096 on a CPU, 32,768 on a GPU.
        bfloat16: compute in bfloat16; by default where the device does so in hardware.
        min_score: leave out names with a lower score; in [0, 1].
        label_min_scores: the same by label; takes the place of ``min_score`` and of a stored threshold.
        thresholds: leave out names below the threshold of their label that is stored in the checkpoint, and all names of a
            label that has none; where ``min_score`` is higher, it counts.

    Attributes:
        labels: the labels that the model knows.

    Raises:
        InputError: there is no such model or device, the model has no tokenizer, it is no entity recogniser, a score or
            label cannot be, or there are no thresholds in the checkpoint.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        batch_tokens: int | None = None,
        bfloat16: bool | None = None,
        min_score: float = 0.0,
        label_min_scores: Mapping[str, float] | None = None,
        thresholds: bool = False,
    ) -> None:
        self._made_with: dict[str, Any] = {
            "device": device,
            "batch_tokens": batch_tokens,
            "bfloat16": bfloat16,
            "min_score": min_score,
            "label_min_scores": dict(label_min_scores or {}),
            "thresholds": thresholds,
        }
        self._predictor = load_predictor(model, device=device, batch_tokens=batch_tokens, bfloat16=bfloat16)
        self.model, self.labels = model, self._predictor.tag_set.labels
        self._bounds = _bounds(
            self.labels,
            min_score,
            label_min_scores or {},
            _stored(self._predictor.calibration, model) if thresholds else None,
            where=model,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Tagger, self.model, **self._made_with), ()

    def tag(self, text: str) -> list[Span]:
        """The names in one text, with character-exact offsets into it and a score."""
        return list(next(self.tag_documents([Document("text", text)])).spans)

    def tag_texts(self, texts: Iterable[str]) -> Iterator[list[Span]]:
        """The names in each of many texts, in order; memory does not grow with their number."""
        documents = (Document(str(index), text) for index, text in enumerate(texts))
        return (list(document.spans) for document in self.tag_documents(documents))

    def tag_documents(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents with the names found in them, in order; spans that they had are replaced.

        A few hundred documents are read ahead of the one that is given.
        """
        return (self._kept(document) for document in self._predictor.predict(documents))

    def tag_groups(self, groups: Iterable[list[Document]]) -> Iterator[tuple[list[Document], int]]:
        """Groups of documents with the names found in them, in order, and how many names were left out for their score.

        What is found in a group, scores to the last digit included, does not depend on what other groups there are. A few groups
        are read ahead of the one that is given.
        """
        for group in self._predictor.predict_groups(groups):
            kept = [self._kept(document) for document in group]
            yield kept, sum(len(document.spans) for document in group) - sum(len(document.spans) for document in kept)

    def settings(self) -> dict[str, Any]:
        """All that decides what is found, scores to the last digit included; weights and tokenizer by their fingerprint."""
        folder = Path(resolve_model(self.model))
        if not folder.is_dir():  # a hub id, whose files are in the cache since they were loaded
            folder = Path(str(try_to_load_from_cache(str(folder), "config.json"))).parent
        return {
            "musamma": version("musamma"),
            "model": self.model,
            "model files": checkpoint_digest(folder),
            **self._predictor.runtime.settings(),
            "batch tokens": self._predictor.batch_tokens,
            "least scores": self._bounds,
        }

    def _kept(self, document: Document) -> Document:
        if not any(self._bounds.values()):
            return document
        return document.with_spans([span for span in document.spans if (span.score or 0.0) >= self._bounds[span.label]])


def _stored(calibration: Calibration, model: str) -> Mapping[str, float | None]:
    if calibration.thresholds:
        return calibration.thresholds
    raise InputError(
        "the checkpoint has no thresholds",
        where=model,
        expected="one that has been calibrated",
        remedy=f"run musamma calibrate DEV --model {model}, or give a --min-score",
    )


def _bounds(
    labels: Iterable[str],
    general: float,
    own: Mapping[str, float],
    stored: Mapping[str, float | None] | None,
    *,
    where: str,
) -> dict[str, float]:
    """The lowest score that a name of each label may have."""
    bounds = dict.fromkeys(labels, general)
    if stored is not None:
        for label in bounds:
            value = stored.get(label)
            bounds[label] = _NEVER if value is None else max(general, value)
    for label in own:
        if label not in bounds:
            raise InputError(
                f"a least score for {label!r}", where=where, expected=f"one of its labels: {', '.join(bounds)}"
            )
    for score in (general, *own.values()):
        if not 0.0 <= score <= 1.0:
            raise InputError(f"least score {score:g}", where=where, expected="a number from 0 to 1")
    return bounds | dict(own)
