"""Cost of rules: time and memory to build the automaton, and words per second with 0, 100 and 100,000 names.

    python benchmarks/rules.py [--model MODEL] [--names N [N ...]] [--documents N] [--rounds N] [--json FILE]

The texts are those of Khabar. The names are made up of their words, from a fixed seed: three quarters of two or three words, a
quarter of one word that is put together of two halves, and 300 words as they are, so that some names are found. Rules are timed
alone, on documents without names, and, with `--model`, within `Tagger`. There the systems take turns, round after round; ratios to the
tagger without rules are taken within each round, and the table shows the median. All times are processor time of all threads, so that other
processes on the machine matter little.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from musamma.data.corpora import load_khabar
from musamma.data.document import Document
from musamma.data.files import write_json
from musamma.inference.name_rules import NameList, Rules
from musamma.inference.rule_matching import RuleTagger

_SINGLE_WORDS = 300
_COUNTS = (0, 100, 100_000)


def load_texts(limit: int | None) -> list[Document]:
    """Load the texts of Khabar, without names."""
    return [document.with_spans(()) for document in load_khabar()][:limit]


def make_rules(documents: Sequence[Document], count: int) -> Rules:
    """Make rules with a list of ``count`` names of the words of documents."""
    chosen = random.Random(1)
    words = sorted({word for document in documents for word in re.findall(r"[\u0621-\u064a]{3,}", document.text)})
    names = dict.fromkeys(chosen.sample(words, min(_SINGLE_WORDS, count // 4, len(words))))
    while len(names) < count:
        if (length := chosen.choice((1, 2, 2, 3))) > 1:
            name = " ".join(chosen.choices(words, k=length))
        else:
            first, second = chosen.choices(words, k=2)
            name = first[: len(first) // 2 + 1] + second[len(second) // 2 :]
        names[name] = None
    entries = tuple((name, "LISTED") for name in names)
    return Rules(lists=(NameList(title="lists[0]", entries=entries),) if entries else ())


def measure_build(count: int, limit: int | None) -> dict[str, float]:
    """Build the automaton in this process, which does nothing else; return the seconds and the growth of its memory in MB."""
    documents = load_texts(limit)
    rules = make_rules(documents, count)
    RuleTagger(make_rules(documents, 10))  # Loads the package.
    before, began = _resident_mb(), time.process_time()
    tagger = RuleTagger(rules)
    seconds, grown = time.process_time() - began, _resident_mb() - before
    best, names = float("inf"), 0
    words = sum(len(document.text.split()) for document in documents)
    for _ in range(3):
        began = time.process_time()
        tagged = [tagger.apply(document) for document in documents]
        best = min(best, time.process_time() - began)
        names = sum(len(document.spans) for document in tagged)
    return {"names": count, "build_s": seconds, "build_mb": grown, "words_per_s": words / best, "found": names}


def _resident_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


def measure_tagger(
    model: str, documents: Sequence[Document], counts: Sequence[int], rounds: int
) -> dict[int, dict[str, float]]:
    """Return words per second and the median ratio to the tagger without rules, by number of names."""
    from musamma.inference import Tagger

    words = sum(len(document.text.split()) for document in documents)
    tagger = Tagger(model, device="cpu")
    rule_taggers = {count: RuleTagger(make_rules(documents, count)) if count else None for count in counts}
    for _ in tagger.tag_documents(documents[:5]):  # Warms up.
        pass
    rates: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(rounds):
        for count, rules in rule_taggers.items():
            tagger._rules = rules  # One model in memory serves all.
            began = time.process_time()
            for _ in tagger.tag_documents(documents):
                pass
            rates[count].append(words / (time.process_time() - began))
    base = rates[counts[0]]
    return {
        count: {
            "words_per_s": median(values),
            "ratio": median(value / other for value, other in zip(values, base, strict=True)),
        }
        for count, values in rates.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--names", type=int, nargs="+", default=list(_COUNTS))
    parser.add_argument("--documents", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--build", type=int, help=argparse.SUPPRESS
    )  # The measurement of one automaton, in a process of its own.
    options = parser.parse_args()
    if options.build is not None:
        print(json.dumps(measure_build(options.build, options.documents)))
        return
    run = partial(subprocess.run, check=True, capture_output=True, text=True)
    limit = [] if options.documents is None else ["--documents", str(options.documents)]
    record: dict[str, Any] = {"alone": []}
    table = Table("names", "built in", "memory", "words/s", "names found", title="rules alone")
    for count in options.names:
        result = json.loads(run([sys.executable, __file__, "--build", str(count), *limit]).stdout)
        record["alone"].append(result)
        table.add_row(
            f"{count:,}",
            f"{result['build_s']:.2f} s",
            f"{result['build_mb']:.0f} MB",
            f"{result['words_per_s']:,.0f}",
            f"{result['found']:,}",
        )
    console = Console()
    console.print(table)
    if options.model:
        counts = sorted({0, *options.names})
        rates = measure_tagger(options.model, load_texts(options.documents), counts, options.rounds)
        record["tagger"] = {str(count): values for count, values in rates.items()}
        table = Table("names", "words/s", "ratio to no rules", title=options.model)
        for count, values in rates.items():
            table.add_row(f"{count:,}", f"{values['words_per_s']:,.0f}", f"{values['ratio']:.3f}")
        console.print(table)
    if options.json:
        write_json(record, options.json)


if __name__ == "__main__":
    main()
