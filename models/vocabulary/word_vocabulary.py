"""Whole words as pieces: words of a text counted, the ones that save most chosen, and put into a tokenizer.

A word is what the tokenizer's own normaliser and pre-tokenizer give: ``▁القاهرة`` before Unigram with Metaspace,
``القاهرة`` before WordPiece. How a text is cut follows from its words alone, so a table of them stands for the text.
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

# Arabic letters, or a single sign: "▁." is two pieces of XLM-R's vocabulary, once a sentence. No numbers, no Latin.
_ELIGIBLE = regex.compile(r"▁?(?:[\p{L}&&\p{Arabic}]{2,}|[^\p{L}\p{M}\p{N}\p{C}▁])", regex.VERSION1)
#: Arabic words, for the share of them that is one piece.
ARABIC_WORD = regex.compile(r"▁?[\p{L}&&\p{Arabic}]+", regex.VERSION1)
# Above its parts by so much for a letter: enough to win, too little to win over any other way to cut a longer word.
_MARGIN = 1e-3
_ROUNDS = 4

PieceIds = dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class WordVocabulary:
    """Words of a text and how often they occur.

    Args:
        counts: occurrences by word.
        forgotten: occurrences of rare words that were let go, to keep the table small.
    """

    counts: Mapping[str, int]
    forgotten: int = 0


@dataclass(frozen=True, slots=True)
class VocabularyChoice:
    """A new vocabulary.

    Args:
        ids: the source's pieces that stay, ascending.
        words: new pieces, the most saving first.
        savings: pieces that each saves in the counted text, the words that begin with it included.
    """

    ids: list[int]
    words: list[str]
    savings: list[int]


def split_words(tokenizer: Tokenizer, line: str) -> list[str]:
    """The words of a line, as the tokenizer's model gets them."""
    text = tokenizer.normalizer.normalize_str(line) if tokenizer.normalizer else line
    if tokenizer.pre_tokenizer is None:
        return [text]
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


def count_words(tokenizer: Tokenizer, lines: Iterable[str], *, most: int = 2_000_000) -> WordVocabulary:
    """How often each word occurs.

    Args:
        tokenizer: its normaliser and pre-tokenizer run as they are.
        lines: streamed, never held as a whole.
        most: words to keep count of; beyond that the rarest are let go, and counted anew when they come again.
    """
    counts: Counter[str] = Counter()
    forgotten = 0
    for line in lines:
        counts.update(split_words(tokenizer, line))
        if len(counts) > most:
            border = sorted(counts.values())[len(counts) // 2]
            rare = [word for word, number in counts.items() if number <= border]
            forgotten += sum(counts.pop(word) for word in rare)
    return WordVocabulary(counts, forgotten)


def tokenize_words(tokenizer: Tokenizer, words: Iterable[str]) -> PieceIds:
    """Piece ids of each word."""
    model = tokenizer.model
    return {word: [piece.id for piece in model.tokenize(word)] for word in words}


def count_piece_uses(lexicon: WordVocabulary, cuts: PieceIds, size: int) -> np.ndarray:
    """Occurrences by piece id, int64, shape (size,)."""
    uses = np.zeros(size, np.int64)
    for word, ids in cuts.items():
        for i in ids:
            uses[i] += lexicon.counts[word]
    return uses


def choose_vocabulary(
    tokenizer: Tokenizer, lexicon: WordVocabulary, *, words: int, pieces: int | None = None
) -> VocabularyChoice:
    """The words that become pieces and the pieces that go.

    Words are taken by what they save: occurrences times the pieces that they are cut into, less one. The pieces that
    then remain least used go. Both depend on one another, so they are chosen in turns. A word whose piece makes others worse
    than it saves, as WordPiece's longest match can, is passed over.

    Args:
        tokenizer: Unigram or WordPiece.
        lexicon: words and counts.
        words: how many to add.
        pieces: how many pieces to have in all; ``None`` drops none.

    Raises:
        InputError: the tokenizer is of another kind, a number is out of range, or too few words are cut at all.
    """
    if (kind := tokenizer_state(tokenizer)["model"]["type"]) not in ("Unigram", "WordPiece"):
        raise InputError(
            f"a {kind} tokenizer",
            where="tokenizer.json",
            expected="Unigram or WordPiece",
            remedy="a word of BPE would need merges of its own; musamma encoder trim takes BPE",
        )
    every = sorted(tokenizer.get_vocab(with_added_tokens=True).values())
    least, most = len(find_required_pieces(tokenizer)) + words, len(every) + words
    if pieces is not None and not least <= pieces <= most:
        raise InputError(f"{pieces} pieces", where="extend", expected=f"{least} to {most} with {words} new words")
    uses = count_piece_uses(lexicon, tokenize_words(tokenizer, lexicon.counts), every[-1] + 1)
    if not uses.sum():
        raise InputError("no word was counted", where="text", expected="Arabic text", remedy="check the text files")
    refused: set[str] = set()
    choice = VocabularyChoice([], [], [])
    for _ in range(_ROUNDS):
        ids = every
        if pieces is not None:
            ids = _filled(choose_pieces(tokenizer, uses, pieces=pieces - words), every, pieces - words)
        base = trim_tokenizer(tokenizer, ids)
        before = tokenize_words(base, lexicon.counts)
        unknown = unknown_piece_id(base)
        # A Unigram piece may lose against its parts: it is cut, and still there.
        chosen = _most_saving(lexicon, before, words, refused.union(base.get_vocab()), unknown)
        start = base.get_vocab_size(with_added_tokens=False)
        extended = extend_tokenizer(base, chosen)
        after = tokenize_words(extended, lexicon.counts)
        savings = _savings(lexicon, before, after, chosen, start, unknown)
        choice = VocabularyChoice(ids, chosen, savings)
        harmful = {word for word, saved in zip(chosen, savings, strict=True) if saved <= 0}
        new_uses = np.zeros_like(uses)
        new_uses[ids] = np.delete(count_piece_uses(lexicon, after, len(ids) + words), np.arange(start, start + words))
        if not harmful and (uses == new_uses).all():
            break
        refused |= harmful
        uses = new_uses
    return choice


def extend_tokenizer(tokenizer: Tokenizer, words: list[str]) -> Tokenizer:
    """The tokenizer with whole words as further pieces, behind the model's own and before other added tokens.

    A Unigram word scores just above its parts together. So the word itself becomes one piece, and a longer word that
    begins with it takes the new piece only where it was cut at that border already: none is cut into more pieces.

    Args:
        tokenizer: Unigram or WordPiece, its ids without holes, as :func:`trim_tokenizer` makes it; left as it is.
        words: as :func:`split_words` gives them, none of them a piece yet.
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


def _filled(ids: list[int], every: list[int], number: int) -> list[int]:
    """Pieces that never occurred, the first ones first, fill up what is left of the number."""
    kept = set(ids)
    unused = (i for i in every if i not in kept)
    return sorted([*ids, *(i for i, _ in zip(unused, range(number - len(ids)), strict=False))])


def unknown_piece_id(tokenizer: Tokenizer) -> int:
    """The id of the unknown piece, -1 where there is none."""
    model = tokenizer_state(tokenizer)["model"]
    if model["type"] == "Unigram":
        return -1 if model["unk_id"] is None else int(model["unk_id"])
    found = None if model["unk_token"] is None else tokenizer.token_to_id(model["unk_token"])
    return -1 if found is None else found


def _most_saving(lexicon: WordVocabulary, cuts: PieceIds, number: int, refused: set[str], unknown: int) -> list[str]:
    saved = [
        (lexicon.counts[word] * (len(ids) - 1), word)
        for word, ids in cuts.items()
        if len(ids) > 1 and unknown not in ids and word not in refused and _ELIGIBLE.fullmatch(word)
    ]
    if len(saved) < number:
        raise InputError(
            f"{len(saved)} words that are more than one piece",
            where="text",
            expected=f"at least {number}, the words to add",
            remedy="count on more text, or add fewer words",
        )
    # The word itself breaks ties: the result must not hang on the order of the text.
    return [word for _, word in sorted(saved, key=lambda one: (-one[0], one[1]))[:number]]


def _savings(
    lexicon: WordVocabulary, before: PieceIds, after: PieceIds, words: list[str], start: int, unknown: int
) -> list[int]:
    """Pieces that each new piece saves, over all words that it is in; making a word unknown loses all its letters."""
    savings = [0] * len(words)
    index = {word: i for i, word in enumerate(words)}
    for word, ids in after.items():
        if unknown in ids and unknown not in before[word]:
            # WordPiece gives a word up when nothing goes on behind its longest match.
            for end in range(1, len(word)):
                if (i := index.get(word[:end])) is not None:
                    savings[i] -= lexicon.counts[word] * len(word)
        elif (new := next((i for i in ids if start <= i < start + len(words)), None)) is not None:
            savings[new - start] += lexicon.counts[word] * (len(before[word]) - len(ids))
    return savings
