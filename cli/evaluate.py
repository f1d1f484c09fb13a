"""``musamma evaluate``: predictions, or a model, scored against annotated documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import tee
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from musamma.data.audit import ImportAudit
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.files import write_json
from musamma.data.formats import ReadOptions, guess_format, read_documents
from musamma.data.labels import LabelMap, apply_labels, load_label_map
from musamma.evaluation import MODES, Scores, print_scores, score_documents
from musamma.evaluation.owntags import read_tags, score_own_tags
from musamma.evaluation.pairing import in_order


@dataclass(frozen=True, slots=True)
class Renaming:
    """The labels of one side: the map, if there is one, and the account of what it left out."""

    labels: LabelMap | None = None
    audit: ImportAudit = field(default_factory=lambda: ImportAudit(limit=0))

    def documents(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents with their labels renamed."""
        if self.labels is None:
            return iter(documents)
        return (apply_labels(document, self.labels, audit=self.audit) for document in documents)

    def label(self, label: str) -> str | None:
        """The new name of a label, ``None`` where names of it are left out. A label without entry stays for the error."""
        return self.labels[label] if self.labels is not None and label in self.labels else label


def evaluate(
    gold: Annotated[str, typer.Argument(metavar="GOLD", help="Annotated documents, in any format that musamma reads.")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Tag the documents with this model: a name, a folder or a hub id."),
    ] = None,
    predictions: Annotated[
        str | None, typer.Option(help="Score these documents: the same ids and texts as the gold.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(help=f"Score this mode besides strict; repeatable. By default all: {', '.join(MODES)}."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Rename labels first: the name of a map, or a YAML or JSON file.")
    ] = None,
    gold_labels: Annotated[str | None, typer.Option(help="The same for the gold alone, in place of --labels.")] = None,
    predicted_labels: Annotated[
        str | None, typer.Option(help="The same for the predictions alone, in place of --labels.")
    ] = None,
    tags: Annotated[
        bool,
        typer.Option(
            "--tags",
            help="GOLD is a CoNLL file: count the IOB modes on the tags as they stand in it, and on those of the"
            " predictions if they are one too.",
        ),
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Count documents without a prediction as empty ones.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="Where the model runs: cpu, cuda, cuda:1 ...; the GPU where there is one.")
    ] = None,
    sentences: Annotated[
        int, typer.Option(min=0, help="CoNLL: sentences that make a document; 0 for all of a file.")
    ] = 1,
) -> None:
    """Score a model, or predictions made before, against annotated documents.

    The headline is strict: a name counts if its first character, its last character and its label are right.
    """
    if (model is None) == (predictions is None):
        raise InputError(
            "neither --model nor --predictions" if model is None else "both --model and --predictions",
            where="musamma evaluate",
            expected="exactly one of them",
        )
    ours, theirs = _renaming(gold_labels or labels), _renaming(predicted_labels or labels)
    scores = score(
        gold,
        model=model,
        predictions=predictions,
        device=device,
        gold_labels=ours,
        predicted_labels=theirs,
        modes=mode or MODES,
        own_tags=tags,
        missing_as_empty=allow_missing,
        options=ReadOptions(sentences=sentences),
    )
    print_scores(scores, Console())
    left_out = {"gold": ours.audit.kinds["unmapped"], "predictions": theirs.audit.kinds["unmapped"]}
    for side, count in left_out.items():
        if count:
            typer.echo(f"{side}: {count} names left out by the label map")
    if json_file is not None:
        source = {"predictions": predictions} if model is None else {"model": model}
        write_json({"gold": gold, **source, **scores.to_dict(), "left_out_by_labels": left_out}, json_file)


def score(
    gold: str,
    *,
    model: str | None,
    predictions: str | None,
    device: str | None,
    gold_labels: Renaming,
    predicted_labels: Renaming,
    modes: Iterable[str],
    own_tags: bool,
    missing_as_empty: bool,
    options: ReadOptions,
) -> Scores:
    """The scores of the file ``predictions`` or, where it is ``None``, of what ``model`` finds; see :func:`evaluate`."""
    tagged_words = None
    gold_format = guess_format(gold)  # A wrong path is told of before the model is loaded.
    if own_tags and gold_format != "conll":
        raise InputError(
            f"--tags with a gold file in {gold_format}",
            where=gold,
            expected="a CoNLL file",
            remedy="leave --tags out",
        )
    annotated = read_documents(gold, options=options)
    if predictions is None:
        annotated, bare = tee(annotated)
        predicted = _tagged(bare, str(model), device)
    else:
        predicted = read_documents(predictions, options=options)
        if guess_format(predictions) == "conll":  # It holds no ids.
            annotated, order = tee(annotated)
            predicted = in_order(order, predicted)
            tagged_words = read_tags(predictions, relabel=predicted_labels.label)
    annotated, predicted = gold_labels.documents(annotated), predicted_labels.documents(predicted)
    if not own_tags:
        return score_documents(annotated, predicted, modes=modes, missing_as_empty=missing_as_empty)
    return score_own_tags(
        annotated,
        read_tags(gold, relabel=gold_labels.label),
        predicted,
        tagged_words,
        modes=modes,
        missing_as_empty=missing_as_empty,
    )


def _renaming(name: str | None) -> Renaming:
    return Renaming() if name is None else Renaming(load_label_map(name))


def _tagged(documents: Iterable[Document], model: str, device: str | None) -> Iterator[Document]:
    from musamma.inference import Tagger  # torch takes seconds to load, and files are scored without it
    from musamma.inference.progress import counted

    # The tagger gets no gold to look at.
    bare = (document.with_spans(()) for document in documents)
    return counted(Tagger(model, device=device).tag_documents(bare))
