"""Label schemas and the maps between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from musamma.data.arabic import strip_marks
from musamma.data.document import Document, Span
from musamma.data.errors import InputError, not_yaml
from musamma.data.import_audit import ImportAudit
from musamma.data.span_repair import split_nested
from musamma.data.tags import OUTSIDE

COARSE = ("PER", "LOC", "ORG", "MISC")
KHABAR = ("PER", "GPE", "LOC", "FAC", "ORG", "NORP", "EVENT", "PROD")

_ANERCORP = {"PERS": "PER", "PER": "PER", "LOC": "LOC", "ORG": "ORG", "MISC": "MISC"}
_AQMAR = {"PER": "PER", "LOC": "LOC", "ORG": "ORG", "MIS": "MISC"}
_KHABAR = {
    **{"PER": "PER", "GPE": "LOC", "LOC": "LOC", "FAC": "LOC", "ORG": "ORG"},
    **{"NORP": "MISC", "EVENT": "MISC", "PROD": "MISC"},
}
# Wojood's labels that Khabar does not annotate (functions, dates, numbers, languages, laws, web addresses, currencies) map to None.
_WOJOOD = {
    **{"PERS": "PER", "NORP": "NORP", "ORG": "ORG", "GPE": "GPE", "LOC": "LOC", "FAC": "FAC"},
    **{"EVENT": "EVENT", "PRODUCT": "PROD"},
    **dict.fromkeys(("OCC", "DATE", "TIME", "LANGUAGE", "WEBSITE", "LAW", "CARDINAL", "ORDINAL")),
    **dict.fromkeys(("PERCENT", "QUANTITY", "UNIT", "MONEY", "CURR")),
}
# FANE's fine types by their ACE class. In WikiFANE "Police" stands for military persons, "Group" for peoples and faiths,
# "Medical-Science" for research bodies, "Path" for streets as well as straits; "Air", "Land" and "Water" alone are vehicles.
_FANE_CLASSES = {
    "PER": "Artist Athlete Businessperson Engineer Lawyer Other_PER Police Politician Religious_PER Scientist",
    "NORP": "Group",
    "ORG": "Commercial Educational Entertainment Government Media Medical-Science Non-Governmental Religious_ORG Sports",
    "GPE": "County-or-District Nation Population-Center State-or-Province",
    "LOC": "Celestial Continent GPE-Cluster Land-Region-Natural Water-Body",
    "FAC": "Airport Building-Grounds Path Plant Subarea-Facility",
    "PROD": (
        "Air Land Water Blunt Chemical Exploding Nuclear Projectile Sharp Shooting "
        "Book Drug Food Hardware Movie Software Sound"
    ),
}
_FANE = {fine: label for label, names in _FANE_CLASSES.items() for fine in names.split()}


def _compose(first: Mapping[str, str | None], then: Mapping[str, str | None]) -> dict[str, str | None]:
    return {old: then[new] if new is not None else None for old, new in first.items()}


#: The labels of a corpus, by the name of its schema.
SCHEMAS: Mapping[str, tuple[str, ...]] = {
    "coarse": COARSE,
    "khabar": KHABAR,
    "anercorp": tuple(_ANERCORP),
    "aqmar": tuple(_AQMAR),
    "wojood": tuple(_WOJOOD),
    "fane": tuple(sorted(_FANE)),
}


#: ANERcorp leaves most organs of the state and national teams unmarked, and marks a place in their name as a name of its own.
#: Counted in its training split: of 88 names that begin with الجيش, 103 with الحكومة, 43 with وزارة, 11 with البرلمان, 55 with قوات
#: at most three are marked; مجلس and حزب are marked.
_UNMARKED_IN_ANERCORP = (
    "جيش جيوش قوات حكومة حكومات حكومتي وزارة وزارات وزارتي وزارتا برلمان شرطة درك حرس أمن دفاع خارجية داخلية محكمة محاكم "
    "نيابة سفارة سفارات قنصلية منتخب منتخبا منتخبي هيئة لجنة استخبارات مخابرات بحرية لواء فرقة كتيبة أسطول دائرة مديرية"
)


@dataclass(frozen=True, slots=True)
class LabelMap:
    """A map from the labels of a corpus to others.

    Args:
        name: its name in messages.
        table: the new label of each old one; ``None`` drops the span.
        unmarked: for an old label, first words of names to drop, without the article.
    """

    name: str
    table: Mapping[str, str | None]
    unmarked: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __getitem__(self, label: str) -> str | None:
        return self.table[label]

    def __contains__(self, label: object) -> bool:
        return label in self.table

    def new_label(self, document: Document, span: Span) -> str | None:
        """Return the new label of a span, or ``None`` if the map drops it.

        Raises:
            KeyError: its label is not in the map.
        """
        label = self.table[span.label]
        first_words = self.unmarked.get(span.label)
        if label is None or not first_words:
            return label
        word = strip_marks(document.surface(span)).split(" ", 1)[0]
        # After the preposition ل the article has lost its alef: in للجيش the name is لجيش.
        without_article = {word, word.removeprefix("ال"), word.removeprefix("ل")}
        return None if without_article & first_words else label


_MAPS: Mapping[str, Mapping[str, str | None]] = {
    "anercorp-to-coarse": _ANERCORP,
    "aqmar-to-coarse": _AQMAR,
    "khabar-to-coarse": _KHABAR,
    "khabar-to-anercorp": {**_KHABAR, "FAC": None},
    "wojood-to-coarse": _compose(_WOJOOD, _KHABAR),
    "fane-to-coarse": _compose(_FANE, _KHABAR),
    "wojood-to-khabar": _WOJOOD,
    "fane-to-khabar": _FANE,
}
_UNMARKED = {"khabar-to-anercorp": {"ORG": frozenset(_UNMARKED_IN_ANERCORP.split())}}
#: Label maps by name.
LABEL_MAPS: Mapping[str, LabelMap] = {
    name: LabelMap(name, table, _UNMARKED.get(name, {})) for name, table in _MAPS.items()
}


def load_label_map(name: str | Path) -> LabelMap:
    """Load a label map: a name of :data:`LABEL_MAPS`, or a YAML or JSON file ``{OLD: NEW or null}``.

    In a file, ``OLD: {label: NEW, unmarked: [WORD, ...]}`` drops the names that begin with one of the words.

    Raises:
        InputError: there is no such map, or the file does not hold a table of labels.
    """
    if isinstance(name, str) and name in LABEL_MAPS:
        return LABEL_MAPS[name]
    loaded = _load_yaml(name, "a label map", LABEL_MAPS)
    if not isinstance(loaded, dict) or not loaded:
        raise InputError("not a table of labels", where=str(name), expected="lines 'OLD: NEW', or 'OLD: null' to drop")
    table, unmarked = {}, {}
    for old, new in loaded.items():
        where = f"{name}, entry {old!r}"
        check_label(old, where=where)
        if isinstance(new, dict):
            unmarked[old] = _parse_unmarked(new, where=where)
            new = new["label"]
        if new is not None:
            check_label(new, where=where)
        if new == OUTSIDE:
            raise InputError(
                "label 'O', which stands for no name", where=where, expected="a label, or null to drop the names"
            )
        table[old] = new
    return LabelMap(str(name), table, unmarked)


def _parse_unmarked(entry: dict[object, object], *, where: str) -> frozenset[str]:
    words = entry.get("unmarked")
    if set(entry) != {"label", "unmarked"} or not isinstance(words, list):
        raise InputError(f"{entry!r}", where=where, expected="a label, null, or {label: NEW, unmarked: [WORD, ...]}")
    for word in words:
        if not isinstance(word, str) or word.split() != [word]:
            raise InputError(f"unmarked word {word!r}", where=where, expected="a single word, without the article")
    return frozenset(map(strip_marks, words))


def load_schema(name: str | Path) -> tuple[str, ...]:
    """Load the labels of a schema: a name of :data:`SCHEMAS`, or a YAML or JSON file with a list of labels.

    Raises:
        InputError: there is no such schema, or the file does not hold a list of labels.
    """
    if isinstance(name, str) and name in SCHEMAS:
        return SCHEMAS[name]
    loaded = _load_yaml(name, "a schema", SCHEMAS)
    if not isinstance(loaded, list) or not loaded:
        raise InputError("not a list of labels", where=str(name), expected="a list of labels, e.g. [PER, LOC, ORG]")
    for label in loaded:
        check_label(label, where=str(name))
    return tuple(loaded)


def check_label(label: object, *, where: str) -> None:
    """Check that a label is a non-empty string without spaces.

    Raises:
        InputError: the label is empty, has a space or is not a string.
    """
    if not isinstance(label, str) or label.split() != [label]:
        raise InputError(
            f"label {label!r}",
            where=where,
            expected="a label without spaces, e.g. PER",
            remedy="rename it with `labels`, a YAML file of lines 'OLD: NEW'",
        )


def apply_labels(document: Document, labels: LabelMap, *, audit: ImportAudit | None = None) -> Document:
    """Map the labels of a document. A nested name whose outer name is dropped becomes an outermost one.

    Args:
        document: the document.
        labels: the map. Spans that it drops are counted as ``unmapped``.
        audit: where names dropped, promoted to outermost names or merged with an equal one are counted.

    Raises:
        InputError: a label is not in the map; names it and the document.
    """
    audit = ImportAudit() if audit is None else audit
    outer = _map_spans(document, document.spans, labels, audit)
    outer_keys = {span.key for span in outer}
    inner = [span for span in _map_spans(document, document.nested, labels, audit) if span.key not in outer_keys]
    if merged := sum(labels.new_label(document, s) is not None for s in document.nested) - len(inner):
        audit.add("duplicate", document=document.id, detail=f"equal after mapping with {labels.name}", count=merged)
    # Only names that overlap no retained outer name are promoted: annotated outer names stay.
    uncovered = [span for span in inner if not any(s.start < span.end and span.start < s.end for s in outer)]
    promoted, still_nested = split_nested(uncovered)
    for span in promoted:
        audit.add("promoted", document=document.id, detail=f"{document.describe(span)}: its outer name was dropped")
    covered = [span for span in inner if span not in uncovered]
    return Document(document.id, document.text, (*outer, *promoted), (*covered, *still_nested), document.meta)


def _map_spans(document: Document, spans: tuple[Span, ...], labels: LabelMap, audit: ImportAudit) -> list[Span]:
    mapped: dict[tuple[int, int, str], Span] = {}
    for span in spans:
        if span.label not in labels:
            known = ", ".join(list(labels.table)[:12]) + (", ..." if len(labels.table) > 12 else "")
            raise InputError(
                f"label {span.label!r} of [{span.start}, {span.end}) {document.surface(span)!r} is not in the map",
                where=f"document {document.id!r}",
                expected=f"a label of {labels.name}: {known}",
                remedy=f"add '{span.label}: NEW' to a label map, or '{span.label}: null' to drop it",
            )
        new = labels.new_label(document, span)
        if new is None:
            audit.add("unmapped", document=document.id, detail=f"{document.describe(span)}: dropped by {labels.name}")
        else:
            mapped.setdefault((span.start, span.end, new), replace(span, label=new))
    return list(mapped.values())


def _load_yaml(name: str | Path, kind: str, known: Mapping[str, object]) -> object:
    import yaml  # here, because only label maps and schemas in files need it

    path = Path(name)
    if not path.is_file():
        raise InputError(
            f"{kind} {str(name)!r}",
            expected=f"one of {', '.join(known)}, or a YAML or JSON file",
            remedy="check the name",
        )
    try:
        return yaml.safe_load(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise not_yaml(path, error) from None
