"""Speed and memory of `musamma predict` by size of the input, on one very long text, and after kills.

    python benchmarks/scale.py --model FOLDER [--documents 1000 10000 100000] [--words 40] [--long-megabytes 10]
        [--kills 20] [--seed N] [--device DEVICE] [--json FILE]

The documents are JSON lines with the words of Khabar's sentences, shuffled; a small file is the beginning of a large one.
`words/s` is the rate that the command prints, without loading; `wall words/s` covers the whole run. Memory is that of the
process and its children together, sampled ten times a second; shared pages count once for each of them. The long document
consists of whole articles. Finally a run of the middle size is killed (SIGKILL) at random moments, also while it loads, and
resumed with `--resume`: its output must be byte for byte that of the undisturbed run. `--long-megabytes 0` and `--kills 0`
skip these parts.
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

# The scripts in this folder import one another by name.
sys.path.append(str(Path(__file__).parent / "peers"))

from text_passages import split_sentences

_RATE = re.compile(r"([\d,]+) words/s")
_SAMPLE_SECONDS = 0.1
# The long document is divided into this number of equal sections, each of which should have a name.
_SECTIONS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of the command.

    Args:
        documents, words: the size of its input.
        seconds: from its start to its end.
        rate: words per second, as it prints them.
        memory: the maximum number of bytes held by it and its children.
    """

    documents: int
    words: int
    seconds: float
    rate: float
    memory: int

    @property
    def loading(self) -> float:
        """Seconds not spent on tagging."""
        return max(0.0, self.seconds - self.words / self.rate)


def shuffled_words(random_: random.Random) -> Iterator[str]:
    """Yield the words of Khabar's sentences endlessly; the sentences are shuffled before each pass."""
    sentences = [
        article.text[start:end].split() for article in load_khabar() for start, end in split_sentences(article.text)
    ]
    while True:
        random_.shuffle(sentences)
        for sentence in sentences:
            yield from sentence


def write_documents(path: Path, count: int, *, words: int, seed: int) -> int:
    """Write documents of half to one and a half times this number of words; return the number of all words."""
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
    """Write one document of whole articles with about this number of megabytes; return its number of words."""
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


def measure_run(arguments: list[str], *, documents: int, words: int) -> Run:
    """Run the command and sample its memory until it ends."""
    began = time.perf_counter()
    process = start_predict(arguments)
    monitored, memory = psutil.Process(process.pid), 0
    while True:
        memory = max(memory, resident_bytes(monitored))
        try:
            _, stderr = process.communicate(timeout=_SAMPLE_SECONDS)
            break
        except subprocess.TimeoutExpired:
            continue
    seconds = time.perf_counter() - began
    message = stderr.decode()
    rates = _RATE.findall(message)
    if process.returncode or not rates:
        raise SystemExit(f"the run failed: {message}")
    rate = float(rates[-1].replace(",", ""))
    return Run(documents=documents, words=words, seconds=seconds, rate=rate, memory=memory)


def resident_bytes(process: psutil.Process) -> int:
    """Return the bytes in memory of a process and its children; children that have just ended hold none."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
    return total


def check_long_document(source: Path, tagged: Path) -> tuple[int, int]:
    """Check the tagged long document; return the number of its names, and of sections with a name.

    Raises:
        SystemExit: its text has changed, or its names are invalid.
    """
    (before,), (after,) = list(read_jsonl(source)), list(read_jsonl(tagged))
    if (before.id, before.text) != (after.id, after.text):
        raise SystemExit("the long document has changed")
    if wrong := [span for span in after.spans if after.surface(span) != after.surface(span).strip()]:
        raise SystemExit(f"{len(wrong)} names of the long document begin or end with a space")
    # Reading has checked that names are inside the text, in order and do not overlap.
    assert all(left.end <= right.start for left, right in pairwise(after.spans))
    return len(after.spans), len(sections_with_names(after))


def sections_with_names(document: Document) -> set[int]:
    """Return the indices of the sections in which a name starts."""
    return {span.start * _SECTIONS // len(document.text) for span in document.spans}


def build_table(runs: Iterable[Run]) -> Table:
    """Build the table of all sizes."""
    table = Table()
    for head in ("documents", "words", "seconds", "words/s", "wall words/s", "peak memory, MB"):
        table.add_column(head, justify="right", no_wrap=True)
    for run in runs:
        wall = run.words / run.seconds
        numbers = (run.documents, run.words, round(run.seconds, 1), run.rate, wall, run.memory / 1e6)
        table.add_row(*(f"{number:,.1f}" if index == 2 else f"{number:,.0f}" for index, number in enumerate(numbers)))
    return table


def measure(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """Run all measurements and return the figures."""
    sizes = sorted(set(options.documents))
    model = ["-m", options.model, *(["--device", options.device] if options.device else [])]
    console.print(f"seed {options.seed}, documents of {options.words} words on average, {options.model}")
    runs: dict[int, Run] = {}
    for size in sizes:
        words = write_documents(folder / f"in-{size}.jsonl", size, words=options.words, seed=options.seed)
        paths = [str(folder / f"in-{size}.jsonl"), "-o", str(folder / f"out-{size}.jsonl")]
        runs[size] = measure_run([*paths, *model], documents=size, words=words)
    console.print(build_table(runs.values()))
    small, large = runs[sizes[0]], runs[sizes[-1]]
    ratios = {"words/s": large.rate / small.rate, "memory": large.memory / small.memory}
    console.print(
        f"largest to smallest: {ratios['words/s']:.2f} times the words/s, {ratios['memory']:.2f} times the memory"
    )
    report: dict[str, Any] = {"sizes": [asdict(run) for run in runs.values()], "largest to smallest": ratios}
    if options.long_megabytes > 0:
        source, target = folder / "long.jsonl", folder / "long-out.jsonl"
        words = write_long(source, megabytes=options.long_megabytes, seed=options.seed)
        run = measure_run([str(source), "-o", str(target), *model], documents=1, words=words)
        names, sections = check_long_document(source, target)
        console.print(
            f"one document of {source.stat().st_size / 1e6:.2f} MB, {words:,} words: {run.seconds:.1f} s,"
            f" {run.rate:,.0f} words/s, {run.memory / 1e6:,.0f} MB, {names:,} names,"
            f" all valid, in {sections} of {_SECTIONS} equal sections"
        )
        report["long"] = asdict(run) | {"names": names, "stretches": sections}
    if options.kills:
        size = sizes[len(sizes) // 2]
        run, random_ = runs[size], random.Random(options.seed)
        # The draw averages half of the tagging time per kill, so that all kills together take about the time of one run.
        latest = run.loading + 2 * (run.seconds - run.loading) / options.kills
        console.print(f"{size:,} documents, killed after {run.loading / 2:.1f} to {latest:.1f} s, seed {options.seed}:")
        check_killed_runs(
            folder / f"in-{size}.jsonl",
            folder / f"out-{size}.jsonl",
            model,
            kills=options.kills,
            draw_seconds=lambda: random_.uniform(run.loading / 2, latest),
        )
        report["kills"] = {"documents": size, "kills": options.kills, "seed": options.seed}
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--documents", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--words", type=int, default=40, help="average words per document")
    parser.add_argument("--long-megabytes", type=float, default=10)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", help="as for musamma predict")
    parser.add_argument("--json", type=Path, help="file for all figures")
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
