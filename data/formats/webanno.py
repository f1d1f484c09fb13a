"""WebAnno TSV 3, which INCEpTION and WebAnno export: a file per document, sentences with ``#Text=`` lines, a line per token.

Offsets are UTF-16 units of the text. The layer of named entities is read, or the only layer of spans that a project defined itself.
``PER[1]`` on several tokens is one name, and ``PER[1]|LOC[2]`` are names on the same token. A name on part of a token stands in a line of its
own, with a number such as ``1-3.1``. The text is exact within a sentence. Text between sentences is not in the file: it becomes a line break
and spaces, as in INCEpTION itself. Relations, chains and the layers of grammar are counted and ignored.

The format is described under "WebAnno TSV 3.3 File format" in the user guide of INCEpTION.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.files import document_path, write_lines
from musamma.data.formats.options import ReadOptions
from musamma.data.formats.tokens import cut_tokens, locate_names, trim_names
from musamma.data.formats.unread import report_unread
from musamma.data.import_audit import ImportAudit
from musamma.data.input_files import find_folder_files
from musamma.data.offset_units import TextOffsets
from musamma.data.records import file_stem, read_text_lines
from musamma.data.span_repair import CandidateSpan, RawDocument

HEADER = "#FORMAT=WebAnno TSV 3"
NAMED_ENTITIES = "de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity"
# Layers of tokens, sentences and grammar that INCEpTION has built in.
_GRAMMAR = "de.tudarmstadt.ukp.dkpro.core.api."
_VERSION = re.compile(r"#FORMAT=WebAnno TSV (\d)\.(\d)\s*")
_LAYER = re.compile(r"#T_(SP|CH|RL)=([^|]*)(?:\|(.*))?")
_TOKEN = re.compile(r"(\d{1,9})-(\d{1,9})(?:\.(\d{1,9}))?\t(\d{1,9})-(\d{1,9})\t(.*)", re.DOTALL)
_LINE = "SENTENCE-TOKEN<TAB>START-END<TAB>token<TAB>values"
_VALUE_ESCAPES = {"t": "\t", "n": "\n", **{character: character for character in "\\[]|_;*"}, "->": "->"}
_TEXT_ESCAPES = {"t": "\t", "n": "\n", "f": "\f", "r": "\r", "b": "\b", "\\": "\\"}
_ESCAPED_CONTROLS = {chr(code) for code in range(32) if not 7 < code < 14}
_ESCAPED_TEXT = {
    **{value: f"\\{key}" for key, value in _TEXT_ESCAPES.items()},
    **{c: f"\\{c}" for c in _ESCAPED_CONTROLS},
}
# Up to version 3.1, texts have the escapes of Java.
_JAVA_ESCAPE = re.compile(r"\\(?:u+([0-9a-fA-F]{4})|([0-3]?[0-7]{1,2})|(.))", re.DOTALL)
# UTF-16 units between two sentences. A larger gap is an error of the file, which would fill the memory with spaces.
_LARGEST_GAP = 1_000_000
_PLACEHOLDER = ""


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer of the header: its kind (``SP`` spans, ``CH`` chains, ``RL`` relations), its features and its first column."""

    kind: str
    name: str
    features: tuple[str, ...]
    column: int


@dataclass(slots=True)
class _Unit:
    """A token or a part of one: file and line, index of the token, offsets, the text as the file gives it, and the values."""

    where: str
    token: int
    start: int
    end: int
    surface: str
    values: Sequence[str]


@dataclass(slots=True)
class _Parsed:
    """A parsed file: its layers, its text and its units."""

    layers: list[_Layer] = field(default_factory=list)
    text: str = ""
    units: list[_Unit] = field(default_factory=list)


@dataclass(slots=True)
class _Annotation:
    """A name: its label and the units that it covers."""

    label: str
    units: list[_Unit]
    conflict: str = ""


# Reading.


def is_webanno(path: Path) -> bool:
    """Tell whether a file starts like a file of this format.

    Raises:
        InputError: the file cannot be read.
    """
    return next((line for _, line in read_text_lines(path)), "").startswith(HEADER)


def read_webanno(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    """Read a file, or the ``.tsv`` files below a folder, sorted by path. The id is the (relative) path without suffix.

    Raises:
        InputError: a file is not WebAnno TSV 3, has several layers that may hold the names, or a line is wrong; names file and
            line.
    """
    if not path.is_dir():
        yield _read_file(path, file_stem(Path(path.name)), options, audit)
        return
    for file in find_folder_files(path, ".tsv"):
        yield _read_file(file, file.relative_to(path).with_suffix("").as_posix(), options, audit)


def _read_file(path: Path, id: str, options: ReadOptions, audit: ImportAudit) -> RawDocument:
    parsed = _parse_file(path)
    layer = _choose_layer(parsed.layers, path)
    _count_other_layers(parsed, layer, id, path, audit)
    spans = []
    if layer is not None:
        column = layer.column + _choose_feature(layer, path)
        offsets = TextOffsets(parsed.text, "utf16")
        for annotation in _collect_annotations(parsed.units, column):
            spans.append(_build_candidate(annotation, parsed.text, offsets, options))
        for offset, feature in enumerate(layer.features):
            if layer.column + offset != column:
                values = _collect_annotations(parsed.units, layer.column + offset)
                count = sum(bool(value.label) for value in values)
                detail = f"{count} values of {feature!r}"
                audit.add("ignored_annotation", document=id, where=str(path), detail=detail, count=count)
    return RawDocument(id, parsed.text, tuple(spans), where=str(path))


def _parse_file(path: Path) -> _Parsed:
    lines = read_text_lines(path)
    number, first = next(lines, (1, ""))
    version = _VERSION.fullmatch(first)
    if version is None or version[1] != "3":
        raise InputError(
            f"{first[:60]!r}",
            where=f"{path}:{number}",
            expected=f"{HEADER}.3",
            remedy="export it as WebAnno TSV v3.3",
        )
    unescape = _unescape_text if int(version[2]) > 1 else _unescape_java
    parsed = _Parsed()
    columns = 0
    parts: list[str] = []  # of the text
    length = 0  # of the text, in UTF-16 units
    sentence: list[str] | None = None  # the text of a sentence whose first token is yet to come
    token = -1
    for number, line in lines:
        where = f"{path}:{number}"
        if not line:
            continue
        if line.startswith("#"):
            if (match := _LAYER.fullmatch(line)) and not parsed.units and sentence is None:
                features = tuple(name for name in (match[3] or "").split("|") if name) or (_PLACEHOLDER,)
                parsed.layers.append(_Layer(match[1], match[2], features, columns))
                columns += len(features)
            elif line.startswith("#Text="):
                sentence = [*(sentence or []), unescape(line.removeprefix("#Text="))]
            continue
        match = _TOKEN.fullmatch(line)
        values = match[6].split("\t") if match else []
        if match is None or len(values) <= columns:
            found = f"{line[:60]!r}" if match is None else f"{len(values) - 1} values of {columns} columns"
            raise InputError(found, where=where, expected=_LINE, remedy="export it as WebAnno TSV v3.3")
        start, end = int(match[4]), int(match[5])
        if sentence is not None:
            length = _append_sentence(parts, length, "\n".join(sentence), start, where)
            sentence = None
        token += match[3] is None
        if token < 0:
            raise InputError("a token without a sentence", where=where, expected="a line #Text= before it")
        parsed.units.append(_Unit(where, token, start, end, values[0], values[1 : columns + 1]))
    if sentence is not None:
        raise InputError("a sentence without tokens", where=f"{path}:{number}", expected=_LINE)
    parsed.text = "".join(parts)
    return parsed


def _append_sentence(parts: list[str], length: int, sentence: str, start: int, where: str) -> int:
    """Append a sentence that starts at an offset, and return the new length.

    What lies between two sentences becomes a line break and spaces, as in INCEpTION.
    """
    gap = start - length
    if gap < 0 or gap > _LARGEST_GAP:
        raise InputError(
            f"a sentence at the offset {start}",
            where=where,
            expected=f"{length} or more, since the sentence before it ends there",
            remedy="export it as WebAnno TSV v3.3",
        )
    if gap:
        parts.append(("\n" if parts else " ") + " " * (gap - 1))
    parts.append(sentence)
    return start + len(sentence.encode("utf-16-le")) // 2


def _choose_layer(layers: Sequence[_Layer], path: Path) -> _Layer | None:
    spans = [layer for layer in layers if layer.kind == "SP"]
    if entities := [layer for layer in spans if layer.name == NAMED_ENTITIES]:
        return entities[0]
    custom = [layer for layer in spans if not layer.name.startswith(_GRAMMAR)]
    if len(custom) > 1:
        raise InputError(
            f"the layers {', '.join(layer.name for layer in custom)}",
            where=str(path),
            expected="the layer NamedEntity, or one layer of spans",
            remedy="export the document with one of them",
        )
    return custom[0] if custom else None


def _choose_feature(layer: _Layer, path: Path) -> int:
    """The index of the feature that holds the label."""
    if "value" in layer.features:
        return layer.features.index("value")
    names = [i for i, name in enumerate(layer.features) if "." not in name and not name.startswith("ROLE_")]
    named = [i for i in names if layer.features[i].lower() in ("label", "type", "category", "tag", "class")]
    if len(named) == 1 or len(names) == 1:
        return named[0] if len(named) == 1 else names[0]
    raise InputError(
        f"the layer {layer.name} has the features {', '.join(layer.features)}",
        where=str(path),
        expected="a feature 'value' that holds the label, or only one",
        remedy="rename it, in the file's header or in the project",
    )


def _count_other_layers(parsed: _Parsed, chosen: _Layer | None, id: str, path: Path, audit: ImportAudit) -> None:
    """Count the annotations of other layers: those of spans that a project defined as dropped, others as ignored."""
    for layer in parsed.layers:
        if layer is chosen:
            continue
        count = len(_collect_annotations(parsed.units, layer.column))
        if layer.kind == "SP" and not layer.name.startswith(_GRAMMAR):
            report_unread(count, f"the layer {layer.name}", document=id, where=str(path), audit=audit)
        else:
            detail = f"{count} annotations of the layer {layer.name}"
            audit.add("ignored_annotation", document=id, where=str(path), detail=detail, count=count)


def _collect_annotations(units: Iterable[_Unit], column: int) -> list[_Annotation]:
    """The annotations of a column; lines with the same ``[number]`` are one."""
    annotations: list[_Annotation] = []
    numbered: dict[str, _Annotation] = {}
    for unit in units:
        value = unit.values[column]
        if value == "_":
            continue
        for item in _split_stack(value):
            raw, number = _split_number(item)
            label = "" if raw == "*" else _unescape_value(raw)
            if number and (annotation := numbered.get(number)):
                annotation.units.append(unit)
                if label != annotation.label:
                    annotation.conflict = label or "no value"
                continue
            annotations.append(_Annotation(label, [unit]))
            if number:
                numbered[number] = annotations[-1]
    return annotations


def _build_candidate(annotation: _Annotation, text: str, offsets: TextOffsets, options: ReadOptions) -> CandidateSpan:
    def to_code_points(offset: int) -> int:
        point = offsets.to_code_points(offset)
        # An offset inside a character is put outside the text, so that the span is dropped and counted.
        return len(text) + 1 if point is None else point

    units = annotation.units
    where = units[0].where
    first = to_code_points(min(unit.start for unit in units))
    last = to_code_points(max(unit.end for unit in units))
    if not annotation.label:
        return CandidateSpan(first, last, "", None, where, "no_label", "no value")
    issue, detail = None, ""
    tokens = {unit.token for unit in units}
    if len(tokens) <= max(tokens) - min(tokens):
        issue = "discontinuous" if options.discontinuous == "cover" else "discontinuous_dropped"
        detail = f"not on all of its {max(tokens) - min(tokens) + 1} tokens"
    elif annotation.conflict:
        issue, detail = "surface_mismatch", f"another token says {annotation.conflict[:40]!r}"
    for unit in units:
        surface = text[to_code_points(unit.start) : to_code_points(unit.end)]
        if issue is None and unit.surface not in (surface, _escape_text(surface)):
            issue, detail = "surface_mismatch", f"the file says {unit.surface[:40]!r}, and its text {surface[:40]!r}"
    return CandidateSpan(first, last, annotation.label, None, where, issue, detail)


def _split_stack(value: str) -> list[str]:
    """Split at each ``|`` that is not escaped."""
    return re.findall(r"(?:[^\\|]|\\.|\\$)+", value, re.DOTALL)


def _split_number(value: str) -> tuple[str, str]:
    """Split a value and the number in brackets after it."""
    match = re.fullmatch(r"((?:[^\\\[\]]|\\.|\\$)*)(?:\[(\d+)\])?", value, re.DOTALL)
    return (match[1], match[2] or "") if match else (value, "")


def _unescape_value(value: str) -> str:
    return re.sub(r"\\(->|.)", lambda match: _VALUE_ESCAPES.get(match[1], match[0]), value, flags=re.DOTALL)


def _unescape_text(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        character = match[1]
        return _TEXT_ESCAPES.get(character) or (character if character in _ESCAPED_CONTROLS else match[0])

    return re.sub(r"\\(.)", replace, text, flags=re.DOTALL)


def _unescape_java(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[1] or match[2]:
            return chr(int(match[1], 16) if match[1] else int(match[2], 8))
        return _TEXT_ESCAPES.get(match[3], match[3])

    # Two escapes may be the halves of one character; half a character becomes U+FFFD, of the same length.
    return _JAVA_ESCAPE.sub(replace, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# Writing.


def write(documents: Iterable[Document], folder: Path, audit: ImportAudit) -> None:
    """Write documents into a folder, a file each, nested names among the others."""
    for document in documents:
        path = document_path(folder, document.id)
        write_lines(format_lines(document, audit), path.with_name(path.name + ".tsv"))


def format_lines(document: Document, audit: ImportAudit) -> Iterator[str]:
    """Format a document. Its tokens end at the borders of words and names, so that each name is a sequence of tokens."""
    text = document.text
    tokens = cut_tokens(document)
    names = trim_names(document, document.spans_by_start(), tokens, audit)
    start = len(text) - len(text.lstrip(" "))
    if not tokens or tokens[0][0] > start:  # White space other than spaces before the first token is kept as a token.
        start = 0
        leading = (0, tokens[0][0] if tokens else len(text))
        tokens = [leading, *tokens] if text else []
    values = _format_values(names, tokens)
    offsets = TextOffsets(text, "utf16")
    yield f"{HEADER}.3\n#T_SP={NAMED_ENTITIES}|value\n\n"
    if not text:
        return
    # A sentence starts after a line break and spaces, which reading restores.
    visible = len(text) - len(text.lstrip())
    breaks = [(match.start(), match.end()) for match in re.finditer(r"\n *(?=\S)", text) if match.start() > visible]
    index = 0
    for number, (first, last) in enumerate(
        zip([start, *(end for _, end in breaks)], [*(begin for begin, _ in breaks), len(text)], strict=True), 1
    ):
        yield "\n"
        for line in text[first:last].split("\n"):
            yield f"#Text={_escape_text(line)}\n"
        place = 0
        while index < len(tokens) and tokens[index][0] < last:
            token = text[slice(*tokens[index])]
            begin, end = offsets.from_code_points(*tokens[index])
            place += 1
            surface = _escape_text(token) if token.isspace() else token
            yield f"{number}-{place}\t{begin}-{end}\t{surface}\t{values[index]}\t\n"
            index += 1


def _format_values(names: Sequence[Span], tokens: Sequence[tuple[int, int]]) -> list[str]:
    """The value of each token: the names on it, with a number where they are several or a name has several tokens."""
    ranges = [range(first, last + 1) for first, last in locate_names(names, tokens)]
    stacks: list[list[int]] = [[] for _ in tokens]
    for index, covered in enumerate(ranges):
        for token in covered:
            stacks[token].append(index)
    numbers: dict[int, int] = {}
    for index, covered in enumerate(ranges):
        if len(covered) > 1 or len(stacks[covered[0]]) > 1:
            numbers[index] = len(numbers) + 1
    return [
        "|".join(
            _escape_value(names[index].label) + (f"[{numbers[index]}]" if index in numbers else "") for index in stack
        )
        or "_"
        for stack in stacks
    ]


def _escape_value(value: str) -> str:
    escaped = re.sub(r"->|[\\\[\]|_;*]", lambda match: "\\" + match[0], value)
    return escaped.replace("\t", "\\t").replace("\n", "\\n")


def _escape_text(text: str) -> str:
    return "".join(_ESCAPED_TEXT.get(character, character) for character in text)
