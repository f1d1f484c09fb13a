"""Scoring CoNLL files by the tags that stand in them, which reading them into spans would put right first.

Published figures on such files are counted on the tags: a name that opens with ``I-`` counts as one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.evaluation.chunks import OUTSIDE, split_tag
from musamma.evaluation.figures import Scores
from musamma.evaluation.pairing import pair_documents
from musamma.evaluation.scoring import MODES, Scorer, TagScorer
from musamma.evaluation.widening import tags_on

_INVISIBLE = "\ufeff\u200e\u200f"
_GAP = re.compile(rf"[\s{_INVISIBLE}]*")


@dataclass(frozen=True, slots=True)
class TaggedSentence:
    """A sentence of a CoNLL file: its words, one tag a word, and the file and line that it begins at."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    where: str


@dataclass(frozen=True, slots=True)
class PlacedTags:
    """The tags of a sentence and where its words stand in a document's text, in code points."""

    borders: tuple[tuple[int, int], ...]
    tags: tuple[str, ...]
    where: str


def read_tags(path: str | Path, *, relabel: Callable[[str], str | None] | None = None) -> Iterator[TaggedSentence]:
    """The sentences of a CoNLL file: word in the first column, tag in the last, empty lines between.

    Args:
        path: the file, UTF-8.
        relabel: the new name of a label; ``None`` for one that is dropped.

    Raises:
        InputError: the file cannot be read, or a line has no tag or one that is not IOB2.
    """
    rows: list[tuple[str, str]] = []
    begin = 1
    try:
        with Path(path).open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                columns = line.split()
                if not columns or columns[0] == "-DOCSTART-":
                    if rows:
                        yield _sentence(rows, f"{path}:{begin}")
                    rows, begin = [], number + 1
                    continue
                rows.append((columns[0], _tag(columns, relabel, f"{path}:{number}")))
    except UnicodeDecodeError as error:
        raise InputError(f"byte {error.start} is not UTF-8", where=str(path), expected="UTF-8") from None
    except OSError as error:
        raise InputError(str(error.strerror), where=str(path), remedy="check the path") from error
    if rows:
        yield _sentence(rows, f"{path}:{begin}")


def _sentence(rows: list[tuple[str, str]], where: str) -> TaggedSentence:
    return TaggedSentence(tuple(word for word, _ in rows), tuple(tag for _, tag in rows), where)


def _tag(columns: list[str], relabel: Callable[[str], str | None] | None, where: str) -> str:
    if len(columns) < 2:
        raise InputError(
            f"{columns[0]!r} without a tag",
            where=where,
            expected="a word and its tag",
            remedy="score files of other formats without --tags",
        )
    try:
        prefix, label = split_tag(columns[-1])
    except InputError as error:
        raise InputError(error.found, where=where, expected=error.expected, remedy=error.remedy) from None
    if prefix == OUTSIDE or relabel is None:
        return columns[-1]
    renamed = relabel(label)
    return OUTSIDE if renamed is None else f"{prefix}-{renamed}"


def place_tags(
    documents: Iterable[Document], sentences: Iterable[TaggedSentence]
) -> Iterator[tuple[Document, list[PlacedTags]]]:
    """Find every sentence in the documents that were read from the same file.

    Args:
        documents: the documents, each made of whole sentences, in the file's order.
        sentences: the sentences, in the file's order.

    Yields:
        Each document and its sentences. Words of the file need not be separated by spaces in the text.

    Raises:
        InputError: a word is not where it should be in the text.
    """
    waiting = iter(sentences)
    for document in documents:
        placed: list[PlacedTags] = []
        position = _gap(document.text, 0)
        while position < len(document.text):
            sentence = next(waiting, None)
            if sentence is None:
                raise _misplaced(document, position, "the end of the file", None)
            borders = []
            for word in sentence.words:
                visible = word.strip(_INVISIBLE)
                if not document.text.startswith(visible, position):
                    raise _misplaced(document, position, repr(word), sentence.where)
                borders.append((position, position + len(visible)))
                position = _gap(document.text, position + len(visible))
            placed.append(PlacedTags(tuple(borders), sentence.tags, sentence.where))
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


def score_own_tags(
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
    ours: dict[str, list[PlacedTags]] = {}
    theirs: dict[str, list[PlacedTags]] = {}
    scorer, tag_scorer = Scorer(modes=modes), TagScorer()
    gold = _remember(gold, gold_tags, ours)
    if predicted_tags is not None:
        predictions = _remember(predictions, predicted_tags, theirs)
    for document, prediction in pair_documents(gold, predictions, missing_as_empty=missing_as_empty):
        scorer.add(document, prediction)
        sentences = ours.pop(document.id)
        if predicted_tags is None or prediction is None:
            spans = prediction.spans if prediction is not None else ()
            tags = [tags_on(sentence.borders, spans) for sentence in sentences]
        else:
            tags = _same_words(sentences, theirs.pop(document.id))
        for sentence, predicted in zip(sentences, tags, strict=True):
            tag_scorer.add(sentence.tags, predicted, where=sentence.where)
    scores, tag_scores = scorer.scores(), tag_scorer.scores()
    return replace(scores, modes={**scores.modes, **tag_scores.modes})


def _remember(
    documents: Iterable[Document], sentences: Iterable[TaggedSentence], placed: dict[str, list[PlacedTags]]
) -> Iterator[Document]:
    for document, tags in place_tags(documents, sentences):
        placed[document.id] = tags
        yield document


def _same_words(gold: list[PlacedTags], predicted: list[PlacedTags]) -> list[tuple[str, ...]]:
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
