"""What a system found, brought to the project's documents: offsets into the raw text, checked, every change counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from musamma.data.labels import check_label
from musamma.data.span_repair import CandidateSpan, RawDocument, repair_spans
from musamma.data.tags import decode_tags

#: The key of a predicted document's ``meta`` that holds what was changed or cut on its way, by kind.
CHANGES = "changes"

#: Documents that are handed to a system at a time.
BATCH = 32


@dataclass(frozen=True, slots=True)
class Found:
    """A name as a system gives it.

    Args:
        start, end: offsets into the text that the system was given, in code points.
        label: its label.
        score: in [0, 1], where the system has scores.
        surface: the characters that the system says it found, to be checked; ``None`` where it gives none of the raw text.
    """

    start: int
    end: int
    label: str
    score: float | None = None
    surface: str | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """What a system gives for one text: the names, and what was cut or passed over on the way to them, by kind."""

    names: tuple[Found, ...] = ()
    changes: Counter[str] = field(default_factory=Counter)


def tagged(
    documents: Iterable[Document], find: Callable[[Sequence[Document]], Iterable[Findings]], *, batch: int = BATCH
) -> Iterator[Document]:
    """The documents with the names that a system finds, in order; a text of nothing but whitespace is not handed to it.

    Args:
        documents: their own spans are neither looked at nor kept.
        find: the findings in each of some documents, in order.
        batch: documents at a time.

    Raises:
        InputError: as :func:`to_document`.
    """
    source = iter(documents)
    while group := list(islice(source, batch)):
        asked = [document for document in group if document.text.strip()]
        given = list(find(asked)) if asked else []
        if len(given) != len(asked):
            raise InputError(f"findings for {len(given)} texts", expected=f"{len(asked)}, one a text")
        findings = iter(given)
        for document in group:
            yield to_document(document, next(findings) if document.text.strip() else Findings())


def to_document(document: Document, findings: Findings) -> Document:
    """The document with the names of a system in place of its own.

    Whitespace is snapped off the borders; names outside the text or without characters are dropped; of those that overlap the
    longest is kept. Each is counted under ``meta["changes"]``, with the counts of ``findings``.

    Raises:
        InputError: the text at a name's offsets is not what the system says it found, or a label has spaces.
    """
    where = f"document {document.id!r}"
    for name in findings.names:
        check_label(name.label, where=where)
        if name.surface is not None and document.text[name.start : name.end] != name.surface:
            raise InputError(
                f"the system found {name.surface!r} at [{name.start}, {name.end}), where the text has"
                f" {document.text[name.start : name.end]!r}",
                where=where,
                expected="offsets into the text as it was given",
                remedy="the system rewrites its text: align its words with the text first",
            )
    audit = ImportAudit(limit=0)
    candidates = tuple(CandidateSpan(name.start, name.end, name.label, name.score) for name in findings.names)
    aligned = repair_spans(
        RawDocument(document.id, document.text, candidates, where=where), overlaps="longest", audit=audit
    )
    changes = findings.changes + audit.kinds
    meta = {key: value for key, value in document.meta.items() if key != CHANGES}
    return replace(aligned, meta={**meta, CHANGES: dict(sorted(changes.items()))} if changes else meta)


def word_offsets(text: str, words: Sequence[str], *, start: int = 0, where: str = "") -> list[tuple[int, int]]:
    """Start and end of the words of a tokenizer that only splits.

    Args:
        text: the raw text.
        words: its words in order; nothing but whitespace may lie between them.
        start: where to begin to look.
        where: names the text in an error.

    Raises:
        InputError: a word is not where it should be.
    """
    found = []
    for word in words:
        at = text.find(word, start)
        if at < 0 or not word or text[start:at].strip():
            raise InputError(
                f"the word {word!r} does not follow at character {start}, where the text has {text[start : start + 20]!r}",
                where=where or None,
                expected="words of the raw text, one after another",
                remedy="use a tokenizer that splits and rewrites nothing",
            )
        start = at + len(word)
        found.append((at, start))
    return found


def names_of_tags(offsets: Sequence[tuple[int, int]], tags: Sequence[str], *, where: str = "") -> Findings:
    """The names of IOB2 tags, one a word; a tag that continues nothing opens a name, and is counted as ``repaired_tag``.

    Args:
        offsets: start and end of every word in the text, in code points.
        tags: ``O``, ``B-label`` or ``I-label``.
        where: names the text in an error.

    Raises:
        InputError: the sides differ in length, or a tag is not IOB2.
    """
    if len(offsets) != len(tags):
        raise InputError(f"{len(tags)} tags for {len(offsets)} words", where=where or None, expected="one a word")
    names, repairs = decode_tags([(tag,) for tag in tags], scheme="iob2", where=[where] * len(tags))
    found = tuple(Found(offsets[name.start][0], offsets[name.end - 1][1], name.label) for name in names)
    return Findings(found, +Counter({"repaired_tag": len(repairs)}))
