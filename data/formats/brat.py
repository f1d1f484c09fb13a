"""brat: a folder of pairs of ``ID.txt`` and ``ID.ann``; offsets are code points, and a CR LF counts twice.

A name over several lines has one fragment per line, ``T1<TAB>LABEL 0 5;6 10<TAB>surface``. Fragments with other text between
them make a discontinuous name. Relations, events, attributes and notes are counted and ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.files import document_path, write_lines
from musamma.data.formats.options import DEFAULT_WRITE_OPTIONS, ReadOptions, WriteOptions, offset_unit
from musamma.data.import_audit import ImportAudit
from musamma.data.input_files import find_folder_files
from musamma.data.offset_units import TextOffsets, describe_fitting_unit
from musamma.data.records import read_text
from musamma.data.span_repair import CandidateSpan, RawDocument

_SPAN = re.compile(r"(\S+) (-?\d{1,99} -?\d{1,99}(?:;-?\d{1,99} -?\d{1,99})*)")
_IGNORED_TYPES = frozenset("REAMN#*")


def read_brat(folder: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    """Read the documents below a folder, sorted by path. The id is the path relative to the folder, without suffix.

    Raises:
        InputError: an ``.ann`` has no ``.txt``, or a line of it is not an annotation; names file and line.
    """
    unit = offset_unit(options, "brat")
    audit.offset_unit, audit.offset_reason = unit, "brat's own" if options.offsets == "auto" else "as given"
    for path in find_folder_files(folder, ".ann"):
        if not path.with_suffix(".txt").is_file():
            raise InputError(
                "no text for this file",
                where=str(path),
                expected=f"{path.stem}.txt beside it",
                remedy="add it or remove the .ann",
            )
    for path in find_folder_files(folder, ".txt"):
        id = path.relative_to(folder).with_suffix("").as_posix()
        text = read_text(path)
        annotation = path.with_suffix(".ann")
        if not annotation.is_file():
            audit.add("no_annotation", document=id, where=str(path), detail="no .ann beside it")
            yield RawDocument(id, text, where=str(path))
            continue
        spans = []
        offsets = TextOffsets(text, unit)
        for number, line in enumerate(read_text(annotation).removeprefix("\ufeff").split("\n"), 1):
            line = line.removesuffix("\r")
            where = f"{annotation}:{number}"
            if line.startswith("T"):
                spans.append(_parse_span(line, text, offsets, where, options))
            elif line[:1] in _IGNORED_TYPES and line:
                audit.add("ignored_annotation", document=id, where=where, detail=line[:80])
            elif line.strip():
                raise InputError(
                    f"{line[:40]!r}", where=where, expected="a brat annotation, e.g. 'T1<TAB>PER 0 5<TAB>surface'"
                )
        yield RawDocument(id, text, tuple(spans), where=str(path))


def write(
    documents: Iterable[Document],
    folder: Path,
    options: WriteOptions = DEFAULT_WRITE_OPTIONS,
    audit: ImportAudit | None = None,
) -> int:
    """Write documents into a folder, nested names among the others. Returns the number of documents.

    Args:
        documents: the documents.
        folder: the folder.
        options: the unit of offsets.
        audit: counts the borders that the unit cannot express, which are moved.
    """
    unit = offset_unit(options, "brat")
    count = 0
    for document in documents:
        path = document_path(folder, document.id)
        names = document.spans_by_start()
        offsets = TextOffsets(document.text, unit)
        if audit is not None:
            offsets.count_moved_borders(document, audit)
        write_lines([document.text], path.with_name(path.name + ".txt"))
        lines = (f"T{number}\t{_format_span(document, span, offsets)}\n" for number, span in enumerate(names, 1))
        write_lines(lines, path.with_name(path.name + ".ann"))
        count += 1
    return count


def _format_span(document: Document, span: Span, units: TextOffsets) -> str:
    surface = document.surface(span)
    fragments = [(m.start() + span.start, m.end() + span.start) for m in re.finditer(r"[^\r\n]+", surface)]
    fragments = fragments or [(span.start, span.end)]
    offsets = ";".join("{} {}".format(*units.from_code_points(start, end)) for start, end in fragments)
    return f"{span.label} {offsets}\t{' '.join(document.text[start:end] for start, end in fragments)}"


def _parse_span(line: str, text: str, offsets: TextOffsets, where: str, options: ReadOptions) -> CandidateSpan:
    columns = line.split("\t", 2)
    match = _SPAN.fullmatch(columns[1]) if len(columns) > 1 else None
    if match is None:
        raise InputError(f"{line[:60]!r}", where=where, expected="'T1<TAB>LABEL START END<TAB>surface'")
    units = [(int(start), int(end)) for start, end in (fragment.split() for fragment in match[2].split(";"))]
    candidates = [offsets.read_span(start, end, match[1], where=where) for start, end in units]
    if split := next((candidate for candidate in candidates if candidate.issue), None):
        return split
    fragments = [(candidate.start, candidate.end) for candidate in candidates]
    start, end = fragments[0][0], fragments[-1][1]
    gaps = [text[a:b] for (_, a), (b, _) in pairwise(fragments)]
    issue, detail = None, ""
    inside = all(0 <= a <= b <= len(text) for a, b in fragments)
    if any(gap.strip() for gap in gaps) or fragments != sorted(fragments):
        issue = "discontinuous" if options.discontinuous == "cover" else "discontinuous_dropped"
        start, end = min(a for a, _ in fragments), max(b for _, b in fragments)
        detail = f"{len(fragments)} fragments, {match[2]}"
    elif inside and len(columns) > 2 and columns[2] != (surface := _surface(text, fragments)):
        fitting = describe_fitting_unit(text, units[0][0], units[-1][1], columns[2])
        issue, detail = "surface_mismatch", f"the file says {columns[2][:40]!r}{fitting}, and the text {surface[:40]!r}"
    return CandidateSpan(start, end, match[1], None, where, issue, detail)


def _surface(text: str, fragments: list[tuple[int, int]]) -> str:
    """The surface as brat writes it, on one line."""
    return " ".join(re.sub(r"[\r\n]", " ", text[start:end]) for start, end in fragments)
