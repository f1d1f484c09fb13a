"""Whole words as pieces: count the words of a text, choose the ones that save most pieces, and add them to a tokenizer.

A word is the output of the tokenizer's own normaliser and pre-tokenizer: ``▁القاهرة`` before Unigram with Metaspace,
``القاهرة`` before WordPiece. The pieces of a text depend on its words only, so a table of words stands for the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import regex
from tokenizers import Tokenizer

from musamma.data.errors import InputError
from musamma.models.vocabulary.tokenizer import (
    choose_pieces,
    find_required_pieces,
    renumber_tokenizer,
    tokenizer_state,
    trim_tokenizer,
)

# Words that may become pieces: Arabic letters, or a single sign ("▁.", which ends each sentence, is two pieces of XLM-R), but no
# numbers and no Latin.
_ELIGIBLE = regex.compile(r"▁?(?:[\p{L}&&\p{Arabic}]{2,}|[^\p{L}\p{M}\p{N}\p{C}▁])", regex.VERSION1)
#: An Arabic word, for the share of Arabic words that are one piece.
ARABIC_WORD = regex.compile(r"▁?[\p{L}&&\p{Arabic}]+", regex.VERSION1)
# The score of a new word exceeds that of its parts by this much per letter: enough that the word is one piece, too little to
# change how longer words are cut.
_MARGIN = 1e-3
_MAX_ROUNDS = 4

#: Piece ids by word.
PieceIds = dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class WordVocabulary:
    """The words of a text with their counts.

    Args:
        counts: occurrences by word.
        forgotten: occurrences of rare words that were dropped to keep the table small.
    """

    counts: Mapping[str, int]
    forgotten: int = 0


@dataclass(frozen=True, slots=True)
class VocabularyChoice:
    """A choice of retained pieces and new words.

    Args:
        ids: the source's ids of the retained pieces, ascending.
        words: the new pieces, the most saving first.
        savings: number of pieces that each of them saves in the counted text, including longer words that begin with it.
    """

    ids: list[int]
    words: list[str]
    savings: list[int]


def split_words(tokenizer: Tokenizer, line: str) -> list[str]:
    """Split a line into the words that the tokenizer's model receives."""
    text = tokenizer.normalizer.normalize_str(line) if tokenizer.normalizer else line
    if tokenizer.pre_tokenizer is None:
        return [text]
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


def count_words(tokenizer: Tokenizer, lines: Iterable[str], *, max_words: int = 2_000_000) -> WordVocabulary:
    """Count the words of a text.

    Args:
        tokenizer: its normaliser and pre-tokenizer are used as they are.
        lines: the text, streamed.
        max_words: size of the table. When it overflows, the rarest words are dropped; they are counted from zero when they
            occur again.
    """
    counts: Counter[str] = Counter()
    forgotten = 0
    for line in lines:
        counts.update(split_words(tokenizer, line))
        if len(counts) > max_words:
            median = sorted(counts.values())[len(counts) // 2]
            rare = [word for word, number in counts.items() if number <= median]
            forgotten += sum(counts.pop(word) for word in rare)
    return WordVocabulary(counts, forgotten)


def tokenize_words(tokenizer: Tokenizer, words: Iterable[str]) -> PieceIds:
    """Return the piece ids of each word."""
    model = tokenizer.model
    return {word: [piece.id for piece in model.tokenize(word)] for word in words}


def count_piece_uses(word_vocabulary: WordVocabulary, piece_ids: PieceIds, size: int) -> np.ndarray:
    """Count occurrences by piece id, int64, (size,)."""
    uses = np.zeros(size, np.int64)
    for word, ids in piece_ids.items():
        for i in ids:
            uses[i] += word_vocabulary.counts[word]
    return uses


def choose_vocabulary(
    tokenizer: Tokenizer, word_vocabulary: WordVocabulary, *, words: int, pieces: int | None = None
) -> VocabularyChoice:
    """Choose the words that become pieces and the pieces that are retained.

    A word saves (number of its pieces - 1) for each occurrence. The words that save most are added, and the pieces
    that are then least used are dropped. The choices depend on each other, so they are made alternately. A word is passed over
    if its piece costs other words more than it saves, as is possible with WordPiece's longest match.

    Args:
        tokenizer: Unigram or WordPiece.
        word_vocabulary: words and counts.
        words: number of words to add.
        pieces: total number of pieces; ``None`` drops none.

    Raises:
        InputError: the tokenizer is of another kind, a number is out of range, or too few words have several pieces.
    """
    if (kind := tokenizer_state(tokenizer)["model"]["type"]) not in ("Unigram", "WordPiece"):
        raise InputError(
            f"a {kind} tokenizer",
            where="tokenizer.json",
            expected="Unigram or WordPiece",
            remedy="words in BPE would need merges of their own; musamma encoder trim takes BPE",
        )
    all_ids = sorted(tokenizer.get_vocab(with_added_tokens=True).values())
    least, most = len(find_required_pieces(tokenizer)) + words, len(all_ids) + words
    if pieces is not None and not least <= pieces <= most:
        raise InputError(f"{pieces} pieces", where="extend", expected=f"{least} to {most} with {words} new words")
    uses = count_piece_uses(word_vocabulary, tokenize_words(tokenizer, word_vocabulary.counts), all_ids[-1] + 1)
    if not uses.sum():
        raise InputError("no word was counted", where="text", expected="Arabic text", remedy="check the text files")
    rejected: set[str] = set()
    choice = VocabularyChoice([], [], [])
    for _ in range(_MAX_ROUNDS):
        ids = all_ids
        if pieces is not None:
            ids = _fill_up(choose_pieces(tokenizer, uses, pieces=pieces - words), all_ids, pieces - words)
        base = trim_tokenizer(tokenizer, ids)
        before = tokenize_words(base, word_vocabulary.counts)
        unknown = unknown_piece_id(base)
        # A Unigram piece may lose against its parts: then it is in the vocabulary, and the word is still cut.
        new_words = _choose_words(word_vocabulary, before, words, rejected.union(base.get_vocab()), unknown)
        start = base.get_vocab_size(with_added_tokens=False)
        extended = extend_tokenizer(base, new_words)
        after = tokenize_words(extended, word_vocabulary.counts)
        savings = _count_savings(word_vocabulary, before, after, new_words, start, unknown)
        choice = VocabularyChoice(ids, new_words, savings)
        harmful = {word for word, saved in zip(new_words, savings, strict=True) if saved <= 0}
        new_uses = np.zeros_like(uses)
        extended_uses = count_piece_uses(word_vocabulary, after, len(ids) + words)
        new_uses[ids] = np.delete(extended_uses, np.arange(start, start + words))
        if not harmful and (uses == new_uses).all():
            break
        rejected |= harmful
        uses = new_uses
    return choice


def extend_tokenizer(tokenizer: Tokenizer, words: list[str]) -> Tokenizer:
    """Return the tokenizer with whole words as additional pieces, after the pieces of the model and before other added tokens.

    A Unigram word scores slightly above its parts together. So the word itself becomes one piece, and a longer word that
    begins with it uses the new piece only if it was cut at that border before: no word gets more pieces.

    Args:
        tokenizer: Unigram or WordPiece, with contiguous ids as :func:`trim_tokenizer` makes them; it is not changed.
        words: words as :func:`split_words` returns them, none of them a piece yet.
    """
    state = tokenizer_state(tokenizer)
    model = state["model"]
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    start = len(model["vocab"])
    if model["type"] == "Unigram":
        scores = [score for _, score in model["vocab"]]
        for word, ids in tokenize_words(tokenizer, words).items():
            model["vocab"].append([word, sum(scores[i] for i in ids) + _MARGIN * len(word)])
    else:
        model["vocab"] |= {word: start + i for i, word in enumerate(words)}
    return renumber_tokenizer(state, vocabulary, {i: i if i < start else i + len(words) for i in vocabulary.values()})


def unknown_piece_id(tokenizer: Tokenizer) -> int:
    """Return the id of the unknown piece, -1 if there is none."""
    model = tokenizer_state(tokenizer)["model"]
    if model["type"] == "Unigram":
        return -1 if model["unk_id"] is None else int(model["unk_id"])
    piece_id = None if model["unk_token"] is None else tokenizer.token_to_id(model["unk_token"])
    return -1 if piece_id is None else piece_id


def _fill_up(ids: list[int], all_ids: list[int], number: int) -> list[int]:
    """Add pieces that never occurred, lowest ids first, until there are ``number``."""
    chosen = set(ids)
    unused = (i for i in all_ids if i not in chosen)
    return sorted([*ids, *(i for i, _ in zip(unused, range(number - len(ids)), strict=False))])


def _choose_words(
    word_vocabulary: WordVocabulary, piece_ids: PieceIds, number: int, rejected: set[str], unknown: int
) -> list[str]:
    """Return the eligible words that save most pieces, the most saving first."""
    saved = [
        (word_vocabulary.counts[word] * (len(ids) - 1), word)
        for word, ids in piece_ids.items()
        if len(ids) > 1 and unknown not in ids and word not in rejected and _ELIGIBLE.fullmatch(word)
    ]
    if len(saved) < number:
        raise InputError(
            f"{len(saved)} words that are more than one piece",
            where="text",
            expected=f"at least {number}, the words to add",
            remedy="count on more text, or add fewer words",
        )
    # The word itself breaks ties, so that the result does not depend on the order of the text.
    return [word for _, word in sorted(saved, key=lambda entry: (-entry[0], entry[1]))[:number]]


def _count_savings(
    word_vocabulary: WordVocabulary, before: PieceIds, after: PieceIds, words: list[str], start: int, unknown: int
) -> list[int]:
    """Count the pieces each new piece saves, over all words that contain it. A word made unknown loses all its letters."""
    savings = [0] * len(words)
    index = {word: i for i, word in enumerate(words)}
    for word, ids in after.items():
        if unknown in ids and unknown not in before[word]:
            # WordPiece gives a word up if nothing continues it after its longest match.
            for end in range(1, len(word)):
                if (i := index.get(word[:end])) is not None:
                    savings[i] -= word_vocabulary.counts[word] * len(word)
        elif (new := next((i for i in ids if start <= i < start + len(words)), None)) is not None:
            savings[new - start] += word_vocabulary.counts[word] * (len(before[word]) - len(ids))
    return savings
