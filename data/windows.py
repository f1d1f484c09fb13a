"""Words, pieces and windows of a document: the input of the encoder in training, evaluation and inference.

1. A document is split into words (`musamma.data.arabic`) and the tokenizer splits it into pieces.
2. Each piece is assigned to the word in which it starts; a word's first piece carries its tag.
3. A document longer than the encoder's input becomes several overlapping windows, cut at word borders.
4. Each word is *owned* by one window, the one in which it is farthest from a cut. The word's loss and logits are taken from
   that window only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer

from musamma.data.arabic import WORD_PATTERN, proclitic_offsets
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.normalization import fast_backend
from musamma.data.tags import TagSet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: The target that PyTorch's cross entropy ignores by default.
IGNORE_INDEX = -100

#: Longest text, in characters, that is tokenized whole. A longer one is tokenized in sections of this length.
SECTION_LENGTH = 1 << 17
#: Characters that a section shares with each neighbour, on either side of their border.
SECTION_MARGIN = 1 << 10

# Largest share of a window that one word may take. The encoder sees only the first pieces of a longer word (a URL, a line
# without spaces).
_MAX_WORD_SHARE = 0.25
# Number of pieces that must agree where two sections are joined.
_JOIN_PIECES = 16
# Characters per call of the tokenizer: enough to keep all cores busy.
_CALL_LENGTH = 1 << 20

#: A tokenizer without special tokens: for each text, its piece ids and their start and end in it, in code points.
BatchTokenizer = Callable[[list[str]], Iterable[tuple[Sequence[int], Sequence[tuple[int, int]]]]]


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a document as the encoder reads it.

    Args:
        input_ids: piece ids with the special tokens around them; int64, (pieces,).
        words: indices of the window's words in :attr:`TokenizedDocument.words`; int64, (words,).
        positions: index in ``input_ids`` of each word's first piece; int64, (words,).
        owned: whether each word belongs to this window; bool, (words,). Neighbouring windows overlap, so a word may be in
            several windows, but exactly one of them owns it.
    """

    input_ids: np.ndarray
    words: np.ndarray
    positions: np.ndarray
    owned: np.ndarray


@dataclass(frozen=True, slots=True)
class TokenizedDocument:
    """A document with its words and windows.

    Args:
        document: the document.
        words: start and end of every word that has a piece; int64, (words, 2). A word that normalises to nothing has no piece.
        windows: the windows; empty for a text without words.
    """

    document: Document
    words: np.ndarray
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Misalignment:
    """An annotated name that word tags cannot represent as annotated.

    Args:
        span: the name as annotated.
        reason: why it cannot be represented.
        replacement: the span trained on in its place, or ``None``.
        nested: whether it is a nested name.
    """

    span: Span
    reason: str
    replacement: Span | None
    nested: bool = False


@dataclass(frozen=True, slots=True)
class WordTargets:
    """Training targets of a document's words.

    Args:
        tags: tag ids; int64, (words,).
        proclitics: number of proclitic letters before the name, for a word that starts one; :data:`IGNORE_INDEX` for the
            other words; int64, (words,).
        nested: ids of the tags of nested names, for the words of names of two words or more; :data:`IGNORE_INDEX` for the
            other words, and for all words without a nested layer; int64, (words,).
        misalignments: names that the tags do not represent as annotated.
    """

    tags: np.ndarray
    proclitics: np.ndarray
    nested: np.ndarray
    misalignments: tuple[Misalignment, ...]


@dataclass(frozen=True, slots=True)
class Pieces:
    """The pieces of a text.

    Args:
        ids: piece ids; int64, (pieces,).
        offsets: start and end in the text, in code points; int64, (pieces, 2).
    """

    ids: np.ndarray
    offsets: np.ndarray

    def __getitem__(self, selection: slice) -> Pieces:
        return Pieces(self.ids[selection], self.offsets[selection])


class DocumentTokenizer:
    """Splits documents into windows of a tokenizer's pieces. Threads may share an instance.

    Args:
        tokenizer: a fast tokenizer of transformers, or a tokenizer of `tokenizers`.
        max_length: longest window in pieces, special tokens included.
        overlap: number of pieces that two neighbouring windows share.
        padding_id: the id that fills up short windows; by default that of the tokenizer of transformers, else 0.

    Attributes:
        backend: the tokenizer of `tokenizers`.
        max_length, overlap, padding_id: the arguments.

    Raises:
        InputError: the tokenizer is slow, or the lengths are impossible.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | Tokenizer,
        *,
        max_length: int = 256,
        overlap: int = 64,
        padding_id: int | None = None,
    ) -> None:
        self.backend = tokenizer if isinstance(tokenizer, Tokenizer) else fast_backend(tokenizer)
        self.padding_id: int = (getattr(tokenizer, "pad_token_id", None) if padding_id is None else padding_id) or 0
        self._prefix, self._suffix = _special_tokens(self.backend)
        self.capacity = max_length - len(self._prefix) - len(self._suffix)
        if not 0 <= overlap < self.capacity:
            raise InputError(
                f"max_length {max_length} and overlap {overlap}",
                expected=f"0 <= overlap < max_length - {len(self._prefix) + len(self._suffix)} special tokens",
                remedy="increase max_length or reduce overlap",
            )
        self.max_length, self.overlap = max_length, overlap
        # One thread must not configure a fast tokenizer while another uses it. One call uses all cores, so threads gain nothing.
        self._lock = Lock()
        self._max_word_pieces = max(1, int(self.capacity * _MAX_WORD_SHARE))

    def tokenize(self, document: Document) -> TokenizedDocument:
        """Tokenize one document; see :meth:`tokenize_all`."""
        return next(self.tokenize_all([document]))

    def tokenize_all(self, documents: Iterable[Document], *, batch_size: int = 256) -> Iterator[TokenizedDocument]:
        """Tokenize documents in order. The tokenizer gets ``batch_size`` of them at a time and uses all cores."""
        stream = iter(documents)
        while batch := list(islice(stream, batch_size)):
            for document, pieces in zip(
                batch, tokenize_texts((document.text for document in batch), self._tokenize_batch), strict=True
            ):
                words, starts, ends = _assign_pieces(document.text, pieces.offsets)
                yield TokenizedDocument(document, words, tuple(self._cut_windows(pieces.ids, starts, ends)))

    def _tokenize_batch(self, texts: list[str]) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
        with self._lock:
            return tokenize_batch(self.backend, texts)

    def _cut_windows(self, ids: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Iterator[Window]:
        """Yield the windows over words; the pieces of a word are ``ids[start:end]``, with its start and end."""
        ends = np.minimum(ends, starts + self._max_word_pieces)
        bounds = _choose_window_bounds(ends - starts, self.capacity, self.overlap)
        for index, (start, stop) in enumerate(bounds):
            # A window shares its first words with the window before it and its last words with the one after it. Of the shared
            # words each window owns the half that is farther from its cut.
            owned_start = start if index == 0 else (start + bounds[index - 1][1]) // 2
            owned_stop = stop if index == len(bounds) - 1 else (bounds[index + 1][0] + stop) // 2
            words = np.arange(start, stop)
            lengths = (ends - starts)[start:stop]
            pieces = np.concatenate(
                [ids[first:end] for first, end in zip(starts[start:stop], ends[start:stop], strict=True)]
            )
            yield Window(
                input_ids=np.concatenate([self._prefix, pieces, self._suffix]),
                words=words,
                positions=len(self._prefix) + np.cumsum(lengths) - lengths,
                owned=(words >= owned_start) & (words < owned_stop),
            )


def build_targets(
    tokenized: TokenizedDocument,
    tag_set: TagSet,
    *,
    proclitics: bool = True,
    nested: TagSet | None = None,
    uncertain: Collection[str] = (),
) -> WordTargets:
    """Build the targets of a document's words from its names, and list the names that tags cannot represent.

    Nested names have targets only at the words of a gold name of two words or more. They are decoded only there (see
    :func:`musamma.models.decoding.decode_nested`), and few other words of a text would have a tag other than ``O``. A nested name
    inside another one has no target: the layer has one level.

    Args:
        tokenized: the document.
        tag_set: the tag set of the names.
        proclitics: whether the classifier can start a name after proclitics; if not, a name starts where its word does.
        nested: the tag set of the nested names; ``None`` for a classifier without that layer, and for a document whose nested names
            are not annotated.
        uncertain: labels of nested names that may stand for others, and so give no targets at their words.

    Raises:
        InputError: a span's label is not in ``tag_set``.
    """
    document, words = tokenized.document, tokenized.words
    tag_set.check_labels(document)
    tags = np.zeros(len(words), dtype=np.int64)
    proclitic_counts = np.full(len(words), IGNORE_INDEX, dtype=np.int64)
    misalignments = []
    outer: dict[int, _WordRange] = {}
    for span in document.spans:
        first, stop = find_word_range(words, span)
        if first >= stop:
            misalignments.append(Misalignment(span, _NO_WORD, None))
            continue
        if tags[first:stop].any():
            misalignments.append(Misalignment(span, "another name is in the same word", None))
            continue
        offsets = proclitic_offsets(document.text, *words[first].tolist()) if proclitics else [int(words[first, 0])]
        count = offsets.index(span.start) if span.start in offsets else 0
        target = Span(offsets[count], int(words[stop - 1, 1]), span.label)
        if (reason := _describe_difference(span, target)) is not None:
            misalignments.append(Misalignment(span, reason, target))
        tags[first], tags[first + 1 : stop] = tag_set.begin(span.label), tag_set.inside(span.label)
        proclitic_counts[first] = count
        outer |= dict.fromkeys(range(first, stop), _WordRange(first, stop, target.start))
    nested_tags = np.full(len(words), IGNORE_INDEX, dtype=np.int64)
    if nested is not None:
        misalignments += _set_nested_targets(
            tokenized, nested, outer, nested_tags, proclitic_counts if proclitics else None, uncertain
        )
    return WordTargets(tags, proclitic_counts, nested_tags, tuple(misalignments))


def find_word_range(words: np.ndarray, span: Span) -> tuple[int, int]:
    """Return the first word that shares a character with a span, and the word after the last one.

    Args:
        words: start and end of every word; int64, (words, 2).
        span: the span.
    """
    first = int(np.searchsorted(words[:, 1], span.start, side="right"))
    return first, int(np.searchsorted(words[:, 0], span.end, side="left"))


@dataclass(frozen=True, slots=True)
class _WordRange:
    """The words of an outermost name as the tags represent it, and the offset at which it starts."""

    first: int
    stop: int
    start: int


_NO_WORD = "it covers no word that the tokenizer keeps"


def _describe_difference(span: Span, target: Span) -> str | None:
    """Describe how the span that tags represent differs from the annotated one; ``None`` if it does not."""
    if span.start != target.start:
        before_word = span.start < target.start
        return "it begins before a word" if before_word else "it begins inside a word, not after a proclitic"
    if span.end != target.end:
        return "it ends inside a word" if span.end < target.end else "it ends after a word"
    return None


def _set_nested_targets(
    tokenized: TokenizedDocument,
    tag_set: TagSet,
    outer: Mapping[int, _WordRange],
    tags: np.ndarray,
    proclitic_counts: np.ndarray | None,
    uncertain: Collection[str],
) -> list[Misalignment]:
    """Set the targets of nested names, and return the names that the layer cannot represent.

    Args:
        tokenized: the document.
        tag_set: the tag set of nested names.
        outer: the outermost name of each word that belongs to one.
        tags: the tags of nested names, all :data:`IGNORE_INDEX`; changed in place; int64, (words,).
        proclitic_counts: the numbers of proclitic letters; receives those of nested names; ``None`` if names start at words.
            A nested name in the first word of its outer name starts where that name does.
        uncertain: labels of nested names that give no targets at their words.
    """
    document, words = tokenized.document, tokenized.words
    for word, outer_name in outer.items():
        if outer_name.stop - outer_name.first > 1:
            tags[word] = 0
    misalignments = []
    placed: Span | None = None
    # A name comes before those inside it.
    for span in sorted(document.nested, key=lambda span: (span.start, -span.end)):
        first, stop = find_word_range(words, span)
        name = outer.get(first)
        reason = None
        if first >= stop:
            reason = _NO_WORD
        elif name is None or stop > name.stop:
            reason = "it is inside no name that the tags represent"
        elif (first, stop) == (name.first, name.stop):
            reason = "it covers all words of its outer name"
        elif span.label not in tag_set.labels and span.label not in uncertain:
            reason = f"the nested layer has no label {span.label}"
        elif placed is not None and placed.start <= span.start and span.end <= placed.end:
            reason = "it is inside another nested name"
        elif tags[first:stop].any():
            reason = "another nested name is in the same word"
        elif span.label in uncertain:
            reason = f"the label {span.label} may be another one in the nested layer"
            tags[first:stop] = IGNORE_INDEX
            placed = span
        if reason is not None or name is None:
            misalignments.append(Misalignment(span, reason or "", None, nested=True))
            continue
        start, count = int(words[first, 0]), None
        if first == name.first:
            start = name.start
        elif proclitic_counts is not None:
            offsets = proclitic_offsets(document.text, *words[first].tolist())
            count = offsets.index(span.start) if span.start in offsets else 0
            start = offsets[count]
        target = Span(start, int(words[stop - 1, 1]), span.label)
        if (reason := _describe_difference(span, target)) is not None:
            misalignments.append(Misalignment(span, reason, target, nested=True))
        tags[first], tags[first + 1 : stop] = tag_set.begin(span.label), tag_set.inside(span.label)
        if count is not None and proclitic_counts is not None:
            proclitic_counts[first] = count
        placed = span
    return misalignments


def tokenize_batch(backend: Tokenizer, texts: list[str]) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
    """Tokenize texts in one call, without special tokens. Return the piece ids of each, and their start and end in it."""
    _configure(backend)
    encodings = backend.encode_batch(texts, add_special_tokens=False)
    return ((encoding.ids, encoding.offsets) for encoding in encodings)


def _configure(backend: Tokenizer) -> None:
    """Let a tokenizer return all pieces of a text and no others. Other users of the same object may have changed that."""
    backend.no_truncation()
    backend.no_padding()
    # In a text, "[SEP]" is five characters and not a special token.
    backend.encode_special_tokens = True


def tokenize_texts(
    texts: Iterable[str], tokenize: BatchTokenizer, *, section: int = SECTION_LENGTH, margin: int = SECTION_MARGIN
) -> Iterator[Pieces]:
    """Tokenize texts of any length, in order.

    Args:
        texts: raw texts.
        tokenize: the tokenizer, without special tokens.
        section: a text of at most this many characters is tokenized whole; a longer one in sections of this length.
        margin: characters that two sections share on either side of their border, at most a quarter of a section.
    """
    batch: list[str] = []
    size = 0
    for text in texts:
        if len(text) > section:
            yield from _tokenize_whole(tokenize, batch)
            yield _tokenize_sections(text, tokenize, section, margin)
            batch, size = [], 0
            continue
        batch.append(text)
        size += len(text)
        if size >= _CALL_LENGTH:
            yield from _tokenize_whole(tokenize, batch)
            batch, size = [], 0
    yield from _tokenize_whole(tokenize, batch)


def _tokenize_whole(tokenize: BatchTokenizer, texts: list[str]) -> Iterator[Pieces]:
    for ids, offsets in tokenize(texts) if texts else ():
        yield Pieces(np.array(ids, dtype=np.int64), np.array(offsets, dtype=np.int64).reshape(-1, 2))


def _tokenize_sections(text: str, tokenize: BatchTokenizer, section: int, margin: int) -> Pieces:
    # A last section too short to be joined becomes part of the section before it.
    borders = [*range(0, len(text) - margin, section), len(text)]
    ranges = [(max(0, start - margin), min(len(text), end + margin)) for start, end in pairwise(borders)]
    joined: list[Pieces] = []
    per_call = max(1, _CALL_LENGTH // section)
    for first in range(0, len(ranges), per_call):
        batch = ranges[first : first + per_call]
        sections = _tokenize_whole(tokenize, [text[start:end] for start, end in batch])
        for (start, _), pieces in zip(batch, sections, strict=True):
            pieces.offsets[:] += start
            if joined:
                join = _find_join(joined[-1], pieces, start + margin)
                if join is None:
                    # The pieces depend on distant text, or the text is almost only white space: sections cannot be joined.
                    return next(_tokenize_whole(tokenize, [text]))
                joined[-1], pieces = joined[-1][: join[0]], pieces[join[1] :]
            joined.append(pieces)
    return Pieces(np.concatenate([part.ids for part in joined]), np.concatenate([part.offsets for part in joined]))


def _find_join(left: Pieces, right: Pieces, border: int) -> tuple[int, int] | None:
    """Find the first place after their border at which two sections have the same pieces.

    Returns:
        The number of pieces to keep of the left section and to skip of the right one; ``None`` if there is no such place.
    """
    starts = right.offsets[:, 0]
    for keep in range(int(np.searchsorted(left.offsets[:, 0], border)), len(left.ids) - _JOIN_PIECES + 1):
        skip = int(np.searchsorted(starts, left.offsets[keep, 0]))
        left_run, right_run = left[keep : keep + _JOIN_PIECES], right[skip : skip + _JOIN_PIECES]
        if np.array_equal(left_run.ids, right_run.ids) and np.array_equal(left_run.offsets, right_run.offsets):
            return keep, skip
    return None


def _assign_pieces(text: str, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Assign each piece to the word in which it starts.

    Args:
        text: the raw text.
        offsets: start and end of every piece in it, (pieces, 2).

    Returns:
        Start and end of the words that have pieces, (words, 2); the first piece of each word, and the piece after its last
        one, (words,).
    """
    spans = chain.from_iterable(match.span() for match in WORD_PATTERN.finditer(text))
    words = np.fromiter(spans, dtype=np.int64).reshape(-1, 2)
    if not len(words) or not len(offsets):
        return np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    # The first word that ends after the piece's start contains that start, or follows it if the piece starts with a space.
    word_of_piece = np.searchsorted(words[:, 1], offsets[:, 0], side="right")
    word_of_piece = np.minimum(word_of_piece, len(words) - 1)
    word_of_piece = np.maximum.accumulate(word_of_piece)
    indices, starts, counts = np.unique(word_of_piece, return_index=True, return_counts=True)
    return words[indices], starts, starts + counts


def _choose_window_bounds(lengths: np.ndarray, capacity: int, overlap: int) -> list[tuple[int, int]]:
    """Return the first word of each window and the word after its last one, for words of ``lengths`` pieces."""
    total = np.concatenate([[0], np.cumsum(lengths)])
    bounds: list[tuple[int, int]] = []
    first = 0
    while first < len(lengths):
        stop = int(np.searchsorted(total, total[first] + capacity, side="right")) - 1
        bounds.append((first, stop))
        if stop == len(lengths):
            break
        # The next window starts `overlap` pieces before the end of this one, but at least one word after its start.
        first = max(first + 1, int(np.searchsorted(total, total[stop] - overlap, side="left")))
    return bounds


def _special_tokens(backend: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids that the tokenizer adds before and after a text."""
    _configure(backend)
    without = backend.encode("ا", add_special_tokens=False).ids
    complete = backend.encode("ا").ids
    for start in range(len(complete) - len(without) + 1):
        if complete[start : start + len(without)] == without:
            return np.array(complete[:start], dtype=np.int64), np.array(
                complete[start + len(without) :], dtype=np.int64
            )
    raise InputError(
        f"the tokenizer turns 'ا' into {complete} with special tokens and {without} without",
        expected="special tokens around the text",
    )
