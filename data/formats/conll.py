"""CoNLL: one token per line with its tags, and a blank line after each sentence.

Columns are separated by tabs or spaces. Every column after the first holds one or more tags (Wojood tags names inside names). If
the second column of the first line is not a tag (CoNLL 2003: a part of speech), only the last column is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from musamma.data.arabic import DIRECTION_MARKS
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.formats.options import DEFAULT_WRITE_OPTIONS, ReadOptions, WriteOptions
from musamma.data.formats.tokens import Sentence, assemble_document, build_tag_columns, has_sentence_break
from musamma.data.import_audit import ImportAudit
from musamma.data.records import file_stem, read_text_lines
from musamma.data.span_repair import RawDocument
from musamma.data.tags import OUTSIDE, decode_tags, detect_scheme, split_tag

DOCSTART = "-DOCSTART-"


def read(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    """Read the sentences of a file as documents ``STEM-00000``, ``STEM-00001``, ..., one or several sentences each.

    Raises:
        InputError: a line is not UTF-8, has no tag, or has one that is not in the scheme; names file and line.
    """
    stem = file_stem(Path(path.name))
    scheme: str = options.scheme
    name_starts: Counter[str] = Counter()
    if scheme == "auto" or options.rejoin_clitics:
        unlisted = ImportAudit(limit=0)
        if scheme == "auto":
            scheme = detect_scheme(sentence.tags for sentence in read_sentences(path, options, unlisted))
        if options.rejoin_clitics:
            for sentence in read_sentences(path, options, unlisted):
                names, _ = decode_tags(sentence.tags, scheme=scheme, where=sentence.where)
                name_starts.update(sentence.tokens[name.start] for name in names)

    for number, group in enumerate(_group_sentences(read_sentences(path, options, audit), options.sentences)):
        yield assemble_document(
            group, id=f"{stem}-{number:05d}", scheme=scheme, name_starts=name_starts, options=options, audit=audit
        )


def read_sentences(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[Sentence]:
    """Read the sentences of a file, one at a time."""
    rows: list[tuple[str, tuple[str, ...], int]] = []  # token, tags, line
    starts_document = False
    last_column_only: bool | None = None
    for number, line in read_text_lines(path):
        if not line.strip():
            if rows:
                yield _build_sentence(rows, starts_document, path)
                rows, starts_document = [], False
            continue
        columns = line.split("\t") if "\t" in line else [column for column in line.split(" ") if column]
        if columns[0].strip() == DOCSTART:
            if rows:
                yield _build_sentence(rows, starts_document, path)
                rows = []
            starts_document = True
            continue
        tags = [tag for column in columns[1:] for tag in column.split()]
        if line.startswith("# ") and not (tags and split_tag(tags[-1])):
            audit.add("comment_line")
            continue
        token = columns[0].strip()
        bare = token.strip(DIRECTION_MARKS)
        audit.add("direction_mark", count=len(token) - len(bare))
        if not bare:
            detail = f"a token without characters, tagged {' '.join(tags) or 'with nothing'}"
            audit.add("empty_token", where=f"{path}:{number}", detail=detail)
            continue
        if not tags:
            _handle_missing_tag(bare, f"{path}:{number}", options, audit)
        elif last_column_only is None:
            last_column_only = len(columns) > 2 and split_tag(tags[0]) is None
        if last_column_only:
            audit.add("ignored_column", count=max(0, len(columns) - 2))
            tags = columns[-1].split()
        rows.append((bare, tuple(tags), number))
    if rows:
        yield _build_sentence(rows, starts_document, path)


def to_conll(
    document: Document, *, options: WriteOptions = DEFAULT_WRITE_OPTIONS, audit: ImportAudit | None = None
) -> str:
    """Format a document as CoNLL lines with a blank line at the end; a text without tokens gives an empty string.

    A name that covers part of a token is widened to the token and counted in ``audit``. A line break in the text ends a
    sentence, except inside a name.
    """
    tokens, columns = build_tag_columns(document, options, ImportAudit(limit=0) if audit is None else audit)
    lines = []
    for index, (start, end) in enumerate(tokens):
        if index and has_sentence_break(document, tokens[index - 1][1], start):
            lines.append("\n")
        tags = [column[index] for column in columns if column[index] != OUTSIDE]
        lines.append(f"{document.text[start:end]} {' '.join(tags) or OUTSIDE}\n")
    return "".join(lines) + "\n" if lines else ""


def _group_sentences(sentences: Iterable[Sentence], size: int) -> Iterator[list[Sentence]]:
    """Group ``size`` sentences, or all if it is 0; a new document starts a new group."""
    group: list[Sentence] = []
    for sentence in sentences:
        if group and (sentence.starts_document or (size and len(group) == size)):
            yield group
            group = []
        group.append(sentence)
    if group:
        yield group


def _build_sentence(rows: list[tuple[str, tuple[str, ...], int]], starts_document: bool, path: Path) -> Sentence:
    tokens, tags, lines = zip(*rows, strict=True)
    return Sentence(tokens, tags, tuple(f"{path}:{line}" for line in lines), starts_document)


def _handle_missing_tag(token: str, where: str, options: ReadOptions, audit: ImportAudit) -> None:
    if options.missing_tags == "error":
        raise InputError(
            f"the token {token!r} has no tag",
            where=where,
            expected="a token and its tag, e.g. 'بغداد B-LOC'",
            remedy="add the tag, count such tokens as O with `missing_tags='O'`, or name the file's format",
        )
    audit.add("missing_tag", where=where, detail=f"{token!r} has no tag and counts as O")
