"""Measure what the start of a command costs: processor time and memory of `--help`, one sentence and one request. No network.

    python benchmarks/startup.py [--model FOLDER...] [--rounds N] [--source FOLDER]

Each command runs in a process of its own, with one thread. Its processor time (user and system, with that of its threads) and its
largest resident memory come from the operating system when it ends, so they include the start of Python. Other processes change
them little, unlike the elapsed time. ``served`` starts the service, sends one sentence and stops it. The table has the median of
the rounds and the range. ``--source`` measures another checkout: its ``src`` folder.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

_SENTENCE = "وصل وفد من الأمم المتحدة إلى الموصل وبغداد"
_START = "import sys; sys.argv[0] = 'musamma'; from musamma.cli.main import main; main()"

# Seconds of processor time, and bytes of memory.
Cost = tuple[float, int]


def start(arguments: list[str], source: Path) -> subprocess.Popen[str]:
    """Start the command, its output in pipes."""
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", _START, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait(process: subprocess.Popen[str]) -> Cost:
    """Wait for the end of the command and return its cost."""
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read()
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    process.stderr.close()
    if process.returncode:
        raise SystemExit(f"{' '.join(process.args[2:])}: exit status {process.returncode}: {errors}")  # type: ignore[arg-type,index]
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit


def run(arguments: list[str], source: Path) -> Cost:
    """Run the command to its end and return its cost."""
    return wait(start(arguments, source))


def serve(model: str, source: Path) -> Cost:
    """Start the service, send one sentence, stop the service, and return its cost."""
    process = start(["serve", "--model", model, "--port", "0"], source)
    assert process.stderr is not None
    line = process.stderr.readline()
    if " at http" not in line:
        return wait(process)
    address = line.rpartition(" at ")[2].split(",")[0]
    body = json.dumps({"text": _SENTENCE}).encode()
    with urlopen(Request(f"{address}/predict", body, {"Content-Type": "application/json"}), timeout=600) as response:
        json.load(response)
    process.send_signal(signal.SIGTERM)
    return wait(process)


def describe(model: str) -> str:
    """Name the kind of a model: a checkpoint, or the runtime and numbers of an export."""
    config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    graph = (config.get("musamma") or {}).get("export")
    return "checkpoint" if graph is None else " ".join(filter(None, (graph["runtime"], graph["quantization"])))


def main() -> None:
    """Measure all commands in each round, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="*", default=[], help="folders of checkpoints and exports")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--source", type=Path, default=Path(__file__).parents[1] / "src")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "sentence.txt")
        text.write_text(_SENTENCE, encoding="utf-8")
        commands: dict[str, Callable[[], Cost]] = {"`musamma --help`": lambda: run(["--help"], options.source)}
        for model in options.model:
            kind = describe(model)
            commands[f"one sentence, {kind}"] = lambda model=model: run(  # type: ignore[misc]
                ["predict", str(text), "--model", model], options.source
            )
            commands[f"one request served, {kind}"] = lambda model=model: serve(model, options.source)  # type: ignore[misc]
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                costs[name].append(command())
    print(f"median of {options.rounds} rounds, one thread; load average {os.getloadavg()[0]:.1f}\n")
    print("| | CPU seconds | range | memory, MB |\n| --- | --- | --- | --- |")
    for name, measured in costs.items():
        seconds, memory = zip(*measured, strict=True)
        spread = f"{min(seconds):.2f}-{max(seconds):.2f}"
        print(f"| {name} | {statistics.median(seconds):.2f} | {spread} | {statistics.median(memory) / 1e6:.0f} |")


if __name__ == "__main__":
    main()
