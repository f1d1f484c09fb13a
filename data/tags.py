"""Tags of words: the tag set of a classifier (IOB2), and the tag schemes of annotated files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from musamma.data.document import Document
from musamma.data.errors import InputError

if TYPE_CHECKING:
    import numpy as np

OUTSIDE = "O"


@dataclass(frozen=True)
class TagSet:
    """The tags of a list of labels: ``O``, then ``B-X`` and ``I-X`` of each label, in the order of the labels.

    Args:
        labels: entity types, each once.
    """

    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise InputError(f"labels {list(self.labels)}", expected="at least one label, and no label twice")

    @classmethod
    def from_labels(cls, labels: Iterable[str]) -> TagSet:
        """Build the tag set of the labels in alphabetical order, so that the same labels always have the same ids."""
        return cls(tuple(sorted(set(labels))))

    @classmethod
    def from_id2label(cls, id2label: Mapping[int, str], *, where: str) -> tuple[TagSet, np.ndarray]:
        """Build the tag set of a checkpoint, and map its tags to the checkpoint's tag ids.

        Returns:
            The tag set and an int array ``columns`` of shape (tags,): ``logits[:, columns]`` are in the tag set's order.

        Raises:
            InputError: the checkpoint's labels are not IOB2, e.g. because it is not an entity recogniser.
        """
        ids = {name: index for index, name in id2label.items()}
        labels = sorted({name[2:] for name in ids if name != OUTSIDE and name[:2] in ("B-", "I-")})
        tag_set = cls(tuple(labels)) if labels else None
        if tag_set is None or set(ids) != set(tag_set.tags):
            raise InputError(
                f"the labels are {', '.join(map(str, list(ids)[:6]))}{', ...' if len(ids) > 6 else ''}",
                where=where,
                expected="IOB2 tags: O, and B-X and I-X for every entity type",
                remedy="fine-tune the encoder with musamma train",
            )
        import numpy as np  # here, because formats and scoring do without it

        return tag_set, np.array([ids[tag] for tag in tag_set.tags])

    def __len__(self) -> int:
        return 1 + 2 * len(self.labels)

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags by id: ``("O", "B-PER", "I-PER", ...)``."""
        return (OUTSIDE, *(f"{prefix}-{label}" for label in self.labels for prefix in "BI"))

    @property
    def id2label(self) -> dict[int, str]:
        """Tag by id, as in a Hugging Face ``config.json``."""
        return dict(enumerate(self.tags))

    @property
    def label2id(self) -> dict[str, int]:
        """Id by tag, as in a Hugging Face ``config.json``."""
        return {tag: index for index, tag in enumerate(self.tags)}

    def begin(self, label: str) -> int:
        """Return the id of ``B-label``."""
        return 1 + 2 * self.labels.index(label)

    def inside(self, label: str) -> int:
        """Return the id of ``I-label``."""
        return 2 + 2 * self.labels.index(label)

    def label_of(self, tag: int) -> str | None:
        """Return the label of a tag id; ``None`` for ``O``."""
        return None if tag == 0 else self.labels[(tag - 1) // 2]

    def is_begin(self, tag: int) -> bool:
        """Tell whether a tag id starts a name."""
        return tag % 2 == 1

    def allowed_transitions(self) -> np.ndarray:
        """Return the table of the tags that may follow each tag.

        Returns:
            Bool, (tags + 1, tags): ``[a, b]`` is true if tag ``b`` may follow tag ``a``; the last row is the start of a text.
        """
        import numpy as np

        count = len(self)
        allowed = np.ones((count + 1, count), dtype=bool)
        for label in self.labels:
            allowed[:, self.inside(label)] = False
            allowed[[self.begin(label), self.inside(label)], self.inside(label)] = True
        return allowed

    def check_labels(self, document: Document) -> None:
        """Check that the tag set has the labels of all spans of the document.

        Raises:
            InputError: a span has another label; names the document and the span.
        """
        for span in document.spans:
            if span.label not in self.labels:
                raise InputError(
                    f"label {span.label!r} of {document.describe(span)}",
                    where=f"document {document.id!r}",
                    expected=f"one of {', '.join(self.labels)}",
                    remedy="add it to 'labels', map it with data.labels, or give training documents that have it and set 'labels' to null",
                )


@dataclass(frozen=True, slots=True)
class TagPrefix:
    """The meaning of a tag's prefix: whether a name begins at the token, and whether it ends there."""

    begins: bool
    ends: bool


@dataclass(frozen=True, slots=True)
class TagScheme:
    """A tag scheme.

    Args:
        begin, inside, end, single: the prefixes. If the scheme does not mark the end of a name, ``end`` equals ``inside`` and
            ``single`` equals ``begin``.
        inside_begins: whether a name may begin with ``inside`` (IOB1, where ``begin`` only separates two adjacent names with
            the same label).
    """

    begin: str = "B"
    inside: str = "I"
    end: str = "I"
    single: str = "B"
    inside_begins: bool = False

    @property
    def prefixes(self) -> frozenset[str]:
        """The prefixes in use."""
        return frozenset((self.begin, self.inside, self.end, self.single))

    @property
    def marks_end(self) -> bool:
        """True if the last token of a name has a special prefix."""
        return self.end != self.inside


TAG_PREFIXES = {
    "B": TagPrefix(begins=True, ends=False),
    "I": TagPrefix(begins=False, ends=False),
    "E": TagPrefix(begins=False, ends=True),
    "L": TagPrefix(begins=False, ends=True),
    "S": TagPrefix(begins=True, ends=True),
    "U": TagPrefix(begins=True, ends=True),
}
TAG_SCHEMES = {
    "iob1": TagScheme(inside_begins=True),
    "iob2": TagScheme(),
    "bioes": TagScheme(end="E", single="S"),
    "bilou": TagScheme(end="L", single="U"),
}


@dataclass(frozen=True, slots=True, order=True)
class TokenSpan:
    """A name as half-open token indices."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class TagRepair:
    """A tag that is not valid in its position: the index of its token, and the problem."""

    token: int
    problem: str


def split_tag(tag: str) -> tuple[str, str] | None:
    """Split a tag into prefix and label: ``("O", "")`` for ``O``, ``None`` for a string that is not a tag."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    prefix, hyphen, label = tag.partition("-")
    return (prefix, label) if hyphen and label and prefix in TAG_PREFIXES else None


def decode_tags(
    rows: Sequence[Sequence[str]], *, scheme: str, where: Sequence[str]
) -> tuple[list[TokenSpan], list[TagRepair]]:
    """Read the names of a sentence from its tags.

    A token may have several tags, for names inside names. A tag that continues a name continues the outermost open name of its
    label that no other tag of the token continues. If there is none, it begins a name, which counts as a repair.

    Args:
        rows: the tags of each token; none means ``O``.
        scheme: a key of :data:`TAG_SCHEMES`.
        where: file and line of each token, for errors.

    Returns:
        The names by start, longer ones first, names of the same extent in the order of their tags; and the repairs.

    Raises:
        InputError: a string is not a tag, or not a tag of this scheme.
    """
    marks_end, inside_begins = TAG_SCHEMES[scheme].marks_end, TAG_SCHEMES[scheme].inside_begins
    names: list[TokenSpan] = []
    repairs: list[TagRepair] = []
    open_names: list[tuple[str, int]] = []  # label and first token
    for index, row in enumerate(rows):
        waiting = open_names
        open_names = []
        begun: list[tuple[str, int, bool]] = []
        for tag in row:
            prefix, label = _parse_tag(tag, scheme, where[index])
            if prefix == OUTSIDE:
                continue
            meaning = TAG_PREFIXES[prefix]
            continued = None if meaning.begins else next((name for name in waiting if name[0] == label), None)
            if continued is not None:
                waiting = list(waiting)
                waiting.remove(continued)
                if meaning.ends:
                    names.append(TokenSpan(continued[1], index + 1, label))
                else:
                    open_names.append(continued)
                continue
            if not meaning.begins and not inside_begins:
                repairs.append(TagRepair(index, f"{tag} continues no {label}"))
            begun.append((label, index, meaning.ends))
        names += [TokenSpan(start, index, label) for label, start in waiting]
        if marks_end:
            repairs += [TagRepair(index - 1, f"{label} is not ended") for label, _ in waiting]
        names += [TokenSpan(start, index + 1, label) for label, start, ends in begun if ends]
        open_names += [(label, start) for label, start, ends in begun if not ends]
    names += [TokenSpan(start, len(rows), label) for label, start in open_names]
    if marks_end:
        repairs += [TagRepair(len(rows) - 1, f"{label} is not ended") for label, _ in open_names]
    return sorted(names, key=lambda name: (name.start, -name.end)), repairs


def encode_tags(names: Iterable[TokenSpan], length: int, *, scheme: str) -> list[str]:
    """Write names without overlap as one tag per token: the inverse of :func:`decode_tags`."""
    table = TAG_SCHEMES[scheme]
    tags = [OUTSIDE] * length
    previous = None
    for name in sorted(names):
        begin = table.begin
        if table.inside_begins and (previous is None or previous.end != name.start or previous.label != name.label):
            begin = table.inside
        last = name.end - 1
        for index in range(name.start, name.end):
            if index == name.start:
                prefix = begin if index < last or table.single == table.begin else table.single
            else:
                prefix = table.inside if index < last else table.end
            tags[index] = f"{prefix}-{name.label}"
        previous = name
    return tags


def detect_scheme(sentences: Iterable[Sequence[Sequence[str]]]) -> str:
    """Detect the scheme of a corpus from its tags.

    BIOES and BILOU have prefixes of their own. In IOB1 some name begins with ``I-``, and ``B-`` only separates adjacent names
    with the same label. Everything else is IOB2.
    """
    begins_with_inside = begins_with_begin = False
    for rows in sentences:
        previous: set[str] = set()
        for row in rows:
            parsed = [split_tag(tag) or (OUTSIDE, "") for tag in row]
            for prefix, label in parsed:
                if prefix in "ES":
                    return "bioes"
                if prefix in "LU":
                    return "bilou"
                begins_with_inside |= prefix == "I" and label not in previous
                begins_with_begin |= prefix == "B" and label not in previous
            previous = {label for prefix, label in parsed if prefix != OUTSIDE}
    return "iob1" if begins_with_inside and not begins_with_begin else "iob2"


def _parse_tag(tag: str, scheme: str, where: str) -> tuple[str, str]:
    parsed = split_tag(tag)
    prefixes = TAG_SCHEMES[scheme].prefixes
    if parsed is None or (parsed[0] != OUTSIDE and parsed[0] not in prefixes):
        valid = ", ".join(f"{prefix}-LABEL" for prefix in sorted(prefixes))
        raise InputError(
            f"{tag!r} is not a tag of {scheme.upper()}",
            where=where,
            expected=f"O, {valid}",
            remedy="correct the line, or name the file's format and scheme",
        )
    return parsed
