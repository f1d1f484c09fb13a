"""Scores on noisy texts: what other spelling, marks and spacing cost a model. No network.

    python benchmarks/robustness.py [MODEL ...] [--gold FILE] [--resamples N] [--json FILE]

Each kind of noise of `musamma.data.text_noise` is added to the texts, and the annotated names move along. The scores are strict: a name is
correct if its first character, last character and label are. The difference to the unchanged texts has the paired 95% interval over
documents; for several models, the table shows means and the range. By default the model is the packaged tagger and the texts are the
development and test parts of Khabar.

Names behind a proclitic and other names are compared on the unchanged texts, by recall: a wrong name has no such kind.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from musamma.data.corpora import load_khabar
from musamma.data.corpus_files import read_documents
from musamma.data.document import Document
from musamma.data.files import write_json
from musamma.data.text_noise import NOISE, add_noise
from musamma.evaluation.counts import Counts, CountTable, count_table
from musamma.evaluation.significance import compare_systems
from musamma.evaluation.slices import Slicer, count_slices
from musamma.inference import Tagger

_STRICT = "strict"
_PROCLITIC = "slice:proclitic"


def measure_model(model: str, gold: Sequence[Document], *, resamples: int) -> dict[str, Any]:
    """Score a model on unchanged and noisy texts.

    Returns:
        ``f1`` on the unchanged texts; ``proclitic`` with the recall of names behind a proclitic and of others; ``noise`` by kind,
        with ``f1``, ``difference`` and ``interval``. All in points of 100.
    """
    tagger = Tagger(model)
    base, predictions = _count(tagger, gold)
    slices = count_slices(zip(gold, predictions, strict=True), Slicer(meta=()))
    recall = {value: 100 * slices.total(f"{_PROCLITIC}={value}").recall for value in ("yes", "no")}
    noise = {}
    for name in NOISE:
        table, _ = _count(tagger, [add_noise(document, [name]) for document in gold])
        (comparison,) = compare_systems(base, table, rows=[_STRICT], resamples=resamples)
        interval = comparison.interval
        noise[name] = {
            "f1": 100 * comparison.second,
            "difference": 100 * comparison.difference,
            "interval": [100 * interval.low, 100 * interval.high],
        }
    counts: Counts = base.total(_STRICT)
    return {"f1": 100 * counts.f1, "proclitic": recall, "noise": noise}


def _count(tagger: Tagger, gold: Sequence[Document]) -> tuple[CountTable, list[Document]]:
    """Tag texts, and return the counts of every document and the tagged documents."""
    predictions = list(tagger.tag_documents(document.with_spans(()) for document in gold))
    return count_table(zip(gold, predictions, strict=True), modes=[_STRICT]), predictions


def print_results(results: Sequence[dict[str, Any]], *, documents: int, names: int) -> None:
    """Print the means over models; with a single one, the intervals of the differences."""
    single = results[0] if len(results) == 1 else None
    table = Table(title=f"{documents} documents, {names:,} names, {len(results)} model(s)", title_justify="left")
    for heading in ("texts", "strict F1", "difference", "95% interval" if single else "from, to"):
        table.add_column(heading, justify="left" if heading == "texts" else "right")
    table.add_row("unchanged", f"{mean(result['f1'] for result in results):.2f}", "", "")
    for name in NOISE:
        of_models = [result["noise"][name] for result in results]
        differences = [item["difference"] for item in of_models]
        low, high = single["noise"][name]["interval"] if single else (min(differences), max(differences))
        f1 = mean(item["f1"] for item in of_models)
        table.add_row(name.replace("_", " "), f"{f1:.2f}", f"{mean(differences):+.2f}", f"{low:+.2f}, {high:+.2f}")
    console = Console(width=140)
    console.print(table)
    behind, others = (mean(result["proclitic"][value] for result in results) for value in ("yes", "no"))
    console.print(f"recall of names behind a proclitic {behind:.2f}, of others {others:.2f}: {behind - others:+.2f}")


def main() -> None:
    """Tag the noisy texts with every model, and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--gold", help="annotated documents; by default Khabar's development and test parts")
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    models = options.models or ["nawah-ner"]
    gold = list(read_documents(options.gold)) if options.gold else [*load_khabar("dev"), *load_khabar("test")]
    results = [measure_model(model, gold, resamples=options.resamples) for model in models]
    print_results(results, names=sum(len(document.spans) for document in gold), documents=len(gold))
    if options.json is not None:
        write_json(dict(zip(models, results, strict=True)), options.json)


if __name__ == "__main__":
    main()
