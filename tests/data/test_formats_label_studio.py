"""Label Studio: offsets in UTF-16 code units, and results that are not names."""

import json

import pytest

from musamma.data.corpus_files import write_documents
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from tests.support import labelled_surfaces, read_content

TEXT = "😀 زار السيسي بغداد"


def task(*values, **more):
    result = [{"type": "labels", "from_name": "l", "to_name": "t", "value": value} for value in values]
    return {"id": 3, "data": {"text": TEXT, "source": "AFP"}, "annotations": [{"result": result}], **more}


def test_offsets_count_utf16_units(tmp_path):
    # The emoji is two units, so everything after it is one later than in code points.
    value = {"start": 7, "end": 13, "text": "السيسي", "labels": ["PER"]}
    [document], audit = read_content(tmp_path, [task(value)], "l.json")
    assert labelled_surfaces(document) == [("السيسي", "PER")]
    assert (document.id, document.meta, audit.exact) == ("3", {"source": "AFP"}, 1)


def test_invalid_offsets(tmp_path):
    values = [
        {"start": 1, "end": 6, "labels": ["PER"]},  # begins inside the emoji
        {"start": 14, "end": 99, "labels": ["LOC"]},
        {"start": 6, "end": 12, "text": "السيسي", "labels": ["PER"]},  # counted in code points
    ]
    [document], audit = read_content(tmp_path, [task(*values)], "l.json")
    assert labelled_surfaces(document) == [("السيس", "PER")]
    assert audit.kinds == {"split_character": 1, "outside": 1, "surface_mismatch": 1}
    assert audit.loss == 1.0


def test_results_that_are_not_names_are_counted(tmp_path):
    done = task({"start": 7, "end": 13, "labels": ["PER"]})
    done["annotations"][0]["result"].append({"type": "choices", "value": {"choices": ["سياسة"]}})
    done["annotations"].append({"result": []})
    skipped = task() | {"id": 4, "annotations": [{"was_cancelled": True, "result": [{"value": {"labels": ["X"]}}]}]}
    documents, audit = read_content(tmp_path, [done, skipped], "l.json")
    assert [labelled_surfaces(d) for d in documents] == [[("السيسي", "PER")], []]
    assert audit.kinds == {"ignored_annotation": 2, "no_annotation": 1}


def test_the_short_export(tmp_path):
    short = {
        "id": 9,
        "text": TEXT,
        "annotator": 1,
        "label": [{"start": 14, "end": 19, "text": "بغداد", "labels": ["LOC"]}],
    }
    [document], audit = read_content(tmp_path, [short], "l.json")
    assert labelled_surfaces(document) == [("بغداد", "LOC")]
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
def test_errors_name_file_and_task(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_content(tmp_path, content, "l.json")


@pytest.mark.parametrize("broken", [{"to_name": {"a": 1}}, {"to_name": [1]}, {"id": {"a": 1}}, {"id": [1]}])
def test_a_region_whose_id_or_text_is_no_string_is_read(tmp_path, broken):
    region = {"type": "labels", "value": {"start": 7, "end": 13, "labels": ["PER"]}, **broken}
    without_labels = {"type": "labels", "value": {"start": 14, "end": 19}, **broken}
    tasks = [{"data": {"text": TEXT}, "annotations": [{"result": [region, without_labels]}]}]
    [document], audit = read_content(tmp_path, tasks, "l.json")
    assert labelled_surfaces(document) == [("السيسي", "PER")]
    assert audit.kinds == {"ignored_annotation" if "id" in broken else "no_label": 1}


def test_written_offsets_count_utf16_units(tmp_path):
    write_documents([Document("a", TEXT, (Span(6, 12, "PER"),))], tmp_path / "l.json")
    [written] = json.loads((tmp_path / "l.json").read_text("utf-8"))
    assert written["annotations"][0]["result"][0]["value"] == {
        "start": 7,
        "end": 13,
        "text": "السيسي",
        "labels": ["PER"],
    }
