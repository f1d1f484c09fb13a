"""Conversion between tokens with tags and text with spans, shared by the formats that hold tokens."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

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
    """A sentence of tokens.

    Args:
        tokens: the tokens.
        tags: the tags of each token.
        where: file and line of each token.
        starts_document: whether a document starts with this sentence.
    """

    tokens: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]
    where: tuple[str, ...]
    starts_document: bool = False


def assemble_document(
    sentences: Sequence[Sentence],
    *,
    id: str,
    scheme: str,
    name_starts: Counter[str],
    options: ReadOptions,
    audit: ImportAudit,
) -> RawDocument:
    """Build a document from sentences, with a space between tokens and a line break between sentences.

    Names inside names become ``nested``.

    Args:
        sentences: the sentences of the document.
        id: id of the document.
        scheme: a key of ``TAG_SCHEMES``.
        name_starts: frequency of each token as the first of a name in the corpus; used for rejoining clitics.
        options: how to read.
        audit: where changes are counted.
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
        line, offsets = _join_tokens(sentence, names, id, options, audit)
        end = -1
        for name in names:
            start = offsets[name.start][0]
            if options.rejoin_clitics and (
                letters := hidden_proclitic_length(sentence.tokens[name.start], name_starts)
            ):
                detail = (
                    f"{line[start : offsets[name.end - 1][1]]!r} {name.label}: the name begins {letters} letter later"
                )
                audit.add("proclitic_outside", document=id, where=sentence.where[name.start], detail=detail)
                start += letters
            stop = offsets[name.end - 1][1]
            candidate = CandidateSpan(base + start, base + stop, name.label, where=sentence.where[name.start])
            if stop <= end:
                inner.append(candidate)
            else:  # One that crosses an earlier name is left to the overlap policy.
                outer.append(candidate)
                end = stop
        text.append(line)
        base += len(line) + 1
    return RawDocument(id, "\n".join(text), tuple(outer), tuple(inner), where=sentences[0].where[0])


def build_tag_columns(
    document: Document, options: WriteOptions, audit: ImportAudit
) -> tuple[list[tuple[int, int]], list[list[str]]]:
    """Build a document's tokens, as offsets, and its columns of tags.

    The first column is that of the spans; with the option ``nested``, more columns hold the nested names. A name that covers part
    of a token is widened to the token and counted; one whose first token belongs to another name is dropped and counted.
    """
    if options.split_punctuation:
        tokens = word_offsets(document.text)
    else:
        tokens = [match.span() for match in _TOKEN.finditer(document.text)]
    columns = [
        encode_tags(_align_to_tokens(document, layer, tokens, audit), len(tokens), scheme=options.scheme)
        for layer in _build_layers(document, options)
    ]
    return tokens, columns


def has_sentence_break(document: Document, end: int, start: int) -> bool:
    """Whether the text between two tokens, ``text[end:start]``, has a line break outside of names."""
    return "\n" in document.text[end:start] and not any(s.start < end and start < s.end for s in document.spans)


def cut_tokens(document: Document) -> list[tuple[int, int]]:
    """Cut a text into tokens, as offsets, at the borders of its words and of its names.

    The tokens cover all characters but white space, and each name is a sequence of whole tokens.
    """
    borders = {border for offsets in word_offsets(document.text) for border in offsets}
    borders.update(border for span in document.all_spans for border in (span.start, span.end))
    cuts = sorted(borders)
    tokens: list[tuple[int, int]] = []
    for match in _TOKEN.finditer(document.text):
        start, end = match.span()
        tokens += pairwise([start, *cuts[bisect_right(cuts, start) : bisect_left(cuts, end)], end])
    return tokens


def trim_names(
    document: Document, names: Iterable[Span], tokens: Sequence[tuple[int, int]], audit: ImportAudit
) -> list[Span]:
    """Return names of a document, whose text :func:`cut_tokens` cut, without white space at their borders.

    A name that loses white space is counted, and one of white space only is dropped and counted.
    """
    trimmed = []
    for span, first, last in _covered_tokens(document, names, tokens, audit):
        name = replace(span, start=tokens[first][0], end=tokens[last - 1][1])
        if name != span:
            detail = f"{document.describe(span)}: white space at its borders is left out"
            audit.add_in_writing("whitespace", document=document.id, detail=detail)
        trimmed.append(name)
    return trimmed


def locate_names(names: Iterable[Span], tokens: Sequence[tuple[int, ...]]) -> list[tuple[int, int]]:
    """Return the index of the first and of the last token of each name that :func:`trim_names` returned.

    Args:
        names: the names.
        tokens: start and end of each token, in code points, and further items that are not used.
    """
    first = {token[0]: index for index, token in enumerate(tokens)}
    last = {token[1]: index for index, token in enumerate(tokens)}
    return [(first[name.start], last[name.end]) for name in names]


def join_offsets(tokens: Iterable[str]) -> list[tuple[int, int]]:
    """Return start and end of each token in the text of all tokens with a space between any two."""
    offsets = []
    position = 0
    for token in tokens:
        offsets.append((position, position + len(token)))
        position += len(token) + 1
    return offsets


def _covered_tokens(
    document: Document, spans: Iterable[Span], tokens: Sequence[tuple[int, int]], audit: ImportAudit
) -> Iterator[tuple[Span, int, int]]:
    """Yield each span with the index of its first token and that after its last one; count a span that covers none."""
    starts, ends = [start for start, _ in tokens], [end for _, end in tokens]
    for span in spans:
        first, last = bisect_right(ends, span.start), bisect_left(starts, span.end)
        if first < last:
            yield span, first, last
        else:
            audit.add_in_writing("no_token", document=document.id, detail=f"{document.describe(span)}: covers no token")


def add_space_tokens(text: str, tokens: Sequence[tuple[int, int]]) -> list[tuple[int, int, bool]]:
    """Add the white space between tokens as spaCy does: one space belongs to the token before it, the rest is a token.

    Returns:
        Start and end of each token, and whether a space follows it. Tokens and spaces together are the text.
    """
    spaced: list[tuple[int, int, bool]] = []
    position = 0
    for start, end in [*tokens, (len(text), len(text))]:
        if spaced and position < start and text[position] == " ":
            spaced[-1] = (*spaced[-1][:2], True)
            position += 1
        if position < start:
            spaced.append((position, start, False))
        if start < end:
            spaced.append((start, end, False))
        position = end
    return spaced


def _join_tokens(
    sentence: Sentence, names: Sequence[TokenSpan], id: str, options: ReadOptions, audit: ImportAudit
) -> tuple[str, Sequence[tuple[int, int]]]:
    """Text of a sentence, and start and end of each token in it."""
    if not options.rejoin_clitics:
        return " ".join(sentence.tokens), join_offsets(sentence.tokens)
    name_of_token: list[int | None] = [None] * len(sentence.tokens)
    # In reverse, since outer names come first and must overwrite inner ones.
    for index, name in reversed(list(enumerate(names))):
        name_of_token[name.start : name.end] = [index] * (name.end - name.start)
    joined = rejoin_clitics(sentence.tokens, name_of_token)
    audit.add("clitic_joined", count=joined.joined)
    audit.add("clitic_respelt", count=joined.respelt)
    for index in joined.apart:
        context = " ".join(sentence.tokens[max(0, index - 2) : index + 3])
        audit.add(
            "clitic_apart", document=id, where=sentence.where[index], detail=f"undecided, left apart in {context!r}"
        )
    return joined.text, joined.offsets


def _build_layers(document: Document, options: WriteOptions) -> list[list[Span]]:
    """Layers of spans without overlap: first the outermost spans, then the nested names."""
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


def _align_to_tokens(
    document: Document, spans: Iterable[Span], tokens: list[tuple[int, int]], audit: ImportAudit
) -> list[TokenSpan]:
    """Convert spans to token indices; names that cannot be represented are dropped and counted."""
    names: list[TokenSpan] = []
    next_free = 0
    for span, first, last in _covered_tokens(document, sorted(spans, key=lambda s: s.start), tokens, audit):
        if first < next_free:
            detail = f"{document.describe(span)}: its first token belongs to another name"
            audit.add_in_writing("token_taken", document=document.id, detail=detail)
            continue
        start, end = tokens[first][0], tokens[last - 1][1]
        if (start, end) != (span.start, span.end):
            detail = f"{document.describe(span)}: widened to {document.text[start:end]!r}"
            audit.add_in_writing("widened", document=document.id, detail=detail)
        names.append(TokenSpan(first, last, span.label))
        next_free = last
    return names
