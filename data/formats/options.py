"""The names of the formats, and the options for reading and writing annotation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from musamma.data.errors import InputError
from musamma.data.labels import LabelMap
from musamma.data.offset_units import OffsetUnit

#: The unit in which an annotation tool counts offsets.
TOOL_UNITS: dict[str, OffsetUnit] = {"brat": "code-points", "doccano": "utf16", "labelstudio": "utf16"}

#: Formats that are written as a folder.
FOLDER_FORMATS = ("brat", "khabar", "webanno")
FORMATS = (
    *("jsonl", "conll", "brat", "doccano", "labelstudio", "csv", "parquet", "khabar", "datasets"),
    *("prodigy", "webanno", "spacy", "gliner", "lighttag", "ubiai"),
)


def _check_choices(options: object) -> None:
    for name, hint in get_type_hints(type(options)).items():
        choices = get_args(hint) if getattr(hint, "__origin__", None) is Literal else ()
        value = getattr(options, name)
        if choices and value not in choices:
            raise InputError(f"{name} is {value!r}", expected=f"one of {', '.join(map(str, choices))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Options for reading annotation.

    Args:
        overlaps: treatment of overlapping spans: fail, keep the longest, or move inner ones to ``nested``.
        labels: a label map, applied after reading.
        repeated_ids: whether an id that occurs twice is an error or is counted.
        scheme: CoNLL: the tag scheme; ``auto`` detects it, for which the file is read twice.
        strict_tags: CoNLL: fail on a tag that is invalid in its position, instead of repairing and counting it.
        missing_tags: CoNLL: whether a token without a tag is an error or counts as ``O``.
        sentences: CoNLL: number of sentences per document; 0 for all up to the next ``-DOCSTART-`` or the end of the file.
        rejoin_clitics: CoNLL: join clitics that are tokens to their word.
        discontinuous: brat, WebAnno TSV: cover a discontinuous name from its first to its last character, or drop it.
        offsets: brat, doccano, Label Studio: the unit of offsets. ``auto`` takes that of the tool (:data:`TOOL_UNITS`); with
            doccano, which has a setting for it, the unit in which the spans fit the words, for which the file is read twice.
        predictions: Label Studio: ``drop`` reads annotations only, ``fallback`` the predictions of tasks without a finished
            annotation, and ``only`` predictions instead of annotations.
    """

    overlaps: Literal["error", "longest", "nested"] = "error"
    labels: LabelMap | None = None
    repeated_ids: Literal["error", "count"] = "error"
    scheme: Literal["auto", "iob1", "iob2", "bioes", "bilou"] = "auto"
    strict_tags: bool = False
    missing_tags: Literal["error", "O"] = "error"
    sentences: int = 1
    rejoin_clitics: bool = False
    discontinuous: Literal["cover", "drop"] = "cover"
    offsets: Literal["auto", "code-points", "utf16", "graphemes"] = "auto"
    predictions: Literal["drop", "fallback", "only"] = "drop"

    def __post_init__(self) -> None:
        _check_choices(self)
        if self.sentences < 0:
            raise InputError(f"sentences is {self.sentences}", expected="0 or more sentences per document")


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """Options for writing annotation.

    Args:
        scheme: CoNLL: the tag scheme.
        split_punctuation: CoNLL: write punctuation as separate tokens, instead of splitting at white space only.
        nested: CoNLL: write names inside names as additional tags of a token.
        offsets: brat, doccano, Label Studio: the unit of offsets; ``auto`` takes that of the tool (:data:`TOOL_UNITS`).
        tasks_as: Label Studio: write names as finished ``annotations`` or as ``predictions`` to correct. ``auto`` writes
            predictions if the names of a document have scores; a document without names follows the one before it.
        model_version: Label Studio: the model that predictions name, unless ``meta`` has a ``model_version``.
    """

    scheme: Literal["iob1", "iob2", "bioes", "bilou"] = "iob2"
    split_punctuation: bool = False
    nested: bool = False
    offsets: Literal["auto", "code-points", "utf16", "graphemes"] = "auto"
    tasks_as: Literal["auto", "annotations", "predictions"] = "auto"
    model_version: str = "musamma"

    def __post_init__(self) -> None:
        _check_choices(self)


DEFAULT_READ_OPTIONS = ReadOptions()
DEFAULT_WRITE_OPTIONS = WriteOptions()


def offset_unit(options: ReadOptions | WriteOptions, format: str) -> OffsetUnit:
    """Return the unit of offsets of a tool's format: that of the options, or with ``auto`` the tool's own."""
    return TOOL_UNITS[format] if options.offsets == "auto" else options.offsets
