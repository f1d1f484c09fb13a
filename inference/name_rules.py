"""Rules beside the model: lists of names, names never to be marked and other labels.

They are read by :mod:`musamma.inference.rule_file` and applied by :mod:`musamma.inference.rule_matching`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Literal
from unicodedata import normalize

import orjson
import regex

from musamma.data.errors import not_one_of
from musamma.data.spelling import DEFAULT_SPELLING, Spelling

Precedence = Literal["rules", "model"]
Proclitics = Literal["any", "certain", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NameList:
    """A list of names that are matched in the same way.

    Args:
        title: the list in messages, such as ``lists[0]``.
        entries: each name with its label; the label is empty for names that are never marked.
        precedence: ``rules`` if its names take the place of the model's names they overlap, ``model`` if they give way to them.
        proclitics: letters that may stand before a name in its word: ``any`` that :data:`musamma.data.arabic.PROCLITIC_PATTERN`
            allows, only those that :func:`musamma.data.arabic.clitic_borders` finds ``certain``, or ``none``.
        spelling: differences of spelling that do not count.
    """

    title: str
    entries: tuple[tuple[str, str], ...]
    precedence: Precedence = "rules"
    proclitics: Proclitics = "any"
    spelling: Spelling = DEFAULT_SPELLING


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRule:
    """Gives names of the model another label.

    Args:
        label: the new label.
        names: the names, as a list.
        pattern: a regular expression that matches the whole name; ``None`` if there are ``names``. Names and pattern are folded.
        only: the labels of the model to replace; all if it is empty.
    """

    label: str
    names: NameList | None = None
    pattern: str | None = None
    spelling: Spelling = DEFAULT_SPELLING
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All rules. They can be pickled, and hold the names of the files they were read from.

    Args:
        lists: names with labels. If two lists give the same characters different labels, the first applies.
        never: names that are never marked, neither by the model nor by ``lists``.
        labels: other labels for names of the model. The first that applies counts.
    """

    lists: tuple[NameList, ...] = ()
    never: tuple[NameList, ...] = ()
    labels: tuple[LabelRule, ...] = ()

    @property
    def new_labels(self) -> tuple[str, ...]:
        """The labels that the rules give, in the order of the rules."""
        listed = (label for names in self.lists for _, label in names.entries)
        return tuple(dict.fromkeys([*listed, *(rule.label for rule in self.labels)]))

    def check_labels(self, known: Sequence[str], *, where: str) -> None:
        """Check that the labels to replace are labels of the model, ``where``.

        Raises:
            InputError: one is not.
        """
        for rule in self.labels:
            for label in rule.only:
                if label not in known:
                    raise not_one_of("`rules` replace the label", label, known, where=where)

    def digest(self) -> str:
        """Compute a digest of the rules, the names included."""
        return blake2b(orjson.dumps(asdict(self)), digest_size=16).hexdigest()


def fold_pattern(pattern: str, spelling: Spelling) -> regex.Pattern[str]:
    """Compile a regular expression whose letters are folded, to match the result of :func:`fold_surface`.

    Raises:
        regex.error: it is not a regular expression.
    """
    return regex.compile(normalize("NFC", spelling.fold(pattern)))


def fold_surface(surface: str, spelling: Spelling) -> str:
    """Fold a name for patterns: its letters, and white space to single spaces. Letters are composed, as in ``[أإ]``."""
    return normalize("NFC", " ".join(map(spelling.fold, surface.split())))
