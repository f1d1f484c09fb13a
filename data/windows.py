"""From documents to windows of pieces with tags: the one path that training, evaluation and inference share.

A document is cut into words (`musamma.data.arabic`), the tokenizer cuts it into pieces, every piece goes to the word it
begins in, and a word's first piece carries its tag. A document that is longer than the encoder's input becomes several windows
that overlap and end at word borders. Every word is *owned* by one window, the one where it stands farthest from a cut edge:
there its loss is taken, and there its logits are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from threading import Lock

import numpy as np
from transformers import PreTrainedTokenizerBase

from musamma.data.arabic import WORD_PATTERN, proclitic_offsets
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.normalization import fast_backend
from musamma.data.tags import TagSet

#: The label that PyTorch's cross entropy passes over.
IGNORE_INDEX = -100

# A word of more pieces than this share of a window (a URL, a line without spaces) lends only its first ones to the encoder.
_LONGEST_WORD_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Misalignment:
    """An annotated name that tags cannot carry as it stands.

    Args:
        span: the name as annotated.
        reason: what stands in the way.
        replacement: the span trained on in its place, or ``None``.
    """

    span: Span
    reason: str
    replacement: Span | None


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a document as the encoder reads it.

    Args:
        input_ids: piece ids with the special tokens around them; int64, (pieces,).
        words: indices of the window's words in :attr:`TokenizedDocument.words`; int64, (words,).
        positions: where each word's first piece stands in ``input_ids``; int64, (words,).
        owned: which of the words belong to this window; bool, (words,).
    """

    input_ids: np.ndarray
    words: np.ndarray
    positions: np.ndarray
    owned: np.ndarray


@dataclass(frozen=True, slots=True)
class TokenizedDocument:
    """A document, cut into words and windows.

    Args:
        document: the document.
        words: start and end of every word that has a piece; int64, (words, 2). A word that normalises to nothing has none.
        windows: the windows; empty for a text without words.
    """

    document: Document
    words: np.ndarray
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class WordTargets:
    """What the classifier should say of every word of a document.

    Args:
        tags: tag ids; int64, (words,).
        proclitics: for a word that opens a name, how many of its letters are proclitics; :data:`IGNORE_INDEX` elsewhere; int64, (words,).
        misalignments: the names that could not be represented as annotated.
    """

    tags: np.ndarray
    proclitics: np.ndarray
    misalignments: tuple[Misalignment, ...]


class DocumentTokenizer:
    """Cuts documents into windows of a tokenizer's pieces.

    Args:
        tokenizer: a fast tokenizer.
        max_length: longest window in pieces, special tokens included.
        overlap: pieces that two neighbouring windows share.

    Raises:
        InputError: the tokenizer is slow, or the lengths cannot be.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, max_length: int = 256, overlap: int = 64) -> None:
        fast_backend(tokenizer)
        self.tokenizer = tokenizer
        self._prefix, self._suffix = _special_tokens(tokenizer)
        self.capacity = max_length - len(self._prefix) - len(self._suffix)
        if not 0 <= overlap < self.capacity:
            raise InputError(
                f"max_length {max_length} and overlap {overlap}",
                expected=f"0 <= overlap < max_length - {len(self._prefix) + len(self._suffix)} special tokens",
                remedy="lengthen max_length or shorten overlap",
            )
        self.max_length, self.overlap = max_length, overlap
        # A fast tokenizer must not be set by one thread while another uses it, and its own threads take all cores anyway.
        self._lock = Lock()
        self._longest_word = max(1, int(self.capacity * _LONGEST_WORD_SHARE))

    def tokenize(self, document: Document) -> TokenizedDocument:
        """One document; see :meth:`tokenize_all`."""
        return next(self.tokenize_all([document]))

    def tokenize_all(self, documents: Iterable[Document], *, batch: int = 256) -> Iterator[TokenizedDocument]:
        """Documents, in order; the tokenizer sees ``batch`` of them at a time and works on all cores."""
        chunk: list[Document] = []
        for document in documents:
            chunk.append(document)
            if len(chunk) == batch:
                yield from self._tokenize_batch(chunk)
                chunk = []
        if chunk:
            yield from self._tokenize_batch(chunk)

    def _tokenize_batch(self, documents: list[Document]) -> Iterator[TokenizedDocument]:
        pieces = tokenize_texts((document.text for document in documents), self._call_tokenizer)
        for document, own in zip(documents, pieces, strict=True):
            words, starts, ends = _assign(document.text, own.offsets)
            yield TokenizedDocument(document, words, tuple(self._windows(own.ids, starts, ends)))

    def _call_tokenizer(self, texts: list[str]) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
        with self._lock:
            return tokenize_batch(self.tokenizer, texts)

    def _windows(self, ids: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> Iterator[Window]:
        ends = np.minimum(ends, starts + self._longest_word)
        cuts = _cut(ends - starts, self.capacity, self.overlap)
        for index, (first, last) in enumerate(cuts):
            # Two windows share the words between the second's first and the first's last; each owns the half away from its edge.
            low = first if index == 0 else (first + cuts[index - 1][1]) // 2
            high = last if index == len(cuts) - 1 else (cuts[index + 1][0] + last) // 2
            words = np.arange(first, last)
            lengths = (ends - starts)[first:last]
            pieces = np.concatenate(
                [ids[start:end] for start, end in zip(starts[first:last], ends[first:last], strict=True)]
            )
            yield Window(
                input_ids=np.concatenate([self._prefix, pieces, self._suffix]),
                words=words,
                positions=len(self._prefix) + np.cumsum(lengths) - lengths,
                owned=(words >= low) & (words < high),
            )


def build_targets(encoded: TokenizedDocument, tags: TagSet, *, proclitics: bool = True) -> WordTargets:
    """Tags of a document's spans, with an account of what they cannot carry.

    Args:
        encoded: the document.
        tags: the tag set.
        proclitics: whether the classifier can place a border behind proclitics; without it a name begins where its word does.

    Raises:
        InputError: a span's label is not in ``tags``.
    """
    document, words = encoded.document, encoded.words
    tags.check_labels(document)
    labels = np.zeros(len(words), dtype=np.int64)
    letters = np.full(len(words), IGNORE_INDEX, dtype=np.int64)
    misalignments = []
    for span in document.spans:
        # Words that share a character with the name.
        first = int(np.searchsorted(words[:, 1], span.start, side="right"))
        last = int(np.searchsorted(words[:, 0], span.end, side="left"))
        if first >= last:
            misalignments.append(Misalignment(span, "it covers no word that the tokenizer keeps", None))
            continue
        if labels[first:last].any():
            misalignments.append(Misalignment(span, "another name stands in the same word", None))
            continue
        offsets = proclitic_offsets(document.text, *words[first].tolist()) if proclitics else [int(words[first, 0])]
        count = offsets.index(span.start) if span.start in offsets else 0
        kept = Span(offsets[count], int(words[last - 1, 1]), span.label)
        if kept.start != span.start:
            reason = (
                "it begins before a word" if span.start < kept.start else "it begins inside a word, behind no proclitic"
            )
            misalignments.append(Misalignment(span, reason, kept))
        elif kept.end != span.end:
            misalignments.append(
                Misalignment(span, "it ends inside a word" if span.end < kept.end else "it ends behind a word", kept)
            )
        labels[first], labels[first + 1 : last] = tags.begin(span.label), tags.inside(span.label)
        letters[first] = count
    return WordTargets(labels, letters, tuple(misalignments))


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[np.ndarray, np.ndarray]:
    """Ids that the tokenizer puts before and behind a text."""
    bare = tokenizer("ا", add_special_tokens=False)["input_ids"]
    full = tokenizer("ا", add_special_tokens=True)["input_ids"]
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return np.array(full[:start], dtype=np.int64), np.array(full[start + len(bare) :], dtype=np.int64)
    raise InputError(
        f"the tokenizer turns 'ا' into {full} with special tokens and {bare} without",
        where=str(tokenizer.name_or_path),
        expected="special tokens around the text",
    )


def _assign(text: str, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give every piece to the word it begins in.

    Args:
        text: the raw text.
        offsets: start and end of every piece in it, (pieces, 2).

    Returns:
        Start and end of the words that have pieces, (words, 2); each word's first piece, and the piece after its last, (words,).
    """
    spans = chain.from_iterable(match.span() for match in WORD_PATTERN.finditer(text))
    words = np.fromiter(spans, dtype=np.int64).reshape(-1, 2)
    if not len(words) or not len(offsets):
        return np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    # The word that ends behind the piece's start: it holds the start, or follows it where the piece begins with a space.
    owner = np.searchsorted(words[:, 1], offsets[:, 0], side="right")
    owner = np.minimum(owner, len(words) - 1)
    owner = np.maximum.accumulate(owner)
    kept, starts, counts = np.unique(owner, return_index=True, return_counts=True)
    return words[kept], starts, starts + counts


def _cut(lengths: np.ndarray, capacity: int, overlap: int) -> list[tuple[int, int]]:
    """First word and the word after the last of every window, for words of ``lengths`` pieces."""
    total = np.concatenate([[0], np.cumsum(lengths)])
    cuts: list[tuple[int, int]] = []
    first = 0
    while first < len(lengths):
        last = int(np.searchsorted(total, total[first] + capacity, side="right")) - 1
        cuts.append((first, last))
        if last == len(lengths):
            break
        # The next window begins `overlap` pieces before this one's end, and at least one word further than it.
        first = max(first + 1, int(np.searchsorted(total, total[last] - overlap, side="left")))
    return cuts


#: Characters of a section.
SECTION_LENGTH = 1 << 17
#: Characters that two sections share on either side of their border.
SECTION_MARGIN = 1 << 10
# Pieces that must agree where two sections are joined.
_RUN = 16
# Characters that the tokenizer is given at a time, so that it can use all cores.
_CALL = 1 << 20

#: Gives each text's piece ids, and their start and end in it.
BatchTokenizer = Callable[[list[str]], Iterable[tuple[Sequence[int], Sequence[tuple[int, int]]]]]


@dataclass(frozen=True, slots=True)
class Pieces:
    """The pieces of a text.

    Args:
        ids: piece ids; int64, (pieces,).
        offsets: start and end in the text, in code points; int64, (pieces, 2).
    """

    ids: np.ndarray
    offsets: np.ndarray

    def __getitem__(self, part: slice) -> Pieces:
        return Pieces(self.ids[part], self.offsets[part])


def tokenize_batch(
    tokenizer: PreTrainedTokenizerBase, texts: list[str]
) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
    """Each text's piece ids, without special tokens, and their start and end in it."""
    encoding = tokenizer(
        texts,
        add_special_tokens=False,
        truncation=False,
        padding=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        # A text that happens to hold "[SEP]" holds five characters, not an instruction.
        split_special_tokens=True,
        verbose=False,
    )
    return zip(encoding["input_ids"], encoding["offset_mapping"], strict=True)


def tokenize_texts(
    texts: Iterable[str], tokenize: BatchTokenizer, *, section: int = SECTION_LENGTH, margin: int = SECTION_MARGIN
) -> Iterator[Pieces]:
    """The pieces of every text, in order.

    Args:
        texts: raw texts.
        tokenize: the tokenizer, without special tokens.
        section: characters of a section; a text of no more is cut as a whole.
        margin: characters that two sections share on either side of their border, at most a quarter of a section.
    """
    short: list[str] = []
    size = 0
    for text in texts:
        if len(text) > section:
            yield from _arrays(tokenize, short)
            yield _by_sections(text, tokenize, section, margin)
            short, size = [], 0
            continue
        short.append(text)
        size += len(text)
        if size >= _CALL:
            yield from _arrays(tokenize, short)
            short, size = [], 0
    yield from _arrays(tokenize, short)


def _arrays(tokenize: BatchTokenizer, texts: list[str]) -> Iterator[Pieces]:
    for ids, offsets in tokenize(texts) if texts else ():
        yield Pieces(np.array(ids, dtype=np.int64), np.array(offsets, dtype=np.int64).reshape(-1, 2))


def _by_sections(text: str, tokenize: BatchTokenizer, section: int, margin: int) -> Pieces:
    # The last section is a little longer rather than too short to be joined.
    borders = [*range(0, len(text) - margin, section), len(text)]
    stretches = [(max(0, start - margin), min(len(text), end + margin)) for start, end in pairwise(borders)]
    joined: list[Pieces] = []
    at_once = max(1, _CALL // section)
    for first in range(0, len(stretches), at_once):
        some = stretches[first : first + at_once]
        for (start, _), pieces in zip(some, _arrays(tokenize, [text[a:b] for a, b in some]), strict=True):
            pieces.offsets[:] += start
            if joined:
                seam = _seam(joined[-1], pieces, start + margin)
                if seam is None:
                    # A tokenizer that looks far ahead or back, or next to nothing but white space.
                    return next(_arrays(tokenize, [text]))
                joined[-1], pieces = joined[-1][: seam[0]], pieces[seam[1] :]
            joined.append(pieces)
    return Pieces(np.concatenate([part.ids for part in joined]), np.concatenate([part.offsets for part in joined]))


def _seam(left: Pieces, right: Pieces, border: int) -> tuple[int, int] | None:
    """Where two sections agree behind their border: how many pieces to take of the left, and to leave of the right."""
    starts = right.offsets[:, 0]
    for kept in range(int(np.searchsorted(left.offsets[:, 0], border)), len(left.ids) - _RUN + 1):
        left_out = int(np.searchsorted(starts, left.offsets[kept, 0]))
        one, other = left[kept : kept + _RUN], right[left_out : left_out + _RUN]
        if np.array_equal(one.ids, other.ids) and np.array_equal(one.offsets, other.offsets):
            return kept, left_out
    return None
