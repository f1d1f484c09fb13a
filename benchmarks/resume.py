"""Never losing work: kill a real run of ``musamma predict`` at random moments and compare; then feed it broken lines. No network.

    python benchmarks/resume.py [--kills N] [--lines N] [--documents N] [--model MODEL] [--seed N]

Documents are made with a fixed seed. One run is left alone; another one is killed (SIGKILL) after a random time, gone on with by
``--resume`` and killed again, and so on until it ends. The outputs must be the same, byte by byte. The lines are JSON documents with
bytes changed, cut or put in at random, and lines of random bytes: those written and those rejected must be those that were read.
Without ``--model`` a checkpoint with random heads is made of the encoder that comes with the project: it finds names anywhere.
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


def documents(count: int, random_: random.Random) -> Iterator[bytes]:
    """JSON lines of 5 to 60 words."""
    for number in range(count):
        text = " ".join(random_.choices(_WORDS, k=random_.randint(5, 60)))
        yield json.dumps({"id": f"وثيقة-{number}", "text": text}, ensure_ascii=False).encode()


def mutated(line: bytes, random_: random.Random) -> bytes:
    """A line with some bytes replaced, or random bytes, or the line itself; never blank, always one line."""
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
    """A checkpoint of the packaged encoder whose heads are drawn at random, and wide."""
    import torch

    from musamma.data.tags import TagSet
    from musamma.models.classifier import WindowOptions
    from musamma.models.loading import build_classifier, load_tokenizer, packaged_models

    name = str(packaged_models()["nawah"])
    torch.manual_seed(1)
    classifier = build_classifier(name, TagSet.from_labels(["PER", "LOC", "ORG"]))
    torch.nn.init.normal_(classifier.backbone.classifier.weight, std=0.2)
    classifier.save_pretrained(folder, load_tokenizer(name), WindowOptions(max_length=128, overlap=32))
    return str(folder)


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    """The command in a process of its own."""
    return subprocess.Popen([sys.executable, "-m", "musamma.cli.main", "predict", *arguments], stderr=subprocess.PIPE)


def finished(arguments: list[str]) -> float:
    """Run the command to its end; the seconds that it took."""
    began = time.perf_counter()
    process = start(arguments)
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"the run failed: {said.decode()}")
    return time.perf_counter() - began


def killed_runs(source: Path, whole: Path, arguments: list[str], *, kills: int, pause: Callable[[], float]) -> None:
    """Kill and go on until so many kills have been survived, and compare each output that came to its end.

    Args:
        source: the input.
        whole: what a run that was left alone has made of it; the killed one writes beside it.
        arguments: the other ones of the command.
        kills: how often to kill.
        pause: seconds from a start to the next kill.
    """
    output = whole.with_name("killed.jsonl")
    part = output.with_name(f"{output.name}.part")
    done = ends = 0
    while done < kills or not ends or part.exists():
        output.unlink(missing_ok=True)
        process = start([str(source), *arguments, "-o", str(output), "--resume"])
        try:
            process.wait(timeout=pause() if done < kills else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            done += 1
            continue
        _, said = process.communicate()
        if process.returncode:
            raise SystemExit(f"going on failed: {said.decode()}")
        ends += 1
        if output.read_bytes() != whole.read_bytes():
            raise SystemExit("the outputs differ")
    print(f"{done} kills, {ends} runs that came to their end: all the same, byte by byte")


def broken_lines(folder: Path, arguments: list[str], *, lines: int, random_: random.Random) -> None:
    """Tag broken lines and count what becomes of them."""
    source, output = folder / "broken.jsonl", folder / "broken-out.jsonl"
    given = [mutated(line, random_) for line in documents(lines, random_)]
    source.write_bytes(b"".join(line + b"\n" for line in given))
    finished([str(source), *arguments, "-o", str(output), "--on-error", "skip"])
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
    given = parser.parse_args()
    random_ = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = ["-m", given.model or make_model(folder / "model"), "--device", "cpu"]
        source = folder / "in.jsonl"
        source.write_bytes(b"".join(line + b"\n" for line in documents(given.documents, random_)))
        whole = folder / "whole.jsonl"
        seconds = finished([str(source), *arguments, "-o", str(whole)])
        print(f"undisturbed: {seconds:.1f} s, {whole.stat().st_size:,} bytes")
        killed_runs(source, whole, arguments, kills=given.kills, pause=lambda: random_.uniform(0.2, 1.0) * seconds)
        broken_lines(folder, arguments, lines=given.lines, random_=random_)


if __name__ == "__main__":
    main()
