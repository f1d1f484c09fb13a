"""Answers to wrong calls and broken checkpoints: one line on stderr, and an exit status."""

from __future__ import annotations

import gc
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest
from safetensors.torch import load_file, save_file

from musamma.cli.main import run
from musamma.training.run_dir import lock_output_folder
from tests.support import ordinary_user, refused_command, write_random_checkpoint


@pytest.fixture(scope="module")
def model(wordpiece_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return write_random_checkpoint(folder, wordpiece_encoder, labels=["PER", "LOC"], head_std=None, proclitic_std=None)


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs the command in an empty folder; it must fail with ``status`` and one line on stderr, which is returned."""
    monkeypatch.chdir(tmp_path)
    return partial(refused_command, capsys)


def feed_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))


# Calls.


def test_wrong_calls(fails):
    assert fails("tag") == "No such command 'tag'; see musamma --help"
    assert fails("encoder", "shrink") == "No such command 'shrink'; see musamma encoder --help"
    assert fails("predict", "a.txt", "--modle", "x").startswith("No such option: --modle")
    assert fails("predict", "a.txt", "--modle", "x").endswith("; see musamma predict --help")
    assert fails("calibrate", "a.txt") == "Missing option '--model' / '-m'; see musamma calibrate --help"
    assert fails("predict", "-m", "x") == "Missing argument 'INPUT...'; see musamma predict --help"
    message = fails("predict", "a.txt", "-m", "x", "-f", "xml")
    assert (
        message
        == "Invalid value for '--format' / '-f': 'xml' is not one of 'jsonl', 'parquet', 'conll', 'brat', 'html'; see musamma predict --help"
    )
    assert "--batch-tokens" in fails("predict", "a.txt", "-m", "x", "--batch-tokens", 0)
    assert "No such command 'ta\\ng\\x1b'" in fails("ta\ng\x1b")


@pytest.mark.parametrize(
    "call", [["predict", "a.txt"], ["serve"], ["suggest", "a.txt", "-o", "b.jsonl"], ["export", "-o", "out"]]
)
def test_a_call_without_a_model_names_the_option_where_the_packaged_one_is_missing(fails, monkeypatch, tmp_path, call):
    monkeypatch.setattr("musamma.models.model_names.packaged_folder", lambda: tmp_path)
    Path("a.txt").write_text("وصل الوفد إلى بغداد", encoding="utf-8")
    assert fails(*call) == (
        f"nawah-ner: this installation does not include the model; expected its folder {tmp_path / 'nawah-ner'}; "
        "give another --model: a folder that musamma train wrote, or a hub id"
    )


@pytest.mark.parametrize("arguments", [[], ["encoder"]])
def test_a_call_without_a_verb_prints_the_help(capsys, arguments):
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert "Usage: musamma" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize("verb", ["quickstart", "train", "predict", "evaluate", "convert", "check", "encoder", "pack"])
def test_every_verb_has_help(capsys, verb):
    assert run([verb, "--help"]) == 0
    assert f"Usage: musamma {verb}" in capsys.readouterr().out


def test_a_process_exits_with_the_status(tmp_path):
    for arguments, status in ((["tag"], 2), (["predict", "--debug"], 2)):
        command = [sys.executable, "-m", "musamma.cli.main", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)
        assert done.returncode == status, done.stderr
        assert ("Traceback" in done.stderr) == ("--debug" in arguments)
        lines = done.stderr.splitlines()
        assert sum(line.startswith("musamma: ") for line in lines) == 1
        assert (len(lines) == 1) == ("--debug" not in arguments)


# The command.


def test_a_missed_threshold_is_status_1(fails):
    lines = [{"id": "a", "text": "وصل بغداد", "spans": [{"start": 3, "end": 9, "label": "LOC"}]}]
    Path("in.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert "above --max-loss 0" in fails("convert", "in.jsonl", "out.conll", "--max-loss", 0, status=1)
    assert not Path("out.conll").exists()


def test_an_unexpected_error_is_status_1_and_shows_its_traceback_on_request(fails, monkeypatch, capsys):
    def broken(inputs):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("musamma.inference.batch_run.read_inputs", broken)
    call = ["predict", "a.txt", "-m", "nawah"]
    assert fails(*call, status=1) == "RuntimeError: first line second line; --debug shows the traceback"
    assert run(call, debug=True) == 1
    captured = capsys.readouterr()
    assert "Traceback" in captured.err
    assert ", in broken" in captured.err


class Interrupting(io.RawIOBase):
    """An input during which Ctrl-C is pressed after the first line."""

    def __init__(self) -> None:
        self.lines = [b'{"text": "\xd9\x86\xd8\xb5"}\n']

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.lines:
            raise KeyboardInterrupt
        line = self.lines.pop()
        buffer[: len(line)] = line
        return len(line)


def test_an_interrupted_command_leaves_no_incomplete_file(fails, monkeypatch, model):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(Interrupting())))
    assert fails("predict", "-", "-m", model, "-o", "out.jsonl", status=130) == "interrupted"
    assert list(Path().iterdir()) == []


def test_an_interrupted_training_says_how_to_continue(fails, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("musamma.training.config.load_config", interrupted)
    assert fails("train", "quickstart", status=130) == "interrupted; --resume continues from the last epoch"


# Models: a change to a folder, and the answer.


def without(*files: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / file).unlink() for file in files] and None


def cut(file: str, size: int) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:size]) and None


def configured(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text("utf-8"))
        (folder / "config.json").write_text(json.dumps(content | changes), encoding="utf-8")

    return change


def unlabelled(folder: Path) -> None:
    """A complete, loadable classifier of two unnamed classes."""
    names = {0: "LABEL_0", 1: "LABEL_1"}
    configured(id2label=names, label2id={name: index for index, name in names.items()})(folder)
    weights = load_file(folder / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name][:2].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def headless(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["classifier.weight"], weights["classifier.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


BROKEN = {
    "no tokenizer": (
        without("tokenizer.json", "tokenizer_config.json"),
        "the checkpoint has no tokenizer; expected tokenizer.json beside config.json",
    ),
    "no weights": (without("model.safetensors"), "cannot be loaded: Error no file named model.safetensors"),
    "no config": (without("config.json"), "the folder holds no config.json; expected a folder with config.json"),
    "cut weights": (cut("model.safetensors", 5_000), "cannot be loaded: Error while deserializing header"),
    "empty weights": (cut("model.safetensors", 0), "cannot be loaded: Error while deserializing header"),
    "cut config": (cut("config.json", 200), "cannot be loaded: It looks like the config file"),
    "cut tokenizer": (cut("tokenizer.json", 500), "cannot be loaded: "),
    "cut head": (cut("proclitic_head.safetensors", 20), "the proclitic head cannot be read"),
    "unknown architecture": (
        configured(model_type="arabic-bert"),
        "cannot be loaded: The checkpoint you are trying to load",
    ),
    "no classifier": (headless, "the weights lack 'classifier.bias' or have it in another shape, and 1 more"),
    "other shapes": (configured(hidden_size=64), "the weights lack '"),
    "other labels": (configured(id2label={"0": "O"}, label2id={"O": 0}), "the weights lack 'classifier.bias'"),
    "no encoding": (configured(musamma={"encoding": {"max_len": 3}}), "'musamma' in config.json is {'encoding': "),
    "no recogniser": (unlabelled, "the labels are LABEL_0, LABEL_1; expected IOB2 tags"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checkpoint(fails, model, name):
    change, expected = BROKEN[name]
    shutil.copytree(model, "model")
    change(Path("model"))
    Path("a.txt").write_text("وصل إلى بغداد", encoding="utf-8")
    message = fails("predict", "a.txt", "-m", "model", "-o", "out.jsonl")
    assert message.startswith(("model: ", "model/proclitic_head.safetensors: "))
    assert expected in message
    assert not Path("out.jsonl").exists()
    assert not Path("out.jsonl.part").exists()


def test_a_missing_model(fails):
    Path("a.txt").write_text("وصل إلى بغداد", encoding="utf-8")
    Path("empty").mkdir()
    call = "predict", "a.txt", "-m"
    assert fails(*call, "./model") == "./model: no such folder; check the path, or give a hub id such as owner/name"
    assert "arabert: no such model; expected a folder, a hub id (owner/name), or a packaged model" in fails(
        *call, "arabert"
    )
    assert fails(*call, "empty").startswith("empty: the folder is empty; expected a folder with config.json")
    assert fails(*call, "a.txt").startswith("a.txt: a file; expected a folder with config.json")
    message = fails(*call, "owner/name")
    assert message.startswith(
        "owner/name: no folder of that name, and the Hugging Face hub cannot be reached (HF_HUB_OFFLINE is"
    )


def test_a_missing_device(fails, model):
    Path("a.txt").write_text("وصل إلى بغداد", encoding="utf-8")
    for device in ("gpu", "cuda:99"):
        message = fails("predict", "a.txt", "-m", model, "--device", device)
        assert message.startswith(f"device '{device}'; expected an available device, such as cpu")


# Inputs.


def lines(*records: object) -> str:
    return "\n".join(record if isinstance(record, str) else json.dumps(record) for record in records)


def numbered(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"id": f"d{number}", "text": "وصل إلى بغداد", **more} for number in range(count)]


def span(start: int, end: int) -> dict[str, Any]:
    return {"start": start, "end": end, "label": "LOC"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lines(*numbered(6), '{"id": "d6", "te'), "in.jsonl:7: broken JSON: "),
        (lines(*numbered(3), *numbered(1)), "in.jsonl:4: id 'd0' is taken by line 1; expected unique ids"),
        (lines({"id": "a", "txt": "نص"}), "in.jsonl:1: unknown key 'txt'; expected keys among id, text"),
        (lines(*numbered(1, spans=[span(8, 40)])), "in.jsonl:1, document 'd0': span [8, 40) LOC is outside the text"),
        (lines(*numbered(1, spans=[span(8, 8)])), "in.jsonl:1, document 'd0': span [8, 8) LOC is empty"),
        (
            lines(*numbered(1, spans=[span(4, 13), span(8, 13)])),
            "in.jsonl:1, document 'd0': spans [4, 13) LOC 'إلى بغداد' and [8, 13) LOC 'بغداد' overlap",
        ),
        ("", "in.jsonl: the file holds no document"),
    ],
)
def test_broken_json_lines(fails, model, content, message):
    Path("in.jsonl").write_text(content, encoding="utf-8")
    Path("out.jsonl").write_text("before", encoding="utf-8")
    assert fails("predict", "in.jsonl", "-m", model, "-o", "out.jsonl").startswith(message)
    assert Path("out.jsonl").read_text("utf-8") == "before"
    assert sorted(path.name for path in Path().iterdir()) == ["in.jsonl", "out.jsonl"]


def test_inputs_that_cannot_be_tagged(fails, model, monkeypatch):
    Path("folder").mkdir()
    Path("folder/a.pdf").write_bytes(b"%PDF")
    Path("latin.txt").write_bytes("سطر\n".encode() + b"caf\xe9")
    Path("empty.txt").write_bytes(b"")
    Path("a.docx").write_bytes(b"PK")
    call = "predict", "-m", model
    assert fails(*call, "none.txt").startswith("none.txt: no such file or folder; check the path")
    assert fails(*call, "folder").startswith("folder: nothing to tag; expected .txt files")
    assert fails(*call, "latin.txt").startswith("latin.txt:2: byte 0xe9 is not UTF-8; expected UTF-8; convert the file")
    assert fails(*call, "empty.txt").startswith("empty.txt: the file is empty")
    assert fails(*call, "a.docx").startswith("a.docx: suffix '.docx'; expected .txt files")
    Path("empty.txt").write_text("نص", encoding="utf-8")
    assert fails(*call, "empty.txt", "empty.txt").startswith(
        "empty.txt: id 'empty' is taken by empty.txt; expected unique"
    )
    feed_stdin(monkeypatch, b"")
    assert fails(*call, "-") == "stdin: no text; expected an article, or one JSON object a line"


@pytest.mark.parametrize(
    "call",
    [
        "predict c.txt -m {m}",
        "predict c.jsonl -m {m}",
        "predict c.csv -m {m} -o o.jsonl",
        "predict c.parquet -m {m} -o o.jsonl --on-error fail",
        "predict a.txt -m {m} --rules c.yaml",
        "suggest c.jsonl -m {m} -o o.jsonl --format jsonl",
        "evaluate c.jsonl --predictions a.jsonl",
        "evaluate a.jsonl --predictions c.jsonl",
        "compare a.jsonl a.jsonl c.jsonl",
        "convert c.jsonl o.csv",
        "convert c.json o.csv",
        "convert c.conll o.csv",
        "convert c.csv o.jsonl",
        "check c.jsonl",
        "train c.yaml",
        "train train.yaml -o o",
        "encoder trim {m} o --text c.txt",
    ],
)
def test_an_input_without_permission(fails, model, call):
    Path("a.txt").write_text("زار سامي", encoding="utf-8")
    Path("a.jsonl").write_text(lines(*numbered(2, spans=[span(8, 13)])), encoding="utf-8")
    Path("train.yaml").write_text(f"encoder: {model}\ndata: {{train: c.jsonl}}", encoding="utf-8")
    for suffix in ("txt", "jsonl", "json", "csv", "parquet", "conll", "yaml"):
        Path(f"c.{suffix}").touch(0o000)
    with ordinary_user():
        message = fails(*call.format(m=model).split())
    assert re.fullmatch(r"c\.\w+: Permission denied; check its permissions", message), message
    assert not Path("o.csv").exists()
    assert not Path("o.jsonl").exists()


def test_a_file_that_ends_a_run_is_closed(fails, model, monkeypatch):
    Path("latin.txt").write_bytes(b"caf\xe9")
    files = []

    def opened(path: Path, *arguments: Any, **options: Any) -> IO[Any]:
        files.append(path_open(path, *arguments, **options))
        return files[-1]

    path_open = Path.open
    monkeypatch.setattr(Path, "open", opened)
    gc.disable()  # Tracebacks are reference cycles; the file must be closed without the garbage collector.
    try:
        fails("predict", "latin.txt", "-m", model)
        assert [file.closed for file in files if file.name == "latin.txt"] == [True]
    finally:
        gc.enable()


def test_a_wrong_input_is_reported_before_the_model_is_loaded(fails):
    assert fails("predict", "none.txt", "-m", "./nowhere").startswith("none.txt: ")
    code = (
        "import sys; from musamma.cli.main import run; status = run(['predict', 'none.txt', '-m', 'x']);"
        "sys.exit(3 if 'torch' in sys.modules else status)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=120).returncode == 2


# Outputs.


def test_outputs_that_cannot_be_written(fails, model):
    Path("a.txt").write_text("نص", encoding="utf-8")
    Path("folder.jsonl").mkdir()
    call = "predict", "a.txt", "-m", model, "-o"
    assert fails(*call, "out.xml") == (
        "out.xml: suffix '.xml'; expected one of .jsonl, .ndjson, .parquet, .conll, .html; rename the file, or give a --format"
    )
    assert fails(*call, "folder.jsonl").startswith(
        "folder.jsonl: a folder; expected a file to write; choose an --output"
    )
    assert fails(*call, "a.txt/out.jsonl").startswith("a.txt: ")
    assert sorted(path.name for path in Path().iterdir()) == ["a.txt", "folder.jsonl"]


def test_a_folder_without_write_permission(fails, model, monkeypatch):
    def denied(path, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(path))

    Path("a.txt").write_text("نص", encoding="utf-8")
    monkeypatch.setattr(Path, "mkdir", denied)  # root may write everywhere
    message = fails("predict", "a.txt", "-m", model, "-o", "locked/out.jsonl")
    assert message == "locked: Permission denied; choose an --output that can be written"


@pytest.mark.parametrize(
    "call",
    [
        "predict a.txt -m {m} -o {o}.jsonl",
        "predict a.txt -m {m} -f brat -o {o}",
        "evaluate a.jsonl --predictions a.jsonl --json {o}",
        "evaluate a.jsonl --predictions a.jsonl --report {o}",
        "compare a.jsonl b.jsonl b.jsonl --json {o}",
        "convert a.jsonl {o}.jsonl",
        "convert a.jsonl {o} --to brat",
        "convert a.jsonl b.csv --audit {o}",
        "check a.jsonl --json {o}",
        "export -m {m} -o {o}",
        "calibrate a.jsonl -m {m} -o {o}",
        "train quickstart -o {o}",
        "encoder trim {m} {o} --text a.txt",
        "encoder extend {m} {o} --words 1 --text a.txt",
        "encoder pretrain nawah-pretrain -o {o}",
    ],
)
def test_permission_denied(fails, model, call):
    Path("a.txt").write_text("زار سامي\n" * 100, encoding="utf-8")
    for name in ("a.jsonl", "b.jsonl"):
        Path(name).write_text(lines(*numbered(2, spans=[span(8, 13)])), encoding="utf-8")
    Path("locked").mkdir(mode=0o500)
    Path("closed").mkdir(mode=0o000)
    for output in ("locked/x", "closed/x"):
        with ordinary_user():
            message = fails(*call.format(m=model, o=output).split())
        assert re.match(rf"({output}[.\w/]*|locked): Permission denied; (choose|check)", message), message
    assert not list(Path("locked").iterdir())
    assert not Path("b.csv").exists()


@pytest.mark.parametrize(
    "call",
    ["train quickstart", "encoder pretrain nawah-pretrain", "encoder pretrain nawah-pretrain --prepare"],
)
def test_an_output_folder_that_another_run_writes(fails, call):
    Path("out").mkdir()
    with lock_output_folder(Path("out")):
        message = fails(*call.split(), "-o", "out")
    assert message == (
        "out: another run is writing it; expected one run at a time; wait until it has ended, or choose another --output"
    )
    assert list(Path("out").iterdir()) == []


def test_outputs_that_are_streams(fails, model, capsys):
    Path("a.txt").write_text("زار سامي", encoding="utf-8")
    os.mkfifo("fifo")
    call = "predict", "a.txt", "-m", model, "-o", "fifo"
    for format in ("parquet", "brat"):
        assert fails(*call, "-f", format) == (
            "fifo: a FIFO, which can only be written from start to end; expected a file to write, "
            f"for --format {format}; choose an --output that can be written"
        )
    for options in (["--resume"], ["--overwrite"], ["--on-error", "skip"], ["--engine", "ray"]):
        assert fails(*call, *options) == (
            f"{' '.join(options)} to fifo, a FIFO; expected a file to write; choose another --output"
        )
    assert sorted(path.name for path in Path().iterdir()) == ["a.txt", "fifo"]


def test_outputs_that_are_inputs_or_given_twice(fails):
    for name in ("a.jsonl", "b.jsonl"):
        Path(name).write_text(lines(*numbered(2, spans=[span(8, 13)])), encoding="utf-8")
    Path("texts").mkdir()
    Path("texts/a.txt").write_text("زار [سامي|PER]", encoding="utf-8")
    before = {path: path.read_bytes() for path in Path().rglob("*.*")}
    for call, message in (
        ("evaluate a.jsonl --predictions b.jsonl --json b.jsonl", "b.jsonl: --json is also an input; "),
        ("evaluate a.jsonl --predictions b.jsonl --json x --report x", "x: --report and --json are the same path; "),
        (
            "evaluate a.jsonl --predictions b.jsonl --json r/report.md --report r",
            "r/report.md: --report and --json are",
        ),
        ("compare a.jsonl b.jsonl b.jsonl --json a.jsonl", "a.jsonl: --json is also an input; "),
        ("check a.jsonl --json a.jsonl", "a.jsonl: --json is also an input; "),
        ("check a.jsonl --second b.jsonl --json ./b.jsonl", "b.jsonl: --json is also an input; "),
        ("convert a.jsonl o.csv --audit o.csv", "o.csv: OUTPUT and --audit are the same path; "),
        ("convert a.jsonl o --to brat --audit o", "o: OUTPUT and --audit are the same path; "),
        ("convert a.jsonl o.csv --audit a.jsonl", "a.jsonl: --audit is also an input; "),
        ("convert a.jsonl o.csv/", "o.csv/: a folder; expected a file to write csv; remove the slash"),
        (
            "convert texts texts/new --to brat",
            "texts/new: OUTPUT is in the folder INPUT (texts), where it would be read",
        ),
        ("convert texts texts/b.txt --to conll", "texts/b.txt: OUTPUT is in the folder INPUT (texts), where it would"),
    ):
        assert fails(*call.split()).startswith(message)
        assert {path: path.read_bytes() for path in Path().rglob("*.*")} == before


def test_an_input_is_not_overwritten(fails, model):
    """It may hold annotation, which predictions would replace."""
    content = lines(*numbered(2, spans=[span(8, 13)]))
    Path("gold.jsonl").write_text(content, encoding="utf-8")
    message = fails("predict", "gold.jsonl", "-m", model, "-o", "./gold.jsonl")
    assert message == "./gold.jsonl: an input is also the output; choose another --output"
    assert Path("gold.jsonl").read_text("utf-8") == content
