"""Label schemas and the maps between them."""

import pytest

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from musamma.data.labels import (
    COARSE,
    KHABAR,
    LABEL_MAPS,
    SCHEMAS,
    LabelMap,
    apply_labels,
    load_label_map,
    load_schema,
)
from tests.support import span

TEXT = "سكرتير اللجنة القومية في نابلس"
WOJOOD = Document("w1", TEXT, (Span(0, 30, "OCC"),), (Span(7, 21, "ORG"), Span(25, 30, "GPE")))


def test_schemas_have_the_published_sizes():
    assert {name: len(labels) for name, labels in SCHEMAS.items()} == {
        "coarse": 4,
        "khabar": 8,
        "anercorp": 5,
        "aqmar": 4,
        "wojood": 21,
        "fane": 51,
    }


@pytest.mark.parametrize("name", LABEL_MAPS)
def test_maps_map_one_schema_to_another(name):
    source, target = name.split("-to-")
    table = LABEL_MAPS[name].table
    assert tuple(sorted(table)) == tuple(sorted(SCHEMAS[source]))
    assert set(table.values()) - {None} <= set(SCHEMAS[target])
    if target == "coarse":
        assert set(table.values()) - {None} == set(COARSE)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("anercorp-to-coarse", "PERS", "PER"),
        ("aqmar-to-coarse", "MIS", "MISC"),
        ("khabar-to-coarse", "FAC", "LOC"),
        ("khabar-to-coarse", "NORP", "MISC"),
        ("wojood-to-coarse", "GPE", "LOC"),
        ("wojood-to-coarse", "DATE", None),
        ("wojood-to-khabar", "PRODUCT", "PROD"),
        ("fane-to-khabar", "Land", "PROD"),  # a vehicle, as opposed to:
        ("fane-to-khabar", "Land-Region-Natural", "LOC"),
        ("fane-to-khabar", "Water-Body", "LOC"),
        ("fane-to-khabar", "Police", "PER"),
        ("fane-to-coarse", "Group", "MISC"),
    ],
)
def test_labels_that_are_easily_confused(name, old, new):
    assert load_label_map(name)[old] == new


def test_nested_names_are_promoted_if_the_outer_one_is_dropped():
    audit = ImportAudit()
    document = apply_labels(WOJOOD, load_label_map("wojood-to-coarse"), audit=audit)
    assert [(document.surface(s), s.label) for s in document.spans] == [("اللجنة القومية", "ORG"), ("نابلس", "LOC")]
    assert document.nested == ()
    assert audit.kinds == {"unmapped": 1, "promoted": 2}


def test_nested_names_stay_nested_if_the_outer_one_stays():
    document = Document("k", "حي القاهرة", (Span(0, 10, "GPE", 0.5),), (Span(3, 10, "GPE"),), {"topic": "x"})
    mapped = apply_labels(document, load_label_map("khabar-to-coarse"))
    assert mapped.spans == (Span(0, 10, "LOC", 0.5),)
    assert mapped.nested == (Span(3, 10, "LOC"),)
    assert mapped.meta == {"topic": "x"}


def test_of_several_nested_names_the_outermost_is_promoted():
    text = "وزير جامعة الموصل"
    document = Document("x", text, (Span(0, 17, "OCC"),), (Span(5, 17, "ORG"), Span(11, 17, "GPE")))
    mapped = apply_labels(document, load_label_map("wojood-to-khabar"))
    assert mapped.spans == (Span(5, 17, "ORG"),)
    assert mapped.nested == (Span(11, 17, "GPE"),)


def test_names_that_become_equal_are_merged_and_counted():
    audit = ImportAudit()
    document = Document("x", "مصر", (Span(0, 3, "GPE"),), (Span(0, 3, "LOC"),))
    mapped = apply_labels(document, load_label_map("khabar-to-coarse"), audit=audit)
    assert (mapped.spans, mapped.nested) == ((Span(0, 3, "LOC"),), ())
    assert audit.kinds == {"duplicate": 1}


def test_a_label_missing_from_the_map_is_named_with_its_document():
    with pytest.raises(InputError) as caught:
        apply_labels(WOJOOD, load_label_map("khabar-to-coarse"))
    assert str(caught.value).startswith(
        f"document 'w1': label 'OCC' of [0, 30) '{TEXT}' is not in the map; expected a label of"
    )
    assert "'OCC: null' to drop it" in str(caught.value)


@pytest.mark.parametrize(
    "content", ["PERS: PER\nMISC: null\n", '{"PERS": "PER", "MISC": null}', "\ufeffPERS: PER\nMISC: ~\n"]
)
def test_map_from_a_file(tmp_path, content):
    path = tmp_path / "map.yaml"
    path.write_text(content, "utf-8")
    assert load_label_map(path) == LabelMap(str(path), {"PERS": "PER", "MISC": None})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- PER\n", "not a table of labels"),
        ("", "not a table of labels"),
        ("PERS: A B\n", r"map\.yaml, entry 'PERS': label 'A B'; expected a label without spaces"),
        ("PERS: 3\n", r"entry 'PERS': label 3"),
        (
            "PERS: O\n",
            r"entry 'PERS': label 'O', which stands for no name; expected a label, or null to drop the names",
        ),
        ("NO: LOC\n", r"entry False: label False"),  # YAML's boolean
        ("PER: X\nORG: [\n", r"map\.yaml:3: not readable as YAML"),
    ],
)
def test_invalid_map_files(tmp_path, content, message):
    (tmp_path / "map.yaml").write_text(content, "utf-8")
    with pytest.raises(InputError, match=message):
        load_label_map(tmp_path / "map.yaml")


def test_map_to_the_conventions_of_anercorp():
    text = "قال الجيش اللبناني لسفارة مصر وللجيش السوري إن مطار بيروت الدولي ومجلس الأمن وجَيش كوبا"
    outer = [
        span(text, "الجيش اللبناني", "ORG"),
        span(text, "سفارة مصر", "ORG"),
        span(text, "لجيش السوري", "ORG"),
        span(text, "مطار بيروت الدولي", "FAC"),
        span(text, "مجلس الأمن", "ORG"),
        span(text, "جَيش كوبا", "ORG"),
    ]
    nested = [span(text, "مصر", "GPE"), span(text, "بيروت", "GPE"), span(text, "كوبا", "GPE")]
    document = Document("a", text, tuple(outer), tuple(nested))
    mapped = apply_labels(document, load_label_map("khabar-to-anercorp"))
    assert [(mapped.surface(s), s.label) for s in mapped.spans] == [
        ("مصر", "LOC"),
        ("بيروت", "LOC"),
        ("مجلس الأمن", "ORG"),
        ("كوبا", "LOC"),
    ]
    assert mapped.nested == ()


def test_map_file_with_unmarked_first_words(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("ORG: {label: ORG, unmarked: [وزارة]}\nGPE: LOC\n", "utf-8")
    labels = load_label_map(path)
    text = "الوزارة ووزارة الصحة ووكالة رويترز"
    document = Document("a", text, (span(text, "وزارة الصحة", "ORG", after=8), span(text, "رويترز", "ORG")))
    audit = ImportAudit()
    assert [document.surface(s) for s in apply_labels(document, labels, audit=audit).spans] == ["رويترز"]
    assert audit.kinds == {"unmapped": 1}


@pytest.mark.parametrize(
    "entry", ["{label: ORG}", "{label: ORG, unmarked: x}", "{label: ORG, unmarked: [a b]}", "[ORG]"]
)
def test_invalid_entries_of_a_map_file(tmp_path, entry):
    (tmp_path / "map.yaml").write_text(f"ORG: {entry}\n", "utf-8")
    with pytest.raises(InputError, match=r"map\.yaml, entry 'ORG'"):
        load_label_map(tmp_path / "map.yaml")


def test_schema_by_name_or_file(tmp_path):
    assert load_schema("khabar") == KHABAR
    (tmp_path / "s.yaml").write_text("[PER, LOC]", "utf-8")
    assert load_schema(tmp_path / "s.yaml") == ("PER", "LOC")
    (tmp_path / "s.yaml").write_text("PER: LOC", "utf-8")
    with pytest.raises(InputError, match="not a list of labels"):
        load_schema(tmp_path / "s.yaml")
    with pytest.raises(InputError, match="a schema 'nothing'; expected one of coarse, khabar"):
        load_schema("nothing")
    with pytest.raises(InputError, match="a label map 'nothing'; expected one of anercorp-to-coarse"):
        load_label_map("nothing")
