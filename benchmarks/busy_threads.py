"""What a busy machine costs: words per second of fine-tuning and tagging, quiet and beside busy loops, by how threads wait. No network.

    python benchmarks/busy_threads.py --model CHECKPOINT [--threads N] [--busy N] [--seconds N] [--rounds N] [--json FILE]

Threads of OpenMP wait for each other at the end of every operation. The ways to wait are those of GNU OpenMP, PyTorch's on Linux:

- its own default, some milliseconds of spinning;
- `GOMP_SPINCOUNT=10000`, some microseconds;
- `GOMP_SPINCOUNT=0`, no spinning, as the command `musamma` sets it, and `OMP_WAIT_POLICY=PASSIVE`, the same by another variable;
- one thread, which never waits.

Each measurement is a process of its own, because OpenMP reads the variables when it is loaded. It tags Khabar's test part for some
seconds, then takes training steps for as long: 16 windows of the same articles, AdamW, plain attention, in bfloat16 if the processor
has it. The first pass and the first step are not timed. The ways take turns, quiet and beside `--busy` endless loops. The table has
the median of the rounds, and the share of its quiet speed that each way has left, with the lowest and the highest of a round.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from musamma.data.files import write_json

_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
_ONE_THREAD = "one thread"
WAYS: Mapping[str, Mapping[str, str]] = {
    "OpenMP's default": {},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "GOMP_SPINCOUNT=0": {"GOMP_SPINCOUNT": "0"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    _ONE_THREAD: {"OMP_NUM_THREADS": "1"},
}
_WORK = ("train", "tag")
_BATCH_WINDOWS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a checkpoint")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", type=int, default=1, help="number of busy loops")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.model, options.seconds)))
        return
    # By way, work and number of busy loops, the words per second of each round.
    rates: dict[tuple[str, str, int], list[float]] = {}
    for number in range(options.rounds):
        for busy in (0, options.busy):
            for way in WAYS:
                with run_busy_loops(busy):
                    measured = measure_in_process(options, way)
                for work in _WORK:
                    rates.setdefault((way, work, busy), []).append(measured[work])
                said = ", ".join(f"{work} {measured[work]:,.0f} words/s" for work in _WORK)
                print(f"round {number + 1}, {busy} busy, {way}: {said}", file=sys.stderr)
    records = list(summarise(rates, options.busy))
    print_table(records, options)
    if options.json:
        write_json(
            {"cores": os.cpu_count(), "threads": options.threads, "busy": options.busy, "ways": records}, options.json
        )


# In a process of its own.


def measure(model: str, seconds: float) -> dict[str, float]:
    """Return the words per second of training steps and of tagging with a checkpoint."""
    import torch

    from musamma.data.corpora import load_khabar
    from musamma.models.loading import load_predictor
    from musamma.models.runtimes.torch import TorchRuntime, supports_bfloat16
    from musamma.training.dataset import WindowCollator, build_window_dataset, joint_loss

    documents = load_khabar("test")
    words = sum(len(document.text.split()) for document in documents)
    predictor = load_predictor(model, device="cpu")
    if not isinstance(predictor.runtime, TorchRuntime):
        raise SystemExit(f"{model}: an exported model; expected a checkpoint")

    def tag() -> int:
        for _ in predictor.predict(documents):
            pass
        return words

    tagging = measure_rate(tag, seconds)
    classifier, tokenizer = predictor.runtime.classifier, predictor.document_tokenizer
    classifier.backbone.set_attn_implementation("eager")
    classifier.train()
    windows, _ = build_window_dataset(
        documents, tokenizer, predictor.tag_set, proclitics=classifier.proclitic_head is not None
    )
    collate = WindowCollator(tokenizer.padding_id, tokenizer.max_length)
    rows = [windows[index] for index in range(len(windows))]
    batches = cycle([collate(rows[first : first + _BATCH_WINDOWS]) for first in range(0, len(rows), _BATCH_WINDOWS)])
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=1e-6)
    bfloat16 = supports_bfloat16(torch.device("cpu"))

    def step() -> int:
        batch = next(batches)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            loss = joint_loss(classifier(batch["input_ids"], batch["attention_mask"]), batch["labels"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return int((batch["labels"][:, 0] >= 0).sum())

    return {"train": measure_rate(step, seconds), "tag": tagging}


def measure_rate(work: Callable[[], int], seconds: float) -> float:
    """Return the words per second of work that returns its number of words, after doing it once without measuring."""
    work()
    words, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        words += work()
    return words / elapsed


# In the process of the script.


@contextmanager
def run_busy_loops(count: int) -> Iterator[None]:
    """Run processes that each keep a core busy."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def measure_in_process(options: argparse.Namespace, way: str) -> dict[str, float]:
    """Measure in a process whose threads wait in one of the ways."""
    environment = {name: value for name, value in os.environ.items() if name not in _VARIABLES}
    environment |= {"OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1", **WAYS[way]}
    command = [sys.executable, __file__, "--measure", "--model", options.model, "--seconds", str(options.seconds)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def summarise(rates: Mapping[tuple[str, str, int], list[float]], busy: int) -> Iterator[dict[str, Any]]:
    """Yield a record for each way and work: words per second, quiet and busy, and the share that is left."""
    for work in _WORK:
        for way in WAYS:
            quiet, beside = (median(rates[way, work, count]) for count in (0, busy))
            shares = [one / other for one, other in zip(rates[way, work, busy], rates[way, work, 0], strict=True)]
            yield {
                "work": work,
                "way": way,
                "quiet": quiet,
                "busy": beside,
                "left": median(shares),
                "left_least": min(shares),
                "left_most": max(shares),
            }


def print_table(records: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Print the table."""
    title = f"words per second, {options.threads} threads on {os.cpu_count()} cores, {options.rounds} rounds"
    table = Table(title=title, title_justify="left")
    for column in ("work", "threads wait"):
        table.add_column(column)
    for column in ("quiet", f"beside {options.busy} busy", "left"):
        table.add_column(column, justify="right")
    for record in records:
        left = f"{record['left']:.0%} ({record['left_least']:.0%} to {record['left_most']:.0%})"
        table.add_row(record["work"], record["way"], f"{record['quiet']:,.0f}", f"{record['busy']:,.0f}", left)
    Console(markup=False).print(table)


if __name__ == "__main__":
    main()
