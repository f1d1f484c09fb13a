"""CoNLL: a token a line with its tag or tags, a blank line after each sentence.

Columns stand between tabs or spaces. Every column after the first holds tags, one or several (Wojood's names inside
names); where the first line's second column is no tag (CoNLL 2003: part of speech), only the last column is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from musamma.data.arabic import DIRECTION_MARKS
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.formats.options import DEFAULT_WRITE_OPTIONS, ReadOptions, WriteOptions
from musamma.data.formats.tokens import Sentence, assemble_document, breaks_before, build_tag_columns
from musamma.data.import_audit import ImportAudit
from musamma.data.records import file_stem, read_text_lines
from musamma.data.span_repair import RawDocument
from musamma.data.tags import OUTSIDE, decode_tags, detect_scheme, split_tag

DOCSTART = "-DOCSTART-"


def read(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    """The file's sentences as documents ``STEM-00000``, ``STEM-00001``, ..., or several to a document.

    Raises:
        InputError: a line is no UTF-8, has no tag, or one that the scheme does not know; names file and line.
    """
    stem = file_stem(Path(path.name))
    scheme: str = options.scheme
    starts: Counter[str] = Counter()
    if scheme == "auto" or options.rejoin_clitics:
        unlisted = ImportAudit(limit=0)
        if scheme == "auto":
            scheme = detect_scheme(sentence.tags for sentence in read_sentences(path, options, unlisted))
        if options.rejoin_clitics:
            for sentence in read_sentences(path, options, unlisted):
                names, _ = decode_tags(sentence.tags, scheme=scheme, where=sentence.where)
                starts.update(sentence.tokens[name.start] for name in names)

    def raw(group: list[Sentence], number: int) -> RawDocument:
        return assemble_document(
            group, id=f"{stem}-{number:05d}", scheme=scheme, starts=starts, options=options, audit=audit
        )

    group: list[Sentence] = []
    number = 0
    for sentence in read_sentences(path, options, audit):
        full = options.sentences and len(group) == options.sentences
        if group and (full or sentence.opens):
            yield raw(group, number)
            group, number = [], number + 1
        group.append(sentence)
    if group:
        yield raw(group, number)


def read_sentences(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[Sentence]:
    """The sentences of a file, one at a time."""
    rows: list[tuple[str, tuple[str, ...], int]] = []
    opens = False
    last_only: bool | None = None
    for number, line in read_text_lines(path):
        if not line.strip():
            if rows:
                yield _sentence(rows, opens, path)
                rows, opens = [], False
            continue
        columns = line.split("\t") if "\t" in line else [column for column in line.split(" ") if column]
        if columns[0].strip() == DOCSTART:
            if rows:
                yield _sentence(rows, opens, path)
                rows = []
            opens = True
            continue
        tags = [tag for column in columns[1:] for tag in column.split()]
        if line.startswith("# ") and not (tags and split_tag(tags[-1])):
            audit.add("comment_line")
            continue
        token = columns[0].strip()
        bare = token.strip(DIRECTION_MARKS)
        audit.add("direction_mark", count=len(token) - len(bare))
        if not bare:
            found = f"a token without characters, tagged {' '.join(tags) or 'with nothing'}"
            audit.add("empty_token", where=f"{path}:{number}", detail=found)
            continue
        if not tags:
            _missing(bare, f"{path}:{number}", options, audit)
        elif last_only is None:
            last_only = len(columns) > 2 and split_tag(tags[0]) is None
        if last_only:
            audit.add("ignored_column", count=max(0, len(columns) - 2))
            tags = columns[-1].split()
        rows.append((bare, tuple(tags), number))
    if rows:
        yield _sentence(rows, opens, path)


def to_conll(
    document: Document, *, options: WriteOptions = DEFAULT_WRITE_OPTIONS, audit: ImportAudit | None = None
) -> str:
    """A document as CoNLL lines, a blank line at the end; nothing for a text without tokens.

    A name that covers part of a token is widened to all of it, and counted in ``audit``. A sentence ends where the text has
    a line break, except inside a name.
    """
    tokens, columns = build_tag_columns(document, options, ImportAudit(limit=0) if audit is None else audit)
    lines = []
    for index, (start, end) in enumerate(tokens):
        if index and breaks_before(document, tokens[index - 1][1], start):
            lines.append("\n")
        tags = [column[index] for column in columns if column[index] != OUTSIDE]
        lines.append(f"{document.text[start:end]} {' '.join(tags) or OUTSIDE}\n")
    return "".join(lines) + "\n" if lines else ""


def _sentence(rows: list[tuple[str, tuple[str, ...], int]], opens: bool, path: Path) -> Sentence:
    tokens, tags, lines = zip(*rows, strict=True)
    return Sentence(tokens, tags, tuple(f"{path}:{line}" for line in lines), opens)


def _missing(token: str, where: str, options: ReadOptions, audit: ImportAudit) -> None:
    if options.missing_tags == "error":
        raise InputError(
            f"the token {token!r} has no tag",
            where=where,
            expected="a token and its tag, e.g. 'بغداد B-LOC'",
            remedy="add the tag, count such tokens as O (missing_tags), or name the file's format",
        )
    audit.add("missing_tag", where=where, detail=f"{token!r} has no tag and counts as O")
