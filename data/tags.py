"""IOB2 tags: the labels of a token classifier, and which of them may follow which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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

    def check(self, document: Document) -> None:
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
