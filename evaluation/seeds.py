"""Several runs of one system: mean and standard deviation of their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import Any

from musamma.data.errors import InputError
from musamma.evaluation.counts import Counts
from musamma.evaluation.matching import STRICT
from musamma.evaluation.metrics import Average, ModeScores, Scores


@dataclass(frozen=True, slots=True)
class Ratios:
    """Precision, recall and F1, or their standard deviations."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample standard deviation (denominator n - 1) over runs; ``support`` is the same in all runs."""

    mean: Ratios
    sd: Ratios
    support: int


@dataclass(frozen=True, slots=True)
class ModeSpread:
    """The spread of one mode's scores.

    Args:
        micro: all labels counted together.
        macro: the unweighted mean over labels.
        per_label: for every label of the gold or of any run's predictions, sorted; a run without the label counts as 0.0.
    """

    micro: Spread
    macro: Spread
    per_label: Mapping[str, Spread]


@dataclass(frozen=True, slots=True)
class SeedScores:
    """The scores of all runs together.

    Args:
        runs: number of runs.
        modes: the spread by mode.
    """

    runs: int
    modes: Mapping[str, ModeSpread]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON: ``mean`` and ``sd``, each structured like the scores of one run."""
        return {"mean": self._statistic("mean"), "sd": self._statistic("sd")}

    def _statistic(self, name: str) -> dict[str, Any]:
        record: dict[str, Any] = {}
        for mode, spread in self.modes.items():
            values = {
                "micro": asdict(getattr(spread.micro, name)),
                "macro": asdict(getattr(spread.macro, name)),
                "per_label": {label: asdict(getattr(of_label, name)) for label, of_label in spread.per_label.items()},
            }
            record |= values if mode == STRICT else {mode: values}
        return record


def spread(scores: Sequence[Scores]) -> SeedScores:
    """Compute mean and standard deviation of the scores of several runs on the same gold, such as seeds of one model.

    Ratios are averaged, as is usual for seeds: each run has the same weight, and names of different runs are not pooled.

    Args:
        scores: two runs or more, scored in the same modes.

    Raises:
        InputError: there is only one run, or the runs differ in modes or in the number of gold names.
    """
    if len(scores) < 2:
        raise InputError(f"the scores of {len(scores)} run", expected="two or more, for a spread")
    support = _support(scores[0])
    for run in scores[1:]:
        if _support(run) != support:
            raise InputError(
                f"runs with {support} and {_support(run)} gold names by mode",
                expected="the same gold and modes",
            )
    modes = {mode: _mode_spread([run.modes[mode] for run in scores]) for mode in scores[0].modes}
    return SeedScores(len(scores), modes)


def _support(scores: Scores) -> dict[str, int]:
    return {mode: mode_scores.micro.support for mode, mode_scores in scores.modes.items()}


def _mode_spread(runs: Sequence[ModeScores]) -> ModeSpread:
    labels = sorted({label for run in runs for label in run.per_label})
    return ModeSpread(
        micro=_spread([run.micro for run in runs]),
        macro=_spread([run.macro for run in runs]),
        per_label={label: _spread([run.per_label.get(label, Counts()) for run in runs]) for label in labels},
    )


def _spread(runs: Sequence[Counts | Average]) -> Spread:
    return Spread(_ratios(mean, runs), _ratios(stdev, runs), runs[0].support)


def _ratios(statistic: Callable[[list[float]], float], runs: Sequence[Counts | Average]) -> Ratios:
    return Ratios(
        statistic([run.precision for run in runs]),
        statistic([run.recall for run in runs]),
        statistic([run.f1 for run in runs]),
    )
