"""GLiNER: inclusive token ends, names inside names, the original text, and errors."""

import json

import pytest

from musamma.data.corpus_files import guess_format, write_documents
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from tests.support import read_content, surfaces

# In the form of https://urchade.github.io/GLiNER/training.html.
EXAMPLE = {"tokenized_text": ["في", "جامعة", "الموصل", "."], "ner": [[1, 2, "ORG"], [2, 2, "GPE"]]}


@pytest.mark.parametrize("name", ["g.json", "g.jsonl"])
def test_token_ends_are_inclusive(tmp_path, name):
    content = json.dumps([EXAMPLE] if name == "g.json" else EXAMPLE, ensure_ascii=False)
    [document], audit = read_content(tmp_path, content, name, overlaps="nested")
    assert guess_format(tmp_path / name) == "gliner"
    assert (document.id, document.text) == ("g-00000", "في جامعة الموصل .")
    assert surfaces(document) == [("جامعة الموصل", "ORG")]
    assert [(document.surface(span), span.label) for span in document.nested] == [("الموصل", "GPE")]
    assert (audit.exact, audit.kinds) == (2, {"nested": 1})


def test_the_original_text_is_kept_where_the_tokens_are_those_of_it(tmp_path):
    examples = [
        {**EXAMPLE, "text": "في جامعة  الموصل."},
        {**EXAMPLE, "text": "نص آخر", "uid": 3, "relations": [[0, 1, "in"]]},
    ]
    (first, second), audit = read_content(tmp_path, examples, "g.json", overlaps="nested")
    assert surfaces(first) == [("جامعة  الموصل", "ORG")]
    assert (second.text, second.meta) == ("في جامعة الموصل .", {"text": "نص آخر", "uid": 3})
    assert audit.kinds["ignored_annotation"] == 1


def test_names_outside_the_tokens_are_dropped(tmp_path):
    _, audit = read_content(tmp_path, [{**EXAMPLE, "ner": [[3, 4, "X"], [2, 1, "X"], [-1, 1, "X"]]}], "g.json")
    assert audit.kinds == {"outside": 3}
    assert audit.lost == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenized_text": ["في", 3]}, r"g\.json, item 2: no tokens"),
        ({"ner": "x"}, r"g\.json, item 2: ner is 'x'"),
        ({"ner": [[1, 2]]}, r"g\.json, item 2: ner\[0\] is \[1, 2\]"),
        ({"ner": [[1, 2.0, "ORG"]]}, r"g\.json, item 2: ner\[0\]\[1\] is 2\.0"),
        ({"ner": [[1, 2, None]]}, r"g\.json, item 2: ner\[0\]\[2\] is None"),
    ],
)
def test_errors_name_file_and_item(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        read_content(tmp_path, [EXAMPLE, {**EXAMPLE, **change}], "g.json", overlaps="nested")


def test_white_space_at_the_borders_of_names_is_counted(tmp_path):
    audit = ImportAudit()
    document = Document("a", "في بغداد ", (Span(0, 3, "X"), Span(3, 8, "LOC", 0.5), Span(8, 9, "Y")))
    write_documents([document], tmp_path / "g.json", format="gliner", audit=audit)
    [record] = json.loads((tmp_path / "g.json").read_text("utf-8"))
    assert record["ner"] == [[0, 0, "X"], [1, 1, "LOC"]]
    assert audit.kinds == {"whitespace": 1, "no_token": 1, "lost_score": 1}
