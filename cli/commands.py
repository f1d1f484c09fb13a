"""The verbs of the ``musamma`` command, and the line that each error becomes."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import typer

from musamma.cli.average import average
from musamma.cli.calibrate import calibrate
from musamma.cli.check import check
from musamma.cli.compare import compare
from musamma.cli.convert import convert
from musamma.cli.distill import distill
from musamma.cli.encoder import encoder
from musamma.cli.evaluate import evaluate
from musamma.cli.export import export
from musamma.cli.pack import pack, unpack
from musamma.cli.predict import predict
from musamma.cli.pretrain import pretrain
from musamma.cli.push import push
from musamma.cli.quickstart import quickstart
from musamma.cli.serve import serve
from musamma.cli.suggest import suggest
from musamma.cli.train import train
from musamma.data.errors import InputError, RunError, ThresholdError, not_installed, one_line
from musamma.data.formats.options import ReadOptions

app = typer.Typer(
    name="musamma",
    help="Arabic named-entity recognition: fine-tune on annotated articles, evaluate, tag in bulk.",
    epilog="--debug shows tracebacks and the messages of libraries.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (
    *(quickstart, train, predict, evaluate, compare, calibrate, export, serve, push, suggest, convert, check),
    *(distill, average, pack, unpack),
):
    app.command()(verb)
encoder.command()(pretrain)
app.add_typer(encoder, name="encoder")

# Typer does not export the base class of its errors for wrong calls.
_UsageError: Any = typer.BadParameter.__mro__[1]

# The packages of the extra `train`, as they are imported.
_TRAINING_PACKAGES = {"accelerate", "datasets", "tensorboard", "torch", "transformers"}

# Seconds that other processes of torchrun wait: the main one meets the same error within them, even on a busy machine.
_MAIN_PROCESS_SECONDS = 60.0

#: A parameter of the library in a message.
_PARAMETER = re.compile(r"`(\w+)(?:=([^`]*))?`")
_QUOTES = "'\""


def print_exception(error: Exception, arguments: Sequence[str]) -> int:
    """Print an error as one line and return its exit status."""
    _let_main_process_report()
    if isinstance(error, (InputError, RunError, ThresholdError)):
        print_error(name_flags(str(error), arguments))
        return 2 if isinstance(error, InputError) else 1
    if isinstance(error, _UsageError):
        # The message is empty if the help was printed because the call had no arguments.
        if message := error.format_message():
            path = error.ctx.command_path if error.ctx else "musamma"
            # The arguments may hold any character; InputError makes one line of them.
            print_error(str(InputError(f"{message.replace('Value error, ', '').rstrip('.')}; see {path} --help")))
        return 2
    package = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package in _TRAINING_PACKAGES:
        extra = "train,export" if arguments[:1] == ["export"] else "train"
        print_error(str(not_installed(package, extra=extra, purpose="this command needs")))
        return 2
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes):
        # A file or folder that the system refuses, for instance to a user without permission.
        print_error(
            str(InputError(str(error.strerror), where=os.fsdecode(error.filename), remedy=_check_permissions(error)))
        )
        return 2
    print_error(f"{type(error).__name__}: {one_line(error)}; --debug shows the traceback")
    return 1


def _let_main_process_report() -> None:
    """Let the main process of torchrun report an error that all its processes meet; torchrun then ends this one.

    An error of this process alone, such as a file that its machine lacks, is reported after the delay.
    """
    if os.environ.get("RANK", "0") != "0":
        time.sleep(_MAIN_PROCESS_SECONDS)


def _check_permissions(error: OSError) -> str:
    return "check its permissions, or choose another path" if isinstance(error, PermissionError) else "check the path"


def name_flags(message: str, arguments: Sequence[str]) -> str:
    """Replace parameters of the library that a message names by the options of the command.

    The library writes a parameter in backticks as in a Python call. `` `output` `` becomes ``--output``,
    `` `overwrite=True` `` becomes ``--overwrite``, and `` `engine='ray'` `` becomes ``--engine ray``. An option for
    reading annotation that only ``convert`` has is shown with that command: ``musamma convert --overlaps longest``. An
    argument becomes its placeholder, ``OUTPUT``. Other names stay as they are.

    Args:
        message: the message of an error.
        arguments: the verb and its arguments.
    """
    group = typer.main.get_command(app)
    command: Any = group
    for argument in arguments:
        if argument not in getattr(command, "commands", {}):
            break
        command = command.commands[argument]
    reading = {field.name for field in fields(ReadOptions)}
    convert_flags = _flags(group.commands["convert"])  # type: ignore[attr-defined]
    flags = {name: f"musamma convert {flag}" for name, flag in convert_flags if name in reading} | dict(_flags(command))

    def replace(match: re.Match[str]) -> str:
        name, value = match.groups()
        if name not in flags:
            return match[0]
        return flags[name] + ("" if value in (None, "True") else f" {value.strip(_QUOTES)}")

    return _PARAMETER.sub(replace, message)


def _flags(command: Any) -> Iterator[tuple[str, str]]:
    """The options of a command, each under its parameter's name and under its own with underscores; and the arguments."""
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            yield parameter.name, parameter.metavar or parameter.name.upper()
        elif flag := next((option for option in parameter.opts if option.startswith("--")), None):
            yield parameter.name, flag
            yield flag.removeprefix("--").replace("-", "_"), flag


def print_error(message: str) -> None:
    """Print a line on stderr under the name of the command."""
    print(f"musamma: {message}", file=sys.stderr)
