"""Files that hold something else than their name says."""

import gzip
import io
import itertools
import zipfile

import pytest

from musamma.data.corpus_files import read_documents
from musamma.data.errors import InputError
from musamma.data.file_content import check_content

TEXT = "زار سامي"
LINE = '{"id": "a", "text": "زار سامي", "spans": []}\n'


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.jsonl",
            LINE.encode("utf-16"),
            "the file is UTF-16; expected UTF-8 text; convert it: iconv -f UTF-16 -t UTF-8",
        ),
        ("a.conll", "سامي B-PER\n".encode("utf-16-le"), "the file is UTF-16; .*: iconv -f UTF-16LE -t UTF-8"),
        ("a.csv", f"id,text\na,{TEXT}\n".encode("utf-16-be"), "the file is UTF-16; .*: iconv -f UTF-16BE -t UTF-8"),
        ("a.json", f"[{LINE}]".encode("utf-32"), "the file is UTF-32; .*: iconv -f UTF-32 -t UTF-8"),
        ("a.txt", gzip.compress(b"x"), "the file is gzip; .*; decompress it, or let its name end in .gz"),
        ("a.jsonl", b"\x28\xb5\x2f\xfd\x00", "the file is zstd; .*; decompress it, or let its name end in .zst"),
        ("a.csv", zipped(), "the file is zip, perhaps an Excel or Word document; .*; unpack it, or export its text"),
        ("a.txt", b"%PDF-1.7\n%\xe2\xe3", "the file is PDF; .*; extract its text"),
        ("a.txt", b"{\\rtf1\\ansi x}", "the file is RTF; .*; export its text"),
        ("a.jsonl", b"PAR1\x15\x04", "the file is Parquet; .*; let its name end in .parquet"),
        ("a.parquet", gzip.compress(b"x"), "the file is gzip; expected a Parquet file"),
        ("a.txt.gz", gzip.compress(gzip.compress(b"x")), "the file is gzip"),
        ("a.jsonl.zst", LINE.encode(), "the file is not zstd; expected zstd, as its suffix says; remove .zst"),
    ],
    ids=itertools.count(),  # compressed bytes hold the time, and the processes that run the tests need the same ids
)
def test_the_content_is_called_what_it_is(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_documents(tmp_path / name))


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        "",
        "\ufeffنص",
        "a\0b",
        "PK",
        "BZh, PAR1",
        "0\0",
        "PAR1",
        "%PDF-",
        "BZh9 نص",
        "{\\rtf",
        "SQLite format 3\0",
        "زار\0\0",
        "زار\0سامي",
    ],
)
def test_text_is_text(text):
    check_content(text.encode(), where="a.txt")
