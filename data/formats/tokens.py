"""Text and spans from tokens and tags, and back: shared by the formats that hold tokens."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from musamma.data.arabic import word_offsets
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.formats.options import ReadOptions, WriteOptions
from musamma.data.formats.wikifane import hidden_proclitic_length, rejoin_clitics
from musamma.data.import_audit import ImportAudit
from musamma.data.span_repair import CandidateSpan, RawDocument
from musamma.data.tags import TokenSpan, decode_tags, encode_tags

_TOKEN = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Sentence:
    """Tokens, the tags of each, and where each stands (``FILE:LINE``); ``opens`` if a document begins with it."""

    tokens: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]
    where: tuple[str, ...]
    opens: bool = False


def assemble_document(
    sentences: Sequence[Sentence],
    *,
    id: str,
    scheme: str,
    starts: Counter[str],
    options: ReadOptions,
    audit: ImportAudit,
) -> RawDocument:
    """One document from sentences: tokens parted by a space, sentences by a line break.

    Names inside names become ``nested``.

    Args:
        scheme: a key of ``SCHEMES``.
        starts: how often each token begins a name in the corpus; used where clitics are rejoined.
    """
    text: list[str] = []
    outer: list[CandidateSpan] = []
    inner: list[CandidateSpan] = []
    base = 0
    for sentence in sentences:
        names, repairs = decode_tags(sentence.tags, scheme=scheme, where=sentence.where)
        for repair in repairs:
            where, token = sentence.where[repair.token], sentence.tokens[repair.token]
            if options.strict_tags:
                raise InputError(f"{repair.problem}, at {token!r}", where=where, expected=f"valid {scheme.upper()}")
            audit.add("repaired_tag", document=id, where=where, detail=f"{repair.problem}, at {token!r}")
        line, offsets = _text(sentence, names, id, options, audit)
        end = -1
        for name in names:
            start = offsets[name.start][0]
            if options.rejoin_clitics and (letters := hidden_proclitic_length(sentence.tokens[name.start], starts)):
                detail = (
                    f"{line[start : offsets[name.end - 1][1]]!r} {name.label}: the name begins {letters} letter later"
                )
                audit.add("proclitic_outside", document=id, where=sentence.where[name.start], detail=detail)
                start += letters
            stop = offsets[name.end - 1][1]
            found = CandidateSpan(base + start, base + stop, name.label, where=sentence.where[name.start])
            if stop <= end:
                inner.append(found)
            else:  # One that crosses an earlier name stays here, for the overlap policy to judge.
                outer.append(found)
                end = stop
        text.append(line)
        base += len(line) + 1
    return RawDocument(id, "\n".join(text), tuple(outer), tuple(inner), where=sentences[0].where[0])


def build_tag_columns(
    document: Document, options: WriteOptions, audit: ImportAudit
) -> tuple[list[tuple[int, int]], list[list[str]]]:
    """A document's tokens as offsets, and its tags: a column for the spans, with ``nested`` further ones for inner names.

    A name that covers part of a token is widened to the token and counted; one whose token is taken is dropped and counted.
    """
    if options.split_punctuation:
        tokens = word_offsets(document.text)
    else:
        tokens = [match.span() for match in _TOKEN.finditer(document.text)]
    columns = []
    for layer in _layers(document, options):
        columns.append(encode_tags(_on_tokens(document, layer, tokens, audit), len(tokens), scheme=options.scheme))
    return tokens, columns


def breaks_before(document: Document, end: int, start: int) -> bool:
    """Whether the text between two tokens, ``text[end:start]``, holds a line break that is in no name."""
    return "\n" in document.text[end:start] and not any(s.start < end and start < s.end for s in document.spans)


def _text(
    sentence: Sentence, names: Sequence[TokenSpan], id: str, options: ReadOptions, audit: ImportAudit
) -> tuple[str, Sequence[tuple[int, int]]]:
    if not options.rejoin_clitics:
        offsets = []
        end = -1
        for token in sentence.tokens:
            offsets.append((end + 1, end + 1 + len(token)))
            end += 1 + len(token)
        return " ".join(sentence.tokens), offsets
    numbers: list[int | None] = [None] * len(sentence.tokens)
    for number, name in reversed(
        list(enumerate(names))
    ):  # Outer names come first in the list and overwrite inner ones.
        numbers[name.start : name.end] = [number] * (name.end - name.start)
    joined = rejoin_clitics(sentence.tokens, numbers)
    audit.add("clitic_joined", count=joined.joined)
    audit.add("clitic_respelt", count=joined.respelt)
    for index in joined.apart:
        context = " ".join(sentence.tokens[max(0, index - 2) : index + 3])
        audit.add(
            "clitic_apart", document=id, where=sentence.where[index], detail=f"undecided, left apart in {context!r}"
        )
    return joined.text, joined.offsets


def _layers(document: Document, options: WriteOptions) -> list[list[Span]]:
    """Spans, then nested names, each layer without overlap."""
    layers: list[list[Span]] = [list(document.spans)]
    if options.nested:
        for span in sorted(document.nested, key=lambda s: (s.start, -s.end)):
            for layer in layers[1:]:
                if all(other.end <= span.start or span.end <= other.start for other in layer):
                    layer.append(span)
                    break
            else:
                layers.append([span])
    return layers


def _on_tokens(
    document: Document, spans: Iterable[Span], tokens: list[tuple[int, int]], audit: ImportAudit
) -> list[TokenSpan]:
    starts, ends = [start for start, _ in tokens], [end for _, end in tokens]
    names: list[TokenSpan] = []
    taken = 0
    for span in sorted(spans, key=lambda s: s.start):
        first, last = bisect_right(ends, span.start), bisect_left(starts, span.end)
        if first >= last:
            audit.add("no_token", document=document.id, detail=f"{document.describe(span)}: covers no token")
            continue
        if first < taken:
            detail = f"{document.describe(span)}: its first token belongs to another name"
            audit.add("token_taken", document=document.id, detail=detail)
            continue
        whole = tokens[first][0], tokens[last - 1][1]
        if whole != (span.start, span.end):
            detail = f"{document.describe(span)}: widened to {document.text[whole[0] : whole[1]]!r}"
            audit.add("widened", document=document.id, detail=detail)
        names.append(TokenSpan(first, last, span.label))
        taken = last
    return names
