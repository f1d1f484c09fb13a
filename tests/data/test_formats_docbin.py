"""spaCy's DocBin: a file that spaCy 3.8.18 wrote, a file that spaCy reads, and errors."""

import sys

import pytest
from spacy.tokens import Doc, DocBin
from spacy.vocab import Vocab

from benchmarks.fuzzing import DOCBIN
from musamma.data.corpus_files import ReadOptions, guess_format, read_documents, write_documents
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from tests.support import surfaces


def read(path):
    audit = ImportAudit()
    return list(read_documents(path, options=ReadOptions(overlaps="nested"), audit=audit)), audit


def test_a_file_of_spacy(tmp_path):
    path = tmp_path / "a.spacy"
    path.write_bytes(DOCBIN)
    assert guess_format(path) == "spacy"
    (first, second), audit = read(path)
    assert (first.id, second.id) == ("a-00000", "a-00001")
    assert first.text == "قال سامي إن جامعة الموصل قريبة.\n😀 عاد"
    assert surfaces(first) == [("سامي", "PER"), ("جامعة الموصل", "ORG")]
    assert [(first.surface(span), span.label) for span in first.nested] == [("الموصل", "GPE")]
    assert (second.text, second.spans) == ("نص بلا أسماء", ())
    # One link and one category; the second document has no entities set.
    assert audit.kinds == {"ignored_annotation": 2, "no_annotation": 1}
    assert audit.exact == audit.spans == 3


def test_spans_without_label_crossing_spans_and_texts_without_spaces(tmp_path):
    doc = Doc(Vocab(), words=["في", "جامعة", "الموصل"])
    doc.ents = [doc.char_span(3, 8, label="ORG")]
    doc.spans["a"] = [doc.char_span(3, 8, label="ORG"), doc.char_span(0, 8, label="X")]
    doc.spans["b"] = [doc.char_span(9, 15)]
    DocBin(docs=[doc]).to_disk(tmp_path / "a.spacy")
    [document], audit = read(tmp_path / "a.spacy")
    assert surfaces(document) == [("جامعة", "ORG")]
    assert audit.kinds == {"duplicate": 1, "crossing": 1, "no_label": 1}


def test_spacy_reads_what_is_written(tmp_path):
    text = "قال  للجيش\nفي جامعة الموصل"
    document = Document(
        "a/1",
        text,
        (Span(6, 10, "ORG"), Span(14, 26, "ORG", 0.5)),
        (Span(20, 26, "GPE"),),
        {"topic": ["x", {"y": None}]},
    )
    audit = ImportAudit()
    write_documents([document], tmp_path / "a.spacy", audit=audit)
    [doc] = DocBin().from_disk(tmp_path / "a.spacy").get_docs(Vocab())
    assert doc.text == text
    assert [(span.text, span.label_) for span in doc.ents] == [("لجيش", "ORG"), ("جامعة الموصل", "ORG")]
    assert [(span.text, span.label_) for span in doc.spans["nested"]] == [("الموصل", "GPE")]
    assert audit.kinds == {"lost_score": 1}
    [found], _ = read(tmp_path / "a.spacy")
    assert found.to_dict() == document.with_spans([]).to_dict() | {
        "spans": [{"start": 6, "end": 10, "label": "ORG"}, {"start": 14, "end": 26, "label": "ORG"}],
        "nested": [{"start": 20, "end": 26, "label": "GPE"}],
    }


def test_a_damaged_file(tmp_path):
    (tmp_path / "a.spacy").write_bytes(DOCBIN[:-9])
    with pytest.raises(
        InputError, match=r"a\.spacy: not readable as a DocBin: .*; expected a file that DocBin\.to_disk wrote"
    ):
        read(tmp_path / "a.spacy")


def test_spacy_is_optional(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy.tokens", None)
    (tmp_path / "a.spacy").write_bytes(DOCBIN)
    with pytest.raises(
        InputError, match=r"a\.spacy: spaCy is not installed, which reads .*; pip install 'musamma\[spacy\]'"
    ):
        read(tmp_path / "a.spacy")
    with pytest.raises(InputError, match="spaCy is not installed"):
        write_documents([], tmp_path / "b.spacy")
    assert not (tmp_path / "b.spacy").exists()
