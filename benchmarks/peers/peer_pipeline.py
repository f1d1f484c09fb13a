"""Any token classifier of the hub, through ``transformers.pipeline("token-classification")``.

Checked against transformers 5.23. The pipeline truncates a text after ``model_max_length`` pieces unless it gets a ``stride``; then it
reads the whole text in overlapping windows. Many Arabic checkpoints state no length, and a long text would exceed the position
table; the size of that table is the limit then. Words are aggregated by their first piece, as most taggers are trained. A
SentencePiece tokenizer may produce a lone ``▁`` piece with the offsets of the letter after it, which the pipeline takes for a word;
if that yields two overlapping names, the longer one is retained and the other counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from predicted_names import PredictedName, TextPrediction, predict_documents

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.tags import split_tag

#: How a word gets one label from its pieces: ``first``, ``average`` or ``max``; ``simple`` leaves the pieces as they are.
AGGREGATION = "first"

# Tokenizers that state no length have 10**30.
_MAX_STATED_LENGTH = 10**6
# RoBERTa's positions start after its padding index: two rows of the table are never used.
_UNUSED_POSITIONS = 2
_DEFAULT_POSITIONS = 512


def tag(documents: Iterable[Document], *, model: str, device: str) -> Iterator[Document]:
    """Return the documents with the names that a token classifier predicts; the call itself loads the model.

    Args:
        documents: their spans are ignored.
        model: a folder or a hub id.
        device: ``cpu``, ``cuda`` or ``cuda:1``...

    Raises:
        InputError: the tokenizer has no offsets, or the labels are not IOB tags.
    """
    from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    classifier = AutoModelForTokenClassification.from_pretrained(model, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise InputError("a slow tokenizer, which has no offsets", where=model, expected="a fast one")
    _check_labels(classifier.config.id2label, where=model)
    limit = window_length(tokenizer.model_max_length, classifier.config.to_dict())
    tokenizer.model_max_length = limit
    classify = pipeline("token-classification", model=classifier, tokenizer=tokenizer, device=device)
    batch_size = 1 if device == "cpu" else 16  # on a CPU padding costs more than batches gain

    def predict(batch: Sequence[Document]) -> Iterator[TextPrediction]:
        texts = [document.text for document in batch]
        outputs = classify(texts, aggregation_strategy=AGGREGATION, stride=limit // 4, batch_size=batch_size)
        return (TextPrediction(tuple(map(_convert_name, names))) for names in outputs)

    return predict_documents(documents, predict)


def window_length(stated: int, config: Mapping[str, Any]) -> int:
    """Return the number of pieces that a model takes at a time.

    Args:
        stated: the tokenizer's ``model_max_length``.
        config: the model's configuration.
    """
    if stated < _MAX_STATED_LENGTH:
        return stated
    positions = config.get("max_position_embeddings")
    return positions - _UNUSED_POSITIONS if positions else _DEFAULT_POSITIONS


def _convert_name(name: Mapping[str, Any]) -> PredictedName:
    # Its "word" is made of pieces, not of the text, so it cannot serve to check the offsets.
    return PredictedName(int(name["start"]), int(name["end"]), name["entity_group"], min(1.0, float(name["score"])))


def _check_labels(id2label: Mapping[int, str], *, where: str) -> None:
    """Raise an :class:`InputError` if the pipeline would not join the tags of a name."""
    prefixes = {parsed[0] for label in id2label.values() if (parsed := split_tag(label))}
    if unsupported := sorted(prefixes - set("BIO")):
        raise InputError(
            f"labels with the prefix {unsupported[0]!r}",
            where=where,
            expected="B- and I-, the only ones the pipeline joins to names",
            remedy="write the tags to a CoNLL file and score it with --predictions",
        )
