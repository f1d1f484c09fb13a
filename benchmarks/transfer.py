"""Scores of a model on a corpus it was not trained on: PER, LOC and ORG in the last tenth of an annotated file.

    python benchmarks/transfer.py MODEL [MODEL ...] --gold anercorp_exact_train.jsonl [--group 6] [--gold-labels MAP]
        [--labels khabar-to-coarse]

Gold and predicted labels are mapped to PER/LOC/ORG/MISC, and MISC is dropped. All scoring modes are printed: ``strict`` is
character-exact, ``conlleval`` is the lenient score of the literature, ``overlap`` requires the label and any shared character. For
several models (seeds of one recipe), mean and standard deviation follow. ``--group`` joins sentences as ``data.group`` does in training: the
model reads each with the text around it.
"""

from __future__ import annotations

import argparse

from rich.console import Console

from musamma.data.corpus_files import ReadOptions, read_documents
from musamma.data.document import Document, group_documents
from musamma.data.labels import LabelMap, apply_labels, load_label_map
from musamma.evaluation import print_runs, print_scores, score_documents, spread
from musamma.inference import Tagger

NAMES = LabelMap("PER/LOC/ORG", {"PER": "PER", "LOC": "LOC", "ORG": "ORG", "MISC": None})


def map_labels(document: Document, labels: str | None) -> Document:
    """Return the document with names of PER, LOC and ORG only."""
    if labels is not None:
        document = apply_labels(document, load_label_map(labels))
    return apply_labels(document.with_spans(document.spans), NAMES)


def main() -> None:
    """Tag and score the documents, and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--gold", required=True)
    parser.add_argument("--gold-labels", help="a label map to PER/LOC/ORG/MISC, if the gold has other labels")
    parser.add_argument("--labels", default="khabar-to-coarse", help="a label map for the model's labels")
    parser.add_argument("--share", type=float, default=0.1, help="share of the file to score, from its end")
    parser.add_argument(
        "--group",
        type=int,
        default=1,
        metavar="N",
        help="number of consecutive documents to join into one, after --share",
    )
    options = parser.parse_args()
    if options.group < 1:
        parser.error(f"--group {options.group}; expected 1 or more")
    documents = list(read_documents(options.gold, options=ReadOptions(overlaps="longest")))
    documents = documents[len(documents) - round(options.share * len(documents)) :]
    documents = list(group_documents(documents, options.group))
    gold = [map_labels(document, options.gold_labels) for document in documents]
    console = Console(width=140)
    scores_by_model = []
    for model in options.models:
        tagged = Tagger(model).tag_documents(document.with_spans(()) for document in gold)
        scores = score_documents(gold, (map_labels(document, options.labels) for document in tagged))
        console.print(f"\n{model} on {len(gold)} documents of {options.gold}")
        print_scores(scores, console)
        scores_by_model.append(scores)
    if len(scores_by_model) > 1:
        console.print()
        print_runs(options.models, scores_by_model, spread(scores_by_model), console)


if __name__ == "__main__":
    main()
