"""How far a model goes on a corpus that it was not trained on: PER, LOC and ORG of the last tenth of an annotated file.

    python benchmarks/transfer.py MODEL [MODEL ...] --gold anercorp_exact_train.jsonl [--gold-labels MAP] [--labels khabar-to-coarse]

Both sides are brought to PER/LOC/ORG/MISC, MISC is left out, and every mode of scoring is printed: ``strict`` is character-exact,
``conlleval`` the lenient figure of the literature, ``overlap`` asks for the label and any shared character. With several models
(seeds of one recipe) mean and standard deviation follow.
"""

from __future__ import annotations

import argparse

from rich.console import Console

from musamma.data.document import Document
from musamma.data.formats import ReadOptions, read_documents
from musamma.data.labels import LabelMap, apply_labels, load_label_map
from musamma.evaluation import print_runs, print_scores, score_documents, spread
from musamma.inference import Tagger

NAMES = LabelMap("PER/LOC/ORG", {"PER": "PER", "LOC": "LOC", "ORG": "ORG", "MISC": None})


def plain(document: Document, labels: str | None) -> Document:
    """The document with outermost names of PER, LOC and ORG only."""
    if labels is not None:
        document = apply_labels(document, load_label_map(labels))
    return apply_labels(document.with_spans(document.spans), NAMES)


def main() -> None:
    """Tag, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--gold", required=True)
    parser.add_argument("--gold-labels", help="a label map to PER/LOC/ORG/MISC, where the gold has other labels")
    parser.add_argument("--labels", default="khabar-to-coarse", help="a label map for the model's labels")
    parser.add_argument("--share", type=float, default=0.1, help="share of the file to score, from its end")
    options = parser.parse_args()
    documents = list(read_documents(options.gold, options=ReadOptions(overlaps="longest")))
    documents = documents[len(documents) - round(options.share * len(documents)) :]
    gold = [plain(document, options.gold_labels) for document in documents]
    console = Console(width=140)
    every = []
    for model in options.models:
        tagged = Tagger(model).tag_documents(document.with_spans(()) for document in gold)
        scores = score_documents(gold, (plain(document, options.labels) for document in tagged))
        console.print(f"\n{model} on {len(gold)} documents of {options.gold}")
        print_scores(scores, console)
        every.append(scores)
    if len(every) > 1:
        console.print()
        print_runs(options.models, every, spread(every), console)


if __name__ == "__main__":
    main()
