"""Label Studio: offsets in UTF-16 code units, and results that are not names."""

import json

import pytest

from musamma.data.corpus_files import ReadOptions, WriteOptions, read_documents, write_documents
from musamma.data.document import RULES_KEY, Document, Span
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from tests.support import read_content, surfaces

TEXT = "😀 زار السيسي بغداد"


def task(*values, **more):
    result = [{"type": "labels", "from_name": "l", "to_name": "t", "value": value} for value in values]
    return {"id": 3, "data": {"text": TEXT, "source": "AFP"}, "annotations": [{"result": result}], **more}


def test_offsets_count_utf16_units(tmp_path):
    # The emoji is two units, so everything after it is one later than in code points.
    value = {"start": 7, "end": 13, "text": "السيسي", "labels": ["PER"]}
    [document], audit = read_content(tmp_path, [task(value)], "l.json")
    assert surfaces(document) == [("السيسي", "PER")]
    assert (document.id, document.meta, audit.exact) == ("3", {"source": "AFP"}, 1)


def test_invalid_offsets(tmp_path):
    values = [
        {"start": 1, "end": 6, "labels": ["PER"]},  # begins inside the emoji
        {"start": 14, "end": 99, "labels": ["LOC"]},
        {"start": 6, "end": 12, "text": "السيسي", "labels": ["PER"]},  # counted in code points
    ]
    [document], audit = read_content(tmp_path, [task(*values)], "l.json")
    assert surfaces(document) == [("السيس", "PER")]
    assert audit.kinds == {"split_character": 1, "outside": 1, "surface_mismatch": 1}
    assert audit.loss == 1.0


def test_results_that_are_not_names_are_counted(tmp_path):
    done = task({"start": 7, "end": 13, "labels": ["PER"]})
    done["annotations"][0]["result"].append({"type": "choices", "value": {"choices": ["سياسة"]}})
    done["annotations"].append({"result": []})
    skipped = task() | {"id": 4, "annotations": [{"was_cancelled": True, "result": [{"value": {"labels": ["X"]}}]}]}
    documents, audit = read_content(tmp_path, [done, skipped], "l.json")
    assert [surfaces(d) for d in documents] == [[("السيسي", "PER")], []]
    assert audit.kinds == {"ignored_annotation": 2, "no_annotation": 1}


def test_the_short_export(tmp_path):
    short = {
        "id": 9,
        "text": TEXT,
        "annotator": 1,
        "label": [{"start": 14, "end": 19, "text": "بغداد", "labels": ["LOC"]}],
    }
    [document], audit = read_content(tmp_path, [short], "l.json")
    assert surfaces(document) == [("بغداد", "LOC")]
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
    assert surfaces(document) == [("السيسي", "PER")]
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


def predicted(*values, version="m1", **more):
    result = [{"type": "labels", "from_name": "l", "to_name": "t", "value": v, "score": v["score"]} for v in values]
    return {"result": result, "model_version": version, "score": 0.5, **more}


PREDICTION = predicted({"start": 7, "end": 13, "text": "السيسي", "labels": ["PER"], "score": 0.5})
ANNOTATION = {"result": [{"type": "labels", "value": {"start": 14, "end": 19, "text": "بغداد", "labels": ["LOC"]}}]}


@pytest.mark.parametrize(
    ("option", "annotations", "names", "kinds"),
    [
        ("drop", [], [], {"no_annotation": 1, "unread_annotation": 1}),
        ("drop", [ANNOTATION], ["بغداد"], {}),
        ("fallback", [], ["السيسي"], {"prediction_taken": 1}),
        ("fallback", [{**ANNOTATION, "was_cancelled": True}], ["السيسي"], {"prediction_taken": 1}),
        ("fallback", [ANNOTATION], ["بغداد"], {}),
        ("only", [ANNOTATION], ["السيسي"], {"prediction_taken": 1}),
    ],
)
def test_predictions_are_read_where_asked_for(tmp_path, option, annotations, names, kinds):
    tasks = [{"data": {"text": TEXT}, "annotations": annotations, "predictions": [7, predicted(), PREDICTION]}]
    [document], audit = read_content(tmp_path, tasks, "l.json", predictions=option)
    assert [document.surface(span) for span in document.spans] == names
    assert audit.kinds == kinds
    is_prediction = "prediction_taken" in kinds
    assert [span.score for span in document.spans] == ([0.5] if is_prediction else [None] * len(names))
    assert document.meta == ({"model_version": "m1"} if is_prediction else {})


def test_only_predictions_where_there_is_none(tmp_path):
    [document], audit = read_content(
        tmp_path, [{"data": {"text": TEXT}, "annotations": [ANNOTATION]}], "l.json", predictions="only"
    )
    assert (document.spans, audit.kinds) == ((), {"no_annotation": 1})


def test_names_that_only_rules_found_are_predictions(tmp_path):
    meta = {RULES_KEY: [{"start": 6, "end": 12, "rule": "added"}]}
    write_documents([Document("a", TEXT, (Span(6, 12, "PER"),), meta=meta)], tmp_path / "l.json")
    [task] = json.loads((tmp_path / "l.json").read_text("utf-8"))
    assert "annotations" not in task
    [read] = read_documents(tmp_path / "l.json", options=ReadOptions(predictions="fallback"), audit=ImportAudit())
    assert read.meta[RULES_KEY] == meta[RULES_KEY]


def test_names_with_scores_are_written_as_predictions(tmp_path):
    tagged = Document("a", TEXT, (Span(6, 12, "PER", 0.5), Span(13, 18, "LOC", 1.0)), meta={"source": "AFP"})
    audit = ImportAudit()
    write_documents([tagged], tmp_path / "l.json", options=WriteOptions(model_version="mine"), audit=audit)
    [task] = json.loads((tmp_path / "l.json").read_text("utf-8"))
    assert "annotations" not in task
    [prediction] = task["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("mine", 0.75)
    assert [region["score"] for region in prediction["result"]] == [0.5, 1.0]
    [read] = read_documents(tmp_path / "l.json", options=ReadOptions(predictions="fallback"), audit=audit)
    assert (read.spans, read.meta) == (tagged.spans, {"source": "AFP", "model_version": "mine"})
    assert audit.kinds == {"prediction_taken": 1}
    # The model is kept the next time.
    write_documents([read], tmp_path / "l.json", options=WriteOptions(model_version="other"))
    [task] = json.loads((tmp_path / "l.json").read_text("utf-8"))
    assert task["predictions"][0]["model_version"] == "mine"


def test_a_document_without_names_follows_the_others(tmp_path):
    empty, tagged, gold = (
        Document("a", "نص"),
        Document("b", TEXT, (Span(6, 12, "PER", 0.5),)),
        Document("c", TEXT, (Span(6, 12, "PER"),)),
    )

    def kinds(documents, **options):
        write_documents(documents, tmp_path / "l.json", options=WriteOptions(**options))
        return [
            next(k for k in ("annotations", "predictions") if k in task)
            for task in json.loads((tmp_path / "l.json").read_text("utf-8"))
        ]

    assert kinds([empty, tagged, empty]) == ["predictions"] * 3
    assert kinds([empty, gold, empty]) == ["annotations"] * 3
    assert kinds([empty, empty]) == ["annotations"] * 2
    assert kinds([empty, gold, tagged, empty]) == ["annotations", "annotations", "predictions", "predictions"]
    assert kinds([empty, gold], tasks_as="predictions") == ["predictions"] * 2
    audit = ImportAudit()
    options = WriteOptions(tasks_as="annotations")
    write_documents([tagged], tmp_path / "l.json", options=options, audit=audit)
    assert audit.kinds == {"lost_score": 1}
    assert '"score"' not in (tmp_path / "l.json").read_text("utf-8")


def test_predictions_by_number_cannot_be_read(tmp_path):
    # As Label Studio's simple export writes them.
    tasks = [{"data": {"text": TEXT}, "annotations": [], "predictions": [1, 2]}]
    [_], audit = read_content(tmp_path, tasks, "l.json")
    assert audit.kinds == {"no_annotation": 1, "ignored_annotation": 2}
    for option in ("fallback", "only"):
        with pytest.raises(InputError, match=r"task 1: 2 predictions, by their numbers only; .*; export a snapshot"):
            read_content(tmp_path, tasks, "l.json", predictions=option)
    [document], _ = read_content(
        tmp_path, [{**tasks[0], "annotations": [ANNOTATION]}], "l.json", predictions="fallback"
    )
    assert document.surface(document.spans[0]) == "بغداد"
