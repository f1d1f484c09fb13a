"""Several runs of one system: the mean of their figures, and how far they scatter."""

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
    """Precision, recall and F1, or how far they scatter."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample standard deviation (n - 1 below the line) of a figure over runs; ``support`` is the same in all."""

    mean: Ratios
    sd: Ratios
    support: int


@dataclass(frozen=True, slots=True)
class ModeSpread:
    """The spread of a mode's figures.

    Args:
        per_label: by every label of the gold or of any run's predictions, sorted; 0.0 for the runs that have it not.
    """

    micro: Spread
    macro: Spread
    per_label: Mapping[str, Spread]


@dataclass(frozen=True, slots=True)
class SeedScores:
    """The figures of all runs together.

    Args:
        runs: how many there are.
        modes: the spread by mode.
    """

    runs: int
    modes: Mapping[str, ModeSpread]

    def to_dict(self) -> dict[str, Any]:
        """JSON: ``mean`` and ``sd``, each of the shape of one run's figures."""
        return {"mean": self._side("mean"), "sd": self._side("sd")}

    def _side(self, side: str) -> dict[str, Any]:
        record: dict[str, Any] = {}
        for name, mode in self.modes.items():
            figures = {
                "micro": asdict(getattr(mode.micro, side)),
                "macro": asdict(getattr(mode.macro, side)),
                "per_label": {label: asdict(getattr(spread, side)) for label, spread in mode.per_label.items()},
            }
            record |= figures if name == STRICT else {name: figures}
        return record


def spread(scores: Sequence[Scores]) -> SeedScores:
    """Mean and standard deviation of the figures of several runs on the same gold, e.g. of models that differ in their seed.

    Ratios are averaged, as is the custom for seeds: every run weighs the same. The names of the runs are never pooled.

    Args:
        scores: two runs or more, scored in the same modes.

    Raises:
        InputError: there is one run only, or they were not scored in the same modes on the same number of names.
    """
    if len(scores) < 2:
        raise InputError(f"the scores of {len(scores)} run", expected="two or more, for a spread")
    for other in scores[1:]:
        if _gold(other) != _gold(scores[0]):
            raise InputError(
                f"runs with {_gold(scores[0])} and {_gold(other)} gold names by mode",
                expected="the same gold and modes",
            )
    return SeedScores(len(scores), {name: _mode([run.modes[name] for run in scores]) for name in scores[0].modes})


def _gold(scores: Scores) -> dict[str, int]:
    return {name: mode.micro.support for name, mode in scores.modes.items()}


def _mode(runs: Sequence[ModeScores]) -> ModeSpread:
    labels = sorted({label for run in runs for label in run.per_label})
    return ModeSpread(
        micro=_spread([run.micro for run in runs]),
        macro=_spread([run.macro for run in runs]),
        per_label={label: _spread([run.per_label.get(label, Counts()) for run in runs]) for label in labels},
    )


def _spread(figures: Sequence[Counts | Average]) -> Spread:
    return Spread(_ratios(mean, figures), _ratios(stdev, figures), figures[0].support)


def _ratios(average: Callable[[list[float]], float], figures: Sequence[Counts | Average]) -> Ratios:
    return Ratios(
        average([figure.precision for figure in figures]),
        average([figure.recall for figure in figures]),
        average([figure.f1 for figure in figures]),
    )
