"""Neighbours joined into one document."""

import pytest

from musamma.data.document import Document, Span, group_documents


def test_names_stay_what_they_are() -> None:
    texts = ["وصل محمد", "إلى دمشق", "", "ثم بيروت"]
    documents = [
        Document(str(i), text, (Span(4, len(text), "X"),) if text else (), (Span(4, 6, "Y"),) if i == 1 else ())
        for i, text in enumerate(texts)
    ]
    first, second = group_documents(documents, 3)
    assert first.text == "وصل محمد\nإلى دمشق\n"
    assert [first.surface(span) for span in first.spans] == ["محمد", "دمشق"]
    assert [first.surface(span) for span in first.nested] == ["دم"]
    assert (first.id, second.id) == ("0", "3")
    assert [second.surface(span) for span in second.spans] == [second.text[4:]]


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_every_document_is_in_one_group(size: int) -> None:
    documents = [Document(str(i), f"نص {i}") for i in range(9)]
    assert "\n".join(group.text for group in group_documents(documents, size)).split("\n") == [
        d.text for d in documents
    ]


def test_groups_of_one_are_the_documents() -> None:
    documents = [Document("a", "وصل محمد", (Span(4, 8, "PER"),), (), {"topic": "x"})]
    assert list(group_documents(documents, 1)) == documents
