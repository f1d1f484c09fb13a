"""Latency, throughput and memory of `musamma serve` under load.

    python benchmarks/serve_load.py --model FOLDER [--clients 1 16 256] [--seconds N] [--flood N] [--characters N]
        [--slow N] [--minutes N] [--openapi N] [--source CHECKOUT] [--json FILE]

The script starts the service on a free port of this machine and drives it with `hey` (https://github.com/rakyll/hey;
`apt-get install hey`), whose clients each send the next request when they have the response to the last one.

- Latency and requests per second of a sentence, with each number of clients, alone and beside a flood: `--flood` clients that
  each send a text of `--characters` characters again and again.
- The same beside `--slow` slow clients, which connect again when they are closed: a third of them sends nothing, a third a head
  and a third a body, one byte a second.
- Resident memory for `--minutes` with 16 clients, the flood and the slow clients together.
- `--openapi N`: schemathesis with N examples for each path and phase; the script then fails if schemathesis does.

A percentile of a run with fewer than 100 responses is that of few responses; the tables show their number. Responses other than
200 are counted and not timed. `--source` runs another checkout of the project, for comparisons. Any part is skipped with 0.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
from service_process import start_service

from musamma.data.corpora import load_khabar
from musamma.data.errors import InputError
from musamma.data.files import write_json

SENTENCE = "وصل الوفد إلى بيروت وبغداد أمس بعد زيارة قصيرة إلى القاهرة"
# A client that waits longer has no response.
_TIMEOUT_SECONDS = 600
_MEMORY_CLIENTS = 16
_SAMPLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The result of a run of `hey`.

    Args:
        clients: number of clients.
        beside: what else the service did.
        responses: number of responses with status 200.
        refused: number of responses with another status.
        rate: responses with status 200 per second.
        p50, p99, longest: seconds until a response; NaN without responses.
    """

    clients: int
    beside: str
    responses: int
    refused: int
    rate: float
    p50: float
    p99: float
    longest: float


class Generator:
    """Runs `hey` against a service.

    Args:
        url: the service.
        folder: a folder for the bodies of requests.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder

    def measure(self, *, clients: int, seconds: float, beside: str) -> Load:
        """Send sentences from a number of clients for some time."""
        began = time.monotonic()
        output = subprocess.run(
            self._command("sentence", SENTENCE, clients, seconds), check=True, capture_output=True, text=True
        )
        elapsed = time.monotonic() - began
        rows = list(csv.DictReader(output.stdout.splitlines()))
        times = np.array([float(row["response-time"]) for row in rows if row["status-code"] == "200"])
        p50, p99, longest = np.quantile(times, [0.5, 0.99, 1.0]) if len(times) else [float("nan")] * 3
        return Load(
            clients=clients,
            beside=beside,
            responses=len(times),
            refused=len(rows) - len(times),
            rate=len(times) / elapsed,
            p50=float(p50),
            p99=float(p99),
            longest=float(longest),
        )

    @contextmanager
    def keep_sending(self, name: str, text: str, clients: int) -> Iterator[None]:
        """Send a text from a number of clients all the time."""
        process = subprocess.Popen(self._command(name, text, clients, 24 * 3600), stdout=subprocess.DEVNULL)
        try:
            time.sleep(2)
            yield
        finally:
            process.kill()
            process.wait()

    def _command(self, name: str, text: str, clients: int, seconds: float) -> list[str]:
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps({"text": text}), encoding="utf-8")
        return [
            *("hey", "-m", "POST", "-T", "application/json", "-D", str(path), "-t", str(_TIMEOUT_SECONDS)),
            *("-o", "csv", "-z", f"{seconds:g}s", "-c", str(clients), f"{self.url}/predict"),
        ]


@contextmanager
def keep_slow_clients(url: str, number: int) -> Iterator[None]:
    """Connect slow clients, in a thread."""
    stop = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_run_slow_clients(url, number, stop)))
    thread.start()
    try:
        time.sleep(2)
        yield
    finally:
        stop.set()
        thread.join()


async def _run_slow_clients(url: str, number: int, stop: threading.Event) -> None:
    tasks = [asyncio.create_task(_be_slow(url, index % 3)) for index in range(number)]
    while not stop.is_set():
        await asyncio.sleep(0.2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _be_slow(url: str, kind: int) -> None:
    """Send nothing, a head or a body, one byte a second; again and again."""
    address = urlsplit(url)
    start = [b"", b"GET /health HTTP/1.1\r\nX-Slow: ", b"POST /predict HTTP/1.1\r\nHost: x\r\n"][kind]
    if kind == 2:
        start += b"Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n"
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(start)
            while not reader.at_eof():
                await asyncio.sleep(1)
                if kind:
                    writer.write(b" ")
                    await writer.drain()
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1000), 0.001)
            writer.close()
        await asyncio.sleep(0.1)


def measure_memory(process: psutil.Process, seconds: float) -> dict[str, float]:
    """Sample the resident memory of a process; return MiB at the start, after a tenth of the time, at the end, and the maximum."""
    samples = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        samples.append(process.memory_info().rss / 2**20)
        time.sleep(_SAMPLE_SECONDS)
    return {
        "first": samples[0],
        "after a tenth": samples[len(samples) // 10],
        "last": samples[-1],
        "max": max(samples),
        "open files": process.num_fds(),
    }


def build_long_text(characters: int) -> str:
    """Return the text of whole articles, cut to a number of characters."""
    text = "\n".join(document.text for document in load_khabar("train"))
    return (text * (characters // len(text) + 1))[:characters]


def run_schemathesis(url: str, examples: int) -> bool:
    """Test the service against its own OpenAPI description; return whether it passed."""
    # Too many texts get 413 whatever they are.
    configuration = '[checks.negative_data_rejection]\nexpected-statuses = ["400", "405", "413", "415", "422"]\n'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "schemathesis.toml"
        path.write_text(configuration, encoding="utf-8")
        command = ["schemathesis", "--config-file", str(path), "run", f"{url}/openapi.json", "--mode", "all"]
        command += [
            "--max-examples",
            str(examples),
            "--generation-deterministic",
            "--phases",
            "examples,coverage,fuzzing",
        ]
        program = Path(sys.executable).parent / command[0]
        return subprocess.run([str(program), *command[1:]], check=False, cwd=folder).returncode == 0


def format_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [heads, ["---:"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_loads(loads: Sequence[Load]) -> str:
    """Format the latencies as a Markdown table."""
    idle = {load.clients: load.p50 for load in loads if load.beside == "alone"}
    rows = [
        [
            str(load.clients),
            load.beside,
            f"{1000 * load.p50:,.0f}",
            f"{1000 * load.p99:,.0f}",
            f"{1000 * load.longest:,.0f}",
            f"{load.rate:,.1f}",
            f"{load.responses:,}",
            f"{load.refused:,}",
            f"{load.p50 / idle[load.clients]:.1f}" if load.clients in idle else "",
        ]
        for load in loads
    ]
    heads = ["clients", "beside", "p50 ms", "p99 ms", "max ms", "requests/s", "responses", "refused", "p50 / p50 alone"]
    return format_table(heads, rows)


def measure(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], bool]:
    """Start the service and measure it. Print the tables; return all figures, and whether schemathesis passed."""
    report: dict[str, Any] = {}
    passed = True
    text = build_long_text(options.characters)
    service_options = ["--max-waiting", str(options.max_waiting), "--max-characters", str(options.characters)]
    with start_service(options.model, [*service_options, *options.service], source=options.source) as (service, url):
        process = psutil.Process(service.pid)
        generator = Generator(url, folder)
        generator.measure(clients=4, seconds=min(5.0, options.seconds), beside="")  # Loads what is loaded at first use.
        flood_name, slow_name = f"{options.flood} × {options.characters:,} characters", f"{options.slow} slow clients"
        loads = []
        for beside in ("alone", flood_name, slow_name):
            with ExitStack() as stack:
                if beside == flood_name:
                    if not (options.flood and options.seconds):
                        continue
                    stack.enter_context(generator.keep_sending("long", text, options.flood))
                if beside == slow_name:
                    if not (options.slow and options.seconds):
                        continue
                    stack.enter_context(keep_slow_clients(url, options.slow))
                if options.seconds:
                    loads += [
                        generator.measure(clients=number, seconds=options.seconds, beside=beside)
                        for number in options.clients
                    ]
        if loads:
            print(format_loads(loads), end="\n\n", flush=True)
            report["latency"] = [asdict(load) for load in loads]
        if options.minutes:
            with ExitStack() as stack:
                stack.enter_context(generator.keep_sending("short", SENTENCE, _MEMORY_CLIENTS))
                if options.flood:
                    stack.enter_context(generator.keep_sending("long", text, options.flood))
                if options.slow:
                    stack.enter_context(keep_slow_clients(url, options.slow))
                report["memory"] = measure_memory(process, 60 * options.minutes)
            heads = [f"{name}, MiB" if name != "open files" else name for name in report["memory"]]
            print(
                format_table(heads, [[f"{value:,.0f}" for value in report["memory"].values()]]), end="\n\n", flush=True
            )
        if options.openapi:
            passed = run_schemathesis(url, options.openapi)
    return report, passed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 256])
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement of latency")
    parser.add_argument("--flood", type=int, default=4, help="clients that send long texts")
    parser.add_argument("--characters", type=int, default=100_000, help="length of a long text")
    parser.add_argument("--slow", type=int, default=300, help="slow clients")
    parser.add_argument("--minutes", type=float, default=10, help="of the measurement of memory")
    parser.add_argument("--openapi", type=int, default=0, help="examples of schemathesis")
    parser.add_argument("--max-waiting", type=int, default=512, help="as for musamma serve")
    parser.add_argument(
        "--service", nargs="+", default=[], metavar="NAME=VALUE", help="further options of musamma serve"
    )
    parser.add_argument("--source", type=Path, help="another checkout of the project to run")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args()
    options.service = [
        part for option in options.service for part in (f"--{option.partition('=')[0]}", option.partition("=")[2])
    ]
    try:
        if shutil.which("hey") is None:
            raise InputError("hey is not installed", remedy="apt-get install hey")
        with tempfile.TemporaryDirectory() as folder:
            report, passed = measure(options, Path(folder))
        if options.json is not None:
            write_json(report, options.json)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
