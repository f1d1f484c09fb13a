"""Optional packages: whether they are there, what they must not send, and what they must not print."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec

from transformers import logging as transformers_logging

from musamma.data.errors import InputError


def require_packages(*packages: str, extra: str, purpose: str) -> None:
    """Fail early where an optional package is missing.

    Args:
        packages: names as they are imported.
        extra: the extra of this package that brings them.
        purpose: what they do here, to follow "which".

    Raises:
        InputError: one of them is not installed.
    """
    for name in packages:
        if find_spec(name) is None:
            raise InputError(f"{name} is not installed, which {purpose}", remedy=f"pip install 'musamma[{extra}]'")


def disable_telemetry() -> None:
    """Keep OpenVINO and NNCF from reporting to Intel that they are used, and from keeping an id in the home folder.

    They do so from their first import on, where nobody has opted out, and do without where their package for it is
    missing. So this has to come before that import; what is loaded already is left alone.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: "not there", to Python


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Show what libraries print, log and warn of only on a terminal, and there on stderr."""
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
