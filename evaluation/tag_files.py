"""Scoring CoNLL files by the tags that stand in them, which reading them into spans would put right first.

Published figures on such files are counted on the tags: a name that opens with ``I-`` counts as one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from musamma.data.arabic import DIRECTION_MARKS
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.formats.conll import read_sentences
from musamma.data.formats.options import DEFAULT_READ_OPTIONS
from musamma.data.import_audit import ImportAudit
from musamma.evaluation.conll_tags import OUTSIDE, parse_iob2_tag
from musamma.evaluation.counts import Scores
from musamma.evaluation.matching import tag_words
from musamma.evaluation.metrics import MODES, Scorer, TagScorer
from musamma.evaluation.pairing import pair_documents

_GAP = re.compile(rf"[\s{DIRECTION_MARKS}]*")


@dataclass(frozen=True, slots=True)
class TaggedSentence:
    """A sentence of a CoNLL file: its words, one tag a word, and the file and line that it begins at."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    where: str


@dataclass(frozen=True, slots=True)
class LocatedTags:
    """The tags of a sentence and where its words stand in a document's text, in code points."""

    borders: tuple[tuple[int, int], ...]
    tags: tuple[str, ...]
    where: str


def read_tagged_sentences(
    path: str | Path, *, relabel: Callable[[str], str | None] | None = None
) -> Iterator[TaggedSentence]:
    """The sentences of a CoNLL file, each word with the one tag that stands beside it.

    Args:
        path: the file.
        relabel: the new name of a label; ``None`` for one that is dropped.

    Raises:
        InputError: the file cannot be read, or a word has no tag, several, or one that is not IOB2.
    """
    for sentence in read_sentences(Path(path), DEFAULT_READ_OPTIONS, ImportAudit(limit=0)):
        tags = tuple(_tag(row, relabel, where) for row, where in zip(sentence.tags, sentence.where, strict=True))
        yield TaggedSentence(sentence.tokens, tags, sentence.where[0])


def _tag(row: Sequence[str], relabel: Callable[[str], str | None] | None, where: str) -> str:
    if len(row) > 1:
        raise InputError(
            f"the tags {' '.join(row)} on one word",
            where=where,
            expected="one tag a word",
            remedy="score files with names inside names without --tags",
        )
    try:
        prefix, label = parse_iob2_tag(row[0])
    except InputError as error:
        raise InputError(error.found, where=where, expected=error.expected, remedy=error.remedy) from None
    if prefix == OUTSIDE or relabel is None:
        return row[0]
    renamed = relabel(label)
    return OUTSIDE if renamed is None else f"{prefix}-{renamed}"


def locate_tags(
    documents: Iterable[Document], tagged: Iterable[TaggedSentence]
) -> Iterator[tuple[Document, list[LocatedTags]]]:
    """Find every sentence in the documents that were read from the same file.

    Args:
        documents: the documents, each made of whole sentences, in the file's order.
        tagged: the sentences, in the file's order.

    Yields:
        Each document and its sentences. Words of the file need not be separated by spaces in the text.

    Raises:
        InputError: a word is not where it should be in the text.
    """
    waiting = iter(tagged)
    for document in documents:
        placed: list[LocatedTags] = []
        position = _gap(document.text, 0)
        while position < len(document.text):
            sentence = next(waiting, None)
            if sentence is None:
                raise _misplaced(document, position, "the end of the file", None)
            borders = []
            for word in sentence.words:
                if not document.text.startswith(word, position):
                    raise _misplaced(document, position, repr(word), sentence.where)
                borders.append((position, position + len(word)))
                position = _gap(document.text, position + len(word))
            placed.append(LocatedTags(tuple(borders), sentence.tags, sentence.where))
        yield document, placed
    if (sentence := next(waiting, None)) is not None:
        raise InputError("a sentence that is in no document", where=sentence.where, expected="the same text")


def _gap(text: str, position: int) -> int:
    match = _GAP.match(text, position)
    return match.end() if match else position


def _misplaced(document: Document, position: int, found: str, where: str | None) -> InputError:
    return InputError(
        f"{found} where document {document.id!r} goes on with {document.text[position : position + 20]!r}",
        where=where,
        expected="documents that hold the words of the file in its order",
        remedy="score without --tags",
    )


def score_conll_tags(
    gold: Iterable[Document],
    gold_tags: Iterable[TaggedSentence],
    predictions: Iterable[Document],
    predicted_tags: Iterable[TaggedSentence] | None = None,
    *,
    modes: Iterable[str] = MODES,
    missing_as_empty: bool = False,
) -> Scores:
    """Score documents, with the IOB modes counted on the tags that stand in the files.

    Args:
        gold: the documents of a CoNLL file.
        gold_tags: the same file's sentences.
        predictions: the predicted documents, in any order.
        predicted_tags: the sentences of the predictions' own CoNLL file; ``None`` to tag by their spans.
        modes: the modes to score besides the IOB modes, see :func:`musamma.evaluation.score_documents`.
        missing_as_empty: count gold documents without a prediction as documents in which nothing was found.

    Raises:
        InputError: as :func:`musamma.evaluation.score_documents`, or words and texts do not agree.
    """
    ours: dict[str, list[LocatedTags]] = {}
    theirs: dict[str, list[LocatedTags]] = {}
    scorer, tag_scorer = Scorer(modes=modes), TagScorer()
    gold = _remember(gold, gold_tags, ours)
    if predicted_tags is not None:
        predictions = _remember(predictions, predicted_tags, theirs)
    for document, prediction in pair_documents(gold, predictions, missing_as_empty=missing_as_empty):
        scorer.add(document, prediction)
        placed = ours.pop(document.id)
        if predicted_tags is None or prediction is None:
            spans = prediction.spans if prediction is not None else ()
            tags: list[Sequence[str]] = [tag_words(sentence.borders, spans) for sentence in placed]
        else:
            tags = _same_words(placed, theirs.pop(document.id))
        for sentence, predicted in zip(placed, tags, strict=True):
            tag_scorer.add(sentence.tags, predicted, where=sentence.where)
    scores, tag_scores = scorer.scores(), tag_scorer.scores()
    return replace(scores, modes={**scores.modes, **tag_scores.modes})


def _remember(
    documents: Iterable[Document], tagged: Iterable[TaggedSentence], placed: dict[str, list[LocatedTags]]
) -> Iterator[Document]:
    for document, tags in locate_tags(documents, tagged):
        placed[document.id] = tags
        yield document


def _same_words(gold: list[LocatedTags], predicted: list[LocatedTags]) -> list[Sequence[str]]:
    for ours, theirs in zip(gold, predicted, strict=False):
        if ours.borders != theirs.borders:
            raise InputError(
                f"words that differ from those of the gold at {ours.where}",
                where=theirs.where,
                expected="the same words in the same sentences",
                remedy="score without --tags",
            )
    if len(gold) != len(predicted):
        raise InputError(
            f"{len(predicted)} sentences of predicted tags for {len(gold)} of gold",
            where=gold[0].where if gold else predicted[0].where,
            expected="the same words in the same sentences",
            remedy="score without --tags",
        )
    return [sentence.tags for sentence in predicted]
