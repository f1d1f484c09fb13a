"""Names in a sequence of IOB2 tags, read strictly or as leniently as in the CoNLL shared tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities

from musamma.data.errors import InputError

OUTSIDE = "O"


def parse_iob2_tag(tag: str) -> tuple[str, str]:
    """Prefix and label of a tag: ``B-PER`` gives ``("B", "PER")``, ``O`` gives ``("O", "")``.

    Raises:
        InputError: the tag is none of ``O``, ``B-label`` and ``I-label``.
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


def strict_chunks(tags: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """The names that valid IOB2 holds: a ``B-X`` and every ``I-X`` right after it. Other ``I-`` are no names.

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
    """The names as conlleval reads them: an ``I-X`` that follows no ``X`` begins a name as ``B-X`` does.

    Read by seqeval, as in its default mode. Where the tags are valid IOB2 it is the same as :func:`strict_chunks`.

    Yields:
        First word, word after the last, label.

    Raises:
        InputError: a tag is not IOB2.
    """
    for tag in tags:
        parse_iob2_tag(tag)
    for label, first, last in get_entities(list(tags)):
        yield first, last + 1, label
