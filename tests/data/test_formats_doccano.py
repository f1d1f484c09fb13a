"""doccano: its three forms, and its errors."""

import pytest

from musamma.data.errors import InputError
from tests.support import read_content, surfaces

TEXT = "😀 زار السيسي بغداد"


@pytest.mark.parametrize(
    "spans",
    [
        {"label": [[6, 12, "PER"], [13, 18, "LOC"]]},
        {"labels": [[6, 12, "PER"], [13, 18, "LOC"]]},
        {
            "label": [],
            "entities": [
                {"id": 4, "start_offset": 6, "end_offset": 12, "label": "PER"},
                {"id": 5, "start_offset": 13, "end_offset": 18, "label": "LOC"},
            ],
            "relations": [{"from_id": 4, "to_id": 5, "type": "in"}],
        },
    ],
)
def test_offsets_count_code_points(tmp_path, spans):
    [document], audit = read_content(tmp_path, {"id": 7, "text": TEXT, "source": "AFP", **spans}, "d.jsonl")
    assert document.id == "7"
    assert surfaces(document) == [("السيسي", "PER"), ("بغداد", "LOC")]
    assert document.meta == {"source": "AFP"}
    assert audit.exact == 2
    assert audit.kinds["ignored_annotation"] == ("relations" in spans)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            '{"text": "نص", "label": []}\n{"text": "نص", "label": ["سياسة"]}',
            r"d\.jsonl:2: label\[0\] is 'سياسة'; expected \[start",
        ),
        ('{"text": "نص", "label": [[0, 1.5, "PER"]]}', r"d\.jsonl:1: label\[0\] end is 1\.5; expected an integer"),
        ('{"text": "نص", "label": [[0, 1, ""]]}', r"d\.jsonl:1: label\[0\] label is ''"),
        ('{"text": "نص", "label": [[0, 1, "A"]], "entities": [{}]}', r"d\.jsonl:1: both 'label' and 'entities'"),
        ('{"text": null, "label": []}', r"d\.jsonl:1: no text"),
        ('{"text": "نص", "label": [}', r"d\.jsonl:1: broken JSON"),
        (
            '{"text": "نص", "label": [[0, 2, "اسم علم"]]}',
            r"d\.jsonl:1, document 'd-00000': label 'اسم علم'; expected a label without",
        ),
    ],
)
def test_errors_name_file_and_line(tmp_path, record, message):
    with pytest.raises(InputError, match=message):
        read_content(tmp_path, record, "d.jsonl")


def test_a_line_that_doccano_exported(tmp_path):
    # doccano 1.8.4, a project that counts grapheme clusters.
    line = (
        '{"id":"difficult-NFC","text":"😀 زار مُحَمَّد 👨\u200d👩\u200d👧 الرباط\\r\\nثم café 🇲🇦 القاهرة، آخر\\n<b>دمشق<\\/b> & بيروت",'
        '"meta":{"form":"NFC"},"label":[[6,10,"PERSON"],[13,19,"CITY"],[23,27,"ORG"],[30,37,"CITY"],[46,50,"CITY"],'
        '[57,62,"CITY"]],"Comments":[]}\n'
    )
    [document], audit = read_content(tmp_path, line, "d.jsonl")
    names = ["مُحَمَّد", "الرباط", "café", "القاهرة", "دمشق", "بيروت"]
    assert [document.surface(span) for span in document.spans] == names
    assert (document.id, document.meta) == ("difficult-NFC", {"form": "NFC"})
    assert (audit.offset_unit, audit.lost, audit.kinds) == ("graphemes", 0, {})
