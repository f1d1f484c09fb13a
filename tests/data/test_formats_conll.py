"""CoNLL files as they occur: marks, tabs, carriage returns, missing and invalid tags, nested names."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musamma.data.corpus_files import ReadOptions, WriteOptions, read_documents, write_documents
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.formats.conll import to_conll
from musamma.data.import_audit import ImportAudit
from tests.support import surfaces


def read(tmp_path, content, name="sample.conll", **options):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    audit = ImportAudit()
    documents = list(read_documents(path, options=ReadOptions(**options), audit=audit))
    return documents, audit


def test_sentences_become_documents(tmp_path):
    documents, audit = read(tmp_path, "وقال O\nبرند B-PERS\nجوتشولك I-PERS\n. O\n\n\nفي O\nألمانيا B-LOC\n")
    assert [d.id for d in documents] == ["sample-00000", "sample-00001"]
    assert documents[0].text == "وقال برند جوتشولك ."
    assert [surfaces(d) for d in documents] == [[("برند جوتشولك", "PERS")], [("ألمانيا", "LOC")]]
    assert (audit.documents, audit.spans, audit.exact, audit.lost) == (2, 2, 2, 0)


def test_marks_tabs_carriage_returns_and_blank_lines_with_tabs(tmp_path):
    content = "\ufeff\u200eجمهورية\tB-Nation\r\n\u200eمصر\u200f\tI-Nation\r\n\t\r\n،\tO\r\n"
    documents, audit = read(tmp_path, content)
    assert [d.text for d in documents] == ["جمهورية مصر", "،"]
    assert surfaces(documents[0]) == [("جمهورية مصر", "Nation")]
    assert audit.kinds["direction_mark"] == 3


def test_only_line_feeds_end_a_line(tmp_path):
    documents, _ = read(tmp_path, "أ\u2028ب\tB-ORG\nج\u0085د\tI-ORG\nنيو يورك\tB-LOC\n")
    assert surfaces(documents[0]) == [("أ\u2028ب ج\u0085د", "ORG"), ("نيو يورك", "LOC")]


def test_a_token_of_marks_only_is_counted(tmp_path):
    documents, audit = read(tmp_path, "في O\n\u200f O\nدمشق B-LOC\n")
    assert documents[0].text == "في دمشق"
    assert audit.kinds["empty_token"] == 1
    assert audit.findings[0].where.endswith("sample.conll:2")


def test_an_invalid_tag_is_repaired_and_counted_or_an_error(tmp_path):
    content = "في O\nبلنسية I-LOC\nكين I-PERS\n\nفي O\nباريس B-LOC\n"
    documents, audit = read(tmp_path, content)
    assert surfaces(documents[0]) == [("بلنسية", "LOC"), ("كين", "PERS")]
    assert audit.kinds["repaired_tag"] == 2
    first = audit.findings[0]
    assert (first.document, first.detail) == ("sample-00000", "I-LOC continues no LOC, at 'بلنسية'")
    assert first.where.endswith("sample.conll:2")
    with pytest.raises(InputError, match=r"sample\.conll:2: I-LOC continues no LOC, at 'بلنسية'; expected valid IOB2"):
        read(tmp_path, content, strict_tags=True)


def test_iob1_is_detected_and_not_repaired(tmp_path):
    documents, audit = read(tmp_path, "برند I-PER\nجوتشولك I-PER\nأحمد B-PER\n")
    assert surfaces(documents[0]) == [("برند جوتشولك", "PER"), ("أحمد", "PER")]
    assert not audit.kinds


def test_the_scheme_can_be_given(tmp_path):
    with pytest.raises(InputError, match=r"sample\.conll:1: 'S-LOC' is not a tag of IOB2"):
        read(tmp_path, "بغداد S-LOC\n", scheme="iob2")
    documents, _ = read(tmp_path, "بغداد S-LOC\n")
    assert surfaces(documents[0]) == [("بغداد", "LOC")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("في O\nبغداد\n", r"sample\.conll:2: the token 'بغداد' has no tag"),
        ("في O\n\nبغداد B_LOC\n", r"sample\.conll:3: 'B_LOC' is not a tag"),
        ("في O\nبغداد NNP\n", r"sample\.conll:2: 'NNP' is not a tag"),
        (
            "في O\n".encode() + "بغداد B-LOC\n".encode("windows-1256"),
            r"sample\.conll:2: byte 0xc8 at byte 1 is not UTF-8",
        ),
        ("\n\n", r"sample\.conll: no document in it"),
    ],
)
def test_errors_name_file_and_line(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, content)


def test_missing_tags_may_count_as_outside(tmp_path):
    documents, audit = read(tmp_path, "في\nبغداد B-LOC\nاليوم\n", missing_tags="O")
    assert (documents[0].text, surfaces(documents[0])) == ("في بغداد اليوم", [("بغداد", "LOC")])
    assert audit.kinds["missing_tag"] == 2


def test_names_inside_names(tmp_path):
    lines = "سكرتير B-OCC\nاللجنة I-OCC B-ORG\nالقومية I-OCC I-ORG\nفي I-OCC\nنابلس I-OCC B-GPE\nغادر O\n"
    columns = lines.replace(" B-", "\tB-").replace(" I-", "\tI-").replace(" O", "\tO")
    for content in (
        lines,
        columns,
        lines.replace(" B-OCC", "\tB-OCC").replace(" I-OCC", "\tI-OCC").replace(" O", "\tO"),
    ):
        [document], audit = read(tmp_path, content)
        assert surfaces(document) == [("سكرتير اللجنة القومية في نابلس", "OCC")]
        assert [(document.surface(s), s.label) for s in document.nested] == [
            ("اللجنة القومية", "ORG"),
            ("نابلس", "GPE"),
        ]
        assert audit.exact == 3


def test_crossing_names_follow_the_overlap_policy(tmp_path):
    content = "مجلس B-ORG\nالأمن I-ORG B-PERS\nالأسد I-PERS\n"
    with pytest.raises(InputError, match=r"sample\.conll:1, document 'sample-00000': spans .* overlap"):
        read(tmp_path, content)
    [document], audit = read(tmp_path, content, overlaps="nested")
    assert surfaces(document) == [("الأمن الأسد", "PERS")]  # the longer one
    assert audit.kinds == {"crossing": 1}


def test_a_column_of_parts_of_speech_is_ignored(tmp_path):
    documents, audit = read(tmp_path, "-DOCSTART- -X- O O\n\nفي IN B-PP O\nبغداد NNP B-NP B-LOC\n")
    assert surfaces(documents[0]) == [("بغداد", "LOC")]
    assert audit.kinds["ignored_column"] == 4


def test_comments_are_counted_and_a_number_sign_is_a_token(tmp_path):
    documents, audit = read(tmp_path, "# text = في بغداد\n# O\nبغداد B-LOC\n")
    assert documents[0].text == "# بغداد"
    assert audit.kinds["comment_line"] == 1


@pytest.mark.parametrize(
    ("sentences", "texts"), [(1, ["أ", "ب", "ج", "د"]), (2, ["أ\nب", "ج", "د"]), (0, ["أ\nب\nج", "د"])]
)
def test_sentences_can_be_grouped(tmp_path, sentences, texts):
    content = "-DOCSTART- O\n\nأ O\n\nب B-ORG\n\nج O\n\n-DOCSTART- O\nد B-LOC\n"
    documents, _ = read(tmp_path, content, sentences=sentences)
    assert [d.text for d in documents] == texts
    assert [name for d in documents for name in surfaces(d)] == [("ب", "ORG"), ("د", "LOC")]


def test_clitics_are_rejoined(tmp_path):
    content = "و\tO\nتعتبر\tO\nمدينة\tO\nجوبا\tB-City\nعاصمة\tO\nل\tO\nالسودان\tB-Nation\n\nلاوروبا\tB-Land\n\n"
    content += "اوروبا\tB-Land\n\n" * 3 + "ان\tO\nالشماليين\tB-Group\nهم\tO\nتجار\tO\n"
    documents, audit = read(tmp_path, content, rejoin_clitics=True)
    assert documents[0].text == "وتعتبر مدينة جوبا عاصمة للسودان"
    assert surfaces(documents[0]) == [("جوبا", "City"), ("لسودان", "Nation")]
    assert surfaces(documents[1]) == [("اوروبا", "Land")]
    assert {
        kind: audit.kinds[kind] for kind in ("clitic_joined", "clitic_respelt", "clitic_apart", "proclitic_outside")
    } == {
        "clitic_joined": 2,
        "clitic_respelt": 1,
        "clitic_apart": 1,
        "proclitic_outside": 1,
    }
    assert "ان الشماليين هم تجار" in next(f.detail for f in audit.findings if f.kind == "clitic_apart")


def test_writing_widens_to_tokens_and_counts(tmp_path):
    document = Document(
        "x",
        "قال وداعش والعراق-إيران: نعم\nفي بغداد.",
        (Span(5, 9, "ORG"), Span(11, 17, "LOC"), Span(18, 23, "LOC"), Span(32, 37, "LOC")),
    )
    audit = ImportAudit()
    assert to_conll(document, audit=audit) == (
        "قال O\nوداعش B-ORG\nوالعراق-إيران: B-LOC\nنعم O\n\nفي O\nبغداد. B-LOC\n\n"
    )
    assert audit.kinds == {"widened": 3, "token_taken": 1}
    audit = ImportAudit()
    split = to_conll(document, options=WriteOptions(split_punctuation=True, scheme="bioes"), audit=audit)
    assert split == ("قال O\nوداعش S-ORG\nوالعراق S-LOC\n- O\nإيران S-LOC\n: O\nنعم O\n\nفي O\nبغداد S-LOC\n. O\n\n")
    assert audit.kinds == {"widened": 2}


def test_a_sentence_does_not_end_inside_a_name():
    document = Document("x", "وزارة\nالدفاع\nقالت", (Span(0, 12, "ORG"),))
    assert to_conll(document) == "وزارة B-ORG\nالدفاع I-ORG\n\nقالت O\n\n"
    assert to_conll(Document("x", " \n")) == ""


def test_information_that_conll_cannot_hold_is_counted(tmp_path):
    document = Document("x", "جامعة الموصل", (Span(0, 12, "ORG", 0.5),), (Span(6, 12, "GPE"),), {"topic": "علم"})
    audit = ImportAudit()
    assert write_documents([document], tmp_path / "x.conll", audit=audit) == 1
    assert audit.kinds == {"lost_id": 1, "lost_nested": 1, "lost_score": 1, "lost_meta": 1}
    assert (tmp_path / "x.conll").read_text("utf-8") == "جامعة B-ORG\nالموصل I-ORG\n\n"


WORDS = st.text(st.sampled_from("ابتدوفلـّ12.-#،😀"), min_size=1, max_size=5)


@st.composite
def tokenised(draw):
    words = draw(st.lists(WORDS, min_size=1, max_size=8))
    starts = [sum(len(word) + 1 for word in words[:i]) for i in range(len(words))]
    spans, nested, index = [], [], 0
    while index < len(words):
        length = draw(st.integers(0, len(words) - index))
        if length:
            last = index + length - 1
            spans.append(Span(starts[index], starts[last] + len(words[last]), draw(st.sampled_from(["PER", "LOC"]))))
            if length > 1:
                inner = draw(st.integers(index, last))
                nested.append(
                    Span(starts[inner], starts[inner] + len(words[inner]), draw(st.sampled_from(["PER", "X-Y"])))
                )
        index += length + 1
    return Document("d-00000", " ".join(words), tuple(spans), tuple(nested))


@pytest.mark.parametrize("scheme", ["iob1", "iob2", "bioes", "bilou"])
@settings(deadline=None)
@given(document=tokenised())
def test_reading_is_the_inverse_of_writing(tmp_path_factory, scheme, document):
    path = tmp_path_factory.getbasetemp() / "d.conll"
    write_documents([document], path, options=WriteOptions(scheme=scheme, nested=True))
    audit = ImportAudit()
    assert list(read_documents(path, options=ReadOptions(scheme=scheme), audit=audit)) == [document]
    assert not audit.kinds
