"""``musamma serve``."""

from __future__ import annotations

from typing import Annotated

import typer

from musamma.cli.shared_options import MinScores, Thresholds, parse_min_scores


def serve(
    model: Annotated[
        str, typer.Option("--model", "-m", help="A folder, a hub id, or a model that comes with the project.")
    ],
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 for any that is free.")] = 8000,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1 ...; the GPU where there is one.")
    ] = None,
    max_characters: Annotated[
        int,
        typer.Option("--max-characters", min=1, max=1_000_000, help="Characters of a request, all texts together."),
    ] = 100_000,
    max_texts: Annotated[int, typer.Option("--max-texts", min=1, max=100_000, help="Texts of a request.")] = 64,
    max_waiting: Annotated[
        int, typer.Option("--max-waiting", min=1, max=10_000, help="Requests at once; further ones are told to wait.")
    ] = 256,
    batch_wait_ms: Annotated[
        float,
        typer.Option(
            "--batch-wait-ms", min=0, max=1000, help="Milliseconds to wait for other requests to tag together with."
        ),
    ] = 5.0,
    min_score: MinScores = None,
    thresholds: Thresholds = False,
) -> None:
    """Tag texts that come over HTTP, and show a page to try it with; ends with Ctrl-C or SIGTERM."""
    least, by_label = parse_min_scores(min_score or [])

    from musamma.inference.tagger import Tagger
    from musamma.models.optional_packages import require_packages

    require_packages("fastapi", "uvicorn", extra="serve", purpose="runs the service")
    tagger = Tagger(model, device=device, min_score=least, label_min_scores=by_label, thresholds=thresholds)

    from musamma.inference.serve import Limits, create_app
    from musamma.inference.serve.server import listen, listener_url, run

    limits = Limits(
        max_characters=max_characters,
        max_texts=max_texts,
        max_waiting=max_waiting,
        batch_wait=batch_wait_ms / 1000,
    )
    app = create_app(tagger, limits=limits)
    with listen(host, port) as listener:
        url, private = listener_url(listener)
        typer.echo(f"{model} at {url}, until Ctrl-C", err=True)
        if not private:
            typer.echo(
                f"{host} is not this machine alone: whoever can reach it can use it, there is no password", err=True
            )
        # Beside requests there are clients that look at the page, or keep a connection for the next request.
        run(app, listener, max_connections=2 * max_waiting + 100)
