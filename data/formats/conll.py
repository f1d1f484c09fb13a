"""CoNLL: one token per line with its tags, and a blank line after each sentence.

Columns are separated by tabs or spaces. Every column after the first holds one or more tags (Wojood tags names inside names). If
the second column of the first line is not a tag (CoNLL 2003: a part of speech), only the last column is read. A first column that
numbers the tokens of each sentence is passed over.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from musamma.data.arabic import ARABIC_TOKEN_PATTERN, DIRECTION_MARKS
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.formats.options import DEFAULT_WRITE_OPTIONS, ReadOptions, WriteOptions
from musamma.data.formats.tokens import Sentence, assemble_document, build_tag_columns, has_sentence_break
from musamma.data.import_audit import ImportAudit
from musamma.data.records import file_stem, read_text_lines
from musamma.data.span_repair import RawDocument
from musamma.data.tags import OUTSIDE, decode_tags, detect_scheme, split_tag

DOCSTART = "-DOCSTART-"
# What decides whether the first column holds token numbers.
_SENTENCES_TO_CHECK = 100
_TOKENS_TO_CHECK = 100
_TOKEN_RANGE = re.compile(r"\d+[-.]\d+")


def read_conll(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
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
    empty: list[_EmptyToken] = []
    last_column_only: bool | None = None
    numbered = _has_token_numbers(path)
    for number, line in read_text_lines(path):
        if not line.strip():
            _count_empty_tokens(empty, rows, audit)
            if rows:
                yield _build_sentence(rows, starts_document, path)
                rows, starts_document = [], False
            continue
        columns = _split_columns(line)
        if columns[0].strip() == DOCSTART:
            _count_empty_tokens(empty, rows, audit)
            if rows:
                yield _build_sentence(rows, starts_document, path)
                rows = []
            starts_document = True
            continue
        if numbered and not line.startswith("# "):
            if len(columns) < 2 or not columns[0].strip().isdecimal():
                raise InputError(
                    f"{columns[0].strip()!r} in the column of token numbers",
                    where=f"{path}:{number}",
                    expected="a number, as in the lines before, and one line a token",
                    remedy="remove the line, or the column from the whole file",
                )
            columns = columns[1:]
        tags = [tag for column in columns[1:] for tag in column.split()]
        if line.startswith("# ") and not (tags and split_tag(tags[-1])):
            audit.add("comment_line")
            continue
        token = columns[0].strip()
        bare = token.strip(DIRECTION_MARKS)
        audit.add("direction_mark", count=len(token) - len(bare))
        if not bare:
            token_tags = columns[-1].split() if last_column_only else tags
            empty.append(_EmptyToken(len(rows), tuple(token_tags), f"{path}:{number}"))
            continue
        if not tags:
            _handle_missing_tag(bare, f"{path}:{number}", options, audit)
        elif last_column_only is None:
            last_column_only = len(columns) > 2 and split_tag(tags[0]) is None
        if last_column_only:
            audit.add("ignored_column", count=max(0, len(columns) - 2))
            tags = columns[-1].split()
        rows.append((bare, tuple(tags), number))
    _count_empty_tokens(empty, rows, audit)
    if rows:
        yield _build_sentence(rows, starts_document, path)


@dataclass(frozen=True, slots=True)
class _EmptyToken:
    """A line whose token has no visible characters: index of the token that follows in its sentence, tags, file and line."""

    index: int
    tags: tuple[str, ...]
    where: str


def _count_empty_tokens(
    empty: list[_EmptyToken], rows: Sequence[tuple[str, tuple[str, ...], int]], audit: ImportAudit
) -> None:
    """Count the empty tokens of a sentence, and empty the list; a name that has no other token is dropped."""
    for token in empty:
        before = rows[token.index - 1][1] if token.index else ()
        after = rows[token.index][1] if token.index < len(rows) else ()
        for tag in token.tags:
            # Part of a name that goes on before or after the token.
            if (parts := split_tag(tag)) is None or not parts[1]:
                continue
            continues = parts[0] in "IMEL" and any(_label_of(other) == parts[1] for other in before)
            continued = any(_label_of(other) == parts[1] and other[0] in "IMEL" for other in after)
            if not continues and not continued:
                audit.spans += 1
                detail = f"a name {tag} of a token without characters"
                audit.add("empty_name", where=token.where, detail=detail)
        detail = f"a token without characters, tagged {' '.join(token.tags) or 'with nothing'}"
        audit.add("empty_token", where=token.where, detail=detail)
    empty.clear()


def _label_of(tag: str) -> str | None:
    return (split_tag(tag) or ("", None))[1]


def _split_columns(line: str) -> list[str]:
    return line.split("\t") if "\t" in line else [column for column in line.split(" ") if column]


def _has_token_numbers(path: Path) -> bool:
    """Whether the first column numbers the tokens of each sentence: 1, 2, ..., or from 0.

    The first sentences decide, up to one of at least two tokens; a single token decides only if Arabic follows its number.
    """
    lines = (line for _, line in read_text_lines(path))
    arabic = False
    for _ in range(_SENTENCES_TO_CHECK):
        sentence = []
        for line in lines:
            if not line.strip() or line.startswith(DOCSTART):
                break
            if not line.startswith("#"):
                sentence.append([column.strip() for column in _split_columns(line)])
            if len(sentence) == _TOKENS_TO_CHECK:
                break
        else:
            if not sentence:
                return arabic
        # CoNLL-U numbers a word of several tokens 1-2, and an empty token 1.1; reading such a line is an error.
        tokens = [columns for columns in sentence if not _TOKEN_RANGE.fullmatch(columns[0])]
        for index, columns in enumerate(tokens):
            first = tokens[0][0]
            if len(columns) < 3 or first not in ("0", "1") or columns[0] != str(int(first) + index):
                return False
            if split_tag(columns[1]) is not None:
                return False
            arabic = arabic or bool(ARABIC_TOKEN_PATTERN.search(columns[1]))
        if len(tokens) > 1:
            return True
    return arabic


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
