"""Document pairing: gold and predicted documents are paired by id while both are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from musamma.data.document import Document
from musamma.data.errors import InputError


class PredictionError(InputError):
    """Predictions that do not fit the gold. The caller that knows their file may add its name."""


def pair_documents(
    gold: Iterable[Document], predictions: Iterable[Document], *, missing_as_empty: bool = False
) -> Iterator[tuple[Document, Document | None]]:
    """Yield every gold document with the prediction of the same id and the same text.

    Both sides are read alternately. The ids, and the documents that wait for their partner, are kept in memory: one document
    at a time if both sides have the same order.

    Args:
        gold: the annotated documents.
        predictions: the predicted documents, in any order.
        missing_as_empty: yield gold documents without a prediction at the end, each with ``None``.

    Raises:
        InputError: a gold id is repeated.
        PredictionError: a document has no partner or another text, or a predicted id is repeated.
    """
    waiting_gold: dict[str, Document] = {}
    waiting_predictions: dict[str, Document] = {}
    gold_ids: set[str] = set()
    predicted_ids: set[str] = set()
    gold_documents, predicted_documents = iter(gold), iter(predictions)
    more_gold = more_predictions = True
    while more_gold or more_predictions:
        document = next(gold_documents, None) if more_gold else None
        if document is None:
            more_gold = False
        else:
            _check_unique(document, gold_ids, "the gold", InputError)
            if (prediction := waiting_predictions.pop(document.id, None)) is not None:
                yield _check_texts(document, prediction)
            else:
                waiting_gold[document.id] = document
        prediction = next(predicted_documents, None) if more_predictions else None
        if prediction is None:
            more_predictions = False
        else:
            _check_unique(prediction, predicted_ids, "the predictions", PredictionError)
            if (document := waiting_gold.pop(prediction.id, None)) is not None:
                yield _check_texts(document, prediction)
            elif not more_gold:
                raise _not_in_gold(prediction.id, 1)
            else:
                waiting_predictions[prediction.id] = prediction
    if waiting_predictions:
        raise _not_in_gold(next(iter(waiting_predictions)), len(waiting_predictions))
    if waiting_gold and not missing_as_empty:
        raise PredictionError(
            f"no prediction for document {next(iter(waiting_gold))!r}" + _and_more(len(waiting_gold)),
            expected="a prediction for every gold document",
            remedy="predict the whole file, or count missing documents as empty with `missing_as_empty=True`",
        )
    for document in waiting_gold.values():
        yield document, None


def take_ids_in_order(gold: Iterable[Document], predictions: Iterable[Document]) -> Iterator[Document]:
    """Give predictions the ids of the gold documents, one after another, for files that hold no ids.

    Predictions beyond the last gold document keep their ids.
    """
    ids = (document.id for document in gold)
    for prediction in predictions:
        gold_id = next(ids, None)
        yield prediction if gold_id is None else replace(prediction, id=gold_id)


def _check_unique(document: Document, seen: set[str], side: str, error: type[InputError]) -> None:
    if document.id in seen:
        raise error(
            f"id {document.id!r} comes twice in {side}",
            where=f"document {document.id!r}",
            expected="unique ids",
            remedy="give every document a different id",
        )
    seen.add(document.id)


def _check_texts(gold: Document, prediction: Document) -> tuple[Document, Document]:
    if gold.text == prediction.text:
        return gold, prediction
    text, predicted_text = gold.text, prediction.text
    shorter = min(len(text), len(predicted_text))
    offset = next((index for index in range(shorter) if text[index] != predicted_text[index]), shorter)
    raise PredictionError(
        f"the texts differ from character {offset} on: gold {text[offset : offset + 20]!r}, "
        f"predicted {predicted_text[offset : offset + 20]!r}",
        where=f"document {gold.id!r}",
        expected="predictions on the exact text of the gold, since offsets are meaningless on another text",
        remedy="predict from the gold file itself",
    )


def _not_in_gold(identifier: str, count: int) -> PredictionError:
    return PredictionError(
        f"a prediction for document {identifier!r}, which is not in the gold" + _and_more(count),
        expected="predictions for gold documents only",
        remedy="score against the file that was tagged",
    )


def _and_more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""
