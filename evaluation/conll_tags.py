"""Scores of IOB2 tags as they are, in sequences or in CoNLL files. Reading them into spans would repair invalid tags.

Published scores on CoNLL files are counted on the tags: a name that starts with ``I-`` counts as a name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities

from musamma.data.arabic import DIRECTION_MARKS
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.formats.conll import read_sentences
from musamma.data.formats.options import DEFAULT_READ_OPTIONS
from musamma.data.import_audit import ImportAudit
from musamma.data.tags import OUTSIDE
from musamma.evaluation.counts import LabelTally
from musamma.evaluation.document_pairing import pair_documents
from musamma.evaluation.matching import CONLLEVAL, IOB2_STRICT, MODES, match_sets
from musamma.evaluation.metrics import ModeScores, Scorer, Scores
from musamma.evaluation.word_boundaries import tag_words

#: Whitespace and direction marks between two words of a text.
_BETWEEN_WORDS = re.compile(rf"[\s{DIRECTION_MARKS}]*")


@dataclass(frozen=True, slots=True)
class TaggedSentence:
    """A sentence of a CoNLL file: its words, one tag per word, and the file and line of its first word."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    where: str


@dataclass(frozen=True, slots=True)
class LocatedTags:
    """The tags of a sentence, and the start and end of its words in a document's text, in code points."""

    words: tuple[tuple[int, int], ...]
    tags: tuple[str, ...]
    where: str


class TagScorer:
    """Scores sentences of IOB2 tags one by one, in the strict and the lenient reading, and keeps only counts."""

    def __init__(self) -> None:
        self._strict, self._lenient = LabelTally(), LabelTally()
        self._sentences = 0

    def add(self, gold: Sequence[str], predicted: Sequence[str], *, where: str) -> None:
        """Score one sentence; ``where`` names it in an error.

        Raises:
            InputError: the sides differ in length, or a tag is not IOB2.
        """
        if len(gold) != len(predicted):
            raise InputError(
                f"{len(gold)} gold tags and {len(predicted)} predicted tags",
                where=where,
                expected="one tag per word on both sides",
            )
        try:
            self._strict.add(*match_sets(set(strict_chunks(gold)), set(strict_chunks(predicted))))
            self._lenient.add(*match_sets(set(lenient_chunks(gold)), set(lenient_chunks(predicted))))
        except InputError as error:
            raise error.replace(where=where) from None
        self._sentences += 1

    def scores(self) -> Scores:
        """Return the scores so far; ``documents`` is the number of sentences."""
        modes = {IOB2_STRICT: ModeScores(self._strict.counts()), CONLLEVAL: ModeScores(self._lenient.counts())}
        return Scores(modes=modes, documents=self._sentences)


def score_tags(gold: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]) -> Scores:
    """Score sequences of IOB2 tags as they are, whether valid or not.

    Args:
        gold: the tags of every sentence, one per word: ``O``, ``B-label`` or ``I-label``.
        predicted: the tags of the same sentences in the same order.

    Returns:
        The scores of two modes: in ``iob2_strict``, an ``I-`` that continues no name is ignored; in ``conlleval``, it
        starts a name. ``documents`` is the number of sentences.

    Raises:
        InputError: the sides differ in sentences or words, or a tag is not IOB2.
    """
    scorer = TagScorer()
    for number, (gold_tags, predicted_tags) in enumerate(zip_longest(gold, predicted), 1):
        where = f"sentence {number}"
        if gold_tags is None or predicted_tags is None:
            side = "gold" if gold_tags is None else "predicted"
            raise InputError(
                f"the {side} tags end after {number - 1} sentences",
                where=where,
                expected="the same number of sentences on both sides",
            )
        scorer.add(gold_tags, predicted_tags, where=where)
    return scorer.scores()


def score_conll_tags(
    gold: Iterable[Document],
    gold_tags: Iterable[TaggedSentence],
    predictions: Iterable[Document],
    predicted_tags: Iterable[TaggedSentence] | None = None,
    *,
    modes: Iterable[str] = MODES,
    missing_as_empty: bool = False,
) -> Scores:
    """Score documents, with the IOB2 modes counted on the tags of the CoNLL files.

    Args:
        gold: the documents of a CoNLL file.
        gold_tags: the sentences of the same file.
        predictions: the predicted documents, in any order.
        predicted_tags: the sentences of the predictions' CoNLL file; ``None`` to make tags of the predicted spans.
        modes: the modes to score besides the IOB2 modes, see :func:`musamma.evaluation.score_documents`.
        missing_as_empty: count gold documents without a prediction as predicted without names.

    Raises:
        InputError: as for :func:`musamma.evaluation.score_documents`, or words and texts do not agree.
    """
    gold_located: dict[str, list[LocatedTags]] = {}
    predicted_located: dict[str, list[LocatedTags]] = {}
    scorer, tag_scorer = Scorer(modes=modes), TagScorer()
    gold = _collect_tags(gold, gold_tags, gold_located)
    if predicted_tags is not None:
        predictions = _collect_tags(predictions, predicted_tags, predicted_located)
    for document, prediction in pair_documents(gold, predictions, missing_as_empty=missing_as_empty):
        scorer.add(document, prediction)
        located = gold_located.pop(document.id)
        if predicted_tags is None or prediction is None:
            spans = prediction.spans if prediction is not None else ()
            tags: list[Sequence[str]] = [tag_words(sentence.words, spans) for sentence in located]
        else:
            tags = _tags_of_same_words(located, predicted_located.pop(document.id))
        for sentence, predicted in zip(located, tags, strict=True):
            tag_scorer.add(sentence.tags, predicted, where=sentence.where)
    scores, tag_scores = scorer.scores(), tag_scorer.scores()
    return replace(scores, modes={**scores.modes, **tag_scores.modes})


def strict_chunks(tags: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Yield the names of valid IOB2: a ``B-X`` and every ``I-X`` right after it. Other ``I-`` are no names.

    Read by seqeval, as with ``mode="strict", scheme=IOB2``.

    Yields:
        First word, word after the last, label.

    Raises:
        InputError: a tag is not IOB2.
    """
    for tag in tags:
        parse_iob2_tag(tag)
    for entity in Entities([list(tags)], IOB2).entities[0]:
        yield entity.start, entity.end, entity.tag


def lenient_chunks(tags: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Yield the names as conlleval reads them: an ``I-X`` that follows no ``X`` starts a name like ``B-X``.

    Read by seqeval in its default mode. On valid IOB2 the result is that of :func:`strict_chunks`.

    Yields:
        First word, word after the last, label.

    Raises:
        InputError: a tag is not IOB2.
    """
    for tag in tags:
        parse_iob2_tag(tag)
    for label, first, last in get_entities(list(tags)):
        yield first, last + 1, label


def parse_iob2_tag(tag: str) -> tuple[str, str]:
    """Return prefix and label of a tag: ``("B", "PER")`` for ``B-PER``, ``("O", "")`` for ``O``.

    Raises:
        InputError: the tag is not ``O``, ``B-label`` or ``I-label``.
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, hyphen, label = tag.partition("-")
    if prefix not in ("B", "I") or not hyphen or not label.strip("-"):
        raise InputError(
            f"tag {tag!r}",
            expected="O, B-label or I-label",
            remedy="convert other tag schemes with musamma convert",
        )
    return prefix, label


def read_tagged_sentences(
    path: str | Path, *, relabel: Callable[[str], str | None] | None = None
) -> Iterator[TaggedSentence]:
    """Read the sentences of a CoNLL file, each word with its only tag.

    Args:
        path: the file.
        relabel: returns the new name of a label, or ``None`` for a label to drop.

    Raises:
        InputError: the file cannot be read, or a word has no tag, several tags or a tag that is not IOB2.
    """
    for sentence in read_sentences(Path(path), DEFAULT_READ_OPTIONS, ImportAudit(limit=0)):
        tags = tuple(_only_tag(row, relabel, where) for row, where in zip(sentence.tags, sentence.where, strict=True))
        yield TaggedSentence(sentence.tokens, tags, sentence.where[0])


def locate_tags(
    documents: Iterable[Document], tagged: Iterable[TaggedSentence]
) -> Iterator[tuple[Document, list[LocatedTags]]]:
    """Find the sentences of a file in the documents read from that file.

    Args:
        documents: the documents, each made of whole sentences, in the order of the file.
        tagged: the sentences, in the order of the file.

    Yields:
        Each document and its sentences. Words of the file need not be separated by spaces in the text.

    Raises:
        InputError: a word is not at its place in the text.
    """
    remaining = iter(tagged)
    for document in documents:
        located: list[LocatedTags] = []
        position = _skip_gap(document.text, 0)
        while position < len(document.text):
            sentence = next(remaining, None)
            if sentence is None:
                raise _not_in_text(document, position, "the end of the file", None)
            words = []
            for word in sentence.words:
                if not document.text.startswith(word, position):
                    raise _not_in_text(document, position, repr(word), sentence.where)
                words.append((position, position + len(word)))
                position = _skip_gap(document.text, position + len(word))
            located.append(LocatedTags(tuple(words), sentence.tags, sentence.where))
        yield document, located
    if (sentence := next(remaining, None)) is not None:
        raise InputError("a sentence that is in no document", where=sentence.where, expected="the same text")


def _only_tag(row: Sequence[str], relabel: Callable[[str], str | None] | None, where: str) -> str:
    if len(row) > 1:
        raise InputError(
            f"the tags {' '.join(row)} on one word",
            where=where,
            expected="one tag per word",
            remedy="score files with nested names without `tags`",
        )
    try:
        prefix, label = parse_iob2_tag(row[0])
    except InputError as error:
        raise error.replace(where=where) from None
    if prefix == OUTSIDE or relabel is None:
        return row[0]
    renamed = relabel(label)
    return OUTSIDE if renamed is None else f"{prefix}-{renamed}"


def _collect_tags(
    documents: Iterable[Document], tagged: Iterable[TaggedSentence], located: dict[str, list[LocatedTags]]
) -> Iterator[Document]:
    """Yield the documents and put their tags into ``located`` by id."""
    for document, tags in locate_tags(documents, tagged):
        located[document.id] = tags
        yield document


def _tags_of_same_words(gold: list[LocatedTags], predicted: list[LocatedTags]) -> list[Sequence[str]]:
    """Return the predicted tags after checking that both sides have the same words."""
    for gold_sentence, predicted_sentence in zip(gold, predicted, strict=False):
        if gold_sentence.words != predicted_sentence.words:
            raise InputError(
                f"words that differ from those of the gold at {gold_sentence.where}",
                where=predicted_sentence.where,
                expected="the same words in the same sentences",
                remedy="score without `tags`",
            )
    if len(gold) != len(predicted):
        raise InputError(
            f"{len(predicted)} sentences of predicted tags for {len(gold)} of gold tags",
            where=gold[0].where if gold else predicted[0].where,
            expected="the same words in the same sentences",
            remedy="score without `tags`",
        )
    return [sentence.tags for sentence in predicted]


def _skip_gap(text: str, position: int) -> int:
    match = _BETWEEN_WORDS.match(text, position)
    return match.end() if match else position


def _not_in_text(document: Document, position: int, word: str, where: str | None) -> InputError:
    return InputError(
        f"{word} where document {document.id!r} continues with {document.text[position : position + 20]!r}",
        where=where,
        expected="documents that hold the words of the file in its order",
        remedy="score without `tags`",
    )
