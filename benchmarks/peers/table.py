"""Systems side by side on one annotated file: F1 in several modes with intervals, and words a second.

    python benchmarks/peers/table.py GOLD --peer ours:nawah-ner --peer pipeline:CAMeL-Lab/bert-base-arabic-camelbert-mix-ner \\
        --labels ours=khabar-to-coarse --labels pipeline=map.yaml --predictions theirs=theirs.jsonl --output runs/peers --markdown table.md

A peer is ``[NAME=]KIND:MODEL``, the kind one of ours, pipeline, camel, stanza, spacy, gliner; what MODEL may be stands in
benchmarks/peers/peer_KIND.py. Each is loaded, timed while it tags, and written to DIR/NAME.jsonl; a system that is known by its output
alone comes in with --predictions. One that fails is named and left out. Exit status: 0 done, 1 a system failed, 2 the call was
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
from rows import Row, markdown, score, screen

from musamma.data.document import Document, write_jsonl
from musamma.data.errors import InputError
from musamma.data.files import atomic_write
from musamma.data.formats import ReadOptions, guess_format, read_documents
from musamma.evaluation.counts import count_table
from musamma.evaluation.evaluation_pair import LabelRenaming
from musamma.evaluation.pairing import take_ids_in_order
from musamma.evaluation.significance import bootstrap, resampling_warning
from musamma.evaluation.word_boundaries import whitespace_words

#: What a kind of peer imports, and how to get it.
NEEDS: Mapping[str, tuple[str, str]] = {
    "ours": ("torch", "pip install musamma"),
    "pipeline": ("transformers", "pip install transformers torch"),
    "camel": ("camel_tools", "pip install camel-tools"),
    "stanza": ("stanza", "pip install stanza"),
    "spacy": ("spacy", "pip install spacy"),
    "gliner": ("gliner", "pip install gliner, in an environment of its own: see docs/peers.md"),
}

#: The kind of a system whose predictions are there already.
FILE = "file"

_PEER = re.compile(r"(?:(?P<name>[\w.-]+)=)?(?P<kind>\w+):(?P<model>.+)")
_NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class System:
    """A system to score.

    Args:
        name: what to call it, fit for a file name.
        kind: a key of :data:`NEEDS`, or :data:`FILE`.
        source: the model, or the file of predictions.
    """

    name: str
    kind: str
    source: str


def read_peer(value: str) -> System:
    """A peer from ``[NAME=]KIND:MODEL``; without a name, that of the kind and of the model's last part.

    Raises:
        InputError: it is none, or its kind is unknown.
    """
    match = _PEER.fullmatch(value)
    if match is None or match["kind"] not in NEEDS:
        raise InputError(f"--peer {value!r}", expected=f"[NAME=]KIND:MODEL, the kind one of {', '.join(NEEDS)}")
    last = PurePath(match["model"].partition("#")[0]).name
    name = match["name"] or re.sub(r"[^\w.-]+", "-", f"{match['kind']}-{last}")
    return System(name, match["kind"], match["model"])


def read_pairs(values: Iterable[str], option: str) -> dict[str, str]:
    """What ``NAME=VALUE`` options say, by name.

    Raises:
        InputError: one is of another form, or a name comes twice.
    """
    found: dict[str, str] = {}
    for value in values:
        name, _, rest = value.partition("=")
        if not _NAME.fullmatch(name) or not rest or name in found:
            raise InputError(f"{option} {value!r}", expected="NAME=VALUE, each name once")
        found[name] = rest
    return found


def tagger(kind: str) -> Callable[..., Iterator[Document]]:
    """The function ``tag(documents, *, model, device)`` of a kind of peer."""
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
        case _:
            from peer_gliner import tag
    return tag


def run(
    peer: System, gold: Sequence[Document], *, device: str, output: Path | None = None
) -> tuple[list[Document], float]:
    """What a peer finds, written to ``output/NAME.jsonl``, and the seconds of tagging, without those of loading.

    Args:
        peer: any but a file.
        gold: the documents; the peer is not shown their names.
        device: ``cpu``, ``cuda`` or ``cuda:1``...
        output: a folder.
    """
    found = tagger(peer.kind)((document.with_spans(()) for document in gold), model=peer.source, device=device)
    start = time.perf_counter()
    predictions = list(found)
    seconds = time.perf_counter() - start
    if output is not None:
        write_jsonl(predictions, output / f"{peer.name}.jsonl")
    return predictions, seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, score, print; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gold", metavar="GOLD", help="annotated documents, in any format that musamma reads")
    parser.add_argument("--peer", action="append", default=[], metavar="[NAME=]KIND:MODEL", help="run it; repeatable")
    parser.add_argument("--predictions", action="append", default=[], metavar="NAME=FILE", help="repeatable")
    parser.add_argument("--labels", action="append", default=[], metavar="PEER=MAP", help="by name or kind; repeatable")
    parser.add_argument("--gold-labels", metavar="MAP", help="a label map for the gold")
    parser.add_argument("--output", type=Path, metavar="DIR", help="keep what the peers predict, as NAME.jsonl")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table as Markdown, too")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--sentences", type=int, default=1, help="CoNLL: sentences that make a document; 0 for all")
    parser.add_argument("--resamples", type=int, default=10_000, help="of the intervals")
    parser.add_argument("--debug", action="store_true", help="show where a system failed")
    options = parser.parse_args(arguments)
    try:
        systems = [
            *map(read_peer, options.peer),
            *(System(name, FILE, file) for name, file in read_pairs(options.predictions, "--predictions").items()),
        ]
        labels = read_pairs(options.labels, "--labels")
        check(systems, labels)
        return compare(systems, labels, options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def check(systems: Sequence[System], labels: Mapping[str, str]) -> None:
    """Fail before a model is loaded where the call cannot be meant.

    Raises:
        InputError: there is no system, two have one name, or a label map belongs to none or cannot be read.
    """
    if not systems:
        raise InputError("no system", expected="--peer KIND:MODEL or --predictions NAME=FILE")
    if twice := [name for name, count in Counter(system.name for system in systems).items() if count > 1]:
        raise InputError(f"two systems called {twice[0]!r}", remedy="give one a name: --peer NAME=KIND:MODEL")
    known = {system.name for system in systems} | {system.kind for system in systems} - {FILE}
    for key, value in labels.items():
        if key not in known:
            raise InputError(f"--labels for {key!r}", expected=f"a system: {', '.join(sorted(known))}")
        LabelRenaming.load(value)


def compare(systems: Sequence[System], labels: Mapping[str, str], options: argparse.Namespace) -> int:
    """Score the systems and print the table; gives the exit status.

    Raises:
        InputError: the gold cannot be read, or no system could be scored.
    """
    read = ReadOptions(sentences=options.sentences)
    gold = list(LabelRenaming.load(options.gold_labels).rename_documents(read_documents(options.gold, options=read)))
    bootstrap(
        count_table(()), resamples=options.resamples
    )  # Too few are an error, to be told of before hours of tagging.
    size = sum(len(whitespace_words(document.text)) for document in gold)
    rows: list[Row] = []
    failed = False
    for system in systems:
        if system.kind != FILE and importlib.util.find_spec(NEEDS[system.kind][0]) is None:
            package, remedy = NEEDS[system.kind]
            print(f"{system.name}: the package {package} is not installed; {remedy}", file=sys.stderr)
            continue
        renaming = LabelRenaming.load(labels.get(system.name) or labels.get(system.kind))
        speed = None
        try:
            if system.kind == FILE:
                predictions: Iterable[Document] = read_documents(system.source, options=read)
                if guess_format(system.source) == "conll":  # It holds no ids.
                    predictions = take_ids_in_order(gold, predictions)
            else:
                predictions, seconds = run(system, gold, device=options.device, output=options.output)
                speed = size / seconds
            rows.append(
                score(system.name, gold, predictions, renaming=renaming, resamples=options.resamples, speed=speed)
            )
        except Exception as error:  # Whatever a library does, the other systems are still to be scored.
            failed = True
            if options.debug:
                traceback.print_exc()
            print(f"{system.name}: failed: {_line(error)}", file=sys.stderr)
        gc.collect()  # A model is not to stand in the next one's way.
    if not rows:
        raise InputError("no system could be scored", expected="a --peer that is installed, or --predictions")
    names = sum(len(document.spans) for document in gold)
    title = f"{options.gold}: {len(gold):,} documents, {size:,} words, {names:,} names"
    remarks = [
        "F1 in per cent [95% confidence interval, bootstrap over documents]",
        *([f"words/s: while tagging, on {options.device}, without loading"] if any(row.speed for row in rows) else []),
        *filter(None, [resampling_warning(rows[0].counts)]),
        *(remark for row in rows for remark in row.remarks()),
    ]
    console = Console(width=200)
    console.print(screen(rows, title=title))
    for remark in remarks:
        console.print(remark, soft_wrap=True, markup=False, highlight=False)
    if options.markdown is not None:
        with atomic_write(options.markdown) as partial:
            partial.write_text(markdown(rows, remarks, title=title), "utf-8")
    return int(failed)


def _line(error: Exception) -> str:
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    sys.exit(main())
