"""The tagger: finds the names in texts and documents."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from musamma.data.document import Document, Span, select_nested
from musamma.data.errors import InputError, printable_path
from musamma.inference.name_rules import Rules
from musamma.inference.rule_matching import RuleTagger, drop_log
from musamma.models.calibration import Calibration
from musamma.models.loading import CPU_BATCH_TOKENS, load_predictor
from musamma.models.model_names import DEFAULT_MODEL, resolve_model

# Minimum score of labels without a threshold; no score reaches it.
_NEVER = 1.01
# The files of a checkpoint or an export that decide its output.
_MODEL_FILES = ("config.json", "token*.json", "*.safetensors", "openvino_model.*", "*.onnx")


class Tagger:
    """Finds names with a fine-tuned checkpoint, or with a model that ``musamma export`` made of one.

    Several threads may share a tagger. A pickle of it holds its arguments and not the weights. Unpickling loads the model
    again, so the model must be available there under the same name.

    >>> tagger = Tagger("runs/quickstart")                                          # doctest: +SKIP
    >>> tagger.tag("وصل الوفد إلى بيروت وبغداد")                                    # doctest: +SKIP
    [Span(start=14, end=19, label='GPE', score=0.99), Span(start=21, end=26, label='GPE', score=0.98)]

    Args:
        model: a folder, the name of a model included in the project, or a hub id; by default the tagger included in the project.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``...; by default a GPU if there is one.
        batch_tokens: pieces per batch, padding included; by default ``cpu_batch_tokens`` on a CPU, 32,768 on a GPU.
        cpu_batch_tokens: the default on a CPU.
        bfloat16: compute in bfloat16; by default if the device supports it in hardware.
        min_score: leave out names with a lower score, in [0, 1].
        label_min_scores: minimum score by label, instead of ``min_score`` and of a stored threshold.
        thresholds: leave out names below the threshold stored in the checkpoint for their label, and all names of a label
            without a threshold. If ``min_score`` is higher than a threshold, it applies instead.
        rules: rules beside the model, or the file that holds them, see :func:`musamma.inference.rule_file.load_rules`. They apply to the
            names that the minimum scores leave.

    Attributes:
        model: the argument.
        labels: the labels that the model knows, those of nested names after the others, then those of the rules.
        nested_labels: the labels of the nested names that the model finds; empty if it finds none.

    Raises:
        InputError: the model or device does not exist, the model has no tokenizer or is not an entity recogniser, a minimum score
            or its label is invalid, the checkpoint has no thresholds, or the rules cannot be read or do not fit the model.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        device: str | None = None,
        batch_tokens: int | None = None,
        cpu_batch_tokens: int = CPU_BATCH_TOKENS,
        bfloat16: bool | None = None,
        min_score: float = 0.0,
        label_min_scores: Mapping[str, float] | None = None,
        thresholds: bool = False,
        rules: Rules | str | Path | None = None,
    ) -> None:
        if isinstance(rules, str | Path):
            from musamma.inference.rule_file import load_rules  # here, because pydantic takes time to load

            rules = load_rules(rules)
        self._rules = None if rules is None else RuleTagger(rules)
        self._arguments: dict[str, Any] = {
            "device": device,
            "batch_tokens": batch_tokens,
            "cpu_batch_tokens": cpu_batch_tokens,
            "bfloat16": bfloat16,
            "min_score": min_score,
            "label_min_scores": dict(label_min_scores or {}),
            "thresholds": thresholds,
            **({"rules": rules} if rules is not None else {}),
        }
        self._predictor = load_predictor(
            model, device=device, batch_tokens=batch_tokens, cpu_batch_tokens=cpu_batch_tokens, bfloat16=bfloat16
        )
        labels, nested = self._predictor.tag_set.labels, self._predictor.nested_tag_set
        if rules is not None:
            rules.check_labels(labels, where=model)
        self.nested_labels: tuple[str, ...] = nested.labels if nested is not None else ()
        self.model = model
        self.labels = tuple(dict.fromkeys((*labels, *self.nested_labels, *(rules.new_labels if rules else ()))))
        minimums = partial(
            _combine_min_scores,
            min_score=min_score,
            label_min_scores=label_min_scores or {},
            known=tuple(dict.fromkeys((*labels, *self.nested_labels))),
            where=model,
        )
        calibration = self._predictor.calibration
        self._min_scores = minimums(labels, thresholds=_stored_thresholds(calibration, model) if thresholds else None)
        self._nested_min_scores = minimums(
            self.nested_labels, thresholds=calibration.nested_thresholds if thresholds else None
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Tagger, self.model, **self._arguments), ()

    def tag(self, text: str) -> list[Span]:
        """Find the outermost names in one text, with a score and character-exact offsets."""
        return list(next(self.tag_documents([Document("text", text)])).spans)

    def tag_texts(self, texts: Iterable[str]) -> Iterator[list[Span]]:
        """Find the outermost names in each of many texts, in order. Memory does not grow with the number of texts."""
        documents = (Document(str(index), text) for index, text in enumerate(texts))
        return (list(document.spans) for document in self.tag_documents(documents))

    def tag_documents(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Yield documents with the names found in them, in order, nested ones too. Their previous spans are replaced.

        Reads a few hundred documents ahead of the one it yields.
        """
        return (self._finish(document) for document in self._predictor.predict(documents))

    def tag_groups(self, groups: Iterable[list[Document]]) -> Iterator[tuple[list[Document], int]]:
        """Yield groups of documents with the names found in them, in order, and the number of names left out for their score.

        The result for a group, down to the last digit of a score, does not depend on the other groups. Reads a few groups ahead
        of the one it yields.
        """
        for group in self._predictor.predict_groups(groups):
            scored = [self._drop_low_scores(document) for document in group]
            left_out = sum(len(d.all_spans) for d in group) - sum(len(d.all_spans) for d in scored)
            yield [self._apply_rules(document) for document in scored], left_out

    def tag_in_steps(self, documents: Sequence[Document]) -> Generator[float, None, list[Document]]:
        """Tag documents in steps of one batch, between which the caller may do other work, such as tag other documents.

        The result is that of :meth:`tag_documents`, down to the last digit of a score. Closing the generator ends the work.

        Yields:
            The share of the work that is done, in [0, 1].

        Returns:
            The documents with the names found in them, in order.
        """
        tagged = yield from self._predictor.predict_in_steps(documents)
        return [self._finish(document) for document in tagged]

    @property
    def batch_tokens(self) -> int:
        """Pieces per batch, padding included."""
        return self._predictor.batch_tokens

    def settings(self) -> dict[str, Any]:
        """Return everything that decides the result, down to the last digit of a score; the model's files as a digest."""
        from importlib.metadata import version  # here, because a single text needs no settings

        folder = Path(resolve_model(self.model))
        if not folder.is_dir():  # A hub id. Loading has put its files into the cache.
            from huggingface_hub import try_to_load_from_cache

            folder = Path(str(try_to_load_from_cache(str(folder), "config.json"))).parent
        return {
            "musamma": version("musamma"),
            "model": printable_path(self.model),
            "model files": checkpoint_digest(folder),
            **self._predictor.runtime.settings(),
            "batch tokens": self.batch_tokens,
            "least scores": self._min_scores,
            **({"least scores of nested names": self._nested_min_scores} if self.nested_labels else {}),
            **({"rules": self._rules.rules.digest()} if self._rules is not None else {}),
        }

    def _finish(self, document: Document) -> Document:
        return self._apply_rules(self._drop_low_scores(document))

    def _apply_rules(self, document: Document) -> Document:
        document = drop_log(document)
        return document if self._rules is None else self._rules.apply(document)

    def _drop_low_scores(self, document: Document) -> Document:
        if not any((*self._min_scores.values(), *self._nested_min_scores.values())):
            return document
        spans = tuple(span for span in document.spans if (span.score or 0.0) >= self._min_scores[span.label])
        nested = [span for span in document.nested if (span.score or 0.0) >= self._nested_min_scores[span.label]]
        return replace(document, spans=spans, nested=select_nested(nested, spans))


def checkpoint_digest(folder: Path) -> str:
    """Compute a digest of the files of a checkpoint or an export that decide its output."""
    hashed = blake2b(digest_size=16)
    for pattern in _MODEL_FILES:
        for path in sorted(folder.glob(pattern)):
            with path.open("rb") as file:
                hashed.update(path.name.encode())
                while block := file.read(2**20):
                    hashed.update(block)
    return hashed.hexdigest()


def _stored_thresholds(calibration: Calibration, model: str) -> Mapping[str, float | None]:
    if calibration.thresholds:
        return calibration.thresholds
    raise InputError(
        "the checkpoint has no thresholds",
        where=model,
        expected="a calibrated checkpoint",
        remedy=f"run musamma calibrate DEV --model {model}, or give a `min_score`",
    )


def _combine_min_scores(
    labels: Iterable[str],
    *,
    min_score: float,
    label_min_scores: Mapping[str, float],
    thresholds: Mapping[str, float | None] | None,
    known: Sequence[str],
    where: str,
) -> dict[str, float]:
    """Return the minimum score of each label; ``known`` are the labels of both layers."""
    minimums = dict.fromkeys(labels, min_score)
    if thresholds is not None:
        for label in minimums:
            threshold = thresholds.get(label)
            minimums[label] = _NEVER if threshold is None else max(min_score, threshold)
    for label in label_min_scores:
        if label not in known:
            raise InputError(
                f"a minimum score for {label!r}", where=where, expected=f"one of its labels: {', '.join(known)}"
            )
    for score in (min_score, *label_min_scores.values()):
        if not 0.0 <= score <= 1.0:
            raise InputError(f"minimum score {score:g}", where=where, expected="a number from 0 to 1")
    return minimums | {label: score for label, score in label_min_scores.items() if label in minimums}
