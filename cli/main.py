"""The `musamma` command: one thin verb over a plain function each."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# Read when transformers is first imported: messages of libraries are not for users, errors reach them through ours.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import click
import typer
from rich.console import Console

from musamma.cli.check import check
from musamma.cli.convert import convert
from musamma.cli.encoder import encoder
from musamma.cli.evaluate import evaluate
from musamma.cli.predict import predict
from musamma.cli.quickstart import quickstart
from musamma.cli.train import train
from musamma.data.errors import InputError, ThresholdError

app = typer.Typer(
    name="musamma",
    help="Arabic named-entity recognition: fine-tune on annotated articles, score honestly, tag in bulk.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (quickstart, train, predict, evaluate, convert, check):
    app.command()(verb)
app.add_typer(encoder, name="encoder")

# Typer does not name its base of "the call was wrong" itself.
_UsageError = typer.BadParameter.__mro__[1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave with its status: 0 done, 1 failed or a threshold missed, 2 wrong input or call."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    sys.exit(run(given, debug=debug))


def run(arguments: list[str], *, debug: bool = False) -> int:
    """Run the command and return its status; with ``debug`` errors are raised with their traceback."""
    try:
        return app(args=arguments, standalone_mode=False) or 0
    except (InputError, _UsageError) as error:
        if debug:
            raise
        message = error.format_message() if isinstance(error, _UsageError) else str(error)
        hint = "; see musamma --help" if isinstance(error, _UsageError) else ""
        return _fail(f"{message}{hint}", 2)
    except ThresholdError as error:
        return _fail(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: nobody is left to tell. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        return _fail(f"{type(error).__name__}: {' '.join(str(error).split())}; --debug shows where", 1)


def _fail(message: str, status: int) -> int:
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"musamma: {message}")
    return status


if __name__ == "__main__":
    main()
