"""Repair of candidate spans: each is retained, merged or dropped, and counted once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musamma.data.document import Span
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from musamma.data.span_repair import CandidateSpan, RawDocument, repair_spans, split_nested

TEXT = "قال رئيس جامعة الموصل  أمس"


def repaired(*spans, nested=(), overlaps="error", text=TEXT):
    audit = ImportAudit()
    raw = RawDocument("d1", text, tuple(spans), tuple(nested), where="f.jsonl:3")
    return repair_spans(raw, overlaps=overlaps, audit=audit), audit


def span(surface, label="ORG", *, before=0, after=0, **more):
    start = TEXT.index(surface)
    return CandidateSpan(start - before, start + len(surface) + after, label, **more)


def test_valid_spans_are_exact():
    document, audit = repaired(span("جامعة الموصل"), span("رئيس", "PER", score=0.5))
    assert document.spans == (Span(4, 8, "PER", 0.5), Span(9, 21, "ORG"))
    assert (audit.documents, audit.spans, audit.exact, audit.kinds) == (1, 2, 2, {})


@pytest.mark.parametrize(("before", "after"), [(1, 0), (0, 2), (1, 1)])
def test_whitespace_at_borders_is_removed(before, after):
    document, audit = repaired(span("جامعة الموصل", before=before, after=after))
    assert document.surface(document.spans[0]) == "جامعة الموصل"
    assert (audit.kinds, audit.count_category("snapped"), audit.exact) == ({"whitespace": 1}, 1, 0)
    [finding] = audit.findings
    assert (finding.document, finding.where) == ("d1", "f.jsonl:3")
    assert f"was [{9 - before}, {21 + after})" in finding.detail


@pytest.mark.parametrize(
    ("start", "end", "kind"),
    [(-1, 3, "outside"), (0, 99, "outside"), (8, 4, "outside"), (4, 4, "empty"), (21, 23, "empty")],
)
def test_empty_and_outside_spans_are_dropped(start, end, kind):
    document, audit = repaired(CandidateSpan(start, end, "ORG", where="f.ann:7"))
    assert document.spans == ()
    assert (audit.kinds, audit.count_category("dropped"), audit.loss) == ({kind: 1}, 1, 1.0)
    assert audit.findings[0].where == "f.ann:7"


def test_duplicates_are_merged_also_after_snapping():
    document, audit = repaired(span("جامعة"), span("جامعة"), span("جامعة", after=1))
    assert document.spans == (Span(9, 14, "ORG"),)
    assert (audit.spans, audit.exact, audit.kinds) == (3, 1, {"duplicate": 2})


def test_the_error_of_an_overlap_names_both_spans():
    with pytest.raises(InputError) as caught:
        repaired(span("جامعة الموصل"), span("الموصل", "GPE"))
    assert str(caught.value) == (
        "f.jsonl:3, document 'd1': spans [15, 21) GPE 'الموصل' and [9, 21) ORG 'جامعة الموصل' overlap; expected spans"
        " without overlap; keep one of them with `overlaps='longest'`, or both with `overlaps='nested'`"
    )


def test_longest_retains_the_longest_span():
    document, audit = repaired(
        span("الموصل", "GPE"), span("رئيس جامعة", "PER"), span("جامعة الموصل"), overlaps="longest"
    )
    assert [document.surface(s) for s in document.spans] == ["جامعة الموصل"]
    assert audit.kinds == {"overlap": 2}


def test_nested_moves_inner_names_and_drops_crossing_ones():
    document, audit = repaired(
        span("الموصل", "GPE"), span("رئيس جامعة", "PER"), span("جامعة الموصل"), overlaps="nested"
    )
    assert [document.surface(s) for s in document.nested] == ["الموصل"]
    assert audit.kinds == {"nested": 1, "crossing": 1}
    assert (audit.exact, audit.count_category("overlapping"), audit.count_category("dropped")) == (2, 1, 1)


def test_of_spans_with_the_same_extent_the_first_is_outermost():
    document, _ = repaired(span("الموصل", "GPE"), span("الموصل", "ORG"), overlaps="nested")
    assert (document.spans[0].label, document.nested[0].label) == ("GPE", "ORG")


def test_a_nested_name_without_an_outer_name_is_promoted():
    document, audit = repaired(CandidateSpan(9, 99, "ORG"), nested=[span("الموصل", "GPE")])
    assert [document.surface(s) for s in document.spans] == ["الموصل"]
    assert document.nested == ()
    assert audit.kinds == {"outside": 1, "promoted": 1}
    document, audit = repaired(span("جامعة"), nested=[span("رئيس جامعة", "PER")])
    assert (document.nested, audit.kinds) == ((), {"crossing": 1})


def test_an_issue_found_by_the_reader_is_counted_once():
    doubtful = span("جامعة", after=1, issue="surface_mismatch", detail="the file says 'كلية'")
    dropped = span("الموصل", issue="split_character", detail="inside a character")
    document, audit = repaired(doubtful, dropped)
    assert [document.surface(s) for s in document.spans] == ["جامعة"]
    assert audit.kinds == {"surface_mismatch": 1, "split_character": 1}
    assert audit.lost == 2


OFFSETS = st.integers(-2, 14)
CANDIDATES = st.lists(st.builds(CandidateSpan, OFFSETS, OFFSETS, st.sampled_from(["PER", "LOC"])), max_size=7)


@settings(deadline=None)
@given(st.text(st.sampled_from("اب \n"), max_size=12), CANDIDATES, CANDIDATES, st.sampled_from(["longest", "nested"]))
def test_every_candidate_is_accounted_for(text, spans, nested, overlaps):
    document, audit = repaired(*spans, nested=nested, overlaps=overlaps, text=text)
    kept = len(document.spans) + len(document.nested)
    assert (
        audit.spans
        == len(spans) + len(nested)
        == kept + audit.count_category("dropped") + audit.count_category("merged")
    )
    assert kept == audit.exact + audit.count_category("snapped")
    given_keys = {candidate.key for candidate in (*spans, *nested)}
    names = (*document.spans, *document.nested)
    assert audit.exact <= sum(name.key in given_keys for name in names)
    for name in names:
        assert document.surface(name) == document.surface(name).strip() != ""
    for name in document.nested:
        assert any(outer.start <= name.start and name.end <= outer.end for outer in document.spans)


def test_split_nested_returns_the_outermost_first():
    outer, inner = Span(0, 9, "A"), Span(3, 5, "B")
    assert split_nested([inner, Span(9, 10, "C"), outer]) == ((outer, Span(9, 10, "C")), (inner,))
