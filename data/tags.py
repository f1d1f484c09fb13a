"""IOB2 tags: the labels of a token classifier, and which of them may follow which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from musamma.data.document import Document
from musamma.data.errors import InputError

OUTSIDE = "O"


@dataclass(frozen=True)
class TagSet:
    """The tags of a label set: ``O``, then ``B-X`` and ``I-X`` of every label, in the labels' order.

    Args:
        labels: entity types, without repetition.
    """

    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise InputError(f"labels {list(self.labels)}", expected="at least one label, none of them twice")

    @property
    def tags(self) -> tuple[str, ...]:
        """Tag names by id: ``("O", "B-PER", "I-PER", ...)``."""
        return (OUTSIDE, *(f"{prefix}-{label}" for label in self.labels for prefix in "BI"))

    def __len__(self) -> int:
        return 1 + 2 * len(self.labels)

    @property
    def id2label(self) -> dict[int, str]:
        """As in a Hugging Face ``config.json``."""
        return dict(enumerate(self.tags))

    @property
    def label2id(self) -> dict[str, int]:
        """As in a Hugging Face ``config.json``."""
        return {tag: index for index, tag in enumerate(self.tags)}

    def begin(self, label: str) -> int:
        """Id of ``B-label``."""
        return 1 + 2 * self.labels.index(label)

    def inside(self, label: str) -> int:
        """Id of ``I-label``."""
        return 2 + 2 * self.labels.index(label)

    def label_of(self, tag: int) -> str | None:
        """The label of a tag id, ``None`` for ``O``."""
        return None if tag == 0 else self.labels[(tag - 1) // 2]

    def is_begin(self, tag: int) -> bool:
        """Whether a tag id opens a name."""
        return tag % 2 == 1

    def allowed(self) -> np.ndarray:
        """``allowed[a, b]``: whether tag ``b`` may follow tag ``a``; row ``len(self)`` is the start. Bool, (tags + 1, tags)."""
        count = len(self)
        table = np.ones((count + 1, count), dtype=bool)
        for label in self.labels:
            table[:, self.inside(label)] = False
            table[[self.begin(label), self.inside(label)], self.inside(label)] = True
        return table

    def check_labels(self, document: Document) -> None:
        """Fail where the document has a label that is none of these.

        Raises:
            InputError: names the document and the span.
        """
        for span in document.spans:
            if span.label not in self.labels:
                raise InputError(
                    f"label {span.label!r} of {document.describe(span)}",
                    where=f"document {document.id!r}",
                    expected=f"one of {', '.join(self.labels)}",
                    remedy="add it to 'labels', map it with data.labels, or give training documents that have it",
                )

    @classmethod
    def from_labels(cls, labels: Iterable[str]) -> TagSet:
        """The tag set of the labels, sorted, so that the same labels give the same ids."""
        return cls(tuple(sorted(set(labels))))

    @classmethod
    def from_id2label(cls, id2label: Mapping[int, str], *, where: str) -> tuple[TagSet, np.ndarray]:
        """The tag set of a checkpoint, and the checkpoint's tag id for each of its tags.

        Returns:
            The tag set and an int array ``columns`` of shape (tags,): ``logits[:, columns]`` are in the tag set's order.

        Raises:
            InputError: the checkpoint's labels are not IOB2, e.g. because it is no entity recogniser.
        """
        ids = {name: index for index, name in id2label.items()}
        names = [name for name in ids if name != OUTSIDE]
        labels = sorted({name[2:] for name in names if name[:2] in ("B-", "I-")})
        tags = cls(tuple(labels)) if labels else None
        if tags is None or set(ids) != set(tags.tags):
            raise InputError(
                f"the labels are {', '.join(map(str, list(ids)[:6]))}{', ...' if len(ids) > 6 else ''}",
                where=where,
                expected="IOB2 tags: O, and B-X and I-X for every entity type",
                remedy="fine-tune the encoder with musamma train",
            )
        return tags, np.array([ids[tag] for tag in tags.tags])


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


def decode_tags(
    rows: Sequence[Sequence[str]], *, scheme: str, where: Sequence[str]
) -> tuple[list[TokenSpan], list[Repair]]:
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


def encode_tags(names: Iterable[TokenSpan], length: int, *, scheme: str) -> list[str]:
    """One tag a token for names without overlap: the inverse of :func:`decode_tags`."""
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


def detect_scheme(sentences: Iterable[Sequence[Sequence[str]]]) -> str:
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
