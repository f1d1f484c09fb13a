"""brat: fragments over several lines, discontinuous names, incomplete pairs of files."""

import pytest

from musamma.data.corpus_files import ReadOptions, read_documents, write_documents
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit

TEXT = "وصل وزير الخارجية\nالأردني أيمن الصفدي 😀 إلى جامعة الموصل."


def folder(tmp_path, annotation, text=TEXT):
    (tmp_path / "a.txt").write_bytes(text.encode())
    (tmp_path / "a.ann").write_bytes(annotation.encode())
    return tmp_path


def read(path, **options):
    audit = ImportAudit()
    return list(read_documents(path, options=ReadOptions(**options), audit=audit)), audit


def line(surface, label="PER", number=1):
    start = TEXT.index(surface)
    return f"T{number}\t{label} {start} {start + len(surface)}\t{surface}\n"


def test_names_are_read_and_other_annotation_is_counted(tmp_path):
    annotation = line("أيمن الصفدي") + "R1\tWorks Arg1:T1 Arg2:T2\n#1\tAnnotatorNotes T1\tملاحظة\n\r\n"
    annotation += line("جامعة الموصل", "ORG", 2).replace("\n", "\r\n") + line("الموصل", "GPE", 3)
    [document], audit = read(folder(tmp_path, annotation), overlaps="nested")
    assert document.id == "a"
    # Offsets are code points: the emoji before the university is one character.
    assert [(document.surface(s), s.label) for s in document.spans] == [("أيمن الصفدي", "PER"), ("جامعة الموصل", "ORG")]
    assert [(document.surface(s), s.label) for s in document.nested] == [("الموصل", "GPE")]
    assert audit.kinds == {"ignored_annotation": 2, "nested": 1}
    assert audit.exact == 3


def test_a_name_over_two_lines_is_one_span(tmp_path):
    [document], audit = read(folder(tmp_path, "T1\tORG 4 17;18 25\tوزير الخارجية الأردني\n"))
    assert document.surface(document.spans[0]) == "وزير الخارجية\nالأردني"
    assert audit.exact == 1


def test_discontinuous_names_are_covered_or_dropped_and_counted(tmp_path):
    path = folder(tmp_path, "T1\tPER 4 8;18 25\tوزير الأردني\n")
    [document], audit = read(path)
    assert document.surface(document.spans[0]) == "وزير الخارجية\nالأردني"
    assert (audit.kinds, audit.count_category("snapped"), audit.exact) == ({"discontinuous": 1}, 1, 0)
    assert audit.findings[0].where.endswith("a.ann:1")
    [document], audit = read(path, discontinuous="drop")
    assert document.spans == ()
    assert (audit.kinds, audit.count_category("dropped")) == ({"discontinuous_dropped": 1}, 1)


def test_a_surface_that_differs_from_the_text_is_doubtful(tmp_path):
    # Offsets in bytes, a common mistake: inside the text, and wrong.
    path = folder(tmp_path, "T1\tPER 5 9\tأيمن\n")
    _, audit = read(path)
    assert audit.kinds == {"surface_mismatch": 1}
    assert audit.loss == 1.0
    with pytest.raises(InputError, match=r"a\.ann:1, document 'a': span .* the file says 'أيمن'"):
        list(read_documents(path))


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (line("أيمن") + "T2 PER 0 4 وصل\n", r"a\.ann:2: 'T2 PER 0 4 وصل'; expected 'T1<TAB>LABEL START END"),
        ("قال\n", r"a\.ann:1: 'قال'; expected a brat annotation"),
        ("T1\tPER 0 x\tوصل\n", r"a\.ann:1: 'T1"),
    ],
)
def test_errors_name_file_and_line(tmp_path, annotation, message):
    with pytest.raises(InputError, match=message):
        read(folder(tmp_path, annotation))


def test_files_without_their_counterpart(tmp_path):
    folder(tmp_path, line("أيمن"))
    (tmp_path / "b.txt").write_text("بلا أسماء", "utf-8")
    documents, audit = read(tmp_path)
    assert [d.id for d in documents] == ["a", "b"]
    assert audit.kinds == {"no_annotation": 1}
    (tmp_path / "c.ann").write_text("", "utf-8")
    with pytest.raises(InputError, match=r"c\.ann: no text for this file; expected c\.txt beside it"):
        read(tmp_path)


def test_ids_make_folders_inside_the_output_only(tmp_path):
    document = Document("news/2016.10", "الموصل", (Span(0, 6, "GPE"),))
    write_documents([document], tmp_path / "out", format="brat")
    assert (tmp_path / "out/news/2016.10.ann").read_text("utf-8") == "T1\tGPE 0 6\tالموصل\n"
    assert list(read_documents(tmp_path / "out")) == [document]
    for id in ("../x", "/x", "a//b", "."):
        with pytest.raises(InputError, match="cannot name a file"):
            write_documents([Document(id, "نص")], tmp_path / "out", format="brat", overwrite=True)


def test_a_byte_order_mark_in_the_annotation(tmp_path):
    (tmp_path / "a.txt").write_text("زار سامي", "utf-8")
    (tmp_path / "a.ann").write_text("T1\tPER 4 8\tسامي\n", "utf-8-sig")
    [document] = read_documents(tmp_path)
    assert [(document.surface(span), span.label) for span in document.spans] == [("سامي", "PER")]


def test_offsets_without_end_are_no_annotation(tmp_path):
    (tmp_path / "a.txt").write_text("زار سامي", "utf-8")
    (tmp_path / "a.ann").write_text(f"T1\tPER 4 {'1' * 5000}\tسامي\n", "utf-8")
    with pytest.raises(InputError, match=r"a\.ann:1: .*; expected 'T1<TAB>LABEL START END<TAB>surface'"):
        list(read_documents(tmp_path))
