"""The audit of an import."""

import json

import pytest

from musamma.data.errors import ThresholdError
from musamma.data.import_audit import FINDING_KINDS, ImportAudit


def audit():
    account = ImportAudit(source="خبر.jsonl", spans=200, exact=196, documents=9)
    account.add(
        "whitespace", document="a", where="خبر.jsonl:4", detail="[0, 6) ORG 'داعش ': was [0, 7), with whitespace"
    )
    account.add("outside", document="b", where="خبر.jsonl:5", detail="[0, 900) ORG")
    account.add("surface_mismatch", document="b", detail="x")
    account.add("nested", document="c", detail="y")
    account.add("clitic_joined", count=40)
    account.add("duplicate", document="c", detail="z")
    return account


def test_dropped_snapped_and_doubtful_spans_are_a_loss():
    assert audit().lost == 3
    assert audit().loss == 0.015
    assert ImportAudit().loss == 0.0


def test_the_error_of_the_threshold_names_counts_and_an_example():
    audit().check_loss(0.015)
    with pytest.raises(ThresholdError) as caught:
        audit().check_loss(0.01)
    assert str(caught.value) == (
        "خبر.jsonl: 3 of 200 spans (1.50%) were not kept as they are (1 dropped, 1 snapped, 1 doubtful), above `max_loss=0.01`;"
        " first: خبر.jsonl:4: [0, 6) ORG 'داعش ': was [0, 7), with whitespace"
    )


def test_findings_are_listed_up_to_a_limit_and_all_counted():
    account = ImportAudit(limit=2)
    for number in range(5):
        account.add("outside", document=f"d{number}", detail="gone")
    account.add("direction_mark", count=7)
    account.add("comment_line", count=0)
    assert account.kinds == {"outside": 5, "direction_mark": 7}
    assert [finding.document for finding in account.findings] == ["d0", "d1"]


def test_unknown_kinds_are_a_programming_error():
    with pytest.raises(KeyError):
        ImportAudit().add("lost somehow")


def test_the_audit_as_json():
    record = json.loads(json.dumps(audit().to_dict()))
    assert record["loss"] == 0.015
    assert {key: record[key] for key in ("snapped", "dropped", "doubtful", "overlapping", "merged", "exact")} == {
        **dict.fromkeys(("snapped", "dropped", "doubtful", "overlapping", "merged"), 1),
        "exact": 196,
    }
    assert record["kinds"]["clitic_joined"] == 40
    assert record["findings"][1] == {
        "kind": "outside",
        "document": "b",
        "where": "خبر.jsonl:5",
        "detail": "[0, 900) ORG",
    }
    assert set(record["kinds"]) <= set(FINDING_KINDS)
