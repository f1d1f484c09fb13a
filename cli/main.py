"""The `musamma` command: one thin verb over a plain function each."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import typer

from musamma.cli.calibrate import calibrate
from musamma.cli.check import check
from musamma.cli.compare import compare
from musamma.cli.convert import convert
from musamma.cli.encoder import encoder
from musamma.cli.evaluate import evaluate
from musamma.cli.export import export
from musamma.cli.predict import predict
from musamma.cli.pretrain import pretrain
from musamma.cli.quickstart import quickstart
from musamma.cli.serve import serve
from musamma.cli.train import train
from musamma.data.errors import InputError, ThresholdError

app = typer.Typer(
    name="musamma",
    help="Arabic named-entity recognition: fine-tune on annotated articles, score honestly, tag in bulk.",
    epilog="With --debug, errors come with a traceback and libraries with their messages.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (quickstart, train, predict, evaluate, compare, calibrate, export, serve, convert, check):
    app.command()(verb)
encoder.command()(pretrain)
app.add_typer(encoder, name="encoder")

# Typer does not name its base of "the call was wrong" itself.
_UsageError: Any = typer.BadParameter.__mro__[1]
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave with its status: 0 done, 1 failed or a threshold missed, 2 wrong input or call."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    if not debug and not sys.warnoptions:
        warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):
        # A table with Arabic names in it must not fail at the end of a run because the terminal is set to Latin-1.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run([argument for argument in given if argument != "--debug"], debug=debug))


def run(arguments: Sequence[str], *, debug: bool = False) -> int:
    """Run the command and return its status.

    Args:
        arguments: the verb and what follows it, without ``--debug``.
        debug: show tracebacks, and what libraries say.
    """
    _quieten(bars=sys.stderr.isatty(), messages=debug)
    try:
        status = app(args=list(arguments), prog_name="musamma", standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    except SystemExit:
        # Typer's way to end when the reader of our output (head, less) has gone: nobody is left to tell.
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _answer(error)
    if status == _INTERRUPTED:  # Typer makes a status of Ctrl-C itself.
        _tell("interrupted" + ("; --resume goes on from the last epoch" if "train" in arguments[:1] else ""))
    return int(status)


def _answer(error: Exception) -> int:
    """Tell of an error in one line and return the status that belongs to it."""
    if isinstance(error, InputError):
        _tell(str(error))
        return 2
    if isinstance(error, _UsageError):
        # The message is empty where the help was printed, for a call without arguments.
        if message := error.format_message():
            path = error.ctx.command_path if error.ctx else "musamma"
            # What was typed may hold anything; our own error makes one line of it.
            _tell(str(InputError(f"{message.replace('Value error, ', '').rstrip('.')}; see {path} --help")))
        return 2
    if isinstance(error, ThresholdError):
        _tell(str(error))
        return 1
    _tell(f"{type(error).__name__}: {' '.join(str(error).split())}; --debug shows where")
    return 1


def _tell(message: str) -> None:
    print(f"musamma: {message}", file=sys.stderr)


def _quieten(*, bars: bool, messages: bool) -> None:
    """Set what libraries write to stderr.

    Args:
        bars: whether they may show their progress.
        messages: whether they may log; what they fail with reaches the user through our own errors.
    """
    # Libraries take seconds to load, so those that are not loaded yet are told by what they read when they are.
    if not messages:
        for library in ("TRANSFORMERS", "HF_HUB", "DATASETS"):
            os.environ.setdefault(f"{library}_VERBOSITY", "error")
    if not bars:
        for library in ("HF_HUB", "HF_DATASETS"):
            os.environ.setdefault(f"{library}_DISABLE_PROGRESS_BARS", "1")
    # Two processes that share the tokenizers' threads are warned of otherwise.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if "transformers" in sys.modules:
        import huggingface_hub
        import transformers

        if not messages:
            transformers.logging.set_verbosity_error()
            huggingface_hub.logging.set_verbosity_error()
        if not bars:
            transformers.logging.disable_progress_bar()
    if "datasets" in sys.modules:
        import datasets

        if not messages:
            datasets.utils.logging.set_verbosity_error()
        if not bars:
            datasets.disable_progress_bars()


if __name__ == "__main__":
    main()
