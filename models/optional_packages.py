"""Optional packages: check that they are installed, disable their telemetry, silence their output."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec

from musamma.data.errors import not_installed


def require_packages(
    *packages: str, extra: str, purpose: str, where: str | None = None, remedy: str | None = None
) -> None:
    """Check that optional packages are installed.

    Args:
        packages: names as they are imported.
        extra: the extra of this package that installs them.
        purpose: what they do here, to follow "which".
        where: the model or option that needs them.
        remedy: an alternative to installing them.

    Raises:
        InputError: a package is not installed.
    """
    for name in packages:
        if find_spec(name) is None:
            raise not_installed(name, extra=extra, purpose=purpose, where=where, remedy=remedy)


def disable_telemetry() -> None:
    """Keep OpenVINO from reporting its use to Intel and from storing an id in the home folder.

    Unless the user has opted out, it does so from its first import on, and skips it if its telemetry package is missing.
    So this must be called before that import; a package that is loaded already is left alone.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: Python finds no such module


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Show the output, log messages and warnings of libraries only on a terminal, and there on stderr."""
    from transformers import logging as transformers_logging

    sink = sys.stderr if sys.stderr.isatty() else io.StringIO()
    verbosity, disabled = transformers_logging.get_verbosity(), logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(sink), redirect_stderr(sink):
        warnings.simplefilter("ignore")
        transformers_logging.set_verbosity_error()
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)
            transformers_logging.set_verbosity(verbosity)
