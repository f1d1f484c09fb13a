"""Words a second from texts to names: `Tagger`, as it is and exported, against transformers' own pipeline, in one run.

    python benchmarks/throughput.py --model CHECKPOINT [--exported FOLDER ...] [--gold FILE] [--sentences FILE]
        [--rounds N] [--threads N] [--window N] [--float32] [--json FILE]

All read the same texts on the same threads, in turn, round after round: the pipeline in float32 and, where the device
has it, in bfloat16, each at the batch size that is fastest on a part of these texts; `Tagger` with the checkpoint, as
it comes; `Tagger` with every exported folder. The pipeline goes through long texts in windows as wide as the encoder's
positions, or as `--window` says. Loading is not timed, nor a first pass over all texts, whose names are scored: the
pipeline's by whole words too, since it cannot part a name from its proclitic, nor, where a tokenizer marks no
continuation (SentencePiece), from the punctuation or the line break behind it.

Two sets of texts: articles, and sentences, where padding counts; by default the dev and test parts of Khabar, and the
same cut into sentences. Ratios are taken within each round; shown are the median and, in brackets, lowest and highest.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from musamma.data.corpora import load_khabar
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.files import write_json
from musamma.data.formats import read_documents

# Scripts in a folder of their own, which import one another by name.
sys.path.append(str(Path(__file__).parent / "peers"))

from offsets import CHANGES, Findings, Found, to_document
from passages import sentences
from peer_pipeline import AGGREGATION, window

#: Names of the two sides that all others are compared with, and of the one that exported models come from.
FLOAT32, BFLOAT16, TAGGER = "pipeline, float32", "pipeline, bfloat16", "Tagger"
# More than this at the start, and others are at work too.
_BUSY = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One of those compared.

    Args:
        name: its name.
        find: the names in each of some texts, in order, as the system gives them; this is what is timed.
        place: a document with its names as `find` gives them.
        sizes: words a second by batch size, where they were tried.
    """

    name: str
    find: Callable[[list[str]], list[Any]]
    place: Callable[[Document, Any], Document]
    sizes: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was measured of a system.

    Args:
        name: its name.
        sizes: as it has them.
        seconds: of every round.
        f1: strict and whole-word F1 in [0, 1], by mode; empty where the gold has no names.
        changes: names that had to be changed or dropped to become spans, by kind.
    """

    name: str
    sizes: Mapping[int, float]
    seconds: list[float]
    f1: Mapping[str, float]
    changes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """A set of documents to measure on, and what was left out of it."""

    name: str
    documents: list[Document]
    remarks: tuple[str, ...] = ()

    @property
    def words(self) -> int:
        """Words of all texts, as whitespace parts them."""
        return sum(len(document.text.split()) for document in self.documents)


def pipeline_system(model: str, name: str, texts: Sequence[str], options: argparse.Namespace) -> System:
    """transformers' pipeline at the batch size that is fastest on some texts."""
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

    dtype = torch.bfloat16 if name == BFLOAT16 else torch.float32
    classifier = AutoModelForTokenClassification.from_pretrained(model, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(model)
    widest = window(tokenizer.model_max_length, classifier.config.to_dict())
    tokenizer.model_max_length = options.window or widest
    run = pipeline("token-classification", model=classifier, tokenizer=tokenizer, device=options.device)

    def find(texts: list[str], batch_size: int) -> list[Any]:
        return list(run(texts, aggregation_strategy=AGGREGATION, stride=options.stride, batch_size=batch_size))

    words = sum(len(text.split()) for text in texts)
    speed = {size: words / fastest(lambda size=size: find(list(texts), size)) for size in options.batch_sizes}
    best = max(speed, key=speed.__getitem__)
    return System(name=name, find=lambda texts: find(texts, best), place=placed, sizes=speed)


def fastest(call: Callable[[], object]) -> float:
    """Seconds of the faster of two calls, after one that is not counted."""
    call()
    return min(timed(call) for _ in range(2))


def timed(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def placed(document: Document, names: Iterable[Mapping[str, Any]]) -> Document:
    """A document with the names of the pipeline, changed as little as spans ask for; see `offsets.to_document`."""
    found = (Found(int(name["start"]), int(name["end"]), name["entity_group"]) for name in names)
    return to_document(document, Findings(tuple(found)))


def tagger_system(model: str, name: str, *, device: str | None, bfloat16: bool | None = None) -> System:
    """`Tagger`, which chooses its batches itself."""
    from musamma.inference import Tagger

    tagger = Tagger(model, device=device, bfloat16=bfloat16)

    def find(texts: list[str]) -> list[list[Span]]:
        return list(tagger.tag_texts(texts))

    return System(name=name, find=find, place=Document.with_spans)


def measure(systems: Sequence[System], texts: Texts, *, rounds: int) -> list[Result]:
    """Let the systems tag the same texts in turn, after a first pass whose names are scored."""
    given = [document.text for document in texts.documents]
    results = []
    for system in systems:
        f1, changes = scores(texts.documents, system)
        results.append(Result(name=system.name, sizes=system.sizes, seconds=[], f1=f1, changes=changes))
    for _ in range(rounds):
        for system, result in zip(systems, results, strict=True):
            result.seconds.append(timed(lambda system=system: system.find(given)))
    return results


def scores(gold: list[Document], system: System) -> tuple[dict[str, float], Counter[str]]:
    """F1 by mode, and what was changed of the names on the way."""
    from musamma.evaluation import score_documents
    from musamma.evaluation.matching import STRICT, WHOLE_WORD

    bare = [document.with_spans(()) for document in gold]
    found = system.find([document.text for document in bare])
    tagged = [system.place(document, names) for document, names in zip(bare, found, strict=True)]
    changes = sum((Counter(document.meta.get(CHANGES, {})) for document in tagged), Counter())
    if not any(document.spans for document in gold):
        return {}, changes
    figures = score_documents(gold, tagged, modes=(STRICT, WHOLE_WORD))
    return {mode: figures.modes[mode].micro.f1 for mode in (STRICT, WHOLE_WORD)}, changes


def part(texts: Texts, *, words: int) -> list[str]:
    """Texts spread evenly over all of them, of about so many words together."""
    return [document.text for document in texts.documents[:: max(1, round(texts.words / words))]]


def read_texts(gold: str | None, short: str | None) -> list[Texts]:
    """The articles, and the sentences."""
    articles = list(read_documents(gold)) if gold else load_khabar("dev") + load_khabar("test")
    if short:
        return [_tidy("articles", articles), _tidy("sentences", list(read_documents(short)))]
    pieces, lost = [], 0
    for article in articles:
        cut = list(in_sentences(article))
        lost += len(article.spans) - sum(len(sentence.spans) for sentence in cut)
        pieces += cut
    remark = (f"{lost} names that reach over the end of a sentence left out of the gold",) if lost else ()
    return [_tidy("articles", articles), _tidy("sentences", pieces, *remark)]


def in_sentences(document: Document) -> Iterable[Document]:
    """The sentences of a document, each with the names that lie in it."""
    for number, (start, end) in enumerate(sentences(document.text)):
        inside = [span for span in document.spans if start <= span.start and span.end <= end]
        spans = tuple(Span(span.start - start, span.end - start, span.label) for span in inside)
        yield Document(f"{document.id}-{number}", document.text[start:end], spans)


def _tidy(name: str, documents: list[Document], *remarks: str) -> Texts:
    kept = [document for document in documents if document.text.strip()]
    if not kept:
        raise InputError("no text", where=name, expected="documents with texts")
    if empty := len(documents) - len(kept):
        remarks = (*remarks, f"{empty} texts without words left out")
    return Texts(name=name, documents=kept, remarks=remarks)


def shown(values: Sequence[float], digits: int) -> str:
    """Median, lowest and highest."""
    return f"{median(values):,.{digits}f} [{min(values):,.{digits}f}, {max(values):,.{digits}f}]"


def ratios(result: Result, baseline: Result) -> list[float]:
    """How many times as fast as the baseline, round by round."""
    return [theirs / ours for ours, theirs in zip(result.seconds, baseline.seconds, strict=True)]


def screen(results: Sequence[Result], texts: Texts) -> Table:
    """The table of a set of texts."""
    by_name = {result.name: result for result in results}
    baselines = [by_name[name] for name in (FLOAT32, BFLOAT16) if name in by_name]
    title = f"{texts.name}: {len(texts.documents):,} documents, {texts.words:,} words, {len(results[0].seconds)} rounds"
    table = Table(title=title, title_justify="left")
    heads = ["words/s", *(f"times {baseline.name}" for baseline in baselines), "strict F1", "whole-word F1"]
    for head in ("", *heads, f"strict F1 less {TAGGER}'s"):
        table.add_column(head, justify="right" if head else "left", no_wrap=True)
    for result in results:
        rates = [texts.words / seconds for seconds in result.seconds]
        compared = ["" if result is baseline else shown(ratios(result, baseline), 2) for baseline in baselines]
        f1 = [f"{100 * value:.2f}" for value in result.f1.values()] or ["", ""]
        table.add_row(_label(result), shown(rates, 0), *compared, *f1, _difference(result, by_name[TAGGER]))
    return table


def _label(result: Result) -> str:
    return (
        f"{result.name}, batches of {max(result.sizes, key=result.sizes.__getitem__)}" if result.sizes else result.name
    )


def _difference(result: Result, torch: Result) -> str:
    if result is torch or result.sizes or not result.f1:
        return ""
    return f"{100 * (result.f1['strict'] - torch.f1['strict']):+.2f}"


def remarks(results: Sequence[Result], texts: Texts) -> Iterable[str]:
    """What has to be known to read the table."""
    yield from texts.remarks
    for result in results:
        if result.sizes:
            speeds = ", ".join(f"{size}: {speed:,.0f}" for size, speed in result.sizes.items())
            yield f"{result.name}, words/s by batch size on a part of the texts: {speeds}"
        if result.changes:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(result.changes.items()))
            yield f"{result.name}, names changed to be spans: {kinds}"


def to_json(results: Sequence[Result], texts: Texts) -> dict[str, Any]:
    """All that was measured on a set of texts."""
    by_name = {result.name: result for result in results}
    rows = [
        {
            "system": result.name,
            "seconds": result.seconds,
            "words_per_second": [texts.words / seconds for seconds in result.seconds],
            "ratios": {name: ratios(result, by_name[name]) for name in (FLOAT32, BFLOAT16) if name in by_name},
            "f1": dict(result.f1),
            "changes": dict(result.changes),
            "batch_sizes": {str(size): speed for size, speed in result.sizes.items()},
        }
        for result in results
    ]
    return {"documents": len(texts.documents), "words": texts.words, "remarks": texts.remarks, "systems": rows}


def machine(threads: int) -> dict[str, Any]:
    """What the figures hold for."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    return {"cpu": model, "cores": os.cpu_count(), "threads": threads, "load_before": os.getloadavg()[0]}


def keep_to(threads: int) -> None:
    """Let every library have as many threads, and as many cores; they look when they are loaded."""
    os.environ |= dict(zip(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), repeat(str(threads))))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def run(options: argparse.Namespace, console: Console) -> None:
    """Measure on both sets of texts, print the tables and write the JSON.

    Raises:
        InputError: a model or file cannot be used.
    """
    where = machine(options.threads)
    keep_to(options.threads)
    import torch
    from transformers.utils import logging

    from musamma.models.loading import resolve_model
    from musamma.models.runtimes.torch import supports_bfloat16

    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    device, model = options.device, resolve_model(options.model)
    sets = read_texts(options.gold, options.sentences)
    versions = {name: version(name) for name in ("musamma", "torch", "transformers")}
    console.print(f"{where['cpu']}, {where['threads']} threads of {where['cores']} cores, {device}, {versions}")
    if where["load_before"] > _BUSY:
        console.print(f"[bold]warning: the load was {where['load_before']:.2f} at the start: others are at work too[/]")
    taggers = [tagger_system(options.model, TAGGER, device=device)]
    if options.float32:
        taggers.append(tagger_system(options.model, f"{TAGGER}, float32", device=device, bfloat16=False))
    taggers += [tagger_system(folder, f"{TAGGER}, {folder}", device=None) for folder in options.exported]
    kinds = [FLOAT32, *([BFLOAT16] if supports_bfloat16(torch.device(device)) else [])]
    written: dict[str, Any] = {}
    for texts in sets:
        sample = part(texts, words=options.search_words)
        systems = [*(pipeline_system(model, kind, sample, options) for kind in kinds), *taggers]
        results = measure(systems, texts, rounds=options.rounds)
        console.print(screen(results, texts))
        for remark in remarks(results, texts):
            console.print(remark, soft_wrap=True, markup=False, highlight=False)
        written[texts.name] = to_json(results, texts)
    where["load_after"] = os.getloadavg()[0]
    console.print(f"load {where['load_before']:.2f} before, {where['load_after']:.2f} after (own threads included)")
    if options.json:
        report: dict[str, Any] = {
            "machine": where | {"device": device},
            "versions": versions,
            "model": options.model,
            "sets": written,
        }
        report["pipeline"] = {"window": options.window, "stride": options.stride}
        write_json(report, Path(options.json))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--exported", nargs="*", default=[], metavar="FOLDER")
    parser.add_argument("--gold", help="annotated articles; by default the dev and test parts of Khabar")
    parser.add_argument("--sentences", help="short documents; by default the sentences of the articles")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--float32", action="store_true", help="also the Tagger in float32")
    parser.add_argument("--device", default="cpu", help="of the checkpoint, for both sides")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32], help="of the pipeline")
    parser.add_argument(
        "--window", type=int, help="pieces of the pipeline's windows; by default all that the model takes"
    )
    parser.add_argument("--stride", type=int, default=128, help="pieces that two of its windows share")
    parser.add_argument("--search-words", type=int, default=6000, help="words of the texts that these are tried on")
    parser.add_argument("--json", help="file to write all figures to")
    try:
        run(parser.parse_args(), Console(width=170))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
