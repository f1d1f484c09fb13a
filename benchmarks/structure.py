"""Measure the structure of one or more checkouts: modules, lines, repeated file names, import cycles, repeated code.

    python benchmarks/structure.py [CHECKOUT ...] [--list] [--min-lines 6]

Without an argument it measures the checkout that contains this file. Every checkout needs the folders of the package at
its root, or linked in `src/musamma`; nothing is imported, so it may be of any version. `--list` prints the repeated names,
the cycles and the repeated blocks as well. A block is repeated if at least `--min-lines` consecutive lines of code are
equal, without regard to indentation, comments, docstrings, imports and blank lines.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grimp
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

FOLDERS = ("cli", "configs", "data", "evaluation", "inference", "models", "training")
SHORT_MODULE = 90


@dataclass(frozen=True, slots=True)
class Structure:
    """Measurements of one checkout.

    Args:
        modules: number of modules with code; an empty ``__init__`` is not counted.
        short_modules: number of modules with fewer than 90 lines.
        lines: number of lines in all modules.
        repeated_names: file names that occur more than once, except ``__init__.py``, with the files.
        cycles: groups of modules that import each other, directly or through others.
        repeated_blocks: pairs of places with the same lines, and the number of lines.
    """

    modules: int
    short_modules: int
    lines: int
    repeated_names: dict[str, list[str]]
    cycles: list[list[str]]
    repeated_blocks: list[tuple[str, str, int]]


def main() -> None:
    """Measure the checkouts and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path(__file__).parents[1]], metavar="CHECKOUT")
    parser.add_argument("--list", action="store_true", help="print what is repeated and the cycles")
    parser.add_argument("--min-lines", type=int, default=6, help="length of a repeated block")
    options = parser.parse_args()
    structures = [measure_structure(path.resolve(), min_lines=options.min_lines) for path in options.checkouts]
    table = Table("", *map(str, options.checkouts), box=None, pad_edge=False)
    for title, count in {
        "modules": lambda s: s.modules,
        f"modules of fewer than {SHORT_MODULE} lines": lambda s: s.short_modules,
        "lines": lambda s: s.lines,
        "file names that occur more than once": lambda s: len(s.repeated_names),
        "import cycles": lambda s: len(s.cycles),
        f"repeated blocks of {options.min_lines} or more lines": lambda s: len(s.repeated_blocks),
    }.items():
        table.add_row(title, *(f"{count(structure):,}" for structure in structures))
    Console().print(table)
    if options.list:
        for path, structure in zip(options.checkouts, structures, strict=True):
            print(f"\n{path}")
            for name, places in structure.repeated_names.items():
                print(f"name   {name}: {', '.join(places)}")
            for cycle in structure.cycles:
                print(f"cycle  {', '.join(cycle)}")
            for first, second, length in structure.repeated_blocks:
                print(f"block  {length} lines: {first} and {second}")


def measure_structure(checkout: Path, *, min_lines: int = 6) -> Structure:
    """Measure a checkout."""
    files = sorted(path for folder in FOLDERS for path in (checkout / folder).rglob("*") if path.is_file())
    files = [path for path in files if path.suffix != ".pyc"]
    modules = [path for path in files if path.suffix == ".py" and path.stat().st_size]
    modules += sorted((checkout / "src/musamma").glob("*.py"))
    lengths = [len(path.read_text(encoding="utf-8").splitlines()) for path in modules]
    places: dict[str, list[str]] = defaultdict(list)
    for path in files:
        if path.name != "__init__.py" and "corpora" not in path.parts:
            places[path.name].append(str(path.relative_to(checkout)))
    # Files such as README.md and LICENSE belong to what stands beside them and must have these names.
    repeated = {n: p for n, p in places.items() if len(p) > 1 and Path(n).suffix in (".py", ".jinja", ".css", ".js")}
    return Structure(
        modules=len(modules),
        short_modules=sum(length < SHORT_MODULE for length in lengths),
        lines=sum(lengths),
        repeated_names=repeated,
        cycles=find_cycles(checkout),
        repeated_blocks=find_repeated_blocks(checkout, modules, min_lines=min_lines),
    )


def find_cycles(checkout: Path) -> list[list[str]]:
    """Find the groups of modules that import each other, imports for type checkers included."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "musamma"
        package.mkdir()
        (package / "__init__.py").touch()
        for name in FOLDERS:
            (package / name).symlink_to(checkout / name)
            if not (checkout / name / "__init__.py").exists():
                raise SystemExit(f"{checkout / name}: no package")
        sys.path.insert(0, folder)
        try:
            graph = grimp.build_graph("musamma", cache_dir=None)
        finally:
            sys.path.remove(folder)
    names = sorted(graph.modules)
    index = {name: number for number, name in enumerate(names)}
    edges = [(index[a], index[b]) for a in names for b in graph.find_modules_directly_imported_by(a)]
    rows, columns = np.array(edges).T
    matrix = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(names), len(names)))
    _, component = connected_components(matrix, directed=True, connection="strong")
    sizes = Counter(component.tolist())
    return [[names[i] for i in np.flatnonzero(component == c)] for c, size in sorted(sizes.items()) if size > 1]


def find_repeated_blocks(checkout: Path, modules: list[Path], *, min_lines: int) -> list[tuple[str, str, int]]:
    """Find pairs of places with at least ``min_lines`` equal lines of code."""
    code = {str(path.relative_to(checkout)): list(_code_lines(path)) for path in modules}
    starts: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    for name, lines in code.items():
        for start in range(len(lines) - min_lines + 1):
            starts[tuple(text for _, text in lines[start : start + min_lines])].append((name, start))
    blocks = []
    for repeats in starts.values():
        for number, (name, start) in enumerate(repeats):
            for other, other_start in repeats[number + 1 :]:
                first, second = code[name], code[other]
                if start and other_start and first[start - 1][1] == second[other_start - 1][1]:
                    continue  # The block begins further up.
                length = min_lines
                while (
                    start + length < len(first)
                    and other_start + length < len(second)
                    and first[start + length][1] == second[other_start + length][1]
                ):
                    length += 1
                if name == other and start + length > other_start:
                    continue  # A place overlaps itself.
                blocks.append((f"{name}:{first[start][0]}", f"{other}:{second[other_start][0]}", length))
    return sorted(blocks)


def _code_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and text of each line of code, without layout, imports and docstrings."""
    text = path.read_text(encoding="utf-8")
    skipped: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        ):
            skipped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.split("  # ")[0].strip()
        # Lines of brackets alone are what the formatter makes.
        if number not in skipped and not stripped.startswith("#") and stripped.strip("()[]{},: "):
            yield number, stripped


if __name__ == "__main__":
    main()
