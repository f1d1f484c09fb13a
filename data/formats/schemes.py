"""Tag schemes as tables, one decoder for all of them, and the encoder.

References: Ramshaw & Marcus 1995 (IOB1), Ratinov & Roth 2009 (BILOU). BIOES is BILOU with other letters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from musamma.data.errors import InputError

OUTSIDE = "O"


@dataclass(frozen=True, slots=True)
class Prefix:
    """What a tag's prefix says of a name: whether it begins here, and whether it ends here."""

    begins: bool
    ends: bool


@dataclass(frozen=True, slots=True)
class Scheme:
    """A tag scheme.

    Args:
        begin, inside, end, single: its letters; ``end`` and ``single`` are those of ``inside`` and ``begin`` where the scheme
            does not mark the end of a name.
        inside_begins: whether a name may begin with ``inside`` (IOB1, where ``begin`` only parts two names of a kind).
    """

    begin: str = "B"
    inside: str = "I"
    end: str = "I"
    single: str = "B"
    inside_begins: bool = False

    @property
    def letters(self) -> frozenset[str]:
        """The prefixes in use."""
        return frozenset((self.begin, self.inside, self.end, self.single))


PREFIXES = {
    "B": Prefix(begins=True, ends=False),
    "I": Prefix(begins=False, ends=False),
    "E": Prefix(begins=False, ends=True),
    "L": Prefix(begins=False, ends=True),
    "S": Prefix(begins=True, ends=True),
    "U": Prefix(begins=True, ends=True),
}
SCHEMES = {
    "iob1": Scheme(inside_begins=True),
    "iob2": Scheme(),
    "bioes": Scheme(end="E", single="S"),
    "bilou": Scheme(end="L", single="U"),
}


@dataclass(frozen=True, slots=True, order=True)
class TokenSpan:
    """A name as half-open token indices."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Repair:
    """A tag that cannot stand where it stands: its token's index, and what is wrong."""

    token: int
    problem: str


def split_tag(tag: str) -> tuple[str, str] | None:
    """Prefix and label of a tag, ``("O", "")`` for ``O``, ``None`` for what is no tag."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, dash, label = tag.partition("-")
    return (prefix, label) if dash and label and prefix in PREFIXES else None


def decode(rows: Sequence[Sequence[str]], *, scheme: str, where: Sequence[str]) -> tuple[list[TokenSpan], list[Repair]]:
    """The names of a sentence.

    A token may carry several tags, for names inside names. A tag that goes on continues the outermost open name of its
    label that no other tag of the token continues; a tag with nothing to continue begins a name and is repaired.

    Args:
        rows: the tags of each token; none is like ``O``.
        scheme: a key of :data:`SCHEMES`.
        where: file and line of each token, for errors.

    Returns:
        Names by start, longer ones first; names of one extent in the order of their tags. And the repairs.

    Raises:
        InputError: what should be a tag is none, or none of this scheme.
    """
    table = SCHEMES[scheme]
    found: list[TokenSpan] = []
    repairs: list[Repair] = []
    open_names: list[tuple[str, int]] = []
    for index, row in enumerate(rows):
        waiting = open_names
        open_names = []
        begun: list[tuple[str, int, bool]] = []
        for tag in row:
            prefix, label = _parse(tag, scheme, where[index])
            if prefix == OUTSIDE:
                continue
            meaning = PREFIXES[prefix]
            mate = None if meaning.begins else next((name for name in waiting if name[0] == label), None)
            if mate is not None:
                waiting = list(waiting)
                waiting.remove(mate)
                if meaning.ends:
                    found.append(TokenSpan(mate[1], index + 1, label))
                else:
                    open_names.append(mate)
                continue
            if not meaning.begins and not table.inside_begins:
                repairs.append(Repair(index, f"{tag} continues no {label}"))
            begun.append((label, index, meaning.ends))
        found += [TokenSpan(start, index, label) for label, start in waiting]
        repairs += [Repair(index - 1, f"{label} is not ended") for label, _ in waiting if table.end != table.inside]
        found += [TokenSpan(start, index + 1, label) for label, start, ends in begun if ends]
        open_names += [(label, start) for label, start, ends in begun if not ends]
    found += [TokenSpan(start, len(rows), label) for label, start in open_names]
    if table.end != table.inside:
        repairs += [Repair(len(rows) - 1, f"{label} is not ended") for label, _ in open_names]
    return sorted(found, key=lambda name: (name.start, -name.end)), repairs


def encode(names: Iterable[TokenSpan], length: int, *, scheme: str) -> list[str]:
    """One tag a token for names without overlap: the inverse of :func:`decode`."""
    table = SCHEMES[scheme]
    tags = [OUTSIDE] * length
    previous = None
    for name in sorted(names):
        begin = table.begin
        if table.inside_begins and (previous is None or previous.end != name.start or previous.label != name.label):
            begin = table.inside
        last = name.end - 1
        for index in range(name.start, name.end):
            if index == name.start:
                letter = begin if index < last or table.single == table.begin else table.single
            else:
                letter = table.inside if index < last else table.end
            tags[index] = f"{letter}-{name.label}"
        previous = name
    return tags


def detect(sentences: Iterable[Sequence[Sequence[str]]]) -> str:
    """The scheme of a corpus: BIOES or BILOU by their letters; IOB1 where ``B-`` only parts two names of a kind."""
    begun_inside = begun_plainly = False
    for rows in sentences:
        previous: set[str] = set()
        for row in rows:
            parsed = [split_tag(tag) or (OUTSIDE, "") for tag in row]
            for prefix, label in parsed:
                if prefix in "ES":
                    return "bioes"
                if prefix in "LU":
                    return "bilou"
                begun_inside |= prefix == "I" and label not in previous
                begun_plainly |= prefix == "B" and label not in previous
            previous = {label for prefix, label in parsed if prefix != OUTSIDE}
    return "iob1" if begun_inside and not begun_plainly else "iob2"


def _parse(tag: str, scheme: str, where: str) -> tuple[str, str]:
    parsed = split_tag(tag)
    letters = SCHEMES[scheme].letters
    if parsed is None or (parsed[0] != OUTSIDE and parsed[0] not in letters):
        legal = ", ".join(f"{letter}-LABEL" for letter in sorted(letters))
        raise InputError(
            f"{tag!r} is no tag of {scheme.upper()}",
            where=where,
            expected=f"O, {legal}",
            remedy="correct the line, or name the file's format and scheme",
        )
    return parsed
