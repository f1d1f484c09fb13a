"""``musamma quickstart``."""

from __future__ import annotations

from typing import Annotated

import typer

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
    """Fine-tune the packaged encoder on the packaged corpus, score it, and tag an unseen article. Works offline."""
    from rich.console import Console
    from rich.table import Table

    from musamma.cli.train import print_results
    from musamma.data.corpora import load_khabar
    from musamma.inference.tagger import Tagger
    from musamma.training.config import load_config
    from musamma.training.finetune import finetune

    config = load_config("quickstart", changes=changes or [], output=output)
    # Names and paths are not markup, and a command that is wrapped cannot be copied.
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    console.print(
        f"Fine-tuning {config.encoder} on {', '.join(config.data.train_names)}: ten to twenty minutes on a CPU."
    )
    results = finetune(config, resume=resume, overwrite=overwrite or (output == _OUTPUT and not resume))
    print_results(results, output, console)

    article = next(document for document in load_khabar("test") if document.id == _ARTICLE)
    tagged = next(Tagger(output).tag_documents([article.with_spans([])]))
    gold = {span.key for span in article.spans}
    table = Table(title=f"Names found in the article {article.id!r} of the test part", title_justify="left")
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
    console.print(f"Tag your own text: musamma predict FILE.txt --model {output} --format html --output names.html")
