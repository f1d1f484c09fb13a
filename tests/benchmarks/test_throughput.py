"""``benchmarks/throughput.py`` with stand-ins for the systems: shares of the matrix rate."""

from __future__ import annotations

import math

import pytest

from benchmarks import throughput
from benchmarks.throughput import RateMeasurement, Result, System, Texts
from musamma.data.document import Document

FLOAT32, INT8 = throughput.FLOAT32_KIND, throughput.INT8_KIND


def test_the_ratio_is_that_of_the_rates_times_that_of_the_shares() -> None:
    rates = [{INT8: 800.0, FLOAT32: 200.0}, {INT8: 700.0, FLOAT32: 210.0}]
    slow = throughput.list_shares([4.0, 5.0], 400, rates, FLOAT32)
    fast = throughput.list_shares([1.0, 1.25], 400, rates, INT8)
    assert slow == [0.5, 400 / 5 / 210]
    for ratio, one, other, rate in zip([4.0, 4.0], slow, fast, rates, strict=True):
        assert math.isclose(ratio, rate[INT8] / rate[FLOAT32] * other / one)


def test_a_graph_is_timed_in_every_round_beside_its_system(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class FakePass:
        needed, computed, pieces = 60, 80, (3, 4)

        def run(self) -> None:
            calls.append("graph")

    def find(name: str, texts: list[str]) -> list[list]:
        calls.append(name)
        return [[] for _ in texts]

    monkeypatch.setattr(throughput, "best_rates", lambda chains: {INT8: 100.0, FLOAT32: 30.0})
    systems = [
        System(
            name=name, find=lambda texts, name=name: find(name, texts), convert=lambda document, _: document, kind=kind
        )
        for name, kind in (("pipeline", FLOAT32), ("Tagger, int8", INT8))
    ]
    texts = Texts(name="articles", documents=[Document("a", "وصل الوفد")])
    results, measured = throughput.measure(systems, texts, rounds=2, passes={"Tagger, int8": FakePass()})
    assert calls == ["pipeline", "Tagger, int8", *(2 * ["pipeline", "Tagger, int8", "graph"])]
    assert [len(result.graph_seconds) for result in results] == [0, 2]
    assert measured == RateMeasurement(rates=2 * [{INT8: 100.0, FLOAT32: 30.0}], needed=60, computed=80, pieces=(3, 4))
    assert throughput.measure(systems, texts, rounds=1)[1] is None


def test_the_table_has_shares_end_to_end_and_in_the_graph() -> None:
    measured = RateMeasurement(
        rates=[{INT8: 1e9, FLOAT32: 2.5e8}], needed=10**9, computed=15 * 10**8, pieces=(100, 150)
    )
    common = {"sizes": {}, "f1": {}, "changes": {}}
    results = [
        Result(name="pipeline", kind=FLOAT32, seconds=[8.0], graph_seconds=[], **common),
        Result(name="Tagger, int8", kind=INT8, seconds=[4.0], graph_seconds=[2.0], **common),
    ]
    table = throughput.build_rate_table(results, measured, "articles")
    rows = [[column._cells[row].partition(" ")[0] for column in table.columns] for row in range(2)]
    assert rows == [
        ["pipeline", FLOAT32, "0", "0.50", "", ""],
        ["Tagger,", INT8, "0", "0.25", "0.50", "0.75"],
    ]
    remarks = "\n".join(throughput.list_rate_remarks(measured))
    assert "the rate of int8 relative to float32: 4.00" in remarks
    assert "100 pieces of text with 10.0 million operations each; 150 pieces computed" in remarks
