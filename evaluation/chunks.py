"""Names in a sequence of IOB2 tags, read strictly or as leniently as in the CoNLL shared tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from musamma.data.errors import InputError

OUTSIDE = "O"


def split_tag(tag: str) -> tuple[str, str]:
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

    The same as seqeval's ``mode="strict", scheme=IOB2``.

    Yields:
        First word, word after the last, label.

    Raises:
        InputError: a tag is not IOB2.
    """
    start, current = 0, ""
    for index, tag in enumerate(tags):
        prefix, label = split_tag(tag)
        if prefix == "I" and label == current:
            continue
        if current:
            yield start, index, current
        start, current = index, label if prefix == "B" else ""
    if current:
        yield start, len(tags), current


def lenient_chunks(tags: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """The names as conlleval reads them: an ``I-X`` that follows no ``X`` begins a name as ``B-X`` does.

    The same as seqeval's default mode. Where the tags are valid IOB2 it is the same as :func:`strict_chunks`.

    Yields:
        First word, word after the last, label.

    Raises:
        InputError: a tag is not IOB2.
    """
    start, current = 0, ""
    for index, tag in enumerate(tags):
        prefix, label = split_tag(tag)
        if prefix == "I" and label == current:
            continue
        if current:
            yield start, index, current
        start, current = index, label
    if current:
        yield start, len(tags), current
