"""The notebook of the documentation: its code is valid and its stored outputs are those of a run from top to bottom without errors.

``benchmarks/notebook.py`` runs it.
"""

from __future__ import annotations

import ast
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = json.loads((Path(__file__).parent.parent / "docs" / "notebook.ipynb").read_bytes())
CODE_CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def test_the_outputs_are_of_one_run_without_errors() -> None:
    assert [cell["execution_count"] for cell in CODE_CELLS] == list(range(1, len(CODE_CELLS) + 1))
    outputs = [output for cell in CODE_CELLS for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}


@pytest.mark.parametrize("cell", CODE_CELLS, ids=lambda cell: cell["id"])
def test_the_names_that_a_cell_imports_exist(cell: dict[str, Any]) -> None:
    for node in ast.walk(ast.parse(source(cell))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_the_recipe_accepts_the_settings_of_the_cell_that_trains() -> None:
    from musamma import load_config

    trees = [ast.parse(source(cell)) for cell in CODE_CELLS]
    [settings] = [
        ast.literal_eval(node.value)
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "settings"
    ]
    config = load_config("adapt", changes=settings)
    assert (config.encoder, config.trainer["num_train_epochs"]) == ("nawah-ner", 1)
