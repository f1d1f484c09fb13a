"""Compare systems on one annotated file: F1 in several modes with intervals, and words per second.

    python benchmarks/peers/compare_systems.py GOLD --peer ours:nawah-ner --peer pipeline:CAMeL-Lab/bert-base-arabic-camelbert-mix-ner \\
        --labels ours=khabar-to-coarse --labels pipeline=map.yaml --predictions theirs=theirs.jsonl --output runs/peers --markdown table.md

A peer is ``[NAME=]KIND:MODEL``, with one of the kinds ours, pipeline, camel, stanza, spacy, gliner, crf and flair;
benchmarks/peers/peer_KIND.py describes MODEL. Each peer is loaded, timed while it tags, and its output is written to DIR/NAME.jsonl. --predictions adds a system
of which only the output exists. A system that fails is named and left out. Exit status: 0 done, 1 a system failed, 2 the call was
wrong or no system could be scored. See docs/peers.md.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from rich.console import Console
from score_rows import SystemScores, build_table, format_markdown_table, score_system

from musamma.data.corpus_files import ReadOptions, guess_format, read_documents
from musamma.data.document import Document, write_jsonl
from musamma.data.errors import InputError
from musamma.data.files import atomic_write
from musamma.evaluation.counts import count_table
from musamma.evaluation.document_pairing import take_ids_in_order
from musamma.evaluation.evaluation_inputs import LabelRenaming
from musamma.evaluation.significance import bootstrap_intervals, resampling_warning
from musamma.evaluation.word_boundaries import whitespace_words

#: The package that a kind of peer imports, and how to install it.
REQUIREMENTS: Mapping[str, tuple[str, str]] = {
    "ours": ("torch", "pip install 'musamma[train]'"),
    "pipeline": ("transformers", "pip install transformers torch"),
    "camel": ("camel_tools", "pip install camel-tools"),
    "stanza": ("stanza", "pip install stanza"),
    "spacy": ("spacy", "pip install spacy"),
    "gliner": ("gliner", "pip install gliner, in an environment of its own: see docs/peers.md"),
    "crf": ("pycrfsuite", "pip install python-crfsuite"),
    "flair": ("flair", "pip install flair, in an environment of its own: see docs/peers.md"),
}

#: The kind of a system that is given by a file of predictions.
FILE_KIND = "file"

_PEER = re.compile(r"(?:(?P<name>[\w.-]+)=)?(?P<kind>\w+):(?P<model>.+)")
_NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class System:
    """A system to score.

    Args:
        name: its name, valid as a file name.
        kind: a key of :data:`REQUIREMENTS`, or :data:`FILE_KIND`.
        source: the model, or the file of predictions.
    """

    name: str
    kind: str
    source: str


def parse_peer(value: str) -> System:
    """Parse ``[NAME=]KIND:MODEL``; the default name is made of the kind and the last part of the model.

    Raises:
        InputError: the value has another form, or the kind is unknown.
    """
    match = _PEER.fullmatch(value)
    if match is None or match["kind"] not in REQUIREMENTS:
        raise InputError(f"--peer {value!r}", expected=f"[NAME=]KIND:MODEL, the kind one of {', '.join(REQUIREMENTS)}")
    last = PurePath(match["model"].partition("#")[0]).name
    name = match["name"] or re.sub(r"[^\w.-]+", "-", f"{match['kind']}-{last}")
    return System(name, match["kind"], match["model"])


def parse_pairs(values: Iterable[str], option: str) -> dict[str, str]:
    """Parse ``NAME=VALUE`` options; returns the values by name.

    Raises:
        InputError: a value has another form, or a name occurs twice.
    """
    pairs: dict[str, str] = {}
    for value in values:
        name, _, rest = value.partition("=")
        if not _NAME.fullmatch(name) or not rest or name in pairs:
            raise InputError(f"{option} {value!r}", expected="NAME=VALUE, each name once")
        pairs[name] = rest
    return pairs


def import_tag(kind: str) -> Callable[..., Iterator[Document]]:
    """Import and return the function ``tag(documents, *, model, device)`` of a kind of peer."""
    match kind:
        case "ours":
            from peer_ours import tag
        case "pipeline":
            from peer_pipeline import tag
        case "camel":
            from peer_camel import tag
        case "stanza":
            from peer_stanza import tag
        case "spacy":
            from peer_spacy import tag
        case "crf":
            from peer_crf import tag
        case "flair":
            from peer_flair import tag
        case _:
            from peer_gliner import tag
    return tag


def run_peer(
    peer: System, gold: Sequence[Document], *, device: str, output: Path | None = None
) -> tuple[list[Document], float]:
    """Run a peer; return its predictions, also written to ``output/NAME.jsonl``, and the seconds of tagging without loading.

    Args:
        peer: a system of any kind but :data:`FILE_KIND`.
        gold: the documents; the peer gets them without their names.
        device: ``cpu``, ``cuda`` or ``cuda:1``...
        output: a folder.
    """
    tagged = import_tag(peer.kind)((document.with_spans(()) for document in gold), model=peer.source, device=device)
    start = time.perf_counter()
    predictions = list(tagged)
    seconds = time.perf_counter() - start
    if output is not None:
        write_jsonl(predictions, output / f"{peer.name}.jsonl")
    return predictions, seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, score and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gold", metavar="GOLD", help="annotated documents, in any format that musamma reads")
    parser.add_argument(
        "--peer", action="append", default=[], metavar="[NAME=]KIND:MODEL", help="system to run; repeatable"
    )
    parser.add_argument(
        "--predictions", action="append", default=[], metavar="NAME=FILE", help="its output; repeatable"
    )
    parser.add_argument(
        "--labels",
        action="append",
        default=[],
        metavar="PEER=MAP",
        help="label map of a system, by name or kind; repeatable",
    )
    parser.add_argument("--gold-labels", metavar="MAP", help="label map of the gold")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write the peers' predictions to DIR/NAME.jsonl")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the table as Markdown")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--sentences", type=int, default=1, help="CoNLL: sentences per document; 0 for one document")
    parser.add_argument("--resamples", type=int, default=10_000, help="bootstrap resamples for the intervals")
    parser.add_argument("--debug", action="store_true", help="show the traceback of a system that fails")
    options = parser.parse_args(arguments)
    try:
        systems = [
            *map(parse_peer, options.peer),
            *(
                System(name, FILE_KIND, file)
                for name, file in parse_pairs(options.predictions, "--predictions").items()
            ),
        ]
        labels = parse_pairs(options.labels, "--labels")
        check_call(systems, labels)
        return compare_systems(systems, labels, options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def check_call(systems: Sequence[System], labels: Mapping[str, str]) -> None:
    """Check the call before a model is loaded.

    Raises:
        InputError: there is no system, two have the same name, or a label map belongs to no system or cannot be read.
    """
    if not systems:
        raise InputError("no system", expected="--peer KIND:MODEL or --predictions NAME=FILE")
    if duplicates := [name for name, count in Counter(system.name for system in systems).items() if count > 1]:
        raise InputError(f"two systems called {duplicates[0]!r}", remedy="name one of them: --peer NAME=KIND:MODEL")
    names = {system.name for system in systems} | {system.kind for system in systems} - {FILE_KIND}
    for key, value in labels.items():
        if key not in names:
            raise InputError(f"--labels for {key!r}", expected=f"a system: {', '.join(sorted(names))}")
        LabelRenaming.load(value)


def compare_systems(systems: Sequence[System], labels: Mapping[str, str], options: argparse.Namespace) -> int:
    """Score the systems and print the table; return the exit status.

    Raises:
        InputError: the gold cannot be read, or no system could be scored.
    """
    read_options = ReadOptions(sentences=options.sentences)
    gold = list(
        LabelRenaming.load(options.gold_labels).rename_documents(read_documents(options.gold, options=read_options))
    )
    # Too few resamples are an error: raise it before hours of tagging.
    bootstrap_intervals(count_table(()), resamples=options.resamples)
    word_count = sum(len(whitespace_words(document.text)) for document in gold)
    rows: list[SystemScores] = []
    failed = False
    for system in systems:
        if system.kind != FILE_KIND and importlib.util.find_spec(REQUIREMENTS[system.kind][0]) is None:
            package, remedy = REQUIREMENTS[system.kind]
            print(f"{system.name}: the package {package} is not installed; {remedy}", file=sys.stderr)
            continue
        renaming = LabelRenaming.load(labels.get(system.name) or labels.get(system.kind))
        speed = None
        try:
            if system.kind == FILE_KIND:
                predictions: Iterable[Document] = read_documents(system.source, options=read_options)
                if guess_format(system.source) == "conll":  # the format has no ids
                    predictions = take_ids_in_order(gold, predictions)
            else:
                predictions, seconds = run_peer(system, gold, device=options.device, output=options.output)
                speed = word_count / seconds
            rows.append(
                score_system(
                    system.name, gold, predictions, renaming=renaming, resamples=options.resamples, speed=speed
                )
            )
        except Exception as error:  # whatever a library raises, the other systems are scored
            failed = True
            if options.debug:
                traceback.print_exc()
            print(f"{system.name}: failed: {_first_line(error)}", file=sys.stderr)
        gc.collect()  # frees the model's memory for the next one
    if not rows:
        raise InputError("no system could be scored", expected="an installed --peer, or --predictions")
    names = sum(len(document.spans) for document in gold)
    title = f"{options.gold}: {len(gold):,} documents, {word_count:,} words, {names:,} names"
    remarks = [
        "F1 in per cent [95% confidence interval, bootstrap over documents]",
        *([f"words/s: of tagging on {options.device}, without loading"] if any(row.speed for row in rows) else []),
        *filter(None, [resampling_warning(rows[0].counts)]),
        *(remark for row in rows for remark in row.remarks()),
    ]
    console = Console(width=200)
    console.print(build_table(rows, title=title))
    for remark in remarks:
        console.print(remark, soft_wrap=True, markup=False, highlight=False)
    if options.markdown is not None:
        with atomic_write(options.markdown) as partial:
            partial.write_text(format_markdown_table(rows, remarks, title=title), "utf-8")
    return int(failed)


def _first_line(error: Exception) -> str:
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    sys.exit(main())
