"""Train another system on annotated documents, for benchmarks/peers/compare_systems.py.

    python benchmarks/peers/train_peer.py crf --train data/corpora/khabar/jsonl/train.jsonl --output runs/peers/crf [--set c1=0.1 --set c2=0.1]
    python benchmarks/peers/train_peer.py spacy --train TRAIN --dev data/corpora/khabar/jsonl/dev.jsonl --output runs/peers/spacy [--seed N]
    python benchmarks/peers/train_peer.py flair --train TRAIN --dev DEV --encoder FOLDER --output runs/peers/flair [--seed N] [--set epochs=5]

All are trained on whole words. --dev chooses the best step of spaCy and the best epoch of Flair. --encoder is the folder or hub id of Flair's encoder;
docs/peers.md describes that of the packaged encoder. --set changes an argument of the system's `train`, a number. Exit status: 0 done, 2 the
call was wrong.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from musamma.data.corpus_files import read_documents
from musamma.data.errors import InputError

KINDS = ("crf", "spacy", "flair")


def parse_settings(values: Sequence[str], known: Collection[str]) -> dict[str, float | int]:
    """Parse ``NAME=NUMBER`` options.

    Args:
        values: the options.
        known: the names that the system has.

    Raises:
        InputError: a value has another form, or a name is not known.
    """
    settings: dict[str, float | int] = {}
    for value in values:
        name, _, number = value.partition("=")
        try:
            settings[name] = int(number) if number.isdigit() else float(number)
        except ValueError:
            raise InputError(f"--set {value!r}", expected="NAME=NUMBER") from None
        if name not in known:
            raise InputError(f"--set {value!r}", expected=f"one of {', '.join(known)}")
    return settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a system; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--train", required=True, metavar="FILE", help="annotated documents, in any format")
    parser.add_argument("--dev", metavar="FILE", help="annotated documents; spaCy and Flair need them")
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="where the model is written")
    parser.add_argument("--encoder", metavar="FOLDER", help="encoder of Flair")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="NAME=NUMBER")
    options = parser.parse_args(arguments)
    if (options.encoder is None) == (options.kind == "flair"):
        parser.error("--encoder is for flair, which needs it")
    if (options.dev is None) == (options.kind != "crf"):
        parser.error("--dev is for spacy and flair, which need it")
    train = importlib.import_module(f"peer_{options.kind}").train
    settings: dict[str, Any] = {} if options.kind == "crf" else {"seed": options.seed}
    if options.encoder is not None:
        settings["encoder"] = options.encoder
    parameters = inspect.signature(train).parameters.values()
    numbers = [parameter.name for parameter in parameters if isinstance(parameter.default, (int, float))]
    try:
        settings |= parse_settings(options.settings, numbers)
        parts = [list(read_documents(name)) for name in (options.train, options.dev) if name is not None]
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    train(*parts, output=options.output, **settings)
    print(f"trained in {(time.perf_counter() - start) / 60:.1f} minutes: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
