"""`musamma serve` in a process of its own, for the benchmarks that send requests to it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from musamma.data.errors import InputError

# Seconds in which the service ends the requests that it has.
_STOP_SECONDS = 90


@contextmanager
def start_service(
    model: str, options: Sequence[str] = (), *, source: Path | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the service on a free port; yield its process and its URL. It is stopped at the end.

    Args:
        model: the model.
        options: further options of the command.
        source: another checkout to run.

    Raises:
        InputError: the service did not start.
    """
    environment = dict(os.environ)
    if source is not None:
        environment["PYTHONPATH"] = str(source.resolve() / "src")
    command = [sys.executable, "-m", "musamma.cli.main", "serve", "--model", model, "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"(http://\S+), until Ctrl-C$", line.strip()):
                break
        else:
            raise InputError(f"the service did not start: {''.join(said).strip()}", where=model)
        # A full pipe would stop the service.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield process, found[1]
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
