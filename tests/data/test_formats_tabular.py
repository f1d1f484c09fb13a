"""CSV, Parquet and datasets: columns of spans or tags, and wrong rows."""

import pickle

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musamma.data.corpus_files import ReadOptions, read_documents, write_documents
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from tests.support import surfaces

DOCUMENT = Document("a", 'قال، "نعم"\nفي بغداد', (Span(14, 19, "LOC"),), (), {"topic": "سياسة"})
TAGGED = {
    "tokens": [["في", "الأمم", "المتحدة"], ["وقال"]],
    "ner_tags": [[0, 1, 2], [0]],
}
NAMES = ["O", "B-ORG", "I-ORG"]


def test_csv_written_by_hand(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('\ufeffid,text,spans,source\n,"قال\nفي بغداد","[[7, 12, ""LOC""]]",AFP\nb,نص,,\n', "utf-8")
    first, second = read_documents(path)
    assert (first.id, surfaces(first), first.meta) == ("t-00000", [("بغداد", "LOC")], {"source": "AFP"})
    assert (second.id, second.spans, second.meta) == ("b", (), {})


def test_a_cell_may_be_longer_than_the_default_limit_of_csv(tmp_path):
    long = Document("a", "بغداد " * 40_000, (Span(0, 5, "LOC"),))
    write_documents([long], tmp_path / "t.csv")
    assert list(read_documents(tmp_path / "t.csv")) == [long]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,te\xc8xt\n", r"t\.csv:1: byte 0xc8 at byte 6 is not UTF-8"),
        (b"", r"t\.csv:1: columns \(none\); expected columns 'text' and 'spans'"),
        (b"id,text\na,\xc8\xdb\n", r"t\.csv:2: byte 0xc8 at byte 3 is not UTF-8"),
        ('id,text,spans\na,"نص\nثان",[]\nb,نص\n'.encode(), r"t\.csv:4: 2 cells; expected 3, as in the header"),
        ("text,spans\nنص,[[0]\n".encode(), r"t\.csv:2: spans is '\[\[0\]'.*; expected JSON"),
        ("text,spans\nنص,[[0]]\n".encode(), r"t\.csv:2: spans\[0\] is \[0\]"),
        (
            'text,spans\nنص,"[{""start"": 0, ""end"": true, ""label"": ""X""}]"\n'.encode(),
            r"t\.csv:2: spans\[0\]\.end is True",
        ),
        (b"a,b\n1,2\n", r"t\.csv:1: columns a, b; expected columns 'text' and 'spans'"),
        ('text\n"نص'.encode(), r"t\.csv:2: broken CSV"),
        (b"text,spans\n", r"t\.csv: no document in it"),
    ],
)
def test_csv_errors_name_file_and_line(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_documents(path))


def test_parquet_with_tags(tmp_path):
    tags = [[NAMES[tag] for tag in row] for row in TAGGED["ner_tags"]]
    pq.write_table(pa.table({"tokens": TAGGED["tokens"], "ner_tags": tags}), tmp_path / "t.parquet")
    first, second = read_documents(tmp_path / "t.parquet")
    assert (first.id, first.text, surfaces(first)) == ("t-00000", "في الأمم المتحدة", [("الأمم المتحدة", "ORG")])
    assert second.spans == ()


def test_parquet_errors_name_file_and_row(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 not")
    with pytest.raises(InputError, match=r"t\.parquet: not readable as Parquet"):
        list(read_documents(path))
    pq.write_table(pa.table({"tokens": [["في"], ["بغداد"]], "ner_tags": [["O"], ["O", "O"]]}), path)
    with pytest.raises(InputError, match=r"t\.parquet, row 2: 1 tokens and 2 ner_tags"):
        list(read_documents(path))
    pq.write_table(pa.table({"tokens": [["في"]], "ner_tags": [[3]]}), path)
    with pytest.raises(InputError, match=r"t\.parquet, row 1: label 3; expected a label, or a column with label names"):
        list(read_documents(path))


def test_parquet_with_stored_label_names(tmp_path):
    features = datasets.Features(
        {"tokens": datasets.List(datasets.Value("string")), "ner_tags": datasets.List(datasets.ClassLabel(names=NAMES))}
    )
    datasets.Dataset.from_dict(TAGGED, features=features).to_parquet(tmp_path / "t.parquet")
    first, second = read_documents(tmp_path / "t.parquet")
    assert (first.text, surfaces(first), second.spans) == ("في الأمم المتحدة", [("الأمم المتحدة", "ORG")], ())
    span = {
        "start": datasets.Value("int32"),
        "end": datasets.Value("int32"),
        "label": datasets.ClassLabel(names=["PER"]),
    }
    features = datasets.Features({"text": datasets.Value("string"), "spans": datasets.List(span)})
    rows = {"text": ["زار سامي"], "spans": [[{"start": 4, "end": 8, "label": 0}]]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "t.parquet")
    [document] = read_documents(tmp_path / "t.parquet")
    assert surfaces(document) == [("سامي", "PER")]


def test_a_column_name_that_is_not_utf8_is_an_error(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": ["نص"]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"text", b"t\xffxt"))
    with pytest.raises(InputError, match=r"t\.parquet, names of columns: byte 0xff at byte 2 is not UTF-8"):
        list(read_documents(path))


def test_two_columns_of_one_name_are_an_error(tmp_path):
    (tmp_path / "t.csv").write_text("id,text,text\na,نص,آخر\n", "utf-8")
    with pytest.raises(
        InputError, match=r"t\.csv:1: two columns 'text'; expected columns with different names; rename"
    ):
        list(read_documents(tmp_path / "t.csv"))
    table = pa.Table.from_arrays([pa.array(["نص"]), pa.array(["آخر"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t\.parquet: two columns 'text'"):
        list(read_documents(tmp_path / "t.parquet"))
    (tmp_path / "t.csv").write_text("id,text,,\na,نص,,\n", "utf-8")  # as spreadsheets write
    assert [document.meta for document in read_documents(tmp_path / "t.csv")] == [{}]


@pytest.fixture
def folder(tmp_path):
    features = datasets.Features(
        {"tokens": datasets.List(datasets.Value("string")), "ner_tags": datasets.List(datasets.ClassLabel(names=NAMES))}
    )
    split = datasets.Dataset.from_dict(TAGGED, features=features)
    datasets.DatasetDict({"train": split, "test": split.select([0])}).save_to_disk(tmp_path / "wikiner")
    return tmp_path / "wikiner"


def test_dataset_with_label_numbers(folder):
    documents = list(read_documents(f"hf:{folder}"))
    assert [d.id for d in documents] == ["wikiner-train-00000", "wikiner-train-00001", "wikiner-test-00000"]
    assert surfaces(documents[0]) == surfaces(documents[2]) == [("الأمم المتحدة", "ORG")]
    assert [d.id for d in read_documents(f"hf:{folder}:test")] == ["wikiner-test-00000"]


def test_a_label_number_without_name_is_an_error(tmp_path):
    # Test splits on the hub hold -1 where labels are withheld.
    features = datasets.Features(
        {"tokens": datasets.List(datasets.Value("string")), "ner_tags": datasets.List(datasets.ClassLabel(names=NAMES))}
    )
    datasets.Dataset.from_dict({"tokens": [["في"]], "ner_tags": [[-1]]}, features=features).save_to_disk(tmp_path / "w")
    with pytest.raises(InputError, match=r"w:train, row 1: label -1; expected a number below 3"):
        list(read_documents(f"hf:{tmp_path / 'w'}"))


def test_folder_of_parquet_is_a_dataset(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    write_documents([DOCUMENT], tmp_path / "corpus/train.parquet")
    assert list(read_documents(f"hf:{tmp_path}/corpus:train")) == [DOCUMENT]


def test_dataset_errors(folder, monkeypatch):
    with pytest.raises(InputError, match=r"wikiner:dev: no split 'dev'; expected one of train, test"):
        list(read_documents(f"hf:{folder}:dev"))
    with pytest.raises(InputError, match="'hf:a:b:c'; expected hf:NAME"):
        list(read_documents("hf:a:b:c"))

    def unreachable(name, config):
        raise ConnectionError(f"Couldn't reach '{name}' on the Hub (OfflineModeIsEnabled)\nmore")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(
        InputError, match=r"hf:unimelb/wikiann@ar:train: the dataset cannot be loaded: Couldn't reach .*\(Offline"
    ):
        list(read_documents("hf:unimelb/wikiann@ar:train"))


def test_tags_of_tables_are_audited_like_conll(tmp_path):
    pq.write_table(
        pa.table({"tokens": [["ل", "السودان"]], "tags": [["O", "I-GPE"]], "id": ["x"]}), tmp_path / "t.parquet"
    )
    audit = ImportAudit()
    options = ReadOptions(rejoin_clitics=True, scheme="iob2")
    [document] = read_documents(tmp_path / "t.parquet", options=options, audit=audit)
    assert (document.id, document.text, surfaces(document)) == ("x", "للسودان", [("لسودان", "GPE")])
    assert audit.kinds == {"repaired_tag": 1, "clitic_joined": 1, "clitic_respelt": 1}


def test_no_code_of_a_dataset_runs(tmp_path):
    canary, folder, pickled = tmp_path / "canary", tmp_path / "scripted", tmp_path / "pickled"
    folder.mkdir()
    (folder / "scripted.py").write_text(f"open({str(canary)!r}, 'w').close()\n", encoding="utf-8")
    with pytest.raises(InputError, match="the dataset cannot be loaded: Dataset scripts are no longer supported"):
        list(read_documents(f"hf:{folder}"))
    pickled.mkdir()
    # Unpickled, this opens the file for writing: protocol 0, `open(canary, "w")`.
    (pickled / "train.pkl").write_text(f"cio\nopen\n(V{canary}\nVw\ntR.", encoding="utf-8")
    (pickled / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: train.pkl\n---\n", "utf-8")
    with pytest.raises(InputError, match="the dataset cannot be loaded: Unable to find"):
        list(read_documents(f"hf:{pickled}"))
    assert not canary.exists()
    pickle.loads((pickled / "train.pkl").read_bytes()).close()
    assert canary.exists()
