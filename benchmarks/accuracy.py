"""What each setting of a recipe is worth: several seeds of every variant, scored on the same development parts. No network.

    python benchmarks/accuracy.py benchmarks/ablations.yaml [--seeds 1 2 3] [--only NAME ...] [--runs runs/ablations]
        [--gold wikinews=wikinews_dev.jsonl ...] [--json FILE] [--markdown FILE]

The file lists variants: a recipe of `musamma train` with its settings changed, or `runs`, the folders of finished seeds. Variants are
trained one after another into RUNS/NAME; what is finished is not trained again, so an interrupted benchmark goes on. The development part of
Khabar is always scored; further parts are files with Khabar's labels.

The table has strict micro F1, macro F1 and micro F1 by label and any shared character as mean and sample standard deviation over seeds, and,
for a variant with `base`, the difference of strict F1 from that variant: with the same seeds, the mean difference of
seeds with its 95% interval (Student's t). Exit status: 0 done, 1 a training failed, 2 the call or the file was wrong.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from rich.console import Console
from rich.table import Table
from scipy import stats

from musamma.data.corpora import load_khabar
from musamma.data.corpus_files import read_documents
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.files import atomic_write, write_json
from musamma.evaluation import score_documents
from musamma.evaluation.matching import OVERLAP, STRICT
from musamma.inference import Tagger

#: The scores of a part beside the strict one, as headings of the table.
MACRO, ANY = "macro", "any"


class Variant(BaseModel):
    """A row of the table.

    Args:
        name: its name, valid as a folder's name.
        recipe: a recipe of `musamma train`.
        settings: ``KEY=VALUE``, as of ``--set``.
        runs: folders of trained seeds, instead of a recipe.
        base: name of the variant that it is compared with.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    recipe: str | None = None
    settings: list[str] = []
    runs: list[str] = []
    base: str | None = None

    @model_validator(mode="after")
    def _check_source(self) -> Variant:
        if (self.recipe is None) == (not self.runs):
            raise ValueError("either 'recipe' or 'runs' is needed")
        if self.runs and self.settings:
            raise ValueError("'settings' change a recipe, not 'runs'")
        return self


class Ablations(BaseModel):
    """The file of variants."""

    model_config = ConfigDict(extra="forbid")

    variants: list[Variant]

    @model_validator(mode="after")
    def _check_names(self) -> Ablations:
        names: list[str] = []
        for variant in self.variants:
            if variant.name in names:
                raise ValueError(f"two variants are named {variant.name!r}")
            if variant.base is not None and variant.base not in names:
                raise ValueError(f"{variant.name!r} has the base {variant.base!r}, which is not a variant before it")
            names.append(variant.name)
        return self


def read_ablations(path: Path) -> list[Variant]:
    """Read the file of variants.

    Raises:
        InputError: the file cannot be read or has a mistake.
    """
    try:
        return Ablations.model_validate(yaml.safe_load(path.read_text("utf-8"))).variants
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(" ".join(str(error).split()), where=str(path), expected="a YAML file of variants") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{where}: {first['msg']}" if where else first["msg"], where=str(path)) from None


def train_variant(variant: Variant, seeds: Sequence[int], folder: Path) -> list[Path]:
    """Train the seeds of a variant that are not finished, and return the folders of all.

    Raises:
        subprocess.CalledProcessError: a training failed.
    """
    if variant.recipe is None:
        return [Path(run) for run in variant.runs]
    settings = [*variant.settings, f"seeds={list(seeds)}", f"output={folder}"]
    options = [part for setting in settings for part in ("--set", setting)]
    subprocess.run([sys.executable, "-m", "musamma", "train", variant.recipe, *options], check=True)
    return [folder / f"seed-{seed}" for seed in seeds]


def score_model(model: Path, parts: Mapping[str, Sequence[Document]]) -> dict[str, dict[str, float]]:
    """Return the scores of a model by part, in per cent."""
    tagger = Tagger(str(model))
    scores = {}
    for name, gold in parts.items():
        modes = score_documents(
            gold, tagger.tag_documents(document.with_spans(()) for document in gold), modes=[STRICT, OVERLAP]
        ).modes
        scores[name] = {
            STRICT: 100 * modes[STRICT].micro.f1,
            MACRO: 100 * modes[STRICT].macro.f1,
            ANY: 100 * modes[OVERLAP].micro.f1,
        }
    return scores


def format_spread(values: Sequence[float]) -> str:
    """Format mean and sample standard deviation."""
    return f"{mean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def format_difference(values: Sequence[float], base: Sequence[float], *, paired: bool) -> str:
    """Format the difference of means, with the 95% interval of seeds in pairs or, otherwise, of two samples (Welch)."""
    difference = mean(values) - mean(base)
    if min(len(values), len(base)) < 2:
        return f"{difference:+.1f}"
    result = stats.ttest_rel(values, base) if paired else stats.ttest_ind(values, base, equal_var=False)
    low, high = result.confidence_interval(0.95)
    return f"{difference:+.1f} [{low:+.1f}, {high:+.1f}]"


def build_rows(
    variants: Sequence[Variant], scores: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]]
) -> list[list[str]]:
    """Return the table: a heading, and a row for each variant that has scores."""
    parts = list(next(iter(scores.values()))[0])
    by_name = {variant.name: variant for variant in variants}
    rows = [["variant", "seeds"]]
    for part in parts:
        rows[0] += [part, "difference", MACRO, ANY]
    for name, runs in scores.items():
        variant = by_name[name]
        row = [name, str(len(runs))]
        for part in parts:
            values = {kind: [run[part][kind] for run in runs] for kind in (STRICT, MACRO, ANY)}
            difference = ""
            if variant.base in scores:
                base = [run[part][STRICT] for run in scores[variant.base]]
                paired = variant.recipe is not None and by_name[variant.base].recipe is not None
                difference = format_difference(values[STRICT], base, paired=paired and len(base) == len(runs))
            row += [format_spread(values[STRICT]), difference, *(format_spread(values[kind]) for kind in (MACRO, ANY))]
        rows.append(row)
    return rows


def format_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Format the table as Markdown."""
    lines = [rows[0], ["---", *["---:"] * (len(rows[0]) - 1)], *rows[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def read_parts(values: Sequence[str]) -> dict[str, list[Document]]:
    """Read the parts to score: Khabar's development part, and ``NAME=FILE``.

    Raises:
        InputError: a value has another form, or a file cannot be read.
    """
    parts = {"khabar": load_khabar("dev")}
    for value in values:
        name, _, file = value.partition("=")
        if not name or not file or name in parts:
            raise InputError(f"--gold {value!r}", expected="NAME=FILE, each name once, other than khabar")
        parts[name] = list(read_documents(file))
    return parts


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, score and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", type=Path, metavar="FILE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="variants to train and score")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"), metavar="FOLDER")
    parser.add_argument("--gold", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores of every seed")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table")
    options = parser.parse_args(arguments)
    try:
        variants = read_ablations(options.variants)
        parts = read_parts(options.gold)
        if unknown := sorted(set(options.only or ()) - {variant.name for variant in variants}):
            raise InputError(f"--only {unknown[0]!r}", expected=", ".join(variant.name for variant in variants))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    scores: dict[str, list[dict[str, Any]]] = {}
    failed = False
    for variant in variants:
        if options.only is not None and variant.name not in options.only:
            continue
        try:
            models = train_variant(variant, options.seeds, options.runs / variant.name)
        except subprocess.CalledProcessError as error:
            print(f"error: {variant.name}: training ended with status {error.returncode}", file=sys.stderr)
            failed = True
            continue
        scores[variant.name] = [score_model(model, parts) for model in models]
        if options.json is not None:
            write_json(scores, options.json)
    if not scores:
        return 1
    rows = build_rows(variants, scores)
    table = Table(title="F1 in per cent, mean ± standard deviation over seeds", title_justify="left")
    for index, heading in enumerate(rows[0]):
        table.add_column(heading, justify="right" if index else "left")
    for row in rows[1:]:
        table.add_row(*row)
    Console(width=max(120, 40 + 50 * len(parts))).print(table, markup=False)
    if options.markdown is not None:
        with atomic_write(options.markdown) as partial:
            partial.write_text(format_markdown(rows), "utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
