"""LightTag and UBIAI: exports in the form of those published, offsets told from the surfaces, and errors."""

import json

import pytest

from musamma.data.corpus_files import guess_format
from musamma.data.errors import InputError
from tests.support import read_content, surfaces

TEXT = "😀 زار السيسي بغداد"


def lighttag(*spans, **changes):
    """Return a job as LightTag exports it (the keys of a file in LightTag/lighttag-convertors)."""
    annotations = [
        {
            "tagged_token_id": f"t{index}", "definition_id": "d", "example_id": "e", "start": start, "end": end, "tag": tag,
            "tag_id": "g", "value": value, "correct": None, "reviewed": False,
            "annotated_by": [{"annotator_id": 8, "timestamp": "2020-07-26T20:42:03.676+00:00", "annotator": "a"}],
        }
        for index, (start, end, tag, value) in enumerate(spans)
    ]  # fmt: skip
    example = {
        "example_id": "6bc2919b", "content": TEXT, "metadata": {"source": "AFP"}, "seen_by": [], "annotations": annotations,
        "classifications": [{"classname": "politics"}], **changes,
    }  # fmt: skip
    return {"id": "5d1c", "examples": [example], "schema": {"name": "NER", "tags": []}, "relations": []}


def ubiai(*spans, **changes):
    """Return a list of documents as UBIAI exports it (the keys of walidamamou/relation_extraction_transformer)."""
    tokens = [
        {"text": value, "start": start, "end": end, "token_start": 2, "token_end": 2, "entityLabel": tag}
        for start, end, tag, value in spans
    ]
    relations = [{"child": 3, "head": 2, "relationLabel": "IN"}]
    return [{"documentName": "a.txt", "document": TEXT, "tokens": tokens, "relations": relations, **changes}]


@pytest.mark.parametrize("export", [lighttag, ubiai])
@pytest.mark.parametrize("shift", [0, 1])
def test_the_surfaces_show_the_unit_of_offsets(tmp_path, export, shift):
    content = export((6 + shift, 12 + shift, "PER", "السيسي"), (13 + shift, 18 + shift, "LOC", "بغداد"))
    [document], audit = read_content(tmp_path, content, "a.json")
    assert guess_format(tmp_path / "a.json") == export.__name__
    assert document.id in ("6bc2919b", "a.txt")
    assert surfaces(document) == [("السيسي", "PER"), ("بغداد", "LOC")]
    assert audit.exact == 2
    assert audit.kinds["converted_offsets"] == shift
    assert audit.kinds["ignored_annotation"] == 1
    assert document.meta == ({"source": "AFP"} if export is lighttag else {})


@pytest.mark.parametrize("export", [lighttag, ubiai])
def test_a_surface_that_is_not_there_is_doubtful(tmp_path, export):
    _, audit = read_content(tmp_path, export((2, 5, "PER", "سامي")), "a.json")
    assert audit.kinds["surface_mismatch"] == 1


def test_an_export_over_several_lines_and_one_reviewed_as_wrong(tmp_path):
    job = lighttag((6, 12, "PER", "السيسي"), (13, 18, "PER", "بغداد"))
    job["examples"][0]["annotations"][1]["correct"] = False
    content = json.dumps(job, ensure_ascii=False, indent=2)
    [document], audit = read_content(tmp_path, content, "a.json")
    assert surfaces(document) == [("السيسي", "PER")]
    assert audit.kinds["not_accepted"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lighttag((6, 12, "", "x")), r"example 1: annotations\[0\]\.tag is ''"),
        (lighttag((6, None, "PER", "x")), r"example 1: annotations\[0\]\.end is None"),
        (lighttag(annotations=[4]), r"example 1: annotations\[0\] is 4"),
        (lighttag(annotations=4), r"example 1: annotations is 4"),
        (ubiai((6, 12, "", "x")), r"document 1: tokens\[0\]\.entityLabel is ''"),
        ([*ubiai(), {"tokens": []}], r"document 2: no document"),
    ],
)
def test_errors_name_the_document(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_content(tmp_path, content, "a.json")
