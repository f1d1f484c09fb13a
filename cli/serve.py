"""``musamma serve``."""

from __future__ import annotations

from typing import Annotated

import typer

from musamma.cli.shared_options import Device, MinScores, Model, RulesFile, Thresholds, parse_min_scores
from musamma.models.model_names import DEFAULT_MODEL


def serve(
    model: Model = DEFAULT_MODEL,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 for any free port.")
    ] = 8000,
    device: Device = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            "--batch-tokens",
            min=1,
            help="Pieces per batch. Long texts are tagged batch by batch, and short requests in between. By default 512 on a "
            "CPU, 32,768 on a GPU.",
        ),
    ] = None,
    max_characters: Annotated[
        int,
        # A longer stretch without a space would take unbounded memory to tokenize.
        typer.Option(
            "--max-characters", min=1, max=1_000_000, help="Maximum characters per request, all texts together."
        ),
    ] = 100_000,
    max_texts: Annotated[int, typer.Option("--max-texts", min=1, max=100_000, help="Maximum texts per request.")] = 64,
    max_waiting: Annotated[
        int,
        typer.Option(
            "--max-waiting",
            min=1,
            max=10_000,
            help="Maximum number of concurrent requests; further ones get status 503.",
        ),
    ] = 256,
    batch_wait_ms: Annotated[
        float,
        typer.Option(
            "--batch-wait-ms", min=0, max=1000, help="Milliseconds to wait for further requests to tag in one batch."
        ),
    ] = 5.0,
    min_score: MinScores = None,
    thresholds: Thresholds = False,
    rules: RulesFile = None,
) -> None:
    """Tag texts over HTTP, with a web page to try it. Stop it with Ctrl-C or SIGTERM."""
    minimum, by_label = parse_min_scores(min_score or [])

    from musamma.inference.tagger import Tagger
    from musamma.models.optional_packages import require_packages

    require_packages("fastapi", "prometheus_client", "uvicorn", extra="serve", purpose="runs the service")

    from musamma.inference.serve import Limits, create_app
    from musamma.inference.serve.connection_limits import ConnectionLimits
    from musamma.inference.serve.request_queue import CPU_BATCH_TOKENS
    from musamma.inference.serve.server import listen, listener_url, run_server

    tagger = Tagger(
        model,
        device=device,
        batch_tokens=batch_tokens,
        cpu_batch_tokens=CPU_BATCH_TOKENS,
        min_score=minimum,
        label_min_scores=by_label,
        thresholds=thresholds,
        rules=rules,
    )

    limits = Limits(
        max_characters=max_characters,
        max_texts=max_texts,
        max_waiting=max_waiting,
        batch_wait=batch_wait_ms / 1000,
    )
    app = create_app(tagger, limits=limits)
    with listen(host, port) as listener:
        url, is_private = listener_url(listener)
        typer.echo(f"{model} at {url}, until Ctrl-C", err=True)
        if not is_private:
            typer.echo(
                f"{host} is not limited to this machine: anyone who can reach it can use the service, without a password",
                err=True,
            )
        # Other connections load the web page or are kept open for the next request.
        run_server(app, listener, ConnectionLimits(max_connections=2 * max_waiting + 100))
