"""Words per second: `Tagger`, with a checkpoint and exported, against the pipeline of transformers, in one run.

    python benchmarks/throughput.py --model CHECKPOINT [--exported FOLDER ...] [--gold FILE] [--sentences FILE]
        [--sets articles sentences] [--rounds N] [--threads N] [--window N] [--float32] [--json FILE]

All systems tag the same texts with the same number of threads, in turn, round after round: the pipeline in float32 and, if
the device supports it, in bfloat16, each at the batch size that is fastest on a sample of the texts; `Tagger` with the
checkpoint and its defaults; `Tagger` with each exported folder. The pipeline splits long texts into windows as long as the
encoder's positions, or as `--window` says. Neither loading nor a first pass over all texts is timed. The names of the first
pass are scored, by whole words too, because the pipeline cannot separate a name from its proclitic, nor, if the tokenizer does
not mark continuations (SentencePiece), from the punctuation or line break after it.

With exported folders, each round also measures the processor's matrix rates (`matrix_rates.py`) and times each exported graph alone, on
batches prepared beforehand. A second table has the operations per second and their share of the rate of the system's number type. Operations
are counted for the pieces of the texts, each in one window; in the graph, also for all pieces that it computes, with the overlap of windows
and padding. So the ratio of two systems is that of their rates times that of their shares.

There are two sets of texts: articles, and sentences, for which padding matters; by default the dev and test parts of Khabar,
and the same split into sentences. Ratios are taken within each round; the tables show the median and, in brackets, the lowest
and the highest value.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from itertools import repeat
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from musamma.data.corpora import load_khabar
from musamma.data.corpus_files import read_documents
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.files import write_json

# The scripts in this folder import one another by name.
sys.path += [str(Path(__file__).parent), str(Path(__file__).parent / "peers")]

from matrix_rates import BFLOAT16 as BFLOAT16_KIND
from matrix_rates import FLOAT32 as FLOAT32_KIND
from matrix_rates import INT8 as INT8_KIND
from matrix_rates import EncoderSize, GraphPass, MatrixChain, best_rates, build_chains
from peer_pipeline import AGGREGATION, window_length
from predicted_names import CHANGES_KEY, PredictedName, TextPrediction, build_document
from text_passages import split_sentences

#: Names of the two baselines, and of the tagger with the checkpoint.
FLOAT32, BFLOAT16, TAGGER = "pipeline, float32", "pipeline, bfloat16", "Tagger"
# A higher load at the start means that other processes are running.
_MAX_LOAD = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A system to compare.

    Args:
        name: its name.
        find: returns the names of each text, in order, in the system's own form; this is what is timed.
        convert: returns a document with its names, given as `find` returns them.
        kind: the number type of most of its matrix products.
        sizes: words per second by batch size, if several were tried.
    """

    name: str
    find: Callable[[list[str]], list[Any]]
    convert: Callable[[Document, Any], Document]
    kind: str
    sizes: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The measurements of a system.

    Args:
        name: the system's name.
        kind, sizes: see :class:`System`.
        seconds: the time of each round.
        graph_seconds: the time of each round in the graph alone; empty for a system that was not measured so.
        f1: strict and whole-word F1 in [0, 1], by mode; empty if the gold documents have no names.
        changes: number of names that had to be changed or dropped to become spans, by kind.
    """

    name: str
    kind: str
    sizes: Mapping[int, float]
    seconds: list[float]
    graph_seconds: list[float]
    f1: Mapping[str, float]
    changes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """A set of documents, and remarks on what was left out of it."""

    name: str
    documents: list[Document]
    remarks: tuple[str, ...] = ()

    @property
    def words(self) -> int:
        """Number of whitespace-separated words in all texts."""
        return sum(len(document.text.split()) for document in self.documents)


def load_pipeline(model: str, name: str, texts: Sequence[str], options: argparse.Namespace) -> System:
    """Load the pipeline of transformers and find the batch size that is fastest on some texts."""
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

    dtype = torch.bfloat16 if name == BFLOAT16 else torch.float32
    classifier = AutoModelForTokenClassification.from_pretrained(model, dtype=dtype, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    longest = window_length(tokenizer.model_max_length, classifier.config.to_dict())
    tokenizer.model_max_length = options.window or longest
    classify = pipeline("token-classification", model=classifier, tokenizer=tokenizer, device=options.device)

    def find(texts: list[str], batch_size: int) -> list[Any]:
        return list(classify(texts, aggregation_strategy=AGGREGATION, stride=options.stride, batch_size=batch_size))

    words = sum(len(text.split()) for text in texts)
    speed = {size: words / time_faster_call(lambda size=size: find(list(texts), size)) for size in options.batch_sizes}
    best = max(speed, key=speed.__getitem__)
    kind = BFLOAT16_KIND if name == BFLOAT16 else FLOAT32_KIND
    return System(name=name, find=lambda texts: find(texts, best), convert=convert_names, kind=kind, sizes=speed)


def time_faster_call(call: Callable[[], object]) -> float:
    """Return the seconds of the faster of two calls, after one that is not timed."""
    call()
    return min(time_call(call) for _ in range(2))


def time_call(call: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def convert_names(document: Document, names: Iterable[Mapping[str, Any]]) -> Document:
    """Return a document with the names of the pipeline, changed as little as possible; see `predicted_names.build_document`."""
    predicted = (PredictedName(int(name["start"]), int(name["end"]), name["entity_group"]) for name in names)
    return build_document(document, TextPrediction(tuple(predicted)))


def load_tagger(model: str, name: str, *, device: str | None, bfloat16: bool | None = None) -> System:
    """Load `Tagger`, which chooses its batches itself."""
    from musamma.inference import Tagger
    from musamma.models.exported_model import read_exported
    from musamma.models.model_names import resolve_model

    exported = read_exported(resolve_model(model))
    tagger = Tagger(model, device=device, bfloat16=bfloat16)

    def find(texts: list[str]) -> list[list[Span]]:
        return list(tagger.tag_texts(texts))

    kind = FLOAT32_KIND
    if exported is not None and exported[1].quantization == INT8_KIND:
        kind = INT8_KIND
    elif tagger.settings().get("bfloat16"):
        kind = BFLOAT16_KIND
    return System(name=name, find=find, convert=Document.with_spans, kind=kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class RateMeasurement:
    """The processor's matrix rates, and what of an exported graph's operations is needed.

    Args:
        rates: operations per second by number type, in each round.
        needed: operations for the pieces of the texts, each in one window.
        computed: operations for all pieces that the graph computes.
        pieces: the number of both.
    """

    rates: list[dict[str, float]]
    needed: int
    computed: int
    pieces: tuple[int, int]


def measure(
    systems: Sequence[System],
    texts: Texts,
    *,
    rounds: int,
    chains: Sequence[MatrixChain] = (),
    passes: Mapping[str, GraphPass] | None = None,
) -> tuple[list[Result], RateMeasurement | None]:
    """Let the systems tag the same texts in turn, after a first pass whose names are scored.

    Args:
        systems: the systems.
        texts: the texts.
        rounds: the number of rounds.
        chains: chains of matrix products to time in each round.
        passes: what to time of a graph alone in each round, by the name of its system.
    """
    passes = passes or {}
    plain = [document.text for document in texts.documents]
    results = []
    for system in systems:
        f1, changes = score(texts.documents, system)
        results.append(
            Result(
                name=system.name,
                kind=system.kind,
                sizes=system.sizes,
                seconds=[],
                graph_seconds=[],
                f1=f1,
                changes=changes,
            )
        )
    rates = []
    for _ in range(rounds):
        for system, result in zip(systems, results, strict=True):
            result.seconds.append(time_call(lambda system=system: system.find(plain)))
            if system.name in passes:
                result.graph_seconds.append(time_call(passes[system.name].run))
        rates.append(best_rates(chains))
    if not passes:
        return results, None
    first = next(iter(passes.values()))
    return results, RateMeasurement(rates=rates, needed=first.needed, computed=first.computed, pieces=first.pieces)


def score(gold: list[Document], system: System) -> tuple[dict[str, float], Counter[str]]:
    """Return F1 by mode, and the number of names changed in the conversion, by kind."""
    from musamma.evaluation import score_documents
    from musamma.evaluation.matching import STRICT, WHOLE_WORD

    bare = [document.with_spans(()) for document in gold]
    names_of_texts = system.find([document.text for document in bare])
    predicted = [system.convert(document, names) for document, names in zip(bare, names_of_texts, strict=True)]
    changes = sum((Counter(document.meta.get(CHANGES_KEY, {})) for document in predicted), Counter())
    if not any(document.spans for document in gold):
        return {}, changes
    scores = score_documents(gold, predicted, modes=(STRICT, WHOLE_WORD))
    return {mode: scores.modes[mode].micro.f1 for mode in (STRICT, WHOLE_WORD)}, changes


def sample_texts(texts: Texts, *, words: int) -> list[str]:
    """Return texts at regular intervals that have about this number of words together."""
    return [document.text for document in texts.documents[:: max(1, round(texts.words / words))]]


def read_texts(gold: str | None, short: str | None) -> list[Texts]:
    """Read the articles and the sentences."""
    articles = list(read_documents(gold)) if gold else load_khabar("dev") + load_khabar("test")
    if short:
        return [_drop_empty("articles", articles), _drop_empty("sentences", list(read_documents(short)))]
    sentences, lost = [], 0
    for article in articles:
        parts = list(split_document(article))
        lost += len(article.spans) - sum(len(sentence.spans) for sentence in parts)
        sentences += parts
    remark = (f"{lost} names across a sentence border left out of the gold documents",) if lost else ()
    return [_drop_empty("articles", articles), _drop_empty("sentences", sentences, *remark)]


def split_document(document: Document) -> Iterable[Document]:
    """Yield the sentences of a document, each with the names inside it."""
    for number, (start, end) in enumerate(split_sentences(document.text)):
        inside = [span for span in document.spans if start <= span.start and span.end <= end]
        spans = tuple(Span(span.start - start, span.end - start, span.label) for span in inside)
        yield Document(f"{document.id}-{number}", document.text[start:end], spans)


def _drop_empty(name: str, documents: list[Document], *remarks: str) -> Texts:
    with_text = [document for document in documents if document.text.strip()]
    if not with_text:
        raise InputError("no text", where=name, expected="documents with texts")
    if empty := len(documents) - len(with_text):
        remarks = (*remarks, f"{empty} texts without words left out")
    return Texts(name=name, documents=with_text, remarks=remarks)


def format_range(values: Sequence[float], digits: int) -> str:
    """Format the median, the lowest and the highest value."""
    return f"{median(values):,.{digits}f} [{min(values):,.{digits}f}, {max(values):,.{digits}f}]"


def ratios(result: Result, baseline: Result) -> list[float]:
    """Return the speed relative to the baseline in each round."""
    return [base / own for own, base in zip(result.seconds, baseline.seconds, strict=True)]


def build_table(results: Sequence[Result], texts: Texts) -> Table:
    """Build the table of a set of texts."""
    by_name = {result.name: result for result in results}
    baselines = [by_name[name] for name in (FLOAT32, BFLOAT16) if name in by_name]
    title = f"{texts.name}: {len(texts.documents):,} documents, {texts.words:,} words, {len(results[0].seconds)} rounds"
    table = Table(title=title, title_justify="left")
    heads = ["words/s", *(f"times {baseline.name}" for baseline in baselines), "strict F1", "whole-word F1"]
    for head in ("", *heads, f"strict F1 minus {TAGGER}'s"):
        table.add_column(head, justify="right" if head else "left", no_wrap=True)
    for result in results:
        rates = [texts.words / seconds for seconds in result.seconds]
        compared = ["" if result is baseline else format_range(ratios(result, baseline), 2) for baseline in baselines]
        f1 = [f"{100 * value:.2f}" for value in result.f1.values()] or ["", ""]
        table.add_row(
            _row_label(result), format_range(rates, 0), *compared, *f1, _f1_difference(result, by_name[TAGGER])
        )
    return table


def _row_label(result: Result) -> str:
    return (
        f"{result.name}, batches of {max(result.sizes, key=result.sizes.__getitem__)}" if result.sizes else result.name
    )


def _f1_difference(result: Result, tagger: Result) -> str:
    if result is tagger or result.sizes or not result.f1:
        return ""
    return f"{100 * (result.f1['strict'] - tagger.f1['strict']):+.2f}"


def list_remarks(results: Sequence[Result], texts: Texts) -> Iterable[str]:
    """Yield the remarks on the table."""
    yield from texts.remarks
    for result in results:
        if result.sizes:
            speeds = ", ".join(f"{size}: {speed:,.0f}" for size, speed in result.sizes.items())
            yield f"{result.name}, words/s by batch size on a sample of the texts: {speeds}"
        if result.changes:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(result.changes.items()))
            yield f"{result.name}, names changed to become spans: {kinds}"


def build_rate_table(results: Sequence[Result], measured: RateMeasurement, name: str) -> Table:
    """Build the table of operations per second, and their share of the matrix rate of the system's number type."""
    table = Table(title=f"{name}: billion operations per second, share of the matrix rate", title_justify="left")
    heads = ["numbers", "end to end", "share", "share in the graph", "the same, all pieces computed"]
    for head in ("", *heads):
        table.add_column(head, justify="right" if head else "left", no_wrap=True)
    for result in results:
        if result.kind not in measured.rates[0]:
            continue
        per_second = [measured.needed / seconds / 1e9 for seconds in result.seconds]
        shares = [list_shares(result.seconds, measured.needed, measured.rates, result.kind)]
        if result.graph_seconds:
            shares += [
                list_shares(result.graph_seconds, operations, measured.rates, result.kind)
                for operations in (measured.needed, measured.computed)
            ]
        cells = [format_range(share, 2) for share in shares]
        table.add_row(result.name, result.kind, format_range(per_second, 0), *cells)
    return table


def list_shares(
    seconds: Sequence[float], operations: int, rates: Sequence[Mapping[str, float]], kind: str
) -> list[float]:
    """Return the share of the rate of a number type that was reached in each round."""
    return [operations / taken / rate[kind] for taken, rate in zip(seconds, rates, strict=True)]


def list_rate_remarks(measured: RateMeasurement) -> Iterable[str]:
    """Yield the matrix rates and the operations per piece."""
    rates = {kind: [rate[kind] for rate in measured.rates] for kind in measured.rates[0]}
    listed = "; ".join(f"{kind} {format_range([rate / 1e9 for rate in of], 0)}" for kind, of in rates.items())
    yield f"matrix rates in OpenVINO, billion operations per second: {listed}"
    for kind in (BFLOAT16_KIND, FLOAT32_KIND):
        if kind in rates:
            relative = [int8 / other for int8, other in zip(rates[INT8_KIND], rates[kind], strict=True)]
            yield f"the rate of {INT8_KIND} relative to {kind}: {format_range(relative, 2)}"
    needed, computed = measured.pieces
    yield (
        f"{needed:,} pieces of text with {measured.needed / needed / 1e6:.1f} million operations each; "
        f"{computed:,} pieces computed, with the overlap of windows and padding"
    )


def to_json(results: Sequence[Result], texts: Texts, measured: RateMeasurement | None = None) -> dict[str, Any]:
    """Return all measurements on a set of texts as JSON."""
    by_name = {result.name: result for result in results}
    rows = [
        {
            "system": result.name,
            "kind": result.kind,
            "seconds": result.seconds,
            "graph_seconds": result.graph_seconds,
            "words_per_second": [texts.words / seconds for seconds in result.seconds],
            "ratios": {name: ratios(result, by_name[name]) for name in (FLOAT32, BFLOAT16) if name in by_name},
            "f1": dict(result.f1),
            "changes": dict(result.changes),
            "batch_sizes": {str(size): speed for size, speed in result.sizes.items()},
        }
        for result in results
    ]
    return {
        "documents": len(texts.documents),
        "words": texts.words,
        "remarks": texts.remarks,
        "systems": rows,
        "matrix_rates": None if measured is None else asdict(measured),
    }


def read_encoder_size(model: str) -> EncoderSize | None:
    """Read the size of a checkpoint's encoder; ``None`` if it cannot be told."""
    from musamma.models.model_names import read_model_json

    return EncoderSize.from_config(read_model_json(model, "config.json"))


def list_kinds(*, bfloat16: bool) -> list[str]:
    """List the number types whose matrix rates are measured."""
    return [INT8_KIND, *([BFLOAT16_KIND] if bfloat16 else []), FLOAT32_KIND]


def describe_machine(threads: int) -> dict[str, Any]:
    """Return the processor, the number of cores and threads, and the load."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    return {"cpu": model, "cores": os.cpu_count(), "threads": threads, "load_before": os.getloadavg()[0]}


def limit_threads(threads: int) -> None:
    """Limit the threads and cores of all libraries. They read these settings when they are loaded."""
    os.environ |= dict(zip(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), repeat(str(threads))))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def run(options: argparse.Namespace, console: Console) -> None:
    """Measure on both sets of texts, print the tables and write the JSON.

    Raises:
        InputError: a model or file cannot be used.
    """
    machine = describe_machine(options.threads)
    limit_threads(options.threads)
    import torch
    from transformers.utils import logging

    from musamma.models.model_names import resolve_model
    from musamma.models.runtimes.torch import supports_bfloat16

    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    device, model = options.device, resolve_model(options.model)
    sets = [texts for texts in read_texts(options.gold, options.sentences) if texts.name in options.sets]
    versions = {name: version(name) for name in ("musamma", "torch", "transformers")}
    console.print(f"{machine['cpu']}, {machine['threads']} threads of {machine['cores']} cores, {device}, {versions}")
    if machine["load_before"] > _MAX_LOAD:
        console.print(
            f"[bold]warning: the load was {machine['load_before']:.2f} at the start: other processes are running[/]"
        )
    taggers = [load_tagger(options.model, TAGGER, device=device)]
    if options.float32:
        taggers.append(load_tagger(options.model, f"{TAGGER}, float32", device=device, bfloat16=False))
    size = read_encoder_size(model) if options.exported else None
    # A smaller model has fewer operations per piece: its share of the rate would be wrong.
    alike = [folder for folder in options.exported if size and read_encoder_size(folder) == size]
    for folder in options.exported:
        tagger = load_tagger(folder, f"{TAGGER}, {folder}", device=None)
        taggers.append(tagger if folder in alike else replace(tagger, kind=""))
    kinds = [FLOAT32, *([BFLOAT16] if supports_bfloat16(torch.device(device)) else [])]
    records: dict[str, Any] = {}
    chains = [] if size is None else build_chains(list_kinds(bfloat16=len(kinds) > 1), threads=options.threads)
    for texts in sets:
        sample = sample_texts(texts, words=options.search_words)
        systems = [*(load_pipeline(model, kind, sample, options) for kind in kinds), *taggers]
        passes = {f"{TAGGER}, {folder}": GraphPass(folder, texts.documents, size) for folder in alike if size}
        results, measured = measure(systems, texts, rounds=options.rounds, chains=chains, passes=passes)
        console.print(build_table(results, texts))
        if measured is not None:
            console.print(build_rate_table(results, measured, texts.name))
            for remark in list_rate_remarks(measured):
                console.print(remark, soft_wrap=True, markup=False, highlight=False)
        for remark in list_remarks(results, texts):
            console.print(remark, soft_wrap=True, markup=False, highlight=False)
        records[texts.name] = to_json(results, texts, measured)
    machine["load_after"] = os.getloadavg()[0]
    console.print(
        f"load {machine['load_before']:.2f} before, {machine['load_after']:.2f} after (threads of this benchmark included)"
    )
    if options.json:
        report: dict[str, Any] = {
            "machine": machine | {"device": device},
            "versions": versions,
            "model": options.model,
            "sets": records,
        }
        report["pipeline"] = {"window": options.window, "stride": options.stride}
        write_json(report, Path(options.json))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--exported", nargs="*", default=[], metavar="FOLDER")
    parser.add_argument("--gold", help="annotated articles; by default the dev and test parts of Khabar")
    parser.add_argument("--sentences", help="short documents; by default the sentences of the articles")
    parser.add_argument(
        "--sets", nargs="+", choices=["articles", "sentences"], default=["articles", "sentences"], help="texts to tag"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--float32", action="store_true", help="also measure Tagger in float32")
    parser.add_argument("--device", default="cpu", help="device of the checkpoint, for both systems")
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32], help="batch sizes tried for the pipeline"
    )
    parser.add_argument(
        "--window", type=int, help="pieces per window of the pipeline; by default the maximum of the model"
    )
    parser.add_argument("--stride", type=int, default=128, help="pieces that neighbouring windows share")
    parser.add_argument("--search-words", type=int, default=6000, help="words of the sample for the batch sizes")
    parser.add_argument("--json", help="file for all figures")
    try:
        run(parser.parse_args(), Console(width=170))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
