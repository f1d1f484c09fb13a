"""Coverage of confidence intervals, and the distribution of p-values between equal systems. No network, no model, no corpus.

    python benchmarks/intervals.py [--simulations 1000] [--seed 1] [--methods]

Documents are drawn from a superpopulation of 200,000 synthetic ones, so the true metrics are known. They differ in length
(negative binomial, 17 names on average, a few documents above 60) and in difficulty (recall and precision of a document vary
together on the logit scale). One label, ``EVENT``, is rare: it occurs in a quarter of the documents, 0.45 names per document,
and is harder. ``--methods`` compares with scipy's methods instead.
"""

from __future__ import annotations

import argparse
import time
import warnings

import numpy as np
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import kstest

from musamma.evaluation.counts import CountTable, MetricLayout
from musamma.evaluation.significance import Interval, bootstrap_intervals, compare_systems

POPULATION = 200_000
ROWS = ("strict", "strict/EVENT", "strict/LOC")
RARE = "strict/EVENT"
RESAMPLES = 1_000
SCIPY_METHODS = ("percentile", "basic", "BCa")


def superpopulation(rng: np.random.Generator, f1: float, gains: tuple[float, ...]) -> list[np.ndarray]:
    """Return the counts of every document, (documents, rows, 3), for systems of about this F1, improved by ``gains`` logits.

    Systems with the same gain are equal: given a document, their outcomes are independent and have one distribution.
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
    """Return a count table of synthetic documents."""
    return CountTable(tuple(f"{number:06}" for number in range(len(counts))), ROWS, counts)


def true_metrics(population: np.ndarray) -> dict[str, np.ndarray]:
    """Return precision, recall and F1 of the superpopulation by row."""
    layout = MetricLayout.for_table(table(population[:1]))
    metrics = layout.metrics(population.sum(axis=0).T)
    return {row: metrics[:, index] for index, row in enumerate(layout.rows)}


def measure_coverage(rng: np.random.Generator, documents: int, f1: float, simulations: int) -> str:
    """Return a row of the first table: how often each interval contained the true value, in per cent."""
    first, second = superpopulation(rng, f1, (0.0, 0.2))
    true, better = true_metrics(first), true_metrics(second)
    covered: dict[str, list[bool]] = {}
    width: dict[str, list[float]] = {"strict": [], RARE: []}
    for number in range(simulations):
        drawn = rng.integers(0, POPULATION, documents)
        one, other = table(first[drawn]), table(second[drawn])
        intervals = bootstrap_intervals(one, resamples=RESAMPLES, seed=number)
        for row, metrics in true.items():
            of_row = intervals[row]
            bounds = of_row.precision, of_row.recall, of_row.f1
            for name, interval, metric in zip("PRF", bounds, metrics, strict=True):
                covered.setdefault(f"{row} {name}", []).append(_contains(interval, metric))
        for row, widths in width.items():
            widths.append(intervals[row].f1.high - intervals[row].f1.low)
        comparison = compare_systems(one, other, rows=["strict"], resamples=RESAMPLES, seed=number)[0]
        covered.setdefault("difference", []).append(
            _contains(comparison.interval, better["strict"][2] - true["strict"][2])
        )
    columns = [
        *(f"strict {name}" for name in "PRF"), "strict/macro F", *(f"{RARE} {name}" for name in "PRF"), "difference",
    ]  # fmt: skip
    shares = " | ".join(f"{100 * np.mean(covered[column]):.1f}" for column in columns)
    half_widths = " | ".join(f"{50 * np.mean(widths):.1f}" for widths in width.values())
    return f"| {documents} | {100 * true['strict'][2]:.1f} | {shares} | {half_widths} |"


def _contains(interval: Interval, value: float) -> bool:
    return interval.low - 1e-12 <= value <= interval.high + 1e-12


def compare_methods(rng: np.random.Generator, documents: int, f1: float, simulations: int) -> str:
    """Return a row of the table of methods: coverage of the intervals of F1, of all names and of the rare label."""
    (population,) = superpopulation(rng, f1, (0.0,))
    true = true_metrics(population)
    covered: dict[str, list[bool]] = {
        f"{method} {row}": [] for method in (*SCIPY_METHODS, "musamma") for row in ("strict", RARE)
    }
    for number in range(simulations):
        sample = table(population[rng.integers(0, POPULATION, documents)])
        intervals = bootstrap_intervals(sample, resamples=RESAMPLES, seed=number)
        for row in ("strict", RARE):
            columns = sample.counts[:, ROWS.index(row)].T
            covered[f"musamma {row}"].append(_contains(intervals[row].f1, true[row][2]))
            for method in SCIPY_METHODS:
                with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
                    low, high = scipy_bootstrap(
                        columns,
                        _f1,
                        paired=True,
                        n_resamples=RESAMPLES,
                        method=method,
                        rng=np.random.default_rng(number),
                    ).confidence_interval
                covered[f"{method} {row}"].append(_contains(Interval(low, high), true[row][2]))
    shares = " | ".join(f"{100 * np.mean(column):.1f}" for column in covered.values())
    return f"| {documents} | {100 * true['strict'][2]:.1f} | {shares} |"


def _f1(correct: np.ndarray, predicted: np.ndarray, gold: np.ndarray, axis: int = -1) -> np.ndarray:
    below = (predicted + gold).sum(axis)
    return np.where(below > 0, 2 * correct.sum(axis) / np.maximum(below, 1), 0.0)


def compare_equal_systems(rng: np.random.Generator, documents: int, simulations: int) -> str:
    """Return a row of the second table: shares of p-values of equal systems, and their distance from the uniform distribution."""
    first, second = superpopulation(rng, 0.85, (0.0, 0.0))
    p_values = []
    for number in range(simulations):
        drawn = rng.integers(0, POPULATION, documents)
        one, other = table(first[drawn]), table(second[drawn])
        p_values.append(compare_systems(one, other, rows=["strict"], resamples=RESAMPLES, seed=number)[0].p_value)
    shares = " | ".join(f"{100 * np.mean(np.array(p_values) <= level):.1f}" for level in (0.01, 0.05, 0.1, 0.5))
    test = kstest(p_values, "uniform")
    return f"| {documents} | {shares} | {test.statistic:.3f} | {test.pvalue:.2f} |"


def time_resampling(documents: int, rows: int) -> tuple[float, float]:
    """Return the seconds that the intervals and the comparison of tables of this size take, with 10,000 resamples."""
    rng = np.random.default_rng(1)
    gold = rng.poisson(2.0, (documents, rows))
    tables = []
    for _ in range(2):
        found = rng.binomial(gold, 0.8)
        counts = np.stack([found, found + rng.poisson(0.4, gold.shape), gold], axis=-1)
        names = ("strict", *(f"strict/{number}" for number in range(rows - 1)))
        tables.append(CountTable(tuple(map(str, range(documents))), names, counts))
    start = time.perf_counter()
    bootstrap_intervals(tables[0])
    middle = time.perf_counter()
    compare_systems(*tables)
    return middle - start, time.perf_counter() - middle


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--methods", action="store_true")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    if options.methods:
        print(f"Coverage of 95 % intervals of F1, per cent: all names, rare label; {options.simulations} simulations\n")
        print("| documents | F1 | " + " | ".join(f"{method} | rare" for method in (*SCIPY_METHODS, "musamma")) + " |")
        print("|" + " ---: |" * 10)
        for documents in (10, 20, 50, 100):
            for f1 in (0.7, 0.95):
                print(compare_methods(rng, documents, f1, options.simulations), flush=True)
        return
    print(f"Coverage of 95 % intervals, per cent; {options.simulations} simulations, {RESAMPLES} resamples\n")
    print("| documents | F1 | P | R | F1 | macro F1 | rare P | rare R | rare F1 | difference | ± F1 | ± rare F1 |")
    print("|" + " ---: |" * 12)
    for documents in (5, 10, 20, 50, 100, 400):
        for f1 in (0.5, 0.7, 0.85, 0.95):
            print(measure_coverage(rng, documents, f1, options.simulations), flush=True)
    print("\np-values of two equal systems, F1 about 83; per cent of p at most\n")
    print("| documents | 0.01 | 0.05 | 0.10 | 0.50 | Kolmogorov-Smirnov | its p |")
    print("|" + " ---: |" * 7)
    for documents in (10, 50, 200):
        print(compare_equal_systems(rng, documents, options.simulations), flush=True)
    took = time_resampling(400, 300)
    print(f"\n10,000 resamples of 400 documents and 300 rows: intervals {took[0]:.1f} s, comparison {took[1]:.1f} s")


if __name__ == "__main__":
    main()
