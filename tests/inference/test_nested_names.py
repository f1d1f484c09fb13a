"""Names inside names in the tagger and its output: minimum scores, rules, every format, and the service."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from musamma.data.corpora import load_khabar
from musamma.data.corpus_files import ReadOptions, read_documents
from musamma.data.document import Document, Span, select_nested
from musamma.data.formats.markup import parse_article
from musamma.data.import_audit import ImportAudit
from musamma.inference import Tagger
from musamma.inference.batch_run import LoadedTagger, tag_inputs
from musamma.inference.inputs import Inputs
from musamma.inference.output_formats import build_output_format, format_article
from musamma.inference.progress_bar import ProgressBar
from musamma.inference.rule_file import load_rules
from musamma.inference.serve.request_limits import Limits
from musamma.inference.serve.schemas import format_response, parse_request
from musamma.models.calibration import Calibration
from tests.support import write_random_checkpoint

ARTICLE = load_khabar("dev")[0].with_spans(())
# A character of two UTF-16 units, then a name with two names in it.
NAMED = replace(
    parse_article("😀 [رئيس [مجلس النواب|ORG] [العراقي|NORP]|PER] في [بغداد|GPE]".encode(), id="n", where="n"),
    meta={"source": 1},
)
SCORED = replace(
    NAMED,
    spans=(replace(NAMED.spans[0], score=0.8), replace(NAMED.spans[1], score=0.9)),
    nested=(replace(NAMED.nested[0], score=0.7), replace(NAMED.nested[1], score=0.4)),
)


@pytest.fixture(scope="module")
def checkpoint(wordpiece_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that finds nested names in any text, with thresholds."""
    folder = tmp_path_factory.mktemp("nested")
    thresholds = {"PER": 0.3, "LOC": 0.3, "ORG": 0.3}
    calibration = Calibration(thresholds=thresholds, precision=0.9, nested_thresholds={"GPE": 0.2, "LOC": None})
    return write_random_checkpoint(
        folder, wordpiece_encoder, head_std=0.3, nested=("GPE", "LOC"), calibration=calibration
    )


def tag(checkpoint: Path, **options: Any) -> Document:
    return next(Tagger(str(checkpoint), device="cpu", **options).tag_documents([ARTICLE]))


def test_nested_names_are_inside_outer_names(checkpoint: Path):
    tagged = tag(checkpoint)
    assert len(tagged.nested) > 5
    assert select_nested(tagged.nested, tagged.spans) == tagged.nested
    assert Tagger(str(checkpoint), device="cpu").labels == ("LOC", "ORG", "PER", "GPE")


def test_minimum_scores_leave_out_nested_names_and_those_of_outer_names(checkpoint: Path):
    tagged = tag(checkpoint)
    ((group, left_out),) = Tagger(str(checkpoint), device="cpu", min_score=0.3).tag_groups([[ARTICLE]])
    (document,) = group
    assert list(document.nested) == [span for span in tagged.nested if span.score >= 0.3]
    assert 0 < len(document.nested) < len(tagged.nested)
    assert left_out == len(tagged.all_spans) - len(document.all_spans)
    without_gpe = tag(checkpoint, label_min_scores={"GPE": 1.0})
    assert without_gpe.spans == tagged.spans
    assert {span.label for span in without_gpe.nested} == {"LOC"}
    only_sure = tag(checkpoint, label_min_scores={"LOC": 0.0, "ORG": 1.0, "PER": 1.0})
    assert {span.label for span in only_sure.spans} == {"LOC"}
    assert only_sure.nested == select_nested(tagged.nested, only_sure.spans)
    assert only_sure.nested != tagged.nested


def test_thresholds_of_nested_names_are_their_own(checkpoint: Path):
    tagged = tag(checkpoint)
    assert "LOC" in {span.label for span in tagged.nested}
    kept = tag(checkpoint, thresholds=True)
    assert list(kept.nested) == [span for span in tagged.nested if span.label == "GPE" and span.score >= 0.3]


def test_the_nested_names_of_a_removed_name_are_removed(tmp_path: Path):
    pytest.importorskip("ahocorasick")
    from musamma.inference.rule_matching import RuleTagger

    rules = tmp_path / "rules.yaml"
    rules.write_text("never:\n  - names: [رئيس مجلس النواب العراقي]\n", "utf-8")
    ruled = RuleTagger(load_rules(rules)).apply(SCORED)
    assert (ruled.nested, [span.label for span in ruled.spans]) == ((), ["GPE"])


class _Fixed:
    """A tagger that gives every document the names of ``SCORED``."""

    def tag_groups(self, groups):
        for group in groups:
            yield [replace(SCORED, id=document.id) for document in group], 0


def write(tmp_path: Path, name: str, format: str, *, nested: bool = True) -> tuple[Path, ImportAudit]:
    source, target, audit = tmp_path / "in.jsonl", tmp_path / name, ImportAudit()
    source.write_text(json.dumps({"id": "n", "text": NAMED.text}) + "\n", "utf-8")
    with ProgressBar(None) as progress_bar:
        tag_inputs(
            Inputs(names=(str(source),), text_column=None, id_column=None, output=str(target)),
            lambda: LoadedTagger(tagger=_Fixed(), settings={}, nested=nested),
            format=format,
            compression=None,
            audit=audit,
            progress_bar=progress_bar,
        )
    return target, audit


@pytest.mark.parametrize(
    ("name", "format", "scores"),
    [("out.jsonl", "jsonl", True), ("out.parquet", "parquet", True), ("out", "brat", False)],
)
def test_files_hold_nested_names(tmp_path: Path, name: str, format: str, scores: bool):
    path, audit = write(tmp_path, name, format)
    (document,) = read_documents(str(path), options=ReadOptions(overlaps="nested"))
    expected = SCORED if scores else NAMED
    assert (document.spans, document.nested) == (expected.spans, expected.nested)
    assert "lost_nested" not in audit.kinds


def test_conll_has_further_tags_for_nested_names(tmp_path: Path):
    path, audit = write(tmp_path, "out.conll", "conll")
    assert path.read_text("utf-8").splitlines()[1:6] == [
        "رئيس B-PER",
        "مجلس I-PER B-ORG",
        "النواب I-PER I-ORG",
        "العراقي I-PER B-NORP",
        "في O",
    ]
    assert audit.kinds["lost_score"] == 4
    assert "lost_nested" not in audit.kinds


def test_parquet_of_a_flat_model_has_no_column_for_nested_names(tmp_path: Path):
    flat, _ = write(tmp_path, "flat.parquet", "parquet", nested=False)
    nested, _ = write(tmp_path, "nested.parquet", "parquet")
    assert pq.read_schema(flat).names == ["id", "text", "spans", "meta"]
    assert pq.read_schema(nested).names == ["id", "text", "spans", "nested", "meta"]


def test_a_page_marks_names_inside_names():
    page = format_article(SCORED)
    assert (
        '<mark class="PER" title="0.800"><bdi>رئيس <mark class="ORG" title="0.700"><bdi>مجلس النواب</bdi><small><bdi>ORG</bdi>'
        '</small></mark> <mark class="NORP" title="0.400"><bdi>العراقي</bdi><small><bdi>NORP</bdi></small></mark></bdi>'
        "<small><bdi>PER</bdi></small></mark>"
    ) in page


@pytest.mark.parametrize(("unit", "shift"), [("code_points", 0), ("utf16", 1)])
def test_a_response_of_the_service_has_nested_names(unit: str, shift: int):
    body = json.dumps({"text": NAMED.text, "min_score": 0.5, "offsets": unit}).encode()
    (document,) = json.loads(format_response(parse_request(body, Limits()), [SCORED]))["documents"]
    start = NAMED.nested[0].start + shift
    assert document["nested"] == [
        {"start": start, "end": start + 11, "label": "ORG", "score": 0.7, "text": "مجلس النواب"}
    ]
    body = json.dumps({"text": NAMED.text, "min_score": 0.85}).encode()
    (document,) = json.loads(format_response(parse_request(body, Limits()), [SCORED]))["documents"]
    assert [name["label"] for name in document["spans"]] == ["GPE"]
    assert "nested" not in document


def test_names_inside_names_are_selected_by_their_extent():
    outer = (Span(0, 5, "A"), Span(8, 12, "A"))
    inner = [Span(0, 5, "B"), Span(0, 4, "B"), Span(1, 5, "B"), Span(4, 6, "B"), Span(6, 7, "B"), Span(9, 12, "B")]
    assert select_nested(inner, outer) == (Span(0, 4, "B"), Span(1, 5, "B"), Span(9, 12, "B"))
    assert select_nested(inner, ()) == ()


def test_a_format_without_a_variant_serves_both_kinds_of_models():
    for format in ("jsonl", "conll", "html", "brat"):
        assert build_output_format(format, compression=None, audit=ImportAudit(), table=None).for_nested is None
