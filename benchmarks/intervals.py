"""How often the intervals of resampling hold the true figure, and how p-values fall where there is nothing to find.

    python benchmarks/intervals.py [--simulations 1000] [--seed 1] [--methods]

Documents are drawn from a superpopulation of 200,000 made ones, so that the true figures are known. They differ in length
(negative binomial, 17 names in the mean, a few documents above 60) and in difficulty (what a system finds of a document, and how
much of what it predicts is right, vary together on the logit scale). One label, ``EVENT``, is rare: it stands in a quarter of the
documents, 0.45 names a document, and is harder. ``--methods`` sets scipy's methods beside ours instead. No network, no model, no corpus.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import kstest

from musamma.evaluation.counts import CountTable, MetricLayout
from musamma.evaluation.significance import Interval, bootstrap, compare_systems

POPULATION = 200_000
ROWS = ("strict", "strict/EVENT", "strict/LOC")
RARE = "strict/EVENT"
RESAMPLES = 1_000
SCIPYS = ("percentile", "basic", "BCa")


def superpopulation(rng: np.random.Generator, f1: float, gains: tuple[float, ...]) -> list[np.ndarray]:
    """The counts of every document, (documents, rows, 3), for systems of about this F1 and ``gains`` logits more.

    Systems with the same gain are alike: given a document, their outcomes are independent and of one distribution.
    """
    names = 1 + rng.negative_binomial(1.6, 1.6 / (1.6 + 16), POPULATION)
    events = np.where(rng.random(POPULATION) < 0.25, 1 + rng.poisson(0.8, POPULATION), 0)
    ease = rng.normal(size=POPULATION)
    tables = []
    for gain in gains:
        base = np.log(f1 / (1 - f1)) + gain
        recall = _logistic(base + 0.8 * ease - 0.15 * np.log(names / 16))
        precision = _logistic(base + 0.3 + 0.7 * ease + 0.4 * rng.normal(size=POPULATION))
        common = _outcome(rng, names, recall, precision)
        rare = _outcome(rng, events, 0.85 * recall, 0.85 * precision)
        rare[:, 1] += rng.poisson(0.03, POPULATION)
        tables.append(np.stack([common + rare, rare, common], axis=1).astype(np.float64))
    return tables


def _outcome(rng: np.random.Generator, names: np.ndarray, recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    found = rng.binomial(names, recall)
    wrong = rng.poisson(names * recall * (1 - precision) / precision)
    return np.stack([found, found + wrong, names], axis=-1)


def _logistic(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))


def table(counts: np.ndarray) -> CountTable:
    """A count table of made documents."""
    return CountTable(tuple(f"{number:06}" for number in range(len(counts))), ROWS, counts)


def truth(population: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of the superpopulation by row."""
    layout = MetricLayout.for_table(table(population[:1]))
    figures = layout.metrics(population.sum(axis=0).T)
    return {row: figures[:, index] for index, row in enumerate(layout.rows)}


def coverage(rng: np.random.Generator, documents: int, f1: float, simulations: int) -> str:
    """A row of the first table: how often each interval held the truth, in per cent."""
    first, second = superpopulation(rng, f1, (0.0, 0.2))
    true, better = truth(first), truth(second)
    held: dict[str, list[bool]] = {}
    width: dict[str, list[float]] = {"strict": [], RARE: []}
    for number in range(simulations):
        drawn = rng.integers(0, POPULATION, documents)
        one, other = table(first[drawn]), table(second[drawn])
        intervals = bootstrap(one, resamples=RESAMPLES, seed=number)
        for row, figures in true.items():
            found = intervals[row]
            for name, interval, figure in zip("PRF", (found.precision, found.recall, found.f1), figures, strict=True):
                held.setdefault(f"{row} {name}", []).append(_holds(interval, figure))
        for row, widths in width.items():
            widths.append(intervals[row].f1.high - intervals[row].f1.low)
        comparison = compare_systems(one, other, rows=["strict"], resamples=RESAMPLES, seed=number)[0]
        held.setdefault("difference", []).append(_holds(comparison.interval, better["strict"][2] - true["strict"][2]))
    columns = [
        *(f"strict {name}" for name in "PRF"), "strict/macro F", *(f"{RARE} {name}" for name in "PRF"), "difference",
    ]  # fmt: skip
    shares = " | ".join(f"{100 * np.mean(held[column]):.1f}" for column in columns)
    widths_ = " | ".join(f"{50 * np.mean(widths):.1f}" for widths in width.values())
    return f"| {documents} | {100 * true['strict'][2]:.1f} | {shares} | {widths_} |"


def _holds(interval: Interval, figure: float) -> bool:
    return interval.low - 1e-12 <= figure <= interval.high + 1e-12


def methods(rng: np.random.Generator, documents: int, f1: float, simulations: int) -> str:
    """A row of the table of methods: coverage of the intervals of F1, of all names and of the rare label, in per cent."""
    (population,) = superpopulation(rng, f1, (0.0,))
    true = truth(population)
    held: dict[str, list[bool]] = {f"{method} {row}": [] for method in (*SCIPYS, "ours") for row in ("strict", RARE)}
    for number in range(simulations):
        sample = table(population[rng.integers(0, POPULATION, documents)])
        intervals = bootstrap(sample, resamples=RESAMPLES, seed=number)
        for row in ("strict", RARE):
            columns = sample.counts[:, ROWS.index(row)].T
            held[f"ours {row}"].append(_holds(intervals[row].f1, true[row][2]))
            for method in SCIPYS:
                with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
                    low, high = scipy_bootstrap(
                        columns,
                        _f1,
                        paired=True,
                        n_resamples=RESAMPLES,
                        method=method,
                        rng=np.random.default_rng(number),
                    ).confidence_interval
                held[f"{method} {row}"].append(_holds(Interval(low, high), true[row][2]))
    shares = " | ".join(f"{100 * np.mean(column):.1f}" for column in held.values())
    return f"| {documents} | {100 * true['strict'][2]:.1f} | {shares} |"


def _f1(found: np.ndarray, predicted: np.ndarray, gold: np.ndarray, axis: int = -1) -> np.ndarray:
    below = (predicted + gold).sum(axis)
    return np.where(below > 0, 2 * found.sum(axis) / np.maximum(below, 1), 0.0)


def under_the_null(rng: np.random.Generator, documents: int, simulations: int) -> str:
    """A row of the second table: shares of p-values of systems that are alike, and how far they are from uniform."""
    first, second = superpopulation(rng, 0.85, (0.0, 0.0))
    p_values = []
    for number in range(simulations):
        drawn = rng.integers(0, POPULATION, documents)
        one, other = table(first[drawn]), table(second[drawn])
        p_values.append(compare_systems(one, other, rows=["strict"], resamples=RESAMPLES, seed=number)[0].p_value)
    shares = " | ".join(f"{100 * np.mean(np.array(p_values) <= level):.1f}" for level in (0.01, 0.05, 0.1, 0.5))
    test = kstest(p_values, "uniform")
    return f"| {documents} | {shares} | {test.statistic:.3f} | {test.pvalue:.2f} |"


def seconds(documents: int, rows: int) -> tuple[float, float]:
    """How long the intervals and the comparison of tables of this size take, with 10,000 resamples."""
    rng = np.random.default_rng(1)
    gold = rng.poisson(2.0, (documents, rows))
    tables = []
    for _ in range(2):
        found = rng.binomial(gold, 0.8)
        counts = np.stack([found, found + rng.poisson(0.4, gold.shape), gold], axis=-1)
        names = ("strict", *(f"strict/{number}" for number in range(rows - 1)))
        tables.append(CountTable(tuple(map(str, range(documents))), names, counts))
    begun = time.perf_counter()
    bootstrap(tables[0])
    between = time.perf_counter()
    compare_systems(*tables)
    return between - begun, time.perf_counter() - between


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--methods", action="store_true")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    if options.methods:
        print(f"Coverage of 95 % intervals of F1, per cent: all names, rare label; {options.simulations} simulations\n")
        print("| documents | F1 | " + " | ".join(f"{method} | rare" for method in (*SCIPYS, "ours")) + " |")
        print("|" + " ---: |" * 10)
        for documents in (10, 20, 50, 100):
            for f1 in (0.7, 0.95):
                print(methods(rng, documents, f1, options.simulations), flush=True)
        return
    print(f"Coverage of 95 % intervals, per cent; {options.simulations} simulations, {RESAMPLES} resamples\n")
    print("| documents | F1 | P | R | F1 | macro F1 | rare P | rare R | rare F1 | difference | ± F1 | ± rare F1 |")
    print("|" + " ---: |" * 12)
    for documents in (5, 10, 20, 50, 100, 400):
        for f1 in (0.5, 0.7, 0.85, 0.95):
            print(coverage(rng, documents, f1, options.simulations), flush=True)
    print("\np-values of two systems that are alike, F1 about 83; per cent of p at most\n")
    print("| documents | 0.01 | 0.05 | 0.10 | 0.50 | Kolmogorov-Smirnov | its p |")
    print("|" + " ---: |" * 7)
    for documents in (10, 50, 200):
        print(under_the_null(rng, documents, options.simulations), flush=True)
    took = seconds(400, 300)
    print(f"\n10,000 resamples of 400 documents and 300 rows: intervals {took[0]:.1f} s, comparison {took[1]:.1f} s")


if __name__ == "__main__":
    main()
