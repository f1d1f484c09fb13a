"""Gold documents and their predictions, brought together by id as both are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from musamma.data.document import Document
from musamma.data.errors import InputError


class PredictionError(InputError):
    """Predictions that do not fit the gold; whoever knows the file that they come from may name it."""


def pair_documents(
    gold: Iterable[Document], predictions: Iterable[Document], *, missing_as_empty: bool = False
) -> Iterator[tuple[Document, Document | None]]:
    """Pairs of a gold document and its prediction, of the same id and the same text.

    Both sides are read in step, and only what still waits for its other half is held, besides the ids. In the
    same order that is one document at a time.

    Args:
        gold: the annotated documents.
        predictions: the predicted ones, in any order.
        missing_as_empty: a gold document without a prediction comes at the end, with ``None``.

    Raises:
        InputError: a gold id comes twice.
        PredictionError: a document has no other half, differs in its text, or a predicted id comes twice.
    """
    waiting_gold: dict[str, Document] = {}
    waiting_predictions: dict[str, Document] = {}
    seen_gold: set[str] = set()
    seen_predictions: set[str] = set()
    gold_side, predicted_side = iter(gold), iter(predictions)
    gold_left = predictions_left = True
    while gold_left or predictions_left:
        document = next(gold_side, None) if gold_left else None
        if document is None:
            gold_left = False
        else:
            _note(document, seen_gold, "the gold", InputError)
            if (prediction := waiting_predictions.pop(document.id, None)) is not None:
                yield _checked(document, prediction)
            else:
                waiting_gold[document.id] = document
        prediction = next(predicted_side, None) if predictions_left else None
        if prediction is None:
            predictions_left = False
        else:
            _note(prediction, seen_predictions, "the predictions", PredictionError)
            if (document := waiting_gold.pop(prediction.id, None)) is not None:
                yield _checked(document, prediction)
            elif not gold_left:
                raise _surplus(prediction.id, 1)
            else:
                waiting_predictions[prediction.id] = prediction
    if waiting_predictions:
        raise _surplus(next(iter(waiting_predictions)), len(waiting_predictions))
    if waiting_gold and not missing_as_empty:
        raise PredictionError(
            f"no prediction for document {next(iter(waiting_gold))!r}" + _others(len(waiting_gold)),
            expected="a prediction for every gold document",
            remedy="predict the whole file, or count missing documents as empty with --allow-missing",
        )
    for document in waiting_gold.values():
        yield document, None


def take_ids_in_order(gold: Iterable[Document], predictions: Iterable[Document]) -> Iterator[Document]:
    """The predictions under the ids of the gold documents, one after another, where files hold no ids of their own.

    Predictions beyond the last gold document keep their ids.
    """
    ids = (document.id for document in gold)
    for prediction in predictions:
        identifier = next(ids, None)
        yield prediction if identifier is None else replace(prediction, id=identifier)


def _note(document: Document, seen: set[str], side: str, error: type[InputError]) -> None:
    if document.id in seen:
        raise error(
            f"id {document.id!r} comes twice in {side}",
            where=f"document {document.id!r}",
            expected="unique ids",
            remedy="give every document an id of its own",
        )
    seen.add(document.id)


def _checked(gold: Document, prediction: Document) -> tuple[Document, Document]:
    if gold.text == prediction.text:
        return gold, prediction
    ours, theirs = gold.text, prediction.text
    shorter = min(len(ours), len(theirs))
    at = next((index for index in range(shorter) if ours[index] != theirs[index]), shorter)
    raise PredictionError(
        f"the texts differ from character {at} on: gold {ours[at : at + 20]!r}, predicted {theirs[at : at + 20]!r}",
        where=f"document {gold.id!r}",
        expected="predictions on the very text of the gold, for offsets mean nothing on another one",
        remedy="predict from the gold file itself",
    )


def _surplus(identifier: str, count: int) -> PredictionError:
    return PredictionError(
        f"a prediction for document {identifier!r}, which is not in the gold" + _others(count),
        expected="predictions for gold documents only",
        remedy="score against the file that was tagged",
    )


def _others(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""
