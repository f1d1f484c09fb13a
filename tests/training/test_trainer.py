"""Learning rates by depth."""

from __future__ import annotations

from musamma.training.trainer import layerwise_learning_rates


def test_learning_rates_fall_with_depth() -> None:
    names = [
        "backbone.bert.embeddings.word_embeddings.weight",
        "backbone.bert.encoder.layer.0.output.dense.weight",
        "backbone.bert.encoder.layer.1.output.dense.weight",
        "backbone.classifier.weight",
        "proclitic_head.weight",
    ]
    rates = layerwise_learning_rates(names, rate=1.0, decay=0.5, head_rate=3.0)
    assert list(rates.values()) == [0.25, 0.5, 1.0, 3.0, 3.0]
    assert set(layerwise_learning_rates(names, rate=1.0, decay=1.0, head_rate=None).values()) == {1.0}
