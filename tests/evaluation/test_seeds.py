"""Runs of one system: mean and standard deviation, hand-computed and compared with numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.evaluation import Counts, ModeScores, Scores, score_documents, spread

TEXT = "وصل محمد السعيد من بغداد إلى دمشق"
NAMES = Span(4, 15, "PER"), Span(19, 24, "LOC"), Span(29, 33, "LOC")
GOLD = Document("a", TEXT, NAMES)


def run(*names: Span) -> Scores:
    return score_documents([GOLD], [GOLD.with_spans(names)])


def test_a_hand_computed_case():
    """Recall 1, 2/3 and 1/3 at precision 1: F1 1, 4/5 and 1/2. The first run finds both places, the second one of two."""
    result = spread([run(*NAMES), run(*NAMES[:2]), run(NAMES[0])])
    assert result.runs == 3
    micro = result.modes["strict"].micro
    assert (micro.mean.precision, micro.sd.precision, micro.support) == (1.0, 0.0, 3)
    assert (micro.mean.recall, micro.sd.recall) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert micro.mean.f1 == pytest.approx(23 / 30)
    assert micro.sd.f1 == pytest.approx(np.std([1, 4 / 5, 1 / 2], ddof=1))
    place = result.modes["strict"].per_label["LOC"]
    assert (place.mean.recall, place.sd.recall, place.support) == (0.5, 0.5, 2)
    assert place.mean.f1 == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert tuple(result.modes) == tuple(run().modes)


def test_json_has_the_structure_of_one_run():
    one, record = run(*NAMES).to_dict(), spread([run(*NAMES), run()]).to_dict()
    assert record["mean"]["micro"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert record["sd"]["overlap"]["per_label"]["LOC"]["f1"] == pytest.approx(0.5**0.5)
    assert (
        set(record["mean"]) == set(record["sd"]) == set(one) - {"semeval", "layers", "documents", "missing", "losses"}
    )


def test_a_label_that_only_one_run_predicts_counts_as_zero_in_the_others():
    result = spread([run(*NAMES), run(*NAMES, Span(0, 3, "ORG"))])
    assert result.modes["strict"].per_label["ORG"].support == 0
    assert result.modes["strict"].per_label["ORG"].mean.f1 == 0.0
    assert list(result.modes["strict"].per_label) == ["LOC", "ORG", "PER"]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=6))
def test_means_and_deviations_equal_numpys(runs):
    scores = [Scores({"strict": ModeScores({"PER": Counts(tp, fp, 50 - tp)})}, documents=1) for tp, fp in runs]
    metrics = np.array([[s.strict.micro.precision, s.strict.micro.recall, s.strict.micro.f1] for s in scores])
    result = spread(scores).modes["strict"].micro
    assert [result.mean.precision, result.mean.recall, result.mean.f1] == pytest.approx(metrics.mean(axis=0))
    assert [result.sd.precision, result.sd.recall, result.sd.f1] == pytest.approx(
        metrics.std(axis=0, ddof=1), abs=1e-12
    )


def test_runs_without_a_spread_raise_an_error():
    with pytest.raises(InputError, match="the scores of 1 run; expected two or more"):
        spread([run(*NAMES)])
    other = Document("a", TEXT, NAMES[:1])
    with pytest.raises(InputError, match="expected the same gold and modes"):
        spread([run(*NAMES), score_documents([other], [other])])
    with pytest.raises(InputError, match="expected the same gold and modes"):
        spread([run(*NAMES), score_documents([GOLD], [GOLD], modes=["strict"])])
