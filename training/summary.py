"""What a run says at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from musamma.training.card import MODES, micro_f1, spread

if TYPE_CHECKING:
    from musamma.training.finetune import SeedResult


def print_results(results: Sequence[SeedResult], output: str, console: Console) -> None:
    """Print micro F1 by mode and part, mean and spread over seeds, and where the checkpoint is."""
    parts = [part for part in ("dev", "test") if part in results[0].scores]
    seeds = "1 seed" if len(results) == 1 else f"{len(results)} seeds, mean ± standard deviation"
    table = Table(title=f"micro F1, {seeds}", title_justify="left")
    table.add_column("counted by")
    for part in parts:
        table.add_column(part, justify="right")
    for mode, title in MODES.items():
        table.add_row(title, *(spread([micro_f1(result, part, mode) for result in results]) for part in parts))
    console.print(table)
    minutes = sum(result.seconds for result in results) / 60
    console.print(f"trained in {minutes:.1f} min; checkpoint, card and scores: {output}", soft_wrap=True)
