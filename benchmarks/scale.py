"""Tagging much: speed and memory of `musamma predict` as its input grows, a text of many megabytes, kills on the way.

    python benchmarks/scale.py --model FOLDER [--documents 1000 10000 100000] [--words 40] [--long-megabytes 10]
        [--kills 20] [--seed N] [--device DEVICE] [--json FILE]

Documents are made of the words of Khabar's sentences, shuffled: JSON lines with ids of their own; a small file is the
beginning of a large one. `words/s` is what the command says of itself, without loading; `wall` counts all, from start
to end. Memory is that of the process and its children together, looked at ten times a second; pages that they share
count for each. The long document is whole articles, one behind the other. Then a run of the middle size is killed
(SIGKILL) at random moments, also while it loads, and gone on with by `--resume`: the output must be, byte by byte,
that of the run that was left alone. `--long-megabytes 0` and `--kills 0` leave these out.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import psutil
from resume import check_killed_runs, start_predict
from rich.console import Console
from rich.table import Table

from musamma.data.corpora import load_khabar
from musamma.data.document import Document, read_jsonl
from musamma.data.errors import InputError
from musamma.data.files import write_json

# Scripts in a folder of their own, which import one another by name.
sys.path.append(str(Path(__file__).parent / "peers"))

from passages import sentences

_RATE = re.compile(r"([\d,]+) words/s")
_SECONDS_BETWEEN_LOOKS = 0.1
# Equal stretches of the long document, in each of which some name should be.
_STRETCHES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of the command.

    Args:
        documents, words: of its input.
        seconds: from its start to its end.
        rate: words a second, as it says itself.
        memory: the most bytes that it and its children held.
    """

    documents: int
    words: int
    seconds: float
    rate: float
    memory: int

    @property
    def loading(self) -> float:
        """Seconds that were not spent on tagging."""
        return max(0.0, self.seconds - self.words / self.rate)


def shuffled_words(random_: random.Random) -> Iterator[str]:
    """The words of Khabar's sentences, without end; whenever all have been given, in another order of sentences."""
    known = [article.text[start:end].split() for article in load_khabar() for start, end in sentences(article.text)]
    while True:
        random_.shuffle(known)
        for sentence in known:
            yield from sentence


def write_documents(path: Path, count: int, *, words: int, seed: int) -> int:
    """Write documents of half to one and a half times so many words; gives the words of all."""
    random_ = random.Random(seed)
    stream = shuffled_words(random_)
    total = 0
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = list(islice(stream, random_.randint(max(1, words // 2), words * 3 // 2)))
            total += len(text)
            file.write(json.dumps({"id": f"خبر-{number}", "text": " ".join(text)}, ensure_ascii=False) + "\n")
    return total


def write_long(path: Path, *, megabytes: float, seed: int) -> int:
    """Write one document of whole articles of so many million bytes; gives its words."""
    texts = [article.text.strip() for article in load_khabar()]
    random.Random(seed).shuffle(texts)
    parts: list[str] = []
    size = 0
    while size < megabytes * 1e6:
        parts.append(texts[len(parts) % len(texts)])
        size += len(parts[-1].encode()) + 2
    text = "\n\n".join(parts)
    path.write_text(json.dumps({"id": "طويل", "text": text}, ensure_ascii=False) + "\n", "utf-8")
    return len(text.split())


def watched(arguments: list[str], *, documents: int, words: int) -> Run:
    """Run the command and look at its memory until it ends."""
    began = time.perf_counter()
    process = start_predict(arguments)
    seen, memory = psutil.Process(process.pid), 0
    while True:
        memory = max(memory, resident(seen))
        try:
            _, said = process.communicate(timeout=_SECONDS_BETWEEN_LOOKS)
            break
        except subprocess.TimeoutExpired:
            continue
    seconds = time.perf_counter() - began
    told = said.decode()
    rates = _RATE.findall(told)
    if process.returncode or not rates:
        raise SystemExit(f"the run failed: {told}")
    rate = float(rates[-1].replace(",", ""))
    return Run(documents=documents, words=words, seconds=seconds, rate=rate, memory=memory)


def resident(process: psutil.Process) -> int:
    """Bytes in memory of a process and its children; those that have just ended hold none."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
    return total


def check(given: Path, tagged: Path) -> tuple[int, int]:
    """Compare the long document with what came out; gives how many names it has, and in how many stretches of it.

    Raises:
        SystemExit: it is another document, or its names cannot be.
    """
    (before,), (after,) = list(read_jsonl(given)), list(read_jsonl(tagged))
    if (before.id, before.text) != (after.id, after.text):
        raise SystemExit("the long document came out as another one")
    if wrong := [span for span in after.spans if after.surface(span) != after.surface(span).strip()]:
        raise SystemExit(f"{len(wrong)} names of the long document begin or end with a space")
    # That names lie in the text, in order and apart, is what a document is checked for where it is read.
    assert all(left.end <= right.start for left, right in pairwise(after.spans))
    return len(after.spans), len(stretches(after))


def stretches(document: Document) -> set[int]:
    """Which of the equal stretches of a text have a name that begins in them."""
    return {span.start * _STRETCHES // len(document.text) for span in document.spans}


def screen(runs: Iterable[Run]) -> Table:
    """The table of all sizes."""
    table = Table()
    for head in ("documents", "words", "seconds", "words/s", "wall words/s", "peak memory, MB"):
        table.add_column(head, justify="right", no_wrap=True)
    for run in runs:
        wall = run.words / run.seconds
        numbers = (run.documents, run.words, round(run.seconds, 1), run.rate, wall, run.memory / 1e6)
        table.add_row(*(f"{number:,.1f}" if index == 2 else f"{number:,.0f}" for index, number in enumerate(numbers)))
    return table


def measure(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """All of it; gives the figures."""
    sizes = sorted(set(options.documents))
    model = ["-m", options.model, *(["--device", options.device] if options.device else [])]
    console.print(f"seed {options.seed}, documents of {options.words} words on average, {options.model}")
    runs: dict[int, Run] = {}
    for size in sizes:
        words = write_documents(folder / f"in-{size}.jsonl", size, words=options.words, seed=options.seed)
        paths = [str(folder / f"in-{size}.jsonl"), "-o", str(folder / f"out-{size}.jsonl")]
        runs[size] = watched([*paths, *model], documents=size, words=words)
    console.print(screen(runs.values()))
    small, large = runs[sizes[0]], runs[sizes[-1]]
    flat = {"words/s": large.rate / small.rate, "memory": large.memory / small.memory}
    console.print(
        f"largest to smallest: {flat['words/s']:.2f} times the words/s, {flat['memory']:.2f} times the memory"
    )
    report: dict[str, Any] = {"sizes": [asdict(run) for run in runs.values()], "largest to smallest": flat}
    if options.long_megabytes > 0:
        source, target = folder / "long.jsonl", folder / "long-out.jsonl"
        words = write_long(source, megabytes=options.long_megabytes, seed=options.seed)
        run = watched([str(source), "-o", str(target), *model], documents=1, words=words)
        names, places = check(source, target)
        console.print(
            f"one document of {source.stat().st_size / 1e6:.2f} MB, {words:,} words: {run.seconds:.1f} s,"
            f" {run.rate:,.0f} words/s, {run.memory / 1e6:,.0f} MB, {names:,} names,"
            f" all valid, in {places} of {_STRETCHES} equal stretches"
        )
        report["long"] = asdict(run) | {"names": names, "stretches": places}
    if options.kills:
        size = sizes[len(sizes) // 2]
        run, random_ = runs[size], random.Random(options.seed)
        # On average half of this is spent on tagging: all kills together come at about the length of one run.
        reach = run.loading + 2 * (run.seconds - run.loading) / options.kills
        console.print(f"{size:,} documents, killed after {run.loading / 2:.1f} to {reach:.1f} s, seed {options.seed}:")
        check_killed_runs(
            folder / f"in-{size}.jsonl",
            folder / f"out-{size}.jsonl",
            model,
            kills=options.kills,
            draw_seconds=lambda: random_.uniform(run.loading / 2, reach),
        )
        report["kills"] = {"documents": size, "kills": options.kills, "seed": options.seed}
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--documents", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--words", type=int, default=40, help="of a document, on average")
    parser.add_argument("--long-megabytes", type=float, default=10)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", help="as of musamma predict")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    options = parser.parse_args()
    console = Console(width=150)
    try:
        with tempfile.TemporaryDirectory() as folder:
            report = measure(options, Path(folder), console)
        if options.json is not None:
            write_json(report, options.json)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
