"""WebAnno TSV 3: files that INCEpTION wrote, offsets in UTF-16 units, escapes, layers, and errors."""

import re

import pytest

from musamma.data.corpus_files import ReadOptions, guess_format, read_documents, write_documents
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.formats.webanno import read_webanno
from musamma.data.import_audit import ImportAudit
from tests.support import read_content, surfaces

LAYER = "#FORMAT=WebAnno TSV 3.3\n#T_SP=de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity|identifier|value\n\n\n"


def end_rows(text):
    """End each row of a token with a tab, as INCEpTION does."""
    return re.sub(r"(?m)^(\d.*)$", "\\1\t", text)


# From the tests of INCEpTION's own reader and writer (tsv3-suite, TSV 3.3).
STACKED_PARTS = end_rows("""#FORMAT=WebAnno TSV 3.3
#T_SP=webanno.custom.Span|value


#Text=aaaaaa bbbbbb cccccc
1-1	0-6	aaaaaa	2a[1]|2b[2]|7a[3]|7b[4]|1a[5]|1b[6]
1-1.1	3-6	aaa	9a[7]|9b[8]|6a[9]|6b[10]|8a[11]|8b[12]
1-2	7-13	bbbbbb	2a[1]|2b[2]|9a[7]|9b[8]|6a[9]|6b[10]
1-2.1	7-10	bbb	7a[3]|7b[4]|8a[11]|8b[12]|4a[13]|4b[14]
1-2.2	7-7		11a[15]|11b[16]
1-2.3	9-13	bbbb	5a[17]|5b[18]
1-2.4	9-10	b	3a[19]|3b[20]
1-2.5	10-10		10a[21]|10b[22]
1-2.6	13-13		12a[23]|12b[24]
1-3	14-20	cccccc	_
1-3.1	14-17	ccc	9a[7]|9b[8]
""")
CROSS_SENTENCE = end_rows("""#FORMAT=WebAnno TSV 3.3
#T_SP=webanno.custom.Span|value


#Text=He loves her .
1-1	0-2	He	X[1]
1-2	3-8	loves	X[1]
1-3	9-12	her	X[1]
1-4	13-14	.	X[1]

#Text=She loves him not .
2-1	15-18	She	X[1]
2-2	19-24	loves	_
2-3	25-28	him	_
2-4	29-32	not	_
2-5	33-34	.	_
""")
SPECIAL_SYMBOLS = (
    "#FORMAT=WebAnno TSV 3.3\n#T_SP=webanno.custom.Span|value\n\n\n#Text=This is a test .\n"
    "1-1\t0-4\tThis\t#\\*'\"`´:\\;{}\\|\\[\\]()\\\\§$%?=&\\_\\->\t\n1-2\t5-7\tis\t*\t\n"
    "1-3\t8-9\ta\t_\t\n1-4\t10-14\ttest\t_\t\n1-5\t15-16\t.\t_\t\n"
)
EMOJI = LAYER + (
    "#Text=😀 وزار سامي\n#Text=\\tجامعة الموصل\n1-1\t0-2\t😀\t_\t_\t\n1-2\t3-7\tوزار\t_\t_\t\n1-3\t8-12\tسامي\tQ5\tPER\t\n"
    "1-4\t14-19\tجامعة\t*[1]\tORG[1]\t\n1-5\t20-26\tالموصل\t*[1]|*[2]\tORG[1]|GPE[2]\t\n\n"
    "#Sentence.id=s2\n#Text=للجيش\n2-1\t29-34\tللجيش\t_\t_\t\n2-1.1\t30-34\tلجيش\t*\tORG\t\n"
)


def test_stacked_names_on_parts_of_tokens(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text(STACKED_PARTS, "utf-8")
    assert guess_format(path) == "webanno"
    audit = ImportAudit()
    [raw] = read_webanno(path, ReadOptions(), audit)
    spans = {span.label: (span.start, span.end) for span in raw.spans}
    # The offsets of the annotations in the test's reference.xmi.
    expected = {
        "1": (0, 6),
        "2": (0, 13),
        "3": (9, 10),
        "4": (7, 10),
        "5": (9, 13),
        "6": (3, 13),
        "7": (0, 10),
        "8": (3, 10),
    }
    expected |= {"9": (3, 17), "10": (10, 10), "11": (7, 7), "12": (13, 13)}
    assert spans == {f"{label}{copy}": offsets for label, offsets in expected.items() for copy in "ab"}
    assert all(span.issue is None for span in raw.spans)


def test_names_over_sentences_and_the_text_between_them(tmp_path):
    [document], _ = read_content(tmp_path, CROSS_SENTENCE, "a.tsv")
    assert document.text == "He loves her .\nShe loves him not ."
    assert surfaces(document) == [("He loves her .\nShe", "X")]


def test_values_are_unescaped(tmp_path):
    [document], audit = read_content(tmp_path, SPECIAL_SYMBOLS, "a.tsv")
    assert surfaces(document) == [("This", "#*'\"`´:;{}|[]()\\§$%?=&_->")]
    assert audit.kinds == {"no_label": 1}


def test_offsets_are_utf16_units_and_names_may_be_nested(tmp_path):
    [document], audit = read_content(tmp_path, EMOJI, "a.tsv", overlaps="nested")
    assert document.text == "😀 وزار سامي\n\tجامعة الموصل\n  للجيش"
    assert surfaces(document) == [("سامي", "PER"), ("جامعة الموصل", "ORG"), ("لجيش", "ORG")]
    assert [(document.surface(span), span.label) for span in document.nested] == [("الموصل", "GPE")]
    assert audit.kinds == {"nested": 1, "ignored_annotation": 1}  # the identifier Q5
    assert audit.lost == 0


def test_escapes_of_java_up_to_version_3_1(tmp_path):
    content = EMOJI.replace("TSV 3.3", "TSV 3.1").replace("#Text=😀", "#Text=\\uD83D\\uDE00")
    assert read_content(tmp_path, content, "a.tsv", overlaps="nested")[0][0].text.startswith("😀 وزار")


def test_other_layers_are_counted(tmp_path):
    header = (
        "#FORMAT=WebAnno TSV 3.3\n#T_SP=de.tudarmstadt.ukp.dkpro.core.api.lexmorph.type.pos.POS|coarseValue|PosValue\n"
        "#T_SP=de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity|value\n#T_SP=webanno.custom.Event|\n"
        "#T_RL=webanno.custom.In|role|BT_webanno.custom.Event\n\n\n#Text=زار سامي\n"
    )
    rows = "1-1\t0-3\tزار\tVERB\tV\t_\t*\t_\t_\t\n1-2\t4-8\tسامي\tPROPN\tN\tPER\t_\tsubject\t1-1\t\n"
    [document], audit = read_content(tmp_path, header + rows, "a.tsv")
    assert surfaces(document) == [("سامي", "PER")]
    assert audit.kinds == {"ignored_annotation": 2 + 1, "unread_annotation": 1}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (("8-12\tسامي\tQ5", "8-12\tسامر\tQ5"), "surface_mismatch"),
        (("\tORG[1]|GPE[2]", "\tPER[1]|GPE[2]"), "surface_mismatch"),
        (("_\t_\t\n1-3", "_\tGPE[2]\t\n1-3"), "discontinuous"),
        (("30-34", "30-99"), "outside"),
    ],
)
def test_names_that_the_file_contradicts_are_counted(tmp_path, change, kind):
    _, audit = read_content(tmp_path, EMOJI.replace(*change), "a.tsv", overlaps="longest")
    assert audit.kinds[kind] == 1
    assert audit.lost > 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("TSV 3.3", "TSV 2.0", r"a\.tsv:1: '#FORMAT=WebAnno TSV 2\.0'; expected #FORMAT=WebAnno TSV 3\.3; export"),
        ("\tQ5\tPER\t", "\t", r"a\.tsv:9: 1 values of 2 columns"),
        ("8-12", "8", r"a\.tsv:9: '1-3"),
        ("29-34", "20-34", r"a\.tsv:15: a sentence at the offset 20; expected 26 or more"),
        (
            "#T_SP=",
            "#T_SP=webanno.custom.A|x\n#T_SP=webanno.custom.B|y\n#T_RL=",
            r"a\.tsv: the layers webanno\.custom\.A, ",
        ),
        (
            ".dkpro.core.api.ner.type.NamedEntity|identifier|value",
            ".A|one|two",
            r"a\.tsv: the layer .* has the features one, two",
        ),
    ],
)
def test_errors_name_file_and_line(tmp_path, old, new, message):
    content = EMOJI.replace(old, new)
    if "custom.B" in new:  # two more columns
        content = content.replace("\t_\t_\t\n", "\t_\t_\t_\t_\t\n").replace("\t\n", "\t_\t_\t\n")
    (tmp_path / "a.tsv").write_text(content, "utf-8")
    with pytest.raises(InputError, match=message):
        list(read_documents(tmp_path / "a.tsv", format="webanno"))


def test_a_folder_is_read_and_written(tmp_path):
    text = " \n وزار سامي\n\nجامعة الموصل 😀\n  للجيش \n"
    documents = [
        Document(
            "أخبار/1", text, (Span(8, 12, "PER"), Span(14, 26, "ORG"), Span(32, 36, "ORG")), (Span(20, 26, "A|B"),)
        ),
        Document("2", ""),
    ]
    assert [documents[0].surface(span) for span in documents[0].all_spans] == ["سامي", "جامعة الموصل", "لجيش", "الموصل"]
    write_documents(documents, tmp_path / "out", format="webanno")
    written = (tmp_path / "out" / "أخبار" / "1.tsv").read_text("utf-8")
    assert written.count("#Text=") == 3 + 1 + 2  # the lines of three sentences
    assert "\n1-1\t0-3\t \\n \t_\t\n1-2\t3-7\tوزار\t_\t\n" in written
    assert "\n3-1\t32-33\tل\t_\t\n3-2\t33-37\tلجيش\tORG\t\n" in written
    assert "\tجامعة\tORG[1]\t\n" in written
    assert "\tالموصل\tORG[1]|A\\|B[2]\t\n" in written
    found = list(read_documents(tmp_path / "out", options=ReadOptions(overlaps="nested"), audit=ImportAudit()))
    assert sorted(found, key=lambda d: d.id) == sorted(documents, key=lambda d: d.id)
