"""Kill runs of ``musamma predict`` at random moments, resume them and compare the output; then tag broken lines. No network.

    python benchmarks/resume.py [--kills N] [--lines N] [--documents N] [--model MODEL] [--seed N]

Documents are generated with a fixed seed. One run is left alone. Another one is killed (SIGKILL) after a random time, resumed with
``--resume`` and killed again until it ends. Both outputs must be identical. The broken lines are JSON documents with bytes changed,
removed or inserted at random, and lines of random bytes: every line must be either written or rejected. Without ``--model``, a
checkpoint with random heads is made of the packaged encoder; it finds names everywhere.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_TEXT = "أعلن المتحدث باسم الأمم المتحدة أن الوفد، وصل إلى «بيروت» من بغداد وبالموصل للجيش العراقي أمس"
_WORDS = _TEXT.split()


def generate_documents(count: int, random_: random.Random) -> Iterator[bytes]:
    """Yield JSON lines with 5 to 60 words."""
    for number in range(count):
        text = " ".join(random_.choices(_WORDS, k=random_.randint(5, 60)))
        yield json.dumps({"id": f"وثيقة-{number}", "text": text}, ensure_ascii=False).encode()


def mutate(line: bytes, random_: random.Random) -> bytes:
    """Return the line, the line with some bytes replaced, or random bytes; never blank, always one line."""
    kind = random_.randrange(4)
    if kind == 0:
        return line
    if kind == 1:
        line = random_.randbytes(random_.randint(1, 60))
    else:
        for _ in range(random_.randint(1, 3)):
            start = random_.randrange(len(line) + 1)
            line = line[:start] + random_.randbytes(random_.randint(0, 3)) + line[start + random_.randint(0, 3) :]
    line = line.replace(b"\n", b"?")
    return line if line.strip() else b"?"


def make_model(folder: Path) -> str:
    """Save the packaged encoder with random heads of large weights; return the folder."""
    import torch

    from musamma.data.tags import TagSet
    from musamma.models.checkpoint import build_classifier, load_tokenizer
    from musamma.models.model_names import packaged_models
    from musamma.models.window_options import WindowOptions

    name = str(packaged_models()["nawah"])
    torch.manual_seed(1)
    classifier = build_classifier(name, TagSet.from_labels(["PER", "LOC", "ORG"]))
    torch.nn.init.normal_(classifier.backbone.classifier.weight, std=0.2)
    classifier.save_pretrained(folder, load_tokenizer(name), WindowOptions(max_length=128, overlap=32))
    return str(folder)


def start_predict(options: list[str]) -> subprocess.Popen[bytes]:
    """Start the command in its own process."""
    return subprocess.Popen([sys.executable, "-m", "musamma", "predict", *options], stderr=subprocess.PIPE)


def run_predict(options: list[str]) -> float:
    """Run the command to its end and return the seconds it took."""
    started = time.perf_counter()
    process = start_predict(options)
    _, stderr = process.communicate()
    if process.returncode:
        raise SystemExit(f"the run failed: {stderr.decode()}")
    return time.perf_counter() - started


def check_killed_runs(
    source: Path, complete: Path, options: list[str], *, kills: int, draw_seconds: Callable[[], float]
) -> None:
    """Kill and resume runs, and compare each output that was completed.

    Args:
        source: the input.
        complete: the output of an undisturbed run; the killed one writes beside it.
        options: further options of the command.
        kills: number of kills.
        draw_seconds: draws the seconds from a start to the next kill.
    """
    output = complete.with_name("killed.jsonl")
    unfinished = output.with_name(f"{output.name}.part")
    killed = completed = 0
    while killed < kills or not completed or unfinished.exists():
        output.unlink(missing_ok=True)
        process = start_predict([str(source), *options, "-o", str(output), "--resume"])
        try:
            process.wait(timeout=draw_seconds() if killed < kills else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
            continue
        _, stderr = process.communicate()
        if process.returncode:
            raise SystemExit(f"resuming failed: {stderr.decode()}")
        completed += 1
        if output.read_bytes() != complete.read_bytes():
            raise SystemExit("the outputs differ")
    print(f"{killed} kills, {completed} completed runs: all outputs identical")


def check_broken_lines(folder: Path, options: list[str], *, lines: int, random_: random.Random) -> None:
    """Tag broken lines and check that each is written or rejected."""
    source, output = folder / "broken.jsonl", folder / "broken-out.jsonl"
    broken = [mutate(line, random_) for line in generate_documents(lines, random_)]
    source.write_bytes(b"".join(line + b"\n" for line in broken))
    run_predict([str(source), *options, "-o", str(output), "--on-error", "skip"])
    written = output.read_bytes().count(b"\n")
    rejected = {json.loads(line)["line"] for line in Path(f"{output}.rejects.jsonl").read_bytes().splitlines()}
    if written + len(rejected) != lines:
        raise SystemExit(f"{lines} lines, but {written} written and {len(rejected)} rejected")
    print(f"{lines:,} lines: {written:,} written, {len(rejected):,} rejected, none lost")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--documents", type=int, default=5_000)
    parser.add_argument("--model")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    random_ = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = ["-m", arguments.model or make_model(folder / "model"), "--device", "cpu"]
        source = folder / "in.jsonl"
        source.write_bytes(b"".join(line + b"\n" for line in generate_documents(arguments.documents, random_)))
        complete = folder / "complete.jsonl"
        seconds = run_predict([str(source), *options, "-o", str(complete)])
        print(f"undisturbed: {seconds:.1f} s, {complete.stat().st_size:,} bytes")
        check_killed_runs(
            source, complete, options, kills=arguments.kills, draw_seconds=lambda: random_.uniform(0.2, 1.0) * seconds
        )
        check_broken_lines(folder, options, lines=arguments.lines, random_=random_)


if __name__ == "__main__":
    main()
