"""The command's own part of an error message, its defaults, and what it does about Ctrl-C and closed streams."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from musamma.cli import commands, main
from musamma.cli.commands import name_flags
from musamma.inference.suggestions import suggest
from musamma.models.export.pipeline import export_model
from musamma.training.checkpoint_packing import pack_checkpoint


@pytest.mark.parametrize(
    ("verb", "message", "shown"),
    [
        (["predict"], "go on with `resume=True`", "go on with --resume"),
        (
            ["predict"],
            "choose another `output`, or add `overwrite=True`",
            "choose another --output, or add --overwrite",
        ),
        (["predict"], "`engine='ray'` with `format=\"html\"`", "--engine ray with --format html"),
        (["predict"], "name the column with `text_column`", "name the column with --text-column"),
        (["evaluate"], "write it with `json`", "write it with --json"),
        (["encoder", "trim"], "choose another `output`", "choose another OUTPUT"),
        (["train"], "rename it with `labels`, not `pieces`", "rename it with musamma convert --labels, not `pieces`"),
        (["train"], "read it with `overlaps='longest'`", "read it with musamma convert --overlaps longest"),
        (["evaluate"], "`resume=True` and `x` and ``", "`resume=True` and `x` and ``"),
        ([], "add `overwrite=True`", "add `overwrite=True`"),
    ],
)
def test_messages_name_options_of_the_verb(verb: list[str], message: str, shown: str) -> None:
    assert name_flags(message, [*verb, "a.txt"]) == shown


@pytest.mark.parametrize(
    ("verb", "function", "options"),
    [
        (commands.export, export_model, ["runtime", "max_f1_loss", "min_agreement"]),
        (commands.pack, pack_checkpoint, ["max_f1_change"]),
        (commands.suggest, suggest, ["diversity", "min_words"]),
    ],
)
def test_limits_are_those_of_the_library(
    verb: Callable[..., None], function: Callable[..., object], options: list[str]
) -> None:
    # The verbs repeat the numbers, because they are imported without the library's packages.
    own, library = (inspect.signature(called).parameters for called in (verb, function))
    assert {name: own[name].default for name in options} == {name: library[name].default for name in options}


def test_a_package_that_does_not_fit_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "musamma.cli.commands", None)
    assert main.run(["predict"]) == 1
    shown = capsys.readouterr()
    assert not shown.out
    assert shown.err.count("\n") == 1
    assert "musamma.cli.commands" in shown.err
    assert "install musamma into a new environment" in shown.err


@pytest.mark.parametrize("outcome", ["raise", "raise ImportError('numpy was interrupted')", "raise SystemExit(1)"])
def test_an_interrupt_while_libraries_load_is_one_line(outcome: str) -> None:
    """Whatever error the interrupted import turns it into."""
    code = f"""
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run as a background job
class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "musamma.cli.commands":
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)
            except KeyboardInterrupt:
                {outcome}
sys.meta_path.insert(0, Interrupted())
from musamma.cli.main import main
main(["predict", "a.txt"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "musamma: interrupted\n")


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [
        ("predict - -m ./none <&-", 2, "standard input: closed; give a file, or pipe the text into the command"),
        ("--help >&-", 2, "standard output: closed; redirect it to a file"),
        (
            "predict none.txt -m ./none <&- >&-",
            2,
            "none.txt: no such file or folder; check the path, or give - for standard input",
        ),
        ("predict none.txt -m ./none <&- >&- 2>&-", 2, ""),
    ],
)
def test_closed_streams_are_one_line(call: str, status: int, message: str) -> None:
    command = ["sh", "-c", f"exec {sys.executable} -m musamma {call}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr == (f"musamma: {message}\n" if message else "")


def test_the_main_process_of_torchrun_reports_an_error_first(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(commands, "time", SimpleNamespace(sleep=waits.append))
    for rank, count in (("0", 0), ("1", 1)):
        monkeypatch.setenv("RANK", rank)
        assert refused("check", "none.jsonl").startswith("none.jsonl: no such file")
        assert len(waits) == count


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    ("call", "status", "out"),
    [
        ("convert a.jsonl b.csv 2>/dev/full", 0, ""),
        ("check none.jsonl 2>/dev/full", 2, ""),
        ("check a.jsonl --debug --json /dev/full 2>/dev/full", 2, ""),
        ("convert a.jsonl b.csv 2>&-", 0, ""),
    ],
)
def test_messages_that_cannot_be_written_do_not_end_the_work(call: str, status: int, out: str, tmp_path: Path) -> None:
    record = {"id": "a", "text": "وصل بغداد", "spans": [{"start": 4, "end": 9, "label": "LOC"}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(record), encoding="utf-8")
    command = ["sh", "-c", f"exec {sys.executable} -m musamma {call}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (status, out, "")
    assert (tmp_path / "b.csv").exists() == call.startswith("convert")


@pytest.mark.parametrize(
    ("call", "before", "expected"),
    [
        (["train", "x.yaml"], {}, "0"),
        (["serve"], {}, "0"),
        (["train", "x.yaml"], {"GOMP_SPINCOUNT": "7"}, "7"),
        (["predict", "a.txt"], {"OMP_WAIT_POLICY": "ACTIVE"}, None),
    ],
)
def test_threads_wait_as_the_user_says(
    monkeypatch: pytest.MonkeyPatch, call: list[str], before: dict[str, str], expected: str | None
) -> None:
    seen = []
    monkeypatch.setattr(
        main, "run", lambda *arguments, **options: seen.append(main.os.environ.get("GOMP_SPINCOUNT")) or 0
    )
    monkeypatch.setattr(main.os, "environ", dict(before))
    monkeypatch.setattr(main, "_watch_interrupts", lambda: lambda: False)
    monkeypatch.setattr(main, "_replace_streams", lambda: None)
    with pytest.raises(SystemExit):
        main.main(call)
    assert seen == [expected]
