"""Annotation in forms or places that differ from a reader's own: it is read where the form is unambiguous, else dropped and counted."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musamma.data.corpus_files import read_documents
from musamma.data.errors import InputError
from musamma.data.formats.unread import count_annotations
from tests.support import read_content, surfaces

TEXT = "زار سامي"  # "Sami visited": the name is [4, 8).
SPAN = {"start": 4, "end": 8, "label": "PER"}
REGION = {"start": 4, "end": 8, "labels": ["PER"]}
HYPERTEXT = {"start": "/p[1]/text()[1]", "end": "/p[1]/text()[1]", "text": "سامي", "hypertextlabels": ["PER"]}


def task(*results, **data):
    return {"id": 1, "data": {"text": TEXT, **data}, "annotations": [{"result": list(results)}]}


@pytest.mark.parametrize(
    ("name", "content", "label"),
    [
        ("min.json", [{"id": 7, "text": TEXT, "ner": [REGION]}], "PER"),
        ("own.json", [{"id": "a", "text": TEXT, "spans": [SPAN]}], "PER"),
        ("lines.json", '{"id": "a", "text": "زار سامي", "spans": [{"start": 4, "end": 8, "label": "PER"}]}\n', "PER"),
        ("triples.json", [{"text": "نص", "label": []}, {"text": TEXT, "label": [[4, 8, "PER"]]}], "PER"),
        ("spacy.json", [{"text": TEXT, "entities": [SPAN]}], "PER"),
        (
            "doccano1.jsonl",
            {"id": 1, "text": TEXT, "annotations": [{"label": 2, "start_offset": 4, "end_offset": 8}]},
            "2",
        ),
        ("old.json", [{"id": 1, "data": {"text": TEXT}, "completions": [{"result": [{"value": REGION}]}]}], "PER"),
        ("hyper.json", [task({"value": HYPERTEXT | {"globalOffsets": {"start": 4, "end": 8}}})], "PER"),
        ("number.conll", "1 زار VBD O O\n2 سامي NNP I-NP I-PER\n", "PER"),
        ("number1.conll", "1 سامي NNP I-NP I-PER\n", "PER"),
        ("germeval.tsv", "# a comment\n1\tزار\tO\tO\n2\tسامي\tB-PER\tO\n", "PER"),
    ],
)
def test_unambiguous_forms_are_read(tmp_path, name, content, label):
    documents, audit = read_content(tmp_path, content, name)
    assert surfaces(documents[-1]) == [("سامي", label)]
    assert (audit.spans, audit.exact, audit.lost) == (1, 1, 0)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        (
            "title.json",
            [task({"to_name": "title", "value": {**REGION, "start": 0, "end": 3}}, title="غزة")],
            "other_text",
        ),
        ("hyper.json", [task({"value": HYPERTEXT | {"globalOffsets": {"start": 0, "end": 4}}})], "unread_annotation"),
        (
            "dialogue.json",
            [task({"value": {"start": "0", "end": "0", "paragraphlabels": ["PER"]}})],
            "unread_annotation",
        ),
        ("bare.json", [task({"type": "labels", "value": REGION | {"labels": []}})], "no_label"),
        (
            "guess.json",
            [{"data": {"text": TEXT}, "predictions": [{"result": [{"value": REGION}]}]}],
            "unread_annotation",
        ),
        (
            "second.json",
            [{"data": {"text": TEXT}, "annotations": [{"result": []}, {"result": [{"value": REGION}]}]}],
            "unread_annotation",
        ),
        ("min.json", [{"text": TEXT, "label": [REGION | {"labels": []}]}], "no_label"),
        (
            "doc.json",
            [{"text": TEXT, "ents": [SPAN], "tokens": [{"start": 0, "end": 3, "tag": "VB", "pos": "V"}]}],
            None,
        ),
        ("tags.json", [{"text": TEXT, "tokens": TEXT.split(), "ner_tags": ["O", "B-PER"]}], None),
        ("string.jsonl", {"text": TEXT, "label": '[[4, 8, "PER"]]'}, None),
        ("cluener.jsonl", {"text": TEXT, "label": {"PER": {"سامي": [[4, 7]]}}}, None),
        ("mentions.csv", 'text,mentions\nزار سامي,"[{""start"": 4, ""end"": 8, ""type"": ""PER""}]"\n', None),
        ("iob.csv", "text,iob\nزار سامي,O B-PER\n", None),
        ("row.csv", "text,start,end,type\nزار سامي,4,8,PER\n", None),
        ("mark.conll", "زار O\n\u200f B-PER\n\nسامي O\n", "empty_name"),
        ("last.conll", "زار O\n\n\u200e\u200f B-PER\n", "empty_name"),
    ],
)
def test_other_annotation_is_dropped_and_counted(tmp_path, name, content, kind):
    documents, audit = read_content(tmp_path, content, name)
    assert [span for document in documents for span in document.spans] == []
    assert (audit.spans, audit.count_category("dropped"), audit.loss) == (1, 1, 1.0)
    assert audit.kinds[kind or "unread_annotation"] == 1
    # Without an audit, as in training and scoring, it is an error.
    with pytest.raises(InputError, match=r"expected (spans|annotation) that can be kept unchanged"):
        list(read_documents(tmp_path / name))


def test_regions_of_the_other_text_are_dropped(tmp_path):
    title = {"to_name": "title", "value": {"start": 0, "end": 3, "text": "غزة", "labels": ["GPE"]}}
    [document], audit = read_content(
        tmp_path, [task(title, {"to_name": "text", "value": REGION}, title="غزة")], "t.json"
    )
    assert surfaces(document) == [("سامي", "PER")]
    assert (audit.spans, audit.exact, audit.kinds) == (2, 1, {"other_text": 1})
    assert audit.findings[0].detail == "a region of 'title', where the text taken is 'text': 'غزة'"
    with pytest.raises(InputError, match=r"t\.json, task 1: regions of the texts 'a', 'b'; expected regions of 'text'"):
        read_content(tmp_path, [task({"to_name": "a", "value": REGION}, {"to_name": "b", "value": REGION})], "t.json")


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("g.json", {"tokenized_text": ["زار", "سامي"], "ner": [[1, 1, "PER"]]}),
        ("p.jsonl", {"text": "زار سامي", "spans": [{"start": 4, "end": 8, "label": "PER"}], "answer": "accept"}),
        ("u.json", {"documentName": "a", "document": "زار سامي", "tokens": []}),
        ("d.jsonl", {"text": "زار سامي", "label": [[4, 8, "PER"]]}),
    ],
)
@pytest.mark.parametrize(
    ("relations", "count"),
    [([[0, 1, "in"], [1, 0, "of"]], 2), ({"in": [0, 1]}, 1), ("in", 1), (3, 1), ([], 0), (None, 0)],
)
def test_relations_of_any_form_are_counted(tmp_path, name, record, relations, count):
    content = json.dumps({**record, "relations": relations}, ensure_ascii=False)
    [document], audit = read_content(tmp_path, content if name.endswith("l") else f"[{content}]", name)
    assert audit.kinds["ignored_annotation"] == count
    assert "relations" not in document.meta


def test_attributes_of_a_region_are_notes(tmp_path):
    choice = {"id": "r", "type": "choices", "value": {"start": 4, "end": 8, "choices": ["نعم"]}}
    [document], audit = read_content(tmp_path, [task({"id": "r", "value": REGION}, choice)], "c.json")
    assert surfaces(document) == [("سامي", "PER")]
    assert (audit.lost, audit.kinds) == (0, {"ignored_annotation": 1})


def test_a_mark_inside_a_name_loses_no_name(tmp_path):
    [document], audit = read_content(tmp_path, "سامي B-PER\n\u200f I-PER\nحداد I-PER\n\u200f O\n", "m.conll")
    assert surfaces(document) == [("سامي حداد", "PER")]
    assert (audit.exact, audit.lost, audit.kinds["empty_token"]) == (1, 0, 2)


def test_a_line_without_token_number_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"n\.conll:3: '2-3' in the column of token numbers; expected a number"):
        read_content(tmp_path, "1 زار VBD O\n2 سامي NNP B-PER\n2-3 سامي _ O\n", "n.conll")


def test_numbers_among_tokens_stay_tokens(tmp_path):
    [document], _ = read_content(tmp_path, "1 CD O\nيناير NN B-DATE\n", "n.conll")
    assert document.text == "1 يناير"


def test_columns_beside_tags(tmp_path):
    path = tmp_path / "t.parquet"
    table = {
        "tokens": [["زار", "سامي"]],
        "ner_tags": [["O", "B-PER"]],
        "chunk_tags": [["B-VP", "B-NP"]],
        "spans": [[SPAN]],  # the same name in another form
    }
    pq.write_table(pa.table(table), path)
    [document] = read_documents(path)
    assert surfaces(document) == [("سامي", "PER")]
    pq.write_table(pa.table(table | {"nested": [["B-X", "B-X"]]}), path)
    with pytest.raises(InputError, match=r"what looks like 1 annotated name under 'nested' is not read"):
        list(read_documents(path))


@pytest.mark.parametrize(
    ("key", "value", "count"),
    [
        ("mentions", [[4, 8, "PER"], ["PER", 0, 3]], 2),
        ("mentions", {"start": [0, 4], "end": [3, 8], "label": ["X", "PER"]}, 2),
        ("x", {"result": [{"begin_offset": "4", "end_offset": "8", "entity_group": "PER"}]}, 1),
        ("ner_tags", [0, 1, 2, 0, 1], 2),
        ("entities", {"PER": ["سامي"], "LOC": []}, 1),
        ("entities", [{"entity": "سامي", "type": "PER"}], 1),
        ("ann", ["T1", "PER", [[4, 8]]], 0),
        ("annotations", [["T1", "PER", [[4, 8]]]], 1),
        # Other information stays information.
        ("period", {"start": 2019, "end": 2021, "type": "term"}, 0),
        ("box", [[1, 2], [3, 4]], 0),
        ("plane", "B-52", 0),
        ("planes", ["B-52", "B-2"], 0),
        ("counts", [1, 0, 2], 0),
        ("tags", ["سياسة"], 0),
        ("tokens", [{"text": "زار", "start": 0, "end": 3, "id": 0, "ws": True}], 0),
        ("relations", [{"from_id": 1, "to_id": 2, "type": "in"}], 0),
        ("note", "[not JSON", 0),
    ],
)
def test_annotation_is_recognised_by_its_form(key, value, count):
    assert count_annotations(value, key, length=4 * len(TEXT)) == count
