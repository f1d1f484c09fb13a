"""What an annotated corpus says against itself: borders inside words, forms tagged two ways, forms tagged here and not there.

All of it is evidence for a reader, not an error: a form may well be a name in one place and a word in another.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from musamma.data.arabic import PRONOUN_SUFFIXES, is_letter, proclitic_offsets, strip_marks, word_offsets
from musamma.data.document import Document, Span

_BRACKETS = {"(": ")", "[": "]", "{": "}", "«": "»", "“": "”"}
_PUNCTUATED = frozenset("PS")


@dataclass(frozen=True, slots=True)
class BorderIssue:
    """Something about one span. ``kind`` is ``behind_proclitic``, ``before_suffix``, ``starts_inside_word``,
    ``ends_inside_word``, ``punctuation_at_border``, ``mark_at_border`` or ``proclitic_inside``."""

    kind: str
    document: str
    span: Span
    surface: str
    context: str

    def to_dict(self) -> dict[str, Any]:
        """The remark as a JSON object."""
        return {
            "kind": self.kind,
            "document": self.document,
            **self.span.to_dict(),
            "surface": self.surface,
            "context": self.context,
        }


@dataclass(frozen=True, slots=True)
class SurfaceForm:
    """A surface form and where it stands.

    Args:
        surface: the characters.
        tagged: ids of the documents by label, an id for each time it is tagged.
        missed: ids of the documents where it stands as a whole word, or behind proclitics, in no name; one for each time.
    """

    surface: str
    tagged: Mapping[str, tuple[str, ...]]
    missed: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """How much of the form's occurrences is tagged, in [0, 1]: near 1, a missed one was likely forgotten."""
        tagged = sum(map(len, self.tagged.values()))
        return tagged / (tagged + len(self.missed))

    def to_dict(self) -> dict[str, Any]:
        """The form as a JSON object; each id once."""
        record: dict[str, Any] = {
            "surface": self.surface,
            "labels": {label: len(ids) for label, ids in self.tagged.items()},
            "documents": {label: sorted(set(ids)) for label, ids in self.tagged.items()},
        }
        if self.missed:
            record |= {"missed": len(self.missed), "missed_in": sorted(set(self.missed))}
        return record


def find_border_issues(documents: Sequence[Document]) -> Iterator[BorderIssue]:
    """What stands out at the borders of the documents' names."""
    surfaces = Counter(document.surface(span) for document in documents for span in (*document.spans, *document.nested))
    for document in documents:
        words = word_offsets(document.text)
        starts = {offset: word for word in words for offset in range(*word)}
        for span in (*document.spans, *document.nested):
            for kind in _border_kinds(document, span, starts, surfaces):
                context = document.text[max(0, span.start - 15) : span.end + 15]
                yield BorderIssue(kind, document.id, span, document.surface(span), context)


def find_ambiguous_forms(documents: Iterable[Document]) -> list[SurfaceForm]:
    """Surface forms, vowel signs and tatweel aside, that carry more than one label; most frequent first."""
    tagged = _tagged(documents, fold=True)
    forms = [_form(surface, ids) for surface, ids in tagged.items() if len(ids) > 1]
    return sorted(forms, key=lambda form: (-sum(map(len, form.tagged.values())), form.surface))


def find_missed_forms(documents: Sequence[Document]) -> list[SurfaceForm]:
    """Surface forms tagged somewhere and elsewhere in no name; those that are mostly tagged first.

    A form is looked for as whole words, at a word's start or behind proclitics; the longest form counts. A form that begins
    with the article is found in ``لل``, too.
    """
    tagged = _tagged(documents, fold=False)
    index = _index(tagged)
    missed: dict[str, list[str]] = defaultdict(list)
    for document in documents:
        words = word_offsets(document.text)
        ends = {end for _, end in words}
        taken = _covered(document)
        free_from = 0
        for start, end in words:
            if start < free_from:
                continue
            for offset in proclitic_offsets(document.text, start, end):
                if found := _longest(document.text, offset, end, index, ends, behind=offset > start):
                    surface, stop = found
                    if not any(position in taken for position in range(offset, stop)):
                        missed[surface].append(document.id)
                    free_from = stop
                    break
    forms = [_form(surface, tagged[surface], tuple(ids)) for surface, ids in missed.items()]
    return sorted(forms, key=lambda form: (-form.share, -len(form.missed), form.surface))


def find_repeated_texts(documents: Iterable[Document]) -> list[list[str]]:
    """Groups of ids whose texts are the same, whitespace and vowel signs aside."""
    groups: dict[str, list[str]] = defaultdict(list)
    for document in documents:
        groups[strip_marks(document.text)].append(document.id)
    return [ids for ids in groups.values() if len(ids) > 1]


def find_unknown_labels(documents: Iterable[Document], schema: Sequence[str]) -> dict[str, list[str]]:
    """Ids of the documents that hold a label which the schema does not know, by label."""
    found: dict[str, list[str]] = defaultdict(list)
    for document in documents:
        for label in sorted({span.label for span in (*document.spans, *document.nested)} - set(schema)):
            found[label].append(document.id)
    return dict(found)


def _border_kinds(
    document: Document, span: Span, words: Mapping[int, tuple[int, int]], surfaces: Counter[str]
) -> Iterator[str]:
    text = document.text
    first, last = words.get(span.start), words.get(span.end - 1)
    if first and first[0] < span.start:
        yield "behind_proclitic" if span.start in proclitic_offsets(text, *first) else "starts_inside_word"
    elif first and _hides_proclitic(document, span, first, surfaces):
        yield "proclitic_inside"
    if last and span.end < last[1]:
        rest = "".join(filter(is_letter, text[span.end : last[1]]))
        if rest:
            yield "before_suffix" if rest in PRONOUN_SUFFIXES else "ends_inside_word"
    surface = document.surface(span)
    if any(unicodedata.category(end) == "Cf" for end in (surface[0], surface[-1])):
        yield "mark_at_border"
    elif _punctuated(surface):
        yield "punctuation_at_border"


def _hides_proclitic(document: Document, span: Span, word: tuple[int, int], surfaces: Counter[str]) -> bool:
    """Whether the name without its first letters is tagged more often: ``بالموصل`` beside ``الموصل``."""
    own = surfaces[document.surface(span)]
    for offset in proclitic_offsets(document.text, *word)[1:]:
        if offset < span.end:
            rest = document.text[offset : span.end]
            behind_lam = document.text[offset - 1] == "ل" and rest.startswith("ل")
            if surfaces[rest] > own or (behind_lam and surfaces["ا" + rest] > own):
                return True
    return False


def _punctuated(surface: str) -> bool:
    first, last = surface[0], surface[-1]
    opens = first in _BRACKETS and _BRACKETS[first] in surface
    closes = any(last == closing and opening in surface for opening, closing in _BRACKETS.items())
    abbreviated = last == "." and "." in surface[:-1]
    leading = unicodedata.category(first)[0] in _PUNCTUATED and not opens
    trailing = unicodedata.category(last)[0] in _PUNCTUATED and not closes and not abbreviated
    return leading or trailing


def _tagged(documents: Iterable[Document], *, fold: bool) -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for document in documents:
        for span in (*document.spans, *document.nested):
            surface = document.surface(span)
            found[strip_marks(surface) if fold else surface][span.label].append(document.id)
    return found


def _form(surface: str, ids: Mapping[str, Sequence[str]], missed: tuple[str, ...] = ()) -> SurfaceForm:
    ordered = sorted(ids.items(), key=lambda item: (-len(item[1]), item[0]))
    return SurfaceForm(surface, {label: tuple(documents) for label, documents in ordered}, missed)


def _index(surfaces: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """``(written, surface)`` by the first word as written, longest first; ``written`` has a lam for the article in ``لل``."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for surface in surfaces:
        for written in (surface, surface[1:]) if surface.startswith("ال") else (surface,):
            words = word_offsets(written)
            if len(written) > 1 and words and words[0][0] == 0:
                found[written[: words[0][1]]].append((written, surface))
    for forms in found.values():
        forms.sort(key=lambda form: -len(form[0]))
    return found


def _longest(
    text: str, offset: int, end: int, index: Mapping[str, list[tuple[str, str]]], ends: set[int], *, behind: bool
) -> tuple[str, int] | None:
    for written, surface in index.get(text[offset:end], ()):
        stop = offset + len(written)
        if not text.startswith(written, offset) or stop not in ends:
            continue
        if written != surface and not (behind and text[offset - 1] == "ل"):
            continue  # The article without its alef stands behind a lam only.
        if behind and len(written) < 3:
            continue  # Too short to tell from a word's own letters.
        return surface, stop
    return None


def _covered(document: Document) -> set[int]:
    return {offset for span in (*document.spans, *document.nested) for offset in range(span.start, span.end)}
