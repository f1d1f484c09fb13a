"""Reading rules from YAML and files of names, and their use by the tagger and the output formats."""

from __future__ import annotations

import json
import pickle
from functools import partial
from pathlib import Path

import cloudpickle
import pytest

from musamma.cli.main import run
from musamma.data.document import RULES_KEY, Document, Span, format_json_line
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from musamma.data.spelling import Spelling
from musamma.inference import Tagger
from musamma.inference.batch_run import load_tagger
from musamma.inference.name_rules import NameList
from musamma.inference.output_formats import build_output_format, format_article
from musamma.inference.rule_file import load_rules
from musamma.inference.run_state import RunState, RunStats
from musamma.inference.serve.request_limits import Limits
from musamma.inference.serve.schemas import format_response, parse_request
from tests.support import tag_in_turns

RULES = """\
precedence: model
lists:
  - label: ORG
    file: names/parties.txt
    precedence: rules
  - label_column: type
    file: names.csv
    column: form
    proclitics: certain
    spelling: {ta_marbuta: false}
never:
  - names: [السلام]
labels:
  - label: GPE
    only: [LOC]
    pattern: '.*'
  - label: PER
    names: [محمد]
"""


@pytest.fixture
def rules_file(tmp_path: Path) -> Path:
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "parties.txt").write_text("\ufeffحزب الأمة\r\n\n  حركة النهضة \n", encoding="utf-8")
    (tmp_path / "names.csv").write_text('type,form\nGPE,مكة\nPER,"علي, الأول"\n', encoding="utf-8")
    path = tmp_path / "rules.yaml"
    path.write_text(RULES, encoding="utf-8")
    return path


def test_a_file_of_rules(rules_file):
    rules = load_rules(rules_file)
    assert rules.lists == (
        NameList(title="lists[0]", entries=(("حزب الأمة", "ORG"), ("حركة النهضة", "ORG"))),
        NameList(
            title="lists[1]",
            entries=(("مكة", "GPE"), ("علي, الأول", "PER")),
            precedence="model",
            proclitics="certain",
            spelling=Spelling(ta_marbuta=False),
        ),
    )
    assert [names.entries for names in rules.never] == [(("السلام", ""),)]
    assert [(rule.label, rule.pattern, rule.only) for rule in rules.labels] == [
        ("GPE", ".*", ("LOC",)),
        ("PER", None, ()),
    ]
    assert rules.new_labels == ("ORG", "GPE", "PER")


def test_the_digest_changes_with_a_name_and_not_with_the_folder(rules_file):
    before = load_rules(rules_file).digest()
    assert load_rules(str(rules_file)).digest() == before
    parties = rules_file.parent / "names" / "parties.txt"
    parties.write_text(parties.read_text("utf-8") + "حزب", encoding="utf-8")
    assert load_rules(rules_file).digest() != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "rules.yaml: an empty file; expected the keys 'lists', 'never' or 'labels'"),
        ("[a]", "rules.yaml: a YAML list; expected the keys"),
        ("lists: []", "rules.yaml: no rules; expected 'lists', 'never' or 'labels'"),
        ("a: b: c", "rules.yaml:1: not readable as YAML"),
        (
            "never:\n- names: [ا]\nnever:\n- names: [ا]",
            "rules.yaml:3: not readable as YAML: the key 'never' occurs twice",
        ),
        ("list: []\nprecedence: x", "rules.yaml: precedence is 'x', expected 'rules' or 'model'; list: unknown key"),
        ("lists:\n- label: A\n  names: [2030]", "lists[0].names[0] is 2030, expected a string, in quotes"),
        ("lists:\n- label: A\n  names: [ا]\n  spelling: {hamzah: no}", "lists[0].spelling.hamzah: unknown key"),
        ("lists:\n- label: A", "rules.yaml: lists[0]: neither 'names' nor 'file'; expected one of them"),
        ("lists:\n- label: A\n  names: []", "rules.yaml: lists[0]: no names; expected at least one name"),
        ("lists:\n- names: [ا]", "rules.yaml: lists[0]: no label; expected a 'label'"),
        (
            "lists:\n- label: A B\n  names: [ا]",
            "rules.yaml: lists[0].label: label 'A B'; expected a label without spaces",
        ),
        (
            "lists:\n- label: A\n  names: [ا, ' ـ ']",
            "rules.yaml: lists[0].names[1]: the name ' ـ '; expected a name with",
        ),
        ("lists:\n- label: A\n  file: gone.txt", "rules.yaml: lists[0]: file 'gone.txt' is missing; expected a file"),
        ("lists:\n- label: A\n  file: marks.txt", "marks.txt:2: the name 'َ'; expected a name with letters"),
        ("lists:\n- label: A\n  file: latin.txt", "latin.txt:1: byte 0xe9 at byte 1 is not UTF-8"),
        ("lists:\n- label: A\n  file: t.csv", "t.csv: no column 'name'; expected one of its columns: form, type"),
        ("lists:\n- label_column: type\n  file: t.csv\n  column: form", "t.csv:3: label ''; expected a label"),
        ("lists:\n- label: A\n  names: [ا]\n  column: form", "lists[0]: a column without a table; expected a 'file'"),
        ("labels:\n- label: A\n  pattern: '('", "rules.yaml: labels[0]: the pattern '(': missing )"),
        ("labels:\n- label: A\n  pattern: a\n  names: [ا]", "labels[0]: a 'pattern' and names; expected one of them"),
        ("labels:\n- pattern: a", "rules.yaml: labels[0].label: missing"),
    ],
)
def test_errors_name_the_file_and_the_entry(tmp_path, content, message):
    (tmp_path / "marks.txt").write_text("ا\n\u064e\n", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes(b"\xe9\n")
    (tmp_path / "t.csv").write_text("form,type\nا,A\nب,\n", encoding="utf-8")
    path = tmp_path / "rules.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_rules(path)
    assert message in str(error.value)


def test_a_file_that_is_missing_and_a_folder(tmp_path):
    for path in (tmp_path / "gone.yaml", tmp_path):
        with pytest.raises(InputError, match=path.name):
            load_rules(path)


# The tagger


@pytest.fixture(scope="module")
def plain(checkpoint: Path) -> Tagger:
    return Tagger(str(checkpoint), device="cpu", bfloat16=False)


@pytest.fixture
def ruled(checkpoint: Path, tmp_path: Path) -> Tagger:
    """A tagger with rules for the known sentences. It must not need their file once it is loaded."""
    path = tmp_path / "rules.yaml"
    path.write_text(
        "lists: [{label: EVENT, names: [احتفالات, الشرطة]}]\nnever: [{names: [بغداد]}]\n"
        "labels: [{label: GPE, pattern: بيروت}]",
        encoding="utf-8",
    )
    tagger = Tagger(str(checkpoint), device="cpu", bfloat16=False, rules=path)
    path.unlink()
    return tagger


def names(document: Document) -> list[tuple[str, str, str | None]]:
    return [(document.surface(span), span.label, span.rule) for span in document.spans]


def test_every_way_of_tagging_applies_the_rules(ruled, plain, known):
    tagged = list(ruled.tag_documents(known))
    assert names(tagged[0]) == [("محمد السعيد", "PER", None), ("بيروت", "GPE", "relabelled")]
    assert names(tagged[2]) == [
        ("القاهرة", "LOC", None),
        ("احتفالات", "EVENT", "added"),
        ("الجيش", "ORG", None),
        ("الشرطة", "EVENT", "added"),
    ]
    # The last digit of a score depends on the batch.
    expected = [[(span.key, span.rule) for span in document.spans] for document in tagged]
    ((group, left_out),) = ruled.tag_groups([known])
    ways = (
        ruled.tag_texts(document.text for document in known),
        [ruled.tag(document.text) for document in known],
        [document.spans for document in tag_in_turns(ruled, [known])[0]],
        [document.spans for document in group],
    )
    for way in ways:
        assert [[(span.key, span.rule) for span in spans] for spans in way] == expected
    assert left_out == 0
    # Documents that no rule concerns are the same to the byte.
    without_rules = list(plain.tag_documents(known))
    for index in (1, 3):
        assert format_json_line(tagged[index]) == format_json_line(without_rules[index])
    assert ruled.labels == ("LOC", "ORG", "PER", "EVENT", "GPE")


def test_what_rules_did_to_earlier_names_is_dropped(ruled, plain, known):
    tagged = next(ruled.tag_documents(known[:1]))
    assert RULES_KEY in tagged.meta
    assert next(plain.tag_documents([tagged])) == next(plain.tag_documents(known[:1]))
    assert next(ruled.tag_documents([tagged])) == tagged


@pytest.mark.parametrize("dump", [pickle.dumps, cloudpickle.dumps])
def test_rules_travel_with_a_pickle(ruled, known, dump):
    again = pickle.loads(dump(ruled))
    assert again.settings() == ruled.settings()
    assert list(again.tag_documents(known)) == list(ruled.tag_documents(known))


def test_rules_travel_to_the_workers_of_a_cluster(rules_file, checkpoint):
    load = partial(load_tagger, str(checkpoint), device="cpu", rules=load_rules(rules_file))
    sent = cloudpickle.dumps(load)
    digest = load_rules(rules_file).digest()
    rules_file.unlink()
    assert pickle.loads(sent)().settings["rules"] == digest


def test_a_resuming_run_must_have_the_same_rules(ruled, plain):
    started = RunState(settings=ruled.settings(), stats=RunStats())
    started.check_settings(ruled.settings(), where="out.jsonl")
    with pytest.raises(InputError, match=r'was started with rules "[0-9a-f]+" and is resumed with rules null'):
        started.check_settings(plain.settings(), where="out.jsonl")
    assert "rules" not in plain.settings()


def test_labels_to_replace_are_labels_of_the_model(checkpoint, tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text("labels: [{label: GPE, only: [LCO], pattern: بيروت}]", encoding="utf-8")
    with pytest.raises(InputError, match="replace the label 'LCO'; expected one of LOC, ORG, PER"):
        Tagger(str(checkpoint), device="cpu", bfloat16=False, rules=path)


def test_the_command_reports_bad_rules_in_one_line(checkpoint, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("نعم", encoding="utf-8")
    (tmp_path / "rules.yaml").write_text("lists: [{label: A}]", encoding="utf-8")
    call = ["predict", str(tmp_path / "a.txt"), "--model", str(checkpoint), "--rules", str(tmp_path / "rules.yaml")]
    assert run(call) == 2
    assert capsys.readouterr().err == (
        f"musamma: {tmp_path}/rules.yaml: lists[0]: neither 'names' nor 'file'; expected one of them\n"
    )


def test_the_command_applies_rules(checkpoint, tmp_path, capsys):
    (tmp_path / "a.txt").write_text("نعم", encoding="utf-8")
    (tmp_path / "rules.yaml").write_text("lists: [{label: A, names: [نعم]}]", encoding="utf-8")
    call = ["predict", str(tmp_path / "a.txt"), "--model", str(checkpoint), "--device", "cpu"]
    assert run([*call, "--rules", str(tmp_path / "rules.yaml")]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["spans"] == [{"start": 0, "end": 3, "label": "A"}]
    assert record["meta"] == {RULES_KEY: [{"start": 0, "end": 3, "rule": "added"}]}


# Output formats

TEXT = "وصل محمد من بيروت إلى بغداد"
LOG = [{"start": 4, "end": 8, "rule": "added"}]
RULED = Document(
    "d",
    TEXT,
    (Span(4, 8, "PER", None, "added"), Span(12, 17, "GPE", 0.9, "confirmed"), Span(22, 27, "GPE", 0.8, "relabelled")),
    meta={RULES_KEY: LOG},
)


@pytest.mark.parametrize(
    ("format", "lost"),
    [
        ("jsonl", {}),
        ("parquet", {}),
        ("html", {}),
        ("brat", {"lost_rule": 3, "lost_meta": 1, "lost_score": 2}),
        ("conll", {"lost_rule": 3, "lost_id": 1, "lost_meta": 1, "lost_score": 2}),
    ],
)
def test_what_a_format_cannot_hold_of_rules_is_counted(format, lost):
    audit = ImportAudit()
    build_output_format(format, compression=None, audit=audit, table=None).encode([RULED])
    assert dict(audit.kinds) == lost


def test_the_page_shows_rules():
    page = format_article(RULED)
    assert '<mark class="PER"><bdi>محمد</bdi><small><bdi>PER · rule</bdi>' in page
    assert 'title="0.900"><bdi>بيروت</bdi><small><bdi>GPE · rule and model</bdi>' in page
    assert 'title="0.800"><bdi>بغداد</bdi><small><bdi>GPE · label by rule</bdi>' in page


def test_the_service_shows_rules_and_keeps_listed_names_whatever_their_score():
    body = json.dumps({"text": TEXT, "min_score": 0.95}).encode()
    response = json.loads(format_response(parse_request(body, Limits()), [RULED]))
    assert response["documents"][0]["spans"] == [
        {"start": 4, "end": 8, "label": "PER", "rule": "added", "text": "محمد"},
        {"start": 12, "end": 17, "label": "GPE", "score": 0.9, "rule": "confirmed", "text": "بيروت"},
    ]
