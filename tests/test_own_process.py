"""The marker ``own_process``: tests in a process of their own, which can crash, hang or leave processes behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

MODULE = """
import os, pathlib, subprocess, sys, time
import pytest

pytestmark = [pytest.mark.own_process(timeout=20), pytest.mark.xdist_group("one")]

@pytest.fixture(scope="module")
def started():
    yield os.getpid()
    print("fixture removed")

def test_first(started):
    assert started == os.getpid() != int(os.environ["PARENT"])
    pathlib.Path(os.environ["FOLDER"], "pid").write_text(str(started))

def test_same_process(started):
    assert pathlib.Path(os.environ["FOLDER"], "pid").read_text() == str(started)

@pytest.mark.own_process(timeout=20, alone=True)
def test_alone(started):
    assert pathlib.Path(os.environ["FOLDER"], "pid").read_text() != str(started)
    pathlib.Path(os.environ["FOLDER"], "alone").write_text(str(started))

def test_not_with_it(started):
    assert pathlib.Path(os.environ["FOLDER"], "alone").read_text() != str(started)

def test_assertion():
    print("what it printed")
    assert 1 + 1 == 3

def test_crash():
    print("last words", flush=True)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    pathlib.Path(os.environ["FOLDER"], "left").write_text(str(child.pid))
    os._exit(3)

@pytest.mark.own_process(timeout=1)
def test_hang():
    time.sleep(300)

@pytest.mark.parametrize("value", ["a b", "ب"])
def test_after(value):
    assert value

@pytest.mark.skip(reason="not now")
def test_skipped():
    pass
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_a_test_that_crashes_or_hangs_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "test_marked.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "test_unmarked.py").write_text("def test_unmarked():\n    pass\n", encoding="utf-8")
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["tests.own_process"]\n', encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n", encoding="utf-8")
    root = Path(__file__).parents[1]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "MUSAMMA_TEST"))}
    environment |= {"FOLDER": str(tmp_path), "PARENT": "0", "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    command = [sys.executable, "-m", "pytest", "-vv", "-rA", "-p", "no:cacheprovider", "-p", "no:randomly"]
    began = time.monotonic()
    done = subprocess.run(
        [*command, "-n", "1", "--dist", "loadgroup"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    out = done.stdout
    assert "7 passed, 1 skipped, 3 failed" in out or "3 failed, 7 passed, 1 skipped" in out, out + done.stderr
    for failed in ("test_assertion", "test_crash", "test_hang"):
        assert f"FAILED test_marked.py::{failed}@one" in out
    assert "assert (1 + 1) == 3" in out
    assert "what it printed" in out
    assert "last words" in out
    # The traceback of the line that hung.
    assert "Timeout (0:00:01)" in out
    assert "in test_hang" in out
    assert not is_running(int((tmp_path / "left").read_text()))
    assert time.monotonic() - began < 100
