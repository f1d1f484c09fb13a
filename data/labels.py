"""Label schemas as tables, and the maps between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from musamma.data.span_repair import split_nested

COARSE = ("PER", "LOC", "ORG", "MISC")
KHABAR = ("PER", "GPE", "LOC", "FAC", "ORG", "NORP", "EVENT", "PROD")

_ANERCORP = {"PERS": "PER", "PER": "PER", "LOC": "LOC", "ORG": "ORG", "MISC": "MISC"}
_AQMAR = {"PER": "PER", "LOC": "LOC", "ORG": "ORG", "MIS": "MISC"}
_KHABAR = {
    **{"PER": "PER", "GPE": "LOC", "LOC": "LOC", "FAC": "LOC", "ORG": "ORG"},
    **{"NORP": "MISC", "EVENT": "MISC", "PROD": "MISC"},
}
# Wojood: what Khabar does not mark (functions, dates, numbers, languages, laws, web addresses, currencies) has no label here.
_WOJOOD = {
    **{"PERS": "PER", "NORP": "NORP", "ORG": "ORG", "GPE": "GPE", "LOC": "LOC", "FAC": "FAC"},
    **{"EVENT": "EVENT", "PRODUCT": "PROD"},
    **dict.fromkeys(("OCC", "DATE", "TIME", "LANGUAGE", "WEBSITE", "LAW", "CARDINAL", "ORDINAL")),
    **dict.fromkeys(("PERCENT", "QUANTITY", "UNIT", "MONEY", "CURR")),
}
# FANE's fine types by their ACE class. In WikiFANE "Police" tags military persons, "Group" peoples and faiths,
# "Medical-Science" research bodies, "Path" streets as well as straits; bare "Air", "Land" and "Water" are vehicles.
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


def _through(first: Mapping[str, str | None], then: Mapping[str, str | None]) -> dict[str, str | None]:
    return {old: then[new] if new is not None else None for old, new in first.items()}


#: Schemas by name: the labels that a corpus may hold.
SCHEMAS: Mapping[str, tuple[str, ...]] = {
    "coarse": COARSE,
    "khabar": KHABAR,
    "anercorp": tuple(_ANERCORP),
    "aqmar": tuple(_AQMAR),
    "wojood": tuple(_WOJOOD),
    "fane": tuple(sorted(_FANE)),
}


@dataclass(frozen=True, slots=True)
class LabelMap:
    """What becomes of every label of a corpus.

    Args:
        name: for messages.
        table: the new label by the old one; ``None`` drops the span.
    """

    name: str
    table: Mapping[str, str | None]

    def __getitem__(self, label: str) -> str | None:
        return self.table[label]

    def __contains__(self, label: object) -> bool:
        return label in self.table


_MAPS: Mapping[str, Mapping[str, str | None]] = {
    "anercorp-to-coarse": _ANERCORP,
    "aqmar-to-coarse": _AQMAR,
    "khabar-to-coarse": _KHABAR,
    "wojood-to-coarse": _through(_WOJOOD, _KHABAR),
    "fane-to-coarse": _through(_FANE, _KHABAR),
    "wojood-to-khabar": _WOJOOD,
    "fane-to-khabar": _FANE,
}
#: Label maps by name.
LABEL_MAPS: Mapping[str, LabelMap] = {name: LabelMap(name, table) for name, table in _MAPS.items()}


def load_label_map(name: str | Path) -> LabelMap:
    """The label map of a name of :data:`LABEL_MAPS` or of a YAML or JSON file ``{OLD: NEW or null}``.

    Raises:
        InputError: there is no such map, or the file is no table of labels.
    """
    if isinstance(name, str) and name in LABEL_MAPS:
        return LABEL_MAPS[name]
    loaded = _load(name, "a label map", LABEL_MAPS)
    if not isinstance(loaded, dict) or not loaded:
        raise InputError("no table of labels", where=str(name), expected="lines 'OLD: NEW', or 'OLD: null' to drop")
    for old, new in loaded.items():
        if new is not None or not isinstance(old, str):
            check_label(new if isinstance(old, str) else old, where=f"{name}, entry {old!r}")
    return LabelMap(str(name), loaded)


def load_schema(name: str | Path) -> tuple[str, ...]:
    """The labels of a schema of :data:`SCHEMAS` or of a YAML or JSON file, a list of labels.

    Raises:
        InputError: there is no such schema, or the file is no list of labels.
    """
    if isinstance(name, str) and name in SCHEMAS:
        return SCHEMAS[name]
    loaded = _load(name, "a schema", SCHEMAS)
    if not isinstance(loaded, list) or not loaded:
        raise InputError("no list of labels", where=str(name), expected="a list of labels, e.g. [PER, LOC, ORG]")
    for label in loaded:
        check_label(label, where=str(name))
    return tuple(loaded)


def check_label(label: object, *, where: str) -> None:
    """Fail where ``label`` cannot be one: a non-empty string without spaces."""
    if not isinstance(label, str) or label.split() != [label]:
        raise InputError(
            f"label {label!r}",
            where=where,
            expected="a label without spaces, e.g. PER",
            remedy="rename it with musamma convert --labels FILE, a YAML table 'OLD: NEW'",
        )


def apply_labels(document: Document, labels: LabelMap, *, audit: ImportAudit | None = None) -> Document:
    """The document with its labels mapped; a name whose outer name was dropped takes its place.

    Args:
        document: as annotated.
        labels: the map; ``None`` drops a span, counted in ``audit`` as ``unmapped``.
        audit: where to count what was dropped, promoted to an outermost name, or merged with an equal one.

    Raises:
        InputError: a label is missing from the map; names it and the document.
    """
    audit = ImportAudit() if audit is None else audit
    outer = _map(document, document.spans, labels, audit)
    inner = [span for span in _map(document, document.nested, labels, audit) if span.key not in {s.key for s in outer}]
    if merged := sum(labels[s.label] is not None for s in document.nested) - len(inner):
        audit.add("duplicate", document=document.id, detail=f"equal after mapping with {labels.name}", count=merged)
    # Only names that no kept span holds may rise: annotated spans keep their place.
    free = [span for span in inner if not any(s.start < span.end and span.start < s.end for s in outer)]
    risen, below = split_nested(free)
    for span in risen:
        audit.add("promoted", document=document.id, detail=f"{document.describe(span)}: its outer name was dropped")
    rest = [span for span in inner if span not in free]
    return Document(document.id, document.text, (*outer, *risen), (*rest, *below), document.meta)


def _map(document: Document, spans: tuple[Span, ...], labels: LabelMap, audit: ImportAudit) -> list[Span]:
    mapped: dict[tuple[int, int, str], Span] = {}
    for span in spans:
        if span.label not in labels:
            known = ", ".join(list(labels.table)[:12]) + (", ..." if len(labels.table) > 12 else "")
            raise InputError(
                f"label {span.label!r} of [{span.start}, {span.end}) {document.surface(span)!r} is not in the map",
                where=f"document {document.id!r}",
                expected=f"a label of {labels.name}: {known}",
                remedy=f"add '{span.label}: NEW' to a map file, or '{span.label}: null' to drop it",
            )
        new = labels[span.label]
        if new is None:
            audit.add("unmapped", document=document.id, detail=f"{document.describe(span)}: dropped by {labels.name}")
        else:
            mapped.setdefault((span.start, span.end, new), Span(span.start, span.end, new, span.score))
    return list(mapped.values())


def _load(name: str | Path, what: str, known: Mapping[str, object]) -> object:
    path = Path(name)
    if not path.is_file():
        raise InputError(
            f"{what} {str(name)!r}",
            expected=f"one of {', '.join(known)}, or a YAML or JSON file",
            remedy="check the name",
        )
    try:
        return yaml.safe_load(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise InputError(f"not readable as YAML: {getattr(error, 'problem', error)}", where=where) from None
