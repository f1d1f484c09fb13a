"""Any token classifier of the hub, through ``transformers.pipeline("token-classification")``.

Checked against transformers 5.23. The pipeline cuts a text off behind ``model_max_length`` pieces unless it is given a ``stride``, with
which it goes through all of it in overlapping windows. Many Arabic checkpoints state no length, so that a long text would run over the
end of the position table; the table's size is taken then. Words are aggregated by their first piece, as most taggers are trained. A SentencePiece tokenizer may make a lone ``▁``
piece with the offsets of the letter behind it, which the pipeline takes for a word of its own; where that gives two names that overlap,
the longer one is kept and the other counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from offsets import Findings, Found, tagged

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.tags import split_tag

#: How a word's pieces are brought to one label: ``first``, ``average``, ``max``, or ``simple`` for pieces as they are.
AGGREGATION = "first"

# What tokenizers hold that state no length is 10**30.
_STATED = 10**6
# RoBERTa's positions begin behind its padding index, so that two of the table are never used.
_UNUSED_POSITIONS = 2
_USUAL_POSITIONS = 512


def tag(documents: Iterable[Document], *, model: str, device: str) -> Iterator[Document]:
    """The documents with the names that a token classifier finds; the model is loaded at the call.

    Args:
        documents: their own spans are not looked at.
        model: a folder or a hub id.
        device: ``cpu``, ``cuda`` or ``cuda:1``...

    Raises:
        InputError: the tokenizer gives no offsets, or the labels are not those of IOB tags.
    """
    from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

    tokenizer = AutoTokenizer.from_pretrained(model)
    classifier = AutoModelForTokenClassification.from_pretrained(model)
    if not tokenizer.is_fast:
        raise InputError("a slow tokenizer, which gives no offsets", where=model, expected="a fast one")
    _check_labels(classifier.config.id2label, where=model)
    limit = window(tokenizer.model_max_length, classifier.config.to_dict())
    tokenizer.model_max_length = limit
    run = pipeline("token-classification", model=classifier, tokenizer=tokenizer, device=device)
    batch_size = 1 if device == "cpu" else 16  # On a CPU padding costs more than batches gain.

    def find(batch: Sequence[Document]) -> Iterator[Findings]:
        texts = [document.text for document in batch]
        given = run(texts, aggregation_strategy=AGGREGATION, stride=limit // 4, batch_size=batch_size)
        return (Findings(tuple(map(_found, names))) for names in given)

    return tagged(documents, find)


def window(stated: int, config: Mapping[str, Any]) -> int:
    """How many pieces a model takes at a time.

    Args:
        stated: the tokenizer's ``model_max_length``.
        config: the model's configuration.
    """
    if stated < _STATED:
        return stated
    positions = config.get("max_position_embeddings")
    return positions - _UNUSED_POSITIONS if positions else _USUAL_POSITIONS


def _found(name: Mapping[str, Any]) -> Found:
    # Its "word" is made of pieces, not of the text: nothing to check the offsets by.
    return Found(int(name["start"]), int(name["end"]), name["entity_group"], min(1.0, float(name["score"])))


def _check_labels(id2label: Mapping[int, str], *, where: str) -> None:
    """Fail where the pipeline would not join the tags of a name."""
    prefixes = {parsed[0] for label in id2label.values() if (parsed := split_tag(label))}
    if strange := sorted(prefixes - set("BIO")):
        raise InputError(
            f"labels with the prefix {strange[0]!r}",
            where=where,
            expected="B- and I-, the only ones that the pipeline joins to names",
            remedy="write the tags to a CoNLL file and score that with --predictions",
        )
