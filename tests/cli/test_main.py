"""The command's own part of an error message: options in place of the library's parameters."""

from __future__ import annotations

import pytest

from musamma.cli.main import name_flags


@pytest.mark.parametrize(
    ("verb", "message", "shown"),
    [
        (["predict"], "go on with `resume=True`", "go on with --resume"),
        (
            ["predict"],
            "choose another `output`, or add `overwrite=True`",
            "choose another --output, or add --overwrite",
        ),
        (["predict"], "`engine='ray'` with `format=\"html\"`", "--engine ray with --format html"),
        (["predict"], "name the column with `text_column`", "name the column with --text-column"),
        (["evaluate"], "write it with `json`", "write it with --json"),
        (["encoder", "trim"], "choose another `output`", "choose another OUTPUT"),
        (["train"], "rename it with `labels`, not `pieces`", "rename it with musamma convert --labels, not `pieces`"),
        (["train"], "read it with `overlaps='longest'`", "read it with musamma convert --overlaps longest"),
        (["evaluate"], "`resume=True` and `x` and ``", "`resume=True` and `x` and ``"),
        ([], "add `overwrite=True`", "add `overwrite=True`"),
    ],
)
def test_messages_name_options_of_the_verb(verb: list[str], message: str, shown: str) -> None:
    assert name_flags(message, [*verb, "a.txt"]) == shown
