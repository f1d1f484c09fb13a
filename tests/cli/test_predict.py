"""``musamma predict``: its output is compared with the result of the tagger."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musamma.cli.main import run
from musamma.data.arabic import word_offsets
from musamma.data.corpus_files import read_documents
from musamma.data.document import RULES_KEY, Document, read_jsonl, write_jsonl
from musamma.inference import Tagger

#: Limit for everything that must happen at some time, also on a busy machine.
SECONDS = 180
#: Both kinds of line ends, vowel signs, bidi controls, an emoji beyond the basic plane, a byte order mark in the middle.
WILD = "\r\n قَالَ مُحَمَّدٌ السَّعِيد\r\nفي \u202bبيروت\u202c 😀\u200f لـــ«رويترز» \ufeffوبغداد\n"
TEXTS = [
    WILD,
    "وصل الرئيس إلى دمشق وبغداد ولندن، ثم غادر إلى باريس (فرنسا)",
    "<script>alert('بغداد')</script> \u202eالموصل & دمشق",
]


@pytest.fixture(scope="module")
def expected(model: str) -> list[Document]:
    """The texts with the names the tagger finds in them."""
    documents = [Document(f"{number}", text) for number, text in enumerate(TEXTS)]
    found = list(Tagger(model, device="cpu").tag_documents(documents))
    assert all(document.spans for document in found)
    return found


@pytest.fixture
def call(model, capsysbinary):
    """Return a function that runs the command and returns its output; stderr must hold only the summary and ``says``."""

    def called(*arguments: object, says: str = "") -> bytes:
        status = run(["predict", *map(str, arguments), "--model", model, "--device", "cpu"])
        captured = capsysbinary.readouterr()
        summary, _, rest = captured.err.decode().partition("\n")
        assert re.fullmatch(r"[\d,]+ documents, [\d,]+ names, 0 rejected, [\d,]+ words/s", summary)
        assert rest == says
        assert status == 0
        return captured.out

    return called


def parse(output: bytes) -> list[Document]:
    return [Document.from_dict(json.loads(line), where="output") for line in output.split(b"\n") if line]


def assert_same(documents: list[Document], expected: list[Document]) -> None:
    """Compare texts and spans exactly, and scores approximately."""
    assert [document.text for document in documents] == [document.text for document in expected]
    for document, reference in zip(documents, expected, strict=True):
        assert [span.key for span in document.spans] == [span.key for span in reference.spans]
        scores = [[span.score for span in one.spans] for one in (document, reference)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_a_text_file(call, expected, tmp_path):
    (tmp_path / "مقال.txt").write_bytes(b"\xef\xbb\xbf" + WILD.encode())
    documents = parse(call(tmp_path / "مقال.txt"))
    assert [document.id for document in documents] == ["مقال"]
    assert_same(documents, expected[:1])


def test_a_folder(call, expected, tmp_path):
    for name, text in zip(("b.txt", "a/c.txt", "z.txt"), (TEXTS[1], TEXTS[0], TEXTS[2]), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    documents = parse(call(tmp_path))
    assert [document.id for document in documents] == ["a/c", "b", "z"]
    assert_same(documents, expected)


def test_files_of_a_folder_that_are_not_read_are_counted(model, tmp_path, capsys):
    for name in ("a.txt", "notes.docx", "sub/list.xlsx", ".DS_Store", "old.rejects.jsonl", "out.jsonl.extra"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(TEXTS[0].encode())
    os.mkfifo(tmp_path / "sub" / "pipe")
    assert run(["predict", str(tmp_path), "-m", str(model), "-o", str(tmp_path / "out.jsonl")]) == 0
    unread = f"3 files of other types in the input folders were not read, e.g. {tmp_path / 'notes.docx'}"
    assert capsys.readouterr().err.splitlines()[-1] == unread


def test_json_lines_keep_ids_order_and_meta(call, expected, tmp_path):
    documents = [
        Document("ي", TEXTS[2], meta={"source": "رويترز", "page": 3}),
        Document("<b>", ""),
        Document("a b", TEXTS[0]),
        Document("0", " \n\t"),
    ]
    write_jsonl(documents, tmp_path / "in.jsonl")
    found = parse(call(tmp_path / "in.jsonl", "-o", "-"))
    assert [(d.id, d.text, d.meta) for d in found] == [(d.id, d.text, d.meta) for d in documents]
    assert_same([found[2], found[0]], [expected[0], expected[2]])
    assert found[1].spans == found[3].spans == ()


def test_standard_input_as_text_and_as_json_lines(call, expected, monkeypatch):
    def fed(content: str) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content.encode()), encoding="ascii"))

    fed(WILD)
    text = parse(call("-"))
    fed("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in TEXTS))
    lines = parse(call("-", "--batch-tokens", 1))
    assert [document.id for document in text + lines] == ["stdin", "stdin-1", "stdin-2", "stdin-3"]
    assert_same(text, expected[:1])
    assert_same(lines, expected)


@pytest.mark.parametrize("name", ["out.jsonl", "new/OUT.NDJSON", "out", "v1.2/out"])
def test_a_file_of_json_lines_equals_standard_output(call, tmp_path, expected, name):
    write_jsonl([Document(d.id, d.text) for d in expected], tmp_path / "in.jsonl")
    assert call(tmp_path / "in.jsonl", "-o", tmp_path / name) == b""
    assert (tmp_path / name).read_bytes() == call(tmp_path / "in.jsonl")
    assert_same(list(read_jsonl(tmp_path / name)), expected)


def test_conll_by_suffix_and_by_option(call, tmp_path, expected):
    (tmp_path / "a.txt").write_bytes(TEXTS[1].encode())
    spans = expected[1].spans
    starts = {start for start, _ in word_offsets(TEXTS[1])}
    inside = sum(span.start not in starts for span in spans)
    assert inside  # Names after a proclitic, which CoNLL cannot separate.
    says = f"{{}}: conll cannot hold all: 1 lost_id, {len(spans)} lost_score, {inside} widened; jsonl can\n"
    assert call(tmp_path / "a.txt", "-o", tmp_path / "o.conll", says=says.format(tmp_path / "o.conll")) == b""
    written = (tmp_path / "o.conll").read_bytes()
    assert call(tmp_path / "a.txt", "-f", "conll", says=says.format("standard output")) == written
    again = next(read_documents(tmp_path / "o.conll"))
    assert [span.label for span in again.spans] == [span.label for span in spans]
    for span, other in zip(spans, again.spans, strict=True):
        assert again.surface(other).replace(" ", "").endswith(expected[1].surface(span).replace(" ", ""))


def test_html_by_suffix_and_by_option(call, tmp_path, expected):
    (tmp_path / "<i>.txt").write_bytes(TEXTS[2].encode())
    assert call(tmp_path / "<i>.txt", "-o", tmp_path / "page.html") == b""
    page = (tmp_path / "page.html").read_bytes().decode()
    assert call(tmp_path / "<i>.txt", "--format", "html").decode() == page
    assert "<script>" not in page
    assert "<bdi>&lt;i&gt;</bdi>" in page
    assert page.count("<mark ") == len(expected[2].spans)


def test_the_option_overrides_the_suffix(call, tmp_path):
    (tmp_path / "a.txt").write_bytes(TEXTS[1].encode())
    call(tmp_path / "a.txt", "-o", tmp_path / "out.conll", "-f", "jsonl")
    assert len(list(read_jsonl(tmp_path / "out.conll"))) == 1


def test_an_existing_file_is_replaced(call, tmp_path):
    (tmp_path / "a.txt").write_bytes(TEXTS[1].encode())
    (tmp_path / "out.jsonl").write_text("x" * 100_000, encoding="utf-8")
    call(tmp_path / "a.txt", "-o", tmp_path / "out.jsonl")
    assert len(list(read_jsonl(tmp_path / "out.jsonl"))) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "out.jsonl"]


def test_a_separate_process_is_quiet_and_exact(model, expected):
    """The command loads the libraries itself, and the terminal is set to Latin-1."""
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONWARNINGS": ""}
    arguments = [sys.executable, "-m", "musamma.cli.main", "predict", "-", "-m", model, "--device", "cpu"]
    done = subprocess.run(
        arguments, input=WILD.encode(), capture_output=True, check=False, env=environment, timeout=SECONDS
    )
    assert done.returncode == 0
    names = len(expected[0].spans)
    assert re.fullmatch(rf"1 documents, {names} names, 0 rejected, [\d,]+ words/s\n", done.stderr.decode())
    assert_same(parse(done.stdout), expected[:1])


def test_a_closed_pipe_is_not_an_error(model, tmp_path, monkeypatch, capsys):
    write_jsonl([Document(str(number), WILD * 20) for number in range(40)], tmp_path / "in.jsonl")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as gone:
        monkeypatch.setattr("sys.stdout", gone)
        monkeypatch.setattr("sys.stderr", sys.stderr)  # Typer replaces them otherwise.
        assert run(["predict", str(tmp_path / "in.jsonl"), "-m", model, "--device", "cpu"]) == 1
    assert capsys.readouterr().err == ""


def test_the_model_is_found_by_name_from_anywhere(model, tmp_path, monkeypatch, capsys):
    """A relative folder with a slash in its name is a folder, not a hub id."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, "runs/mine")
    Path("a.txt").write_text("وصل إلى بغداد", encoding="utf-8")
    assert run(["predict", "a.txt", "-m", "runs/mine", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == "a"


def test_names_below_the_minimum_score_are_left_out_and_counted(call, tmp_path, expected):
    write_jsonl([Document(d.id, d.text) for d in expected], tmp_path / "in.jsonl")
    scores = sorted(span.score for document in expected for span in document.spans)
    middle = (scores[len(scores) // 2 - 1] + scores[len(scores) // 2]) / 2
    assert scores[0] < middle < scores[-1]
    below = len(scores) // 2
    found = parse(
        call(tmp_path / "in.jsonl", "--min-score", middle, says=f"{below} names below their threshold left out\n")
    )
    assert_same(found, [d.with_spans(span for span in d.spans if span.score >= middle) for d in expected])
    assert_same(parse(call(tmp_path / "in.jsonl", "--min-score", 0)), expected)
    label = expected[0].spans[0].label
    below = sum(span.label == label and span.score < 1 for document in expected for span in document.spans)
    says = f"{below} names below their threshold left out\n"
    found = parse(call(tmp_path / "in.jsonl", "--min-score", f"{label}=1", "--min-score", "0.0", says=says))
    assert_same(
        found, [d.with_spans(span for span in d.spans if span.label != label or span.score == 1) for d in expected]
    )


@pytest.mark.parametrize("given", ["high", "1.5", "PER=", "PER=-0.1", "=0.5", "nan"])
def test_an_invalid_minimum_score(model, tmp_path, capsys, given):
    (tmp_path / "a.txt").write_text(TEXTS[1], encoding="utf-8")
    assert run(["predict", str(tmp_path / "a.txt"), "-m", model, "--min-score", given]) == 2
    assert capsys.readouterr().err.startswith(f"musamma: --min-score {given!r}; expected a number from 0 to 1")


def test_thresholds_are_read_from_the_checkpoint(model, tmp_path, capsys, expected):
    (tmp_path / "a.txt").write_text(TEXTS[1], encoding="utf-8")
    arguments = ["predict", str(tmp_path / "a.txt"), "--device", "cpu", "--thresholds", "-m"]
    assert run([*arguments, model]) == 2
    assert "the checkpoint has no thresholds" in capsys.readouterr().err
    folder = Path(shutil.copytree(model, tmp_path / "calibrated"))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    label = expected[1].spans[0].label
    config["musamma"]["calibration"] = {
        "tag_temperature": 1.0,
        "proclitic_temperature": 1.0,
        "thresholds": {name: 0.0 for name in ("PER", "LOC", "ORG") if name != label} | {label: None},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert run([*arguments, str(folder)]) == 0
    captured = capsys.readouterr()
    left = sum(span.label == label for span in expected[1].spans)
    assert captured.err.endswith(f" words/s\n{left} names below their threshold left out\n")
    (found,) = parse(captured.out.encode())
    assert [span.key for span in found.spans] == [span.key for span in expected[1].spans if span.label != label]


# Large inputs


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Enough documents for eight groups."""
    path = tmp_path / "in.jsonl"
    write_jsonl([Document(str(n), TEXTS[n % 3] * (1 + n % 2)) for n in range(2000)], path)
    return path


def test_a_killed_run_is_resumed_and_ends_in_the_same_bytes(model, archive, tmp_path, capsys):
    output, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    arguments = ["predict", str(archive), "-m", model, "--device", "cpu", "-o", str(output)]
    process = subprocess.Popen([sys.executable, "-m", "musamma.cli.main", *arguments])
    state = tmp_path / "out.jsonl.part.json"
    deadline = time.monotonic() + SECONDS
    while not (state.exists() and json.loads(state.read_bytes())["account"]["records"]):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(SECONDS) == -signal.SIGKILL
    kept = json.loads(state.read_bytes())["account"]["records"]
    assert 0 < kept < 2000
    assert not output.exists()
    assert run(arguments) == 2
    assert f"{output.name}.part: an unfinished output; " in capsys.readouterr().err
    assert run([*arguments, "--resume", "--batch-tokens", "99"]) == 2
    assert "started with batch tokens 1024 and is resumed with batch tokens 99;" in capsys.readouterr().err
    assert run([*arguments, "--resume"]) == 0
    assert capsys.readouterr().err.startswith("2,000 documents, ")
    assert run([*arguments[:-1], str(whole)]) == 0
    assert output.read_bytes() == whole.read_bytes()
    assert len(list(read_documents(output))) == 2000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "whole.jsonl"]


def test_a_run_with_rules_is_resumed_with_the_same_rules_only(model, archive, tmp_path, capsys, monkeypatch):
    lines = archive.read_bytes().splitlines(keepends=True)
    archive.write_bytes(b"".join(lines[:600]))
    listed, rules = tmp_path / "names.txt", tmp_path / "rules.yaml"
    listed.write_text("بغداد\n", encoding="utf-8")
    rules.write_text("lists: [{label: CAPITAL, file: names.txt}]\nnever: [{names: [دمشق]}]", encoding="utf-8")
    arguments = ["predict", str(archive), "-m", model, "--device", "cpu", "--rules", str(rules), "-o"]
    output, whole = str(tmp_path / "out.jsonl"), str(tmp_path / "whole.jsonl")
    assert run([*arguments, whole]) == 0
    tag_groups = Tagger.tag_groups

    def stopped(self, groups):
        yield from islice(tag_groups(self, groups), 2)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Tagger, "tag_groups", stopped)
        assert run([*arguments, output]) == 130
    capsys.readouterr()
    listed.write_text("بغداد\nباريس\n", encoding="utf-8")
    assert run([*arguments, output, "--resume"]) == 2
    assert re.search(
        r'part\.json: the run was started with rules "(\w+)" and is resumed with rules "(?!\1)\w+"; expected the same settings;',
        capsys.readouterr().err,
    )
    listed.write_text("بغداد\n", encoding="utf-8")
    assert run([*arguments, output, "--resume"]) == 0
    assert Path(output).read_bytes() == Path(whole).read_bytes()
    logs = [document.meta[RULES_KEY] for document in read_documents(output) if document.text == TEXTS[2]]
    assert len(logs) == 100
    assert all({"start": 15, "end": 20, "rule": "added"} in log for log in logs)


def test_a_bad_line_in_both_modes(model, archive, tmp_path, capsys):
    lines = archive.read_bytes().splitlines(keepends=True)
    archive.write_bytes(b"".join([*lines[:299], b'{"id": 1, "text": \n', *lines[300:400]]))
    arguments = ["predict", str(archive), "-m", model, "--device", "cpu", "-o", str(tmp_path / "out.jsonl.gz")]
    assert run(arguments) == 2
    assert re.fullmatch(
        rf"musamma: {archive}:300: broken JSON: .*; 256 documents are kept in .*out.jsonl.gz.part, "
        r"and --resume continues from there\n",
        capsys.readouterr().err,
    )
    assert run([*arguments, "--resume", "--on-error", "skip"]) == 0
    rejects = tmp_path / "out.jsonl.gz.rejects.jsonl"
    assert re.fullmatch(
        rf"399 documents, [\d,]+ names, 1 rejected \({rejects}\), [\d,]+ words/s\n", capsys.readouterr().err
    )
    (reject,) = read_rejects(rejects)
    assert (reject["line"], reject["text"]) == (300, '{"id": 1, "text": ')
    with pa.input_stream(str(tmp_path / "out.jsonl.gz"), compression="gzip") as stream:
        assert [document.id for document in parse(stream.read())] == [str(n) for n in range(400) if n != 299]


def read_rejects(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_ctrl_c_reports_kept_documents(model, archive, tmp_path, capsys, monkeypatch):
    def interrupted(self, groups):
        for documents in groups:
            if documents[0].id != "0":
                raise KeyboardInterrupt
            yield documents, 0

    monkeypatch.setattr(Tagger, "tag_groups", interrupted)
    assert run(["predict", str(archive), "-m", model, "--device", "cpu", "-o", str(tmp_path / "out.jsonl")]) == 130
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"256 documents are kept in {tmp_path}/out.jsonl.part; --resume continues from there",
        "musamma: interrupted",
    ]


def test_a_table_keeps_its_columns(call, expected, tmp_path):
    table = pa.table({"no": [7, 8, 9], "body": TEXTS, "page": pa.array([1, None, 3], pa.int16())})
    pq.write_table(table, tmp_path / "in.parquet")
    arguments = [tmp_path / "in.parquet", "--text-column", "body", "--id-column", "no", "-o"]
    call(*arguments, tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.schema.names == ["id", "text", "spans", "page", "meta"]
    assert found.column("page") == table.column("page")
    assert found.column("id").to_pylist() == ["7", "8", "9"]
    assert_same(list(read_documents(tmp_path / "out.parquet")), expected)
    call(*arguments, tmp_path / "out.jsonl.zst")
    with pa.input_stream(str(tmp_path / "out.jsonl.zst"), compression="zstd") as stream:
        assert [document.meta for document in parse(stream.read())] == [{"page": 1}, {}, {"page": 3}]


def test_a_brat_folder(call, expected, tmp_path):
    write_jsonl([Document(d.id, d.text) for d in expected], tmp_path / "in.jsonl")
    count = sum(len(document.spans) for document in expected)
    says = f"{tmp_path / 'out'}: brat cannot hold all: {count} lost_score; jsonl can\n"
    call(tmp_path / "in.jsonl", "-o", tmp_path / "out", "-f", "brat", says=says)
    found = {document.id: document for document in read_documents(tmp_path / "out", format="brat")}
    for document in expected:
        assert found[document.id].text == document.text
        assert [span.key for span in found[document.id].spans] == [span.key for span in document.spans]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--on-error", "skip"], "--on-error skip to standard output; expected a file to write; give an --output"),
        (["--resume"], "--resume to standard output; "),
        (["--engine", "ray"], "--engine ray to standard output; expected a file to write; give an --output"),
        (["--workers", "2", "-o", "out"], "--workers without --engine ray; expected both; add --engine ray"),
        (["--address", "auto", "-o", "out"], "--address without --engine ray"),
        (["--engine", "ray", "-o", "out", "-f", "html"], "--engine ray: format 'html'; expected one of "),
        (["-f", "parquet"], "--format parquet to standard output; "),
        (["-f", "brat"], "--format brat to standard output; "),
        (["-o", "o.jsonl", "--resume", "--overwrite"], "--resume and --overwrite; expected only one of them"),
        (["-o", "o.html.gz"], "o.html.gz: html compressed as .gz; expected no .gz, or one of jsonl, conll"),
        (["-o", "o.xml.gz"], "o.xml.gz: suffix '.xml'; expected one of .jsonl"),
    ],
)
def test_options_that_cannot_be_combined(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("نص", encoding="utf-8")
    assert run(["predict", "a.txt", "-m", "none", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"musamma: {message}")
    assert [path.name for path in Path().iterdir()] == ["a.txt"]
