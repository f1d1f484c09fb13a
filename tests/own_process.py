"""Pytest plugin for the marker ``own_process``: the tests of a module run in a Python process of their own, each with a time limit.

For tests that start a cluster, a browser or an event loop, or that send signals: nothing they leave behind reaches the process that
runs the other tests, and one that hangs or crashes fails alone, with its output. The tests of a module share the process and its
fixtures; after a test that fails, the next one starts in a new process.

    pytestmark = pytest.mark.own_process(timeout=120)

``timeout`` is the most seconds that a test may take with the fixtures it is the first to use, 180 by default. A test marked with
``alone=True`` gets a process that runs nothing before or after it, for tests whose effects may bring the process down later. To run such tests in
pytest's own process, as a debugger needs it, set ``MUSAMMA_TEST_PROCESS=here``.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

VARIABLE = "MUSAMMA_TEST_PROCESS"
TIMEOUT = 180.0
# Seconds that a process has to import what it needs, and to remove its fixtures, on a busy machine.
_START, _END = 240.0, 90.0
# Characters of the output of a process that crashed.
_SHOWN = 6_000


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "own_process(timeout=180, alone=False): run the tests of the module in a process of their own"
    )
    if "," in (pipes := os.environ.get(VARIABLE, "")):
        requests, reports, _ = pipes.split(",")
        config.pluginmanager.register(_Server(config, int(requests), int(reports)))
        config.addinivalue_line("markers", "xdist_group(name): without a meaning here, where xdist is not loaded")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a marked test in the process of its module; leave all others to pytest."""
    if VARIABLE in os.environ or (marker := item.get_closest_marker("own_process")) is None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    process = item.session.stash.get(_PROCESS, None)
    if process is not None and (process.path != item.path or _is_alone(item)):
        process.end()
        process = None
    if process is None:
        process = item.session.stash[_PROCESS] = _TestProcess(item)
    following = nextitem if nextitem is not None and nextitem.path == item.path else None
    if following is not None and (_is_alone(item) or _is_alone(following)):
        following = None
    reports = process.run(item, following, timeout=marker.kwargs.get("timeout", TIMEOUT))
    if following is None or any(report.failed for report in reports):
        if trouble := process.end():
            reports.append(_failure(item, trouble, when="teardown"))
        item.session.stash[_PROCESS] = None
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    # Fixtures and folders of the tests before this one were kept for it.
    item.session._setupstate.teardown_exact(nextitem)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (process := session.stash.get(_PROCESS, None)) is not None:
        process.end()


def _is_alone(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("own_process")
    return marker is not None and marker.kwargs.get("alone", False)


def _node(item: pytest.Item) -> str:
    """The node id without the name of a group, which xdist appends."""
    return f"{item.parent.nodeid}::{item.name}" if item.parent is not None else item.nodeid


def _failure(item: pytest.Item, message: str, *, when: Any = "call", seconds: float = 0.0) -> pytest.TestReport:
    now = time.time()
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={},
        outcome="failed",
        longrepr=message,
        when=when,
        duration=seconds,
        start=now - seconds,
        stop=now,
    )


class _TestProcess:
    """A pytest process that runs the tests of one module when it is asked to."""

    def __init__(self, item: pytest.Item) -> None:
        self.path = item.path
        self._config = item.config
        # Inherited by all that the process starts, however it detaches itself.
        self._mark = uuid4().hex
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  closed by `end`
        requests, self._requests = os.pipe()
        self._reports, reports = os.pipe()
        self._buffer = b""
        folder = item.config._tmp_path_factory.mktemp(f"process-of-{self.path.stem}")
        command = [sys.executable, "-m", "pytest", str(self.path), f"--rootdir={item.config.rootpath}"]
        command += [
            f"--basetemp={folder}",
            "--capture=tee-sys",
        ]  # what a test printed is to be seen if the process crashes
        command += ["-p", "no:xdist", "-p", "no:randomly", "-p", "no:cacheprovider"]
        command += ["-o", "faulthandler_timeout=0"]  # it would replace the time limit of the test
        try:
            self._process = subprocess.Popen(
                command,
                cwd=item.config.rootpath,
                env={**os.environ, VARIABLE: f"{requests},{reports},{self._mark}"},
                pass_fds=(requests, reports),
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            os.close(requests)
            os.close(reports)
        self._limit = _START

    def run(self, item: pytest.Item, following: pytest.Item | None, *, timeout: float) -> list[pytest.TestReport]:
        """Run one test; a process that dies or does not answer in time is a failure of the test."""
        began = time.monotonic()
        request = {"run": _node(item), "next": _node(following) if following else None, "timeout": timeout}
        reports: list[pytest.TestReport] = []
        try:
            os.write(self._requests, json.dumps(request).encode() + b"\n")
            for answer in self._answers(began + self._limit + timeout + _END):
                if answer == "done":
                    self._limit = 0.0
                    return reports
                report = self._config.hook.pytest_report_from_serializable(config=self._config, data=answer)
                report.nodeid, report.location = item.nodeid, item.location
                if isinstance(report.longrepr, list):  # the reason of a skipped test: JSON has no tuples
                    report.longrepr = tuple(report.longrepr)
                reports.append(report)
            reason = "ended in the middle of the test, or after its time limit"
        except BrokenPipeError:
            reason = "ended before the test"
        except TimeoutError:
            reason = "gave no answer in time"
        except BaseException:
            self._kill()
            raise
        seconds = time.monotonic() - began
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)  # for the status of a process that is about to end
        status = self._process.poll()
        self._kill()
        message = (
            f"the process of {self.path.name} {reason} "
            f"({seconds:.0f} s; limit {timeout:.0f} s; exit status {status})\n\n{self._shown()}"
        )
        return [*reports, _failure(item, message, seconds=seconds)]

    def _answers(self, deadline: float) -> Iterator[Any]:
        """Yield what the process reports, until it ends."""
        while True:
            while b"\n" in self._buffer:
                line, self._buffer = self._buffer.split(b"\n", 1)
                yield json.loads(line)
            ready, _, _ = select.select([self._reports], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            if not (data := os.read(self._reports, 2**16)):
                return
            self._buffer += data

    def end(self) -> str | None:
        """End the process and all that it started; return what went wrong, if anything did."""
        trouble = None
        with contextlib.suppress(OSError):
            os.close(self._requests)
        try:
            self._process.wait(_END)
        except subprocess.TimeoutExpired:
            trouble = f"the process of {self.path.name} did not end in {_END:.0f} s\n\n{self._shown()}"
        self._kill()
        os.close(self._reports)
        self._output.close()
        return trouble

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if self._mark.encode() in path.read_bytes():
                    os.kill(int(path.parent.name), signal.SIGKILL)

    def _shown(self) -> str:
        self._output.seek(0)
        return self._output.read().decode(errors="replace")[-_SHOWN:].strip()


_PROCESS: pytest.StashKey[_TestProcess | None] = pytest.StashKey()


class _Server:
    """What runs in the process: tests on request, their reports through a pipe."""

    def __init__(self, config: pytest.Config, requests: int, reports: int) -> None:
        self._config, self._requests, self._reports = config, requests, reports
        # A process that outlives this one must not keep the pipes open.
        for pipe in (requests, reports):
            os.set_inheritable(pipe, False)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("errors during collection")
        items = {item.nodeid: item for item in session.items}
        with open(self._requests, "rb") as requests:  # noqa: PTH123  a pipe
            for line in requests:
                request = json.loads(line)
                # Dumps the traceback of every thread and ends the process, even where the interpreter is blocked.
                faulthandler.dump_traceback_later(request["timeout"], exit=True, file=2)
                item, following = items[request["run"]], items.get(request["next"])
                session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                faulthandler.cancel_dump_traceback_later()
                self._write("done")
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._write(self._config.hook.pytest_report_to_serializable(config=self._config, report=report))

    def _write(self, answer: Any) -> None:
        data = json.dumps(answer).encode() + b"\n"
        while data:
            data = data[os.write(self._reports, data) :]
