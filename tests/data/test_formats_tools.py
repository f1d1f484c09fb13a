"""doccano and Label Studio: their shapes, and offsets that count differently."""

import json

import pytest

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.formats import ReadOptions, read_documents, write_documents
from musamma.data.import_audit import ImportAudit

TEXT = "😀 زار السيسي بغداد"


def read(tmp_path, content, name, **options):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), "utf-8")
    audit = ImportAudit()
    return list(read_documents(path, options=ReadOptions(**options), audit=audit)), audit


def names(document):
    return [(document.surface(span), span.label) for span in document.spans]


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
def test_doccano_counts_code_points(tmp_path, spans):
    [document], audit = read(tmp_path, {"id": 7, "text": TEXT, "source": "AFP", **spans}, "d.jsonl")
    assert document.id == "7"
    assert names(document) == [("السيسي", "PER"), ("بغداد", "LOC")]
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
def test_doccano_errors_name_file_and_line(tmp_path, record, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, record, "d.jsonl")


def task(*values, **more):
    result = [{"type": "labels", "from_name": "l", "to_name": "t", "value": value} for value in values]
    return {"id": 3, "data": {"text": TEXT, "source": "AFP"}, "annotations": [{"result": result}], **more}


def test_label_studio_counts_utf16_units(tmp_path):
    # The emoji is two units, so all behind it stands one later than in code points.
    value = {"start": 7, "end": 13, "text": "السيسي", "labels": ["PER"]}
    [document], audit = read(tmp_path, [task(value)], "l.json")
    assert names(document) == [("السيسي", "PER")]
    assert (document.id, document.meta, audit.exact) == ("3", {"source": "AFP"}, 1)


def test_label_studio_offsets_that_cannot_be(tmp_path):
    values = [
        {"start": 1, "end": 6, "labels": ["PER"]},  # begins inside the emoji
        {"start": 14, "end": 99, "labels": ["LOC"]},
        {"start": 6, "end": 12, "text": "السيسي", "labels": ["PER"]},  # counted in code points
    ]
    [document], audit = read(tmp_path, [task(*values)], "l.json")
    assert names(document) == [("السيس", "PER")]
    assert audit.kinds == {"split_character": 1, "outside": 1, "surface_mismatch": 1}
    assert audit.loss == 1.0


def test_label_studio_leaves_and_counts_what_is_no_name(tmp_path):
    done = task({"start": 7, "end": 13, "labels": ["PER"]})
    done["annotations"][0]["result"].append({"type": "choices", "value": {"choices": ["سياسة"]}})
    done["annotations"].append({"result": []})
    skipped = task() | {"id": 4, "annotations": [{"was_cancelled": True, "result": [{"value": {"labels": ["X"]}}]}]}
    documents, audit = read(tmp_path, [done, skipped], "l.json")
    assert [names(d) for d in documents] == [[("السيسي", "PER")], []]
    assert audit.kinds == {"ignored_annotation": 2, "no_annotation": 1}


def test_label_studio_short_export(tmp_path):
    short = {
        "id": 9,
        "text": TEXT,
        "annotator": 1,
        "label": [{"start": 14, "end": 19, "text": "بغداد", "labels": ["LOC"]}],
    }
    [document], audit = read(tmp_path, [short], "l.json")
    assert names(document) == [("بغداد", "LOC")]
    assert (document.meta, audit.exact) == ({"annotator": 1}, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[\n{]", r"l\.json:2: broken JSON"),
        ("{}", r"l\.json:1: a JSON dict; expected a list of tasks"),
        ('[{"data": {"html": "x"}}]', r"l\.json, task 1: a task without text"),
        (
            json.dumps([task(), {**task({"start": "7", "end": 9, "labels": ["X"]}), "id": 5}]),
            r"task 2, result 1: start is '7'",
        ),
    ],
)
def test_label_studio_errors_name_file_and_task(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, content, "l.json")


def test_label_studio_is_written_in_utf16_units(tmp_path):
    write_documents([Document("a", TEXT, (Span(6, 12, "PER"),))], tmp_path / "l.json")
    [written] = json.loads((tmp_path / "l.json").read_text("utf-8"))
    assert written["annotations"][0]["result"][0]["value"] == {
        "start": 7,
        "end": 13,
        "text": "السيسي",
        "labels": ["PER"],
    }
