"""Consistency of an annotated corpus: name borders inside words, forms with two labels, forms annotated here and not there.

The findings are hints for a reader, not proven errors: a form may be a name in one place and a common word in another.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from musamma.data.arabic import PRONOUN_SUFFIXES, is_letter, proclitic_offsets, strip_marks, word_offsets
from musamma.data.document import Document, Span
from musamma.data.errors import ThresholdError
from musamma.data.import_audit import ImportAudit

#: Kinds of border issue that are normal in Arabic text and not worth examples.
NORMAL_BORDERS = ("behind_proclitic", "before_suffix")

_CONTEXT = 15
_MIN_LETTERS_AFTER_PROCLITIC = 3
_BRACKETS = {"(": ")", "[": "]", "{": "}", "«": "»", "“": "”"}
_PUNCTUATION_CATEGORIES = frozenset("PS")


@dataclass(frozen=True, slots=True)
class BorderIssue:
    """An unusual border of a name.

    Args:
        kind: ``behind_proclitic``, ``before_suffix``, ``starts_inside_word``, ``ends_inside_word``, ``punctuation_at_border``,
            ``mark_at_border`` or ``proclitic_inside``.
        document: id of the document.
        span: the name.
        surface: its characters.
        context: the text around it.
    """

    kind: str
    document: str
    span: Span
    surface: str
    context: str

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON object."""
        return {
            "kind": self.kind,
            "document": self.document,
            **self.span.to_dict(),
            "surface": self.surface,
            "context": self.context,
        }


@dataclass(frozen=True, slots=True)
class CrossingNames:
    """Two nested names that share characters, neither of which is inside the other.

    Args:
        document: the document.
        first: the name that starts first.
        second: the other one.
    """

    document: Document
    first: Span
    second: Span

    def describe(self) -> str:
        """Describe the names for a message: document, offsets, labels and surfaces."""
        names = " / ".join(map(self.document.describe, (self.first, self.second)))
        return f"{self.document.id}: {names}"

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON object."""
        names = [{**span.to_dict(), "surface": self.document.surface(span)} for span in (self.first, self.second)]
        return {"document": self.document.id, "names": names}


@dataclass(frozen=True, slots=True)
class SurfaceForm:
    """A surface form and the documents in which it occurs.

    Args:
        surface: the characters.
        tagged: ids of documents by label, one id for each annotated occurrence.
        missed: ids of documents in which it occurs outside of any name, as whole words or after proclitics; one id for each
            occurrence.
    """

    surface: str
    tagged: Mapping[str, tuple[str, ...]]
    missed: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Share of the occurrences that are annotated, in [0, 1]. If it is close to 1, the annotator probably forgot the others."""
        tagged = sum(map(len, self.tagged.values()))
        return tagged / (tagged + len(self.missed))

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON object, each document id once."""
        record: dict[str, Any] = {
            "surface": self.surface,
            "labels": {label: len(ids) for label, ids in self.tagged.items()},
            "documents": {label: sorted(set(ids)) for label, ids in self.tagged.items()},
        }
        if self.missed:
            record |= {"missed": len(self.missed), "missed_in": sorted(set(self.missed))}
        return record


@dataclass(frozen=True, slots=True)
class CorpusReport:
    """The findings of :func:`check_corpus`.

    Args:
        documents: the documents checked.
        audits: the audits of their imports.
        border_issues: unusual borders of names.
        ambiguous_forms: forms with more than one label.
        missed_forms: forms annotated in one place but not in another.
        repeated_texts: ids of documents with the same text.
        unknown_labels: ids of documents by label, for labels outside the schema.
        crossing_names: pairs of nested names that cross each other.
    """

    documents: Sequence[Document]
    audits: Sequence[ImportAudit]
    border_issues: Sequence[BorderIssue]
    ambiguous_forms: Sequence[SurfaceForm]
    missed_forms: Sequence[SurfaceForm]
    repeated_texts: Sequence[Sequence[str]]
    unknown_labels: Mapping[str, Sequence[str]]
    crossing_names: Sequence[CrossingNames]

    def count_labels(self) -> Counter[str]:
        """Count names by label, nested ones included."""
        return Counter(span.label for document in self.documents for span in document.all_spans)

    def count_nested_labels(self) -> Counter[str]:
        """Count nested names by label."""
        return Counter(span.label for document in self.documents for span in document.nested)

    def find_problems(self, *, schema_name: str | None = None, max_loss: float = 0.0) -> list[str]:
        """List the problems that make the corpus invalid, one message each.

        These are labels outside the schema, ids that occur twice, and imports whose loss is above ``max_loss``.
        """
        problems = []
        for label, ids in self.unknown_labels.items():
            documents = f"{len(ids)} documents, first {ids[0]!r},"
            problems.append(f"label {label!r} in {documents} is not in the schema {schema_name}")
        uses = Counter(document.id for document in self.documents)
        if repeated := [id for id, count in uses.items() if count > 1]:
            problems.append(f"{len(repeated)} ids occur more than once, first {repeated[0]!r}")
        for audit in self.audits:
            try:
                audit.check_loss(max_loss)
            except ThresholdError as error:
                problems.append(str(error))
        return problems

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON object."""
        return {
            "documents": len(self.documents),
            "spans": sum(len(document.spans) for document in self.documents),
            "nested": sum(len(document.nested) for document in self.documents),
            "labels": dict(self.count_labels()),
            "borders": dict(Counter(issue.kind for issue in self.border_issues)),
            "outside_schema": {label: list(ids) for label, ids in self.unknown_labels.items()},
            "repeated_texts": [list(ids) for ids in self.repeated_texts],
            "tagged_two_ways": [form.to_dict() for form in self.ambiguous_forms],
            "missed": [form.to_dict() for form in self.missed_forms],
            "crossing_nested": [pair.to_dict() for pair in self.crossing_names],
            "remarks": [issue.to_dict() for issue in self.border_issues],
            "imports": [audit.to_dict() for audit in self.audits],
        }


def check_corpus(
    documents: Sequence[Document], *, audits: Sequence[ImportAudit] = (), labels: Sequence[str] | None = None
) -> CorpusReport:
    """Collect all findings about a corpus.

    Args:
        documents: the corpus.
        audits: the audits of its import, for the report.
        labels: the labels of the schema; ``None`` allows any label.
    """
    return CorpusReport(
        documents,
        audits,
        list(find_border_issues(documents)),
        find_ambiguous_forms(documents),
        find_missed_forms(documents),
        find_repeated_texts(documents),
        {} if labels is None else find_unknown_labels(documents, labels),
        list(find_crossing_names(documents)),
    )


def find_border_issues(documents: Sequence[Document]) -> Iterator[BorderIssue]:
    """Find names with unusual borders."""
    surfaces = Counter(document.surface(span) for document in documents for span in document.all_spans)
    for document in documents:
        word_at = {offset: word for word in word_offsets(document.text) for offset in range(*word)}
        for span in document.all_spans:
            for kind in _border_kinds(document, span, word_at, surfaces):
                context = document.text[max(0, span.start - _CONTEXT) : span.end + _CONTEXT]
                yield BorderIssue(kind, document.id, span, document.surface(span), context)


def find_ambiguous_forms(documents: Iterable[Document]) -> list[SurfaceForm]:
    """Find surface forms with more than one label, ignoring vowel marks and tatweel; the most frequent first."""
    tagged = _ids_by_form(documents, ignore_marks=True)
    forms = [_build_form(surface, ids) for surface, ids in tagged.items() if len(ids) > 1]
    return sorted(forms, key=lambda form: (-sum(map(len, form.tagged.values())), form.surface))


def find_missed_forms(documents: Sequence[Document]) -> list[SurfaceForm]:
    """Find surface forms that are annotated as a name in one place but not in another; those annotated most often first.

    A form is searched as whole words, at the start of a word or after proclitics; if several forms match, the longest counts. A form
    that starts with the article is also found after ``ل``, without its alef.
    """
    tagged = _ids_by_form(documents, ignore_marks=False)
    spellings = _spellings_by_first_word(tagged)
    missed: dict[str, list[str]] = defaultdict(list)
    for document in documents:
        words = word_offsets(document.text)
        ends = {end for _, end in words}
        covered = {offset for span in document.all_spans for offset in range(span.start, span.end)}
        next_start = 0
        for start, end in words:
            if start < next_start:
                continue
            for offset in proclitic_offsets(document.text, start, end):
                if match := _longest_match(document.text, offset, end, spellings, ends, after_proclitic=offset > start):
                    surface, stop = match
                    if covered.isdisjoint(range(offset, stop)):
                        missed[surface].append(document.id)
                    next_start = stop
                    break
    forms = [_build_form(surface, tagged[surface], tuple(ids)) for surface, ids in missed.items()]
    return sorted(forms, key=lambda form: (-form.share, -len(form.missed), form.surface))


def find_repeated_texts(documents: Iterable[Document]) -> list[list[str]]:
    """Find groups of ids whose texts are the same, ignoring white space and vowel marks."""
    groups: dict[str, list[str]] = defaultdict(list)
    for document in documents:
        groups[strip_marks(document.text)].append(document.id)
    return [ids for ids in groups.values() if len(ids) > 1]


def find_crossing_names(documents: Iterable[Document]) -> Iterator[CrossingNames]:
    """Find pairs of nested names that share characters, neither of which is inside the other. Readers drop other crossing names."""
    for document in documents:
        for index, first in enumerate(document.nested):
            for second in islice(document.nested, index + 1, None):
                if second.start >= first.end:
                    break
                if first.start < second.start and first.end < second.end:
                    yield CrossingNames(document, first, second)


def find_unknown_labels(documents: Iterable[Document], schema: Sequence[str]) -> dict[str, list[str]]:
    """Find labels outside the schema, and for each the ids of the documents that have it."""
    ids: dict[str, list[str]] = defaultdict(list)
    for document in documents:
        for label in sorted({span.label for span in document.all_spans} - set(schema)):
            ids[label].append(document.id)
    return dict(ids)


def _border_kinds(
    document: Document, span: Span, word_at: Mapping[int, tuple[int, int]], surfaces: Counter[str]
) -> Iterator[str]:
    text = document.text
    first, last = word_at.get(span.start), word_at.get(span.end - 1)
    if first and first[0] < span.start:
        yield "behind_proclitic" if span.start in proclitic_offsets(text, *first) else "starts_inside_word"
    elif first and _includes_proclitic(document, span, first, surfaces):
        yield "proclitic_inside"
    if last and span.end < last[1]:
        rest = "".join(filter(is_letter, text[span.end : last[1]]))
        if rest:
            yield "before_suffix" if rest in PRONOUN_SUFFIXES else "ends_inside_word"
    surface = document.surface(span)
    if any(unicodedata.category(character) == "Cf" for character in (surface[0], surface[-1])):
        yield "mark_at_border"
    elif _has_punctuation_at_border(surface):
        yield "punctuation_at_border"


def _includes_proclitic(document: Document, span: Span, word: tuple[int, int], surfaces: Counter[str]) -> bool:
    """Tell whether the name without its first letters is annotated more often, as ``الموصل`` compared with ``بالموصل``."""
    frequency = surfaces[document.surface(span)]
    for offset in proclitic_offsets(document.text, *word)[1:]:
        if offset < span.end:
            rest = document.text[offset : span.end]
            article_after_lam = document.text[offset - 1] == "ل" and rest.startswith("ل")
            if surfaces[rest] > frequency or (article_after_lam and surfaces["ا" + rest] > frequency):
                return True
    return False


def _has_punctuation_at_border(surface: str) -> bool:
    """Tell whether a name starts or ends with punctuation other than a pair of brackets or the full stop of an abbreviation."""
    first, last = surface[0], surface[-1]
    opens = first in _BRACKETS and _BRACKETS[first] in surface
    closes = any(last == closing and opening in surface for opening, closing in _BRACKETS.items())
    abbreviated = last == "." and "." in surface[:-1]
    leading = unicodedata.category(first)[0] in _PUNCTUATION_CATEGORIES and not opens
    trailing = unicodedata.category(last)[0] in _PUNCTUATION_CATEGORIES and not closes and not abbreviated
    return leading or trailing


def _ids_by_form(documents: Iterable[Document], *, ignore_marks: bool) -> dict[str, dict[str, list[str]]]:
    """Return the ids of documents by surface form and label, one id for each occurrence."""
    ids: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for document in documents:
        for span in document.all_spans:
            surface = document.surface(span)
            ids[strip_marks(surface) if ignore_marks else surface][span.label].append(document.id)
    return ids


def _build_form(surface: str, ids: Mapping[str, Sequence[str]], missed: tuple[str, ...] = ()) -> SurfaceForm:
    by_frequency = sorted(ids.items(), key=lambda item: (-len(item[1]), item[0]))
    return SurfaceForm(surface, {label: tuple(documents) for label, documents in by_frequency}, missed)


def _spellings_by_first_word(surfaces: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """Return the spellings of the surface forms, each with its form, by their first word; longest first.

    A form with the article has a second spelling without the alef, as after ``ل``.
    """
    spellings: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for surface in surfaces:
        for spelling in (surface, surface[1:]) if surface.startswith("ال") else (surface,):
            words = word_offsets(spelling)
            if len(spelling) > 1 and words and words[0][0] == 0:
                spellings[spelling[: words[0][1]]].append((spelling, surface))
    for forms in spellings.values():
        forms.sort(key=lambda form: -len(form[0]))
    return spellings


def _longest_match(
    text: str,
    offset: int,
    end: int,
    spellings: Mapping[str, list[tuple[str, str]]],
    ends: set[int],
    *,
    after_proclitic: bool,
) -> tuple[str, int] | None:
    """Return the longest form at ``offset``, in the word that ends at ``end``, and its end; ``None`` if there is none."""
    for spelling, surface in spellings.get(text[offset:end], ()):
        stop = offset + len(spelling)
        if not text.startswith(spelling, offset) or stop not in ends:
            continue
        if spelling != surface and not (after_proclitic and text[offset - 1] == "ل"):
            continue  # The article loses its alef only after a lam.
        if after_proclitic and len(spelling) < _MIN_LETTERS_AFTER_PROCLITIC:
            continue  # Too short to distinguish from the letters of a word.
        return surface, stop
    return None
