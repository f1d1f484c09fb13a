"""Sentences that are both trained on and scored."""

from __future__ import annotations

import pytest

from musamma.data.document import Document
from musamma.data.shared_sentences import drop_shared

SENTENCE = "وصل الوفد إلى مدينة بيروت أمس الأول"


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        (SENTENCE, True),
        (f"قال متحدث. {SENTENCE}. ثم غادر", True),
        (f"عنوان\n{SENTENCE}\nآخر", True),
        ("و صل الوفد الى مدينه بيروت ، امس الاول", True),  # another spelling, clitics apart
        ("وَصَلَ الوفدُ إلى مدينة بيروت أمس الأول", True),
        (f"{SENTENCE} صباحا", False),
        ("وصل الوفد إلى مدينة بيروت", False),
    ],
)
def test_documents_with_a_sentence_of_a_held_out_one_are_dropped(text: str, shared: bool) -> None:
    document, other = Document("a", text), Document("b", "لا شيء هنا")
    held_out = Document("c", f"مقدمة قصيرة\n{SENTENCE}")
    assert drop_shared([document, other], [held_out]) == (([other], [document]) if shared else ([document, other], []))


def test_short_sentences_recur_by_chance() -> None:
    document = Document("a", "بيروت - رويترز\nقال المتحدث باسم الوزارة")
    assert drop_shared([document], [document]) == ([document], [])
