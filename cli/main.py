"""The process of the ``musamma`` command: its streams, signals and environment, and its exit status.

The verbs are imported only after Ctrl-C is handled.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its status: 0 success, 1 failure or missed threshold, 2 wrong input or call."""
    interrupted = _watch_interrupts()
    try:
        arguments = list(sys.argv[1:] if arguments is None else arguments)
        debug = "--debug" in arguments
        if not debug and not sys.warnoptions:
            warnings.simplefilter("ignore")
        _replace_streams()
        for stream in (sys.stdout, sys.stderr):
            # Arabic names in a table must not end a run in an error if the terminal uses Latin-1.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        verb = [argument for argument in arguments if argument != "--debug"]
        _stop_spinning()
        status = run(verb, debug=debug, interrupted=interrupted)
    except KeyboardInterrupt:
        status = _INTERRUPTED
    if interrupted():
        # From here on, another Ctrl-C would only interrupt the end of the interpreter, with a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(status)


def run(arguments: Sequence[str], *, debug: bool = False, interrupted: Callable[[], bool] = lambda: False) -> int:
    """Run the command and return its status.

    Args:
        arguments: the verb and its arguments, without ``--debug``.
        debug: show tracebacks and the messages of libraries.
        interrupted: returns whether Ctrl-C was pressed. An import that it interrupts may raise any error.
    """
    try:
        _configure_libraries(progress=sys.stderr.isatty(), messages=debug)
        from musamma.cli.commands import app, print_exception

        status = app(args=list(arguments), prog_name="musamma", standalone_mode=False) or 0
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except SystemExit:
        # Typer exits so when the reader of the output (head, less) has closed it; a message would not be seen.
        status = _INTERRUPTED if interrupted() else 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        if sys.modules.get("musamma.cli.commands") is None and not interrupted():
            # The command itself could not be imported, and with it what formats other errors.
            from musamma.data.errors import one_line

            print(
                f"musamma: {one_line(error)}: the installation is damaged, or a package in it has a version that does not fit; "
                "install musamma into a new environment",
                file=sys.stderr,
            )
            return 1
        if type(error).__name__ != "Abort" and not interrupted():
            return print_exception(error, arguments)
        status = _INTERRUPTED
    if status == _INTERRUPTED:  # Typer turns Ctrl-C into this status itself.
        hint = "; --resume continues from the last epoch" if arguments[:1] in (["train"], ["distill"]) else ""
        print(f"musamma: interrupted{hint}", file=sys.stderr)
    return int(status)


def _stop_spinning() -> None:
    """Let waiting threads of PyTorch sleep at once, unless the user has set how they wait.

    By default they spin for milliseconds at the end of every operation. Beside another busy process, they keep from the CPU
    the very thread they wait for. GNU OpenMP, PyTorch's on Linux, reads the variable when it is loaded; results do not change.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}.intersection(os.environ):
        os.environ["GOMP_SPINCOUNT"] = "0"


def _watch_interrupts() -> Callable[[], bool]:
    """Return a function that returns whether Ctrl-C was pressed. Its effect stays the same."""
    pressed = False

    def interrupt(number: int, frame: Any) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    # Not where Ctrl-C is ignored, as in a background job.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    return lambda: pressed


class _ClosedStream(io.TextIOBase):
    """A standard stream that the caller has closed (``<&-``): an error as soon as it is used."""

    def __init__(self, name: str, remedy: str) -> None:
        self._name, self._remedy = name, remedy

    @property
    def buffer(self) -> Any:
        """The stream of bytes, which does not exist either."""
        self._fail()

    def read(self, size: int | None = -1, /) -> str:
        """Fail."""
        self._fail()

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        """Fail."""
        self._fail()

    def write(self, text: str, /) -> int:
        """Fail."""
        self._fail()

    def _fail(self) -> NoReturn:
        from musamma.data.errors import InputError

        raise InputError("closed", where=self._name, remedy=self._remedy)


class _MessageFile(io.RawIOBase):
    """Standard error. Messages that cannot be written, for instance to a full disk, are dropped: they do not end the work.

    Args:
        file: the file that is written.
    """

    def __init__(self, file: io.RawIOBase) -> None:
        self._file = file

    @property
    def name(self) -> Any:
        """The name of the file."""
        return getattr(self._file, "name", "<stderr>")

    def writable(self) -> bool:
        """It can be written."""
        return True

    def fileno(self) -> int:
        """The number of its descriptor."""
        return self._file.fileno()

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return self._file.isatty()

    def write(self, data: Any, /) -> int:
        """Write as many bytes as possible."""
        try:
            written = self._file.write(data)
        except OSError:
            written = None
        return len(data) if written is None else written


def _replace_streams() -> None:
    """Replace the standard streams that the caller has closed, and standard error, whose errors would end the command."""
    # A file that is opened later would get the number of the closed stream, and with it the messages of libraries.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    streams: Any = sys
    if sys.stdin is None:
        streams.stdin = _ClosedStream("standard input", "give a file, or pipe the text into the command")
    if sys.stdout is None:
        streams.stdout = _ClosedStream("standard output", "redirect it to a file")
    if sys.stderr is None:
        streams.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  open until the process ends
    elif (stderr := sys.__stderr__) is not None and sys.stderr is stderr:
        buffer: Any = stderr.buffer
        file = _MessageFile(getattr(buffer, "raw", buffer))
        streams.stderr = io.TextIOWrapper(io.BufferedWriter(file), stderr.encoding, line_buffering=True)


def _configure_libraries(*, progress: bool, messages: bool) -> None:
    """Configure what libraries print to stderr.

    Args:
        progress: show their progress bars.
        messages: show their log messages; their errors are reported anyway.
    """
    # Libraries take seconds to load. Those not loaded yet read these variables when they are.
    if not messages:
        for library in ("TRANSFORMERS", "HF_HUB", "DATASETS"):
            os.environ.setdefault(f"{library}_VERBOSITY", "error")
    if not progress:
        for library in ("HF_HUB", "HF_DATASETS"):
            os.environ.setdefault(f"{library}_DISABLE_PROGRESS_BARS", "1")
    # Without this, tokenizers warns when a process forks after its threads started.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    if sys.modules.get("transformers") is not None:
        import huggingface_hub
        import transformers

        if not messages:
            transformers.logging.set_verbosity_error()
            huggingface_hub.logging.set_verbosity_error()
        if not progress:
            transformers.logging.disable_progress_bar()
    if sys.modules.get("datasets") is not None:
        import datasets

        if not messages:
            datasets.utils.logging.set_verbosity_error()
        if not progress:
            datasets.disable_progress_bars()


if __name__ == "__main__":
    main()
