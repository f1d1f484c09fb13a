"""``musamma quickstart``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from musamma.data.document import Document

_OUTPUT = "runs/quickstart"
_ARTICLE = "seed-mosul"


def quickstart(
    output: Annotated[str, typer.Option("--output", "-o", help="Folder for the checkpoint.")] = _OUTPUT,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Delete the earlier run in the output folder. In the default folder, this is always done.",
        ),
    ] = False,
) -> None:
    """Fine-tune the packaged encoder on the packaged corpus, score it, and tag an unseen article. Works offline.

    The packaged tagger, if this installation includes it, tags the article first.
    """
    from rich.console import Console

    from musamma.cli.train import print_results
    from musamma.data.corpora import load_khabar
    from musamma.models.model_names import DEFAULT_MODEL, packaged_models
    from musamma.training.config import load_config
    from musamma.training.finetune import finetune

    config = load_config("quickstart", changes=changes or [], output=output)
    # Names and paths are not markup, and a command that is wrapped cannot be copied.
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    article = next(document for document in load_khabar("test") if document.id == _ARTICLE)
    if DEFAULT_MODEL in packaged_models():
        _print_names(DEFAULT_MODEL, article, console, title=f"What the packaged {DEFAULT_MODEL} finds")
    console.print(
        f"Fine-tuning {config.encoder} on {', '.join(config.data.train_names)}: eight to twenty minutes on a CPU."
    )
    results = finetune(config, resume=resume, overwrite=overwrite or (output == _OUTPUT and not resume))
    print_results(results, output, console)

    _print_names(output, article, console, title="Names found")
    console.print(f"Tag your own text: musamma predict FILE.txt --model {output} --format html --output names.html")


def _print_names(model: str, article: Document, console: Console, *, title: str) -> None:
    """Tag an annotated article and print the names found, with their scores and whether the annotation has them."""
    from rich.table import Table

    from musamma.inference.tagger import Tagger

    tagged = next(Tagger(model).tag_documents([article.with_spans([])]))
    gold = {span.key for span in article.spans}
    table = Table(title=f"{title} in the article {article.id!r} of the test part", title_justify="left")
    for heading in ("start", "end", "label", "score", "as annotated", "name"):
        table.add_column(heading, justify="right" if heading in ("start", "end", "score") else "left")
    for span in tagged.spans:
        correct = "yes" if span.key in gold else "no"
        table.add_row(str(span.start), str(span.end), span.label, f"{span.score:.2f}", correct, article.surface(span))
    console.print(table)
    matches = sum(span.key in gold for span in tagged.spans)
    console.print(
        f"{matches} of the {len(gold)} annotated names found exactly, {len(tagged.spans) - matches} other names found."
    )
