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
    resume: Annotated[bool, typer.Option("--resume", help="Go on where this run was stopped.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the earlier run in the output folder; the default one's always.")
    ] = False,
) -> None:
    """Fine-tune the embedded encoder on the embedded corpus, score it, and tag an article it has not seen. Offline."""
    from rich.console import Console
    from rich.table import Table

    from musamma.data.corpora import load_khabar
    from musamma.inference.tagger import Tagger
    from musamma.training.cards import print_results
    from musamma.training.config import load_config
    from musamma.training.finetune import finetune

    settings = load_config("quickstart", changes=changes or [], output=output)
    # Names and paths are no markup of ours, and a command that is broken into lines cannot be copied.
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
    console.print(f"Fine-tuning {settings.encoder} on {', '.join(settings.data.train)}; some ten minutes on a CPU.")
    results = finetune(settings, resume=resume, overwrite=overwrite or (output == _OUTPUT and not resume))
    print_results(results, output, console)

    article = next(document for document in load_khabar("test") if document.id == _ARTICLE)
    tagged = next(Tagger(output).tag_documents([article.with_spans([])]))
    annotated = {span.key for span in article.spans}
    table = Table(title=f"Names found in the article {article.id!r}, part of the test set", title_justify="left")
    for heading in ("start", "end", "label", "score", "as annotated", "name"):
        table.add_column(heading, justify="right" if heading in ("start", "end", "score") else "left")
    for span in tagged.spans:
        exact = "yes" if span.key in annotated else "no"
        table.add_row(str(span.start), str(span.end), span.label, f"{span.score:.2f}", exact, article.surface(span))
    console.print(table)
    found = sum(span.key in annotated for span in tagged.spans)
    console.print(f"{found} of the {len(annotated)} annotated names found exactly, {len(tagged.spans) - found} others.")
    console.print(f"Tag your own: musamma predict FILE.txt --model {output} --format html --output names.html")
