"""Run docs/notebook.ipynb from top to bottom, offline, and fail at the first cell that raises.

    pip install 'musamma[docs]'
    python benchmarks/notebook.py [--write]

It runs in a temporary folder, so that what it writes does not stay. Prints the seconds of each cell. ``--write`` stores the outputs
in the notebook, for the documentation site and for code hosts.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "notebook.ipynb"
# For the start of the kernel, and for each cell, on a busy machine.
_SECONDS = 1800


def main() -> int:
    """Run the notebook. Exit status 1 if a cell raises."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="store the outputs in the notebook")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=_SECONDS,
            startup_timeout=_SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
        )
        try:
            client.execute()
        except CellExecutionError as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            for seconds, first_line in cell_seconds(notebook):
                print(f"{seconds:6.1f} s  {first_line}")
    if options.write:
        remove_machine_details(notebook, folder)
        nbformat.write(notebook, NOTEBOOK)
    return 0


def cell_seconds(notebook: nbformat.NotebookNode) -> Iterator[tuple[float, str]]:
    """Yield the seconds that each executed cell took, and its first line."""
    for cell in notebook.cells:
        times = cell.metadata.get("execution", {})
        if "iopub.execute_input" in times and "shell.execute_reply" in times:
            begin, end = (datetime.fromisoformat(times[key]) for key in ("iopub.execute_input", "shell.execute_reply"))
            yield (end - begin).total_seconds(), cell.source.partition("\n")[0]


def remove_machine_details(notebook: nbformat.NotebookNode, folder: str) -> None:
    """Remove times, the version of Python, messages on standard error, and refuse outputs with the name of the folder."""
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    if folder in nbformat.writes(notebook):
        raise SystemExit(f"an output names the folder {folder}; change the cell so that it does not")


if __name__ == "__main__":
    sys.exit(main())
