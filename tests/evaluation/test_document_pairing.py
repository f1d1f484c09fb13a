"""Gold and predicted documents, paired by id."""

import random
from collections.abc import Iterator

import pytest

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.evaluation import Counts, score_documents
from musamma.evaluation.document_pairing import pair_documents, take_ids_in_order


def make_documents(*names: str) -> list[Document]:
    return [Document(name, f"وصل إلى بغداد {name}", (Span(8, 13, "LOC"),)) for name in names]


def test_order_does_not_matter():
    gold = make_documents(*"abcdefghij")
    shuffled = random.Random(2).sample(gold, len(gold))
    assert shuffled != gold
    pairs = list(pair_documents(gold, shuffled))
    assert sorted(document.id for document, _ in pairs) == list("abcdefghij")
    assert all(document is prediction for document, prediction in pairs)
    assert score_documents(gold, shuffled) == score_documents(gold, gold)


def test_files_in_the_same_order_are_read_in_step():
    read = {"gold": 0, "predictions": 0}

    def count_reads(side: str) -> Iterator[Document]:
        for document in make_documents(*map(str, range(50))):
            read[side] += 1
            yield document

    for number, (document, prediction) in enumerate(pair_documents(count_reads("gold"), count_reads("predictions")), 1):
        assert document.id == prediction.id
        assert read == {"gold": number, "predictions": number}
    assert read["gold"] == 50


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ("abc", "ac", "no prediction for document 'b'; expected a prediction for every gold document"),
        ("abcd", "b", "no prediction for document 'a' (and 2 more)"),
        ("ab", "abc", "a prediction for document 'c', which is not in the gold"),
        ("ab", "cab", "a prediction for document 'c', which is not in the gold"),
        ("ab", "cdab", "a prediction for document 'c', which is not in the gold (and 1 more)"),
        ("aba", "ab", "document 'a': id 'a' comes twice in the gold"),
        ("ab", "aab", "document 'a': id 'a' comes twice in the predictions"),
        ("", "a", "a prediction for document 'a', which is not in the gold"),
    ],
)
def test_documents_without_a_partner_are_an_error(gold, predicted, message):
    with pytest.raises(InputError) as error:
        list(pair_documents(make_documents(*gold), make_documents(*predicted)))
    assert str(error.value).startswith(message)


def test_missing_predictions_can_count_as_empty():
    scores = score_documents(make_documents(*"abc"), make_documents(*"b"), missing_as_empty=True)
    assert scores.strict.micro == Counts(1, 0, 2)
    assert (scores.documents, scores.missing) == (3, 2)
    with pytest.raises(InputError, match="which is not in the gold"):
        score_documents(make_documents(*"abc"), make_documents(*"bd"), missing_as_empty=True)


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        ("وصل الى بغداد", "the texts differ from character 4 on: gold 'إلى بغداد', predicted 'الى بغداد'"),
        ("وصل إلى بغداد ", "the texts differ from character 13 on: gold '', predicted ' '"),
        ("وصل", "the texts differ from character 3 on: gold ' إلى بغداد', predicted ''"),
    ],
)
def test_different_texts_are_an_error_with_the_position(predicted, message):
    with pytest.raises(InputError) as error:
        score_documents([Document("khabar-7", "وصل إلى بغداد")], [Document("khabar-7", predicted)])
    assert str(error.value).startswith(f"document 'khabar-7': {message}; expected")


def test_predictions_take_the_ids_of_the_gold_in_order():
    gold, predicted = make_documents(*"abc"), make_documents(*"abc")
    predicted = [Document(f"tagged-{number}", document.text) for number, document in enumerate(predicted)]
    assert [d.id for d in take_ids_in_order(gold, predicted)] == ["a", "b", "c"]
    assert [d.id for d in take_ids_in_order(gold[:2], predicted)] == ["a", "b", "tagged-2"]
    assert [d.text for d in take_ids_in_order(gold, predicted)] == [d.text for d in gold]
