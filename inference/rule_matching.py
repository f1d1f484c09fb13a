"""Rules applied to tagged documents: names are found with an Aho-Corasick automaton over folded words.

Texts and names are split into words, and each word is folded (:mod:`musamma.data.spelling`). A name matches where its words stand one
after the other: it ends with a word and starts with one, or after proclitics of one. The automaton reads the words joined by
line breaks; every name ends with a line break in it, so only ends of words are found, and starts are checked.

After ل the article loses its alef: الجيش matches in للجيش, as لجيش, and اللجنة in للجنة, as لجنة.
"""

from __future__ import annotations

import re
from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import accumulate
from typing import Any

from musamma.data.arabic import clitic_borders, is_letter, proclitic_offsets, word_offsets
from musamma.data.document import RULES_KEY, Document, Span, select_nested
from musamma.data.errors import not_installed
from musamma.data.spelling import WORD_SEPARATOR, Spelling
from musamma.inference.name_rules import NameList, Rules, fold_pattern, fold_surface

# A name does not reach from one paragraph into the next.
_BLANK_LINE = re.compile(r"\n\s*\n")

ADDED, CONFIRMED, RELABELLED, REMOVED = "added", "confirmed", "relabelled", "removed"


@dataclass(frozen=True, slots=True)
class Match:
    """A name of a list in a text.

    Args:
        start, end: its offsets in the text, in code points.
        list: the index of its list.
        label: its label in the list.
        word_start: the start of its first word, proclitics included.
    """

    start: int
    end: int
    list: int
    label: str
    word_start: int


class NameMatcher:
    """Finds the names of lists in texts. Several threads may share it.

    Args:
        lists: the lists.

    Raises:
        InputError: the package of the automaton is not installed.
    """

    def __init__(self, lists: Sequence[NameList]) -> None:
        by_spelling: dict[Spelling, list[int]] = defaultdict(list)
        for index, names in enumerate(lists):
            by_spelling[names.spelling].append(index)
        self._automata = [_Automaton(spelling, lists, indices) for spelling, indices in by_spelling.items()]

    def find(self, text: str) -> list[Match]:
        """Find all names, overlapping ones included. The order is that of ends within each spelling."""
        if not self._automata:
            return []
        words = word_offsets(text)
        return [match for automaton in self._automata for match in automaton.find(text, words)]


class _Automaton:
    """The automaton of all lists with the same spelling."""

    def __init__(self, spelling: Spelling, lists: Sequence[NameList], indices: Iterable[int]) -> None:
        if find_spec("ahocorasick") is None:
            raise not_installed("pyahocorasick", extra="rules", purpose="finds the names of rules", where="`rules`")
        # Imported here because it is an optional package.
        from ahocorasick import STORE_INTS, Automaton

        self._spelling, self._lists = spelling, lists
        # What a folded name stands for: the list, the label, and whether it lacks the alef that the article loses after ل.
        meanings: dict[str, tuple[tuple[int, str, bool], ...]] = {}
        shared: dict[tuple[tuple[int, str, bool], ...], tuple[tuple[int, str, bool], ...]] = {}
        for index in indices:
            for name, label in lists[index].entries:
                folded = spelling.fold_text(name)
                forms = [(folded, False)]
                if lists[index].proclitics != "none" and (without_alef := _without_alef(folded)):
                    forms.append((without_alef, True))
                for form, is_short in forms:
                    known = meanings.get(form, ())
                    # Of two labels of a name in a list the first counts.
                    if not any(list == index and short == is_short for list, _, short in known):
                        new = (*known, (index, label, is_short))
                        meanings[form] = shared.setdefault(new, new)
        self._meanings = list(meanings.values())
        self._lengths = [len(form) + 1 for form in meanings]
        self._automaton = Automaton(STORE_INTS)
        for number, form in enumerate(meanings):
            self._automaton.add_word(form + WORD_SEPARATOR, number)
        self._automaton.make_automaton()

    def find(self, text: str, words: Sequence[tuple[int, int]]) -> Iterator[Match]:
        """Yield the names in a text whose words are given."""
        if not self._meanings:
            return
        folded = self._spelling.fold_words(text, words)
        if "" in folded:
            words = [word for word, letters in zip(words, folded, strict=True) if letters]
            folded = [letters for letters in folded if letters]
        starts = [0, *accumulate(len(word) + 1 for word in folded)]
        borders: set[int] | None = None
        for last, number in self._automaton.iter(WORD_SEPARATOR.join((*folded, ""))):
            begin = last + 1 - self._lengths[number]
            first = bisect_right(starts, begin) - 1
            before = begin - starts[first]
            word_start, word_end = words[first]
            if before == 0:
                start = word_start
            else:
                found = self._find_start(text, word_start, word_end, before)
                if found is None:
                    continue
                start = found
            end = words[bisect_right(starts, last) - 1][1]
            if _BLANK_LINE.search(text, start, end):
                continue
            for index, label, is_short in self._meanings[number]:
                proclitics = self._lists[index].proclitics
                if before:
                    if proclitics == "none":
                        continue
                    if proclitics == "certain":
                        borders = set(clitic_borders(text)) if borders is None else borders
                        if start not in borders:
                            continue
                if is_short and not _ends_with_lam(folded[first][:before]):
                    continue
                yield Match(start, end, index, label, word_start)

    def _find_start(self, text: str, word_start: int, word_end: int, before: int) -> int | None:
        """Return the offset in a word that follows proclitics which fold to ``before`` characters; ``None`` if there is none."""
        for offset in proclitic_offsets(text, word_start, word_end)[1:]:
            length = len(self._spelling.fold(text[word_start:offset]))
            if length >= before:
                return offset if length == before else None
        return None


def _ends_with_lam(folded: str) -> bool:
    letters = [character for character in folded if is_letter(character)]
    return letters[-1:] == ["ل"]


def _without_alef(folded: str) -> str | None:
    """Return a folded name as it is written after ل; ``None`` if it does not begin with the article."""
    if not folded.startswith("ال") or len(folded) < 4:
        return None
    return folded[2:] if folded[2] == "ل" else folded[1:]


class RuleTagger:
    """Applies rules to tagged documents. Several threads may share it.

    1. Names of the model that are never to be marked are removed, and others get their new labels.
    2. Of the names in lists of precedence ``rules``, longer ones come before shorter ones, then those that start earlier, then those
       of earlier lists. Each is added unless it overlaps one that was added before. Names of the model that it overlaps are removed.
    3. The names in lists of precedence ``model`` follow in the same order, unless they overlap a name that is there.

    A name that the model found with the same offsets and label is kept with its score, as ``confirmed``.

    Args:
        rules: the rules.

    Raises:
        InputError: the package of the automaton is not installed.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        # The names of all rules are found in one pass. The kind of each list: its part of the rules and its position there.
        lists: list[NameList] = []
        self._kinds: list[tuple[str, int]] = []
        for part, position, names in _all_lists(rules):
            lists.append(names)
            self._kinds.append((part, position))
        self._matcher = NameMatcher(lists)
        self._precedences = [names.precedence for names in rules.lists]
        self._patterns = [
            None if rule.pattern is None else fold_pattern(rule.pattern, rule.spelling) for rule in rules.labels
        ]

    def apply(self, document: Document) -> Document:
        """Return a document with the names that the rules leave, and with what they did under :data:`RULES_KEY` of ``meta``."""
        never: set[tuple[int, int]] = set()
        listed: dict[str, list[Match]] = {"rules": [], "model": []}
        new_labels: dict[int, set[tuple[int, int]]] = defaultdict(set)
        for match in self._matcher.find(document.text):
            part, position = self._kinds[match.list]
            if part == "lists":
                listed[self._precedences[position]].append(match)
            else:
                target = never if part == "never" else new_labels[position]
                # The model may have put the proclitics into the name.
                target |= {(match.start, match.end), (match.word_start, match.end)}
        log: list[dict[str, Any]] = []
        spans: list[Span] = []
        for span in document.spans:
            if (span.start, span.end) in never:
                log.append(_log_entry(span, REMOVED))
            else:
                spans.append(self._relabel(document, span, new_labels))
                if spans[-1] is not span:
                    log.append(_log_entry(span, RELABELLED))
        for precedence, matches in listed.items():
            allowed = [match for match in matches if (match.start, match.end) not in never]
            spans = _merge(spans, allowed, log, replacing=precedence == "rules")
        if document.nested:
            document = replace(document, nested=select_nested(document.nested, spans))
        return _with_log(document, spans, log)

    def _relabel(self, document: Document, span: Span, new_labels: dict[int, set[tuple[int, int]]]) -> Span:
        """Return a span with the label of the first rule that applies to it; the same object if that does not change it."""
        for index, rule in enumerate(self.rules.labels):
            if rule.only and span.label not in rule.only:
                continue
            pattern = self._patterns[index]
            if pattern is None:
                applies = (span.start, span.end) in new_labels[index]
            else:
                applies = pattern.fullmatch(fold_surface(document.surface(span), rule.spelling)) is not None
            if applies:
                return span if span.label == rule.label else replace(span, label=rule.label, rule=RELABELLED)
        return span


def _with_log(document: Document, spans: list[Span], log: list[dict[str, Any]]) -> Document:
    if not log:
        return document
    log.sort(key=lambda entry: (entry["start"], entry["end"]))
    return replace(document, spans=tuple(spans), meta={**document.meta, RULES_KEY: log})


def drop_log(document: Document) -> Document:
    """Remove what rules did to names that are being replaced."""
    if RULES_KEY not in document.meta:
        return document
    return replace(document, meta={key: value for key, value in document.meta.items() if key != RULES_KEY})


def _all_lists(rules: Rules) -> Iterator[tuple[str, int, NameList]]:
    for index, names in enumerate(rules.lists):
        yield "lists", index, names
    for index, names in enumerate(rules.never):
        yield "never", index, names
    for index, rule in enumerate(rules.labels):
        if rule.names is not None:
            yield "labels", index, rule.names


def _merge(spans: list[Span], matches: list[Match], log: list[dict[str, Any]], *, replacing: bool) -> list[Span]:
    """Return the spans with the matches that are added to them, sorted.

    Args:
        spans: sorted, without overlap.
        matches: in any order.
        log: receives what is done.
        replacing: whether a match takes the place of spans that it overlaps, instead of giving way to them.
    """
    if not matches:
        return spans
    by_key = {span.key: span for span in spans}
    added: list[Span] = []
    occupied = [] if replacing else list(spans)
    for match in sorted(matches, key=lambda match: (match.start - match.end, match.start, match.list)):
        span = Span(match.start, match.end, match.label, None, ADDED)
        if (same := by_key.get(span.key)) is not None:
            span = same if same.rule is not None else replace(same, rule=CONFIRMED)
        if not replacing and same is not None and same.rule is None:
            by_key[span.key] = span
            log.append(_log_entry(span, CONFIRMED))
        elif not _overlaps(occupied, span):
            insort(occupied, span, key=_start)
            added.append(span)
            if span.rule in (ADDED, CONFIRMED):
                log.append(_log_entry(span, span.rule))
    if not replacing:
        return sorted([*by_key.values(), *added], key=_start)
    kept = []
    added_keys = {span.key for span in added}
    for span in spans:
        if span.key in added_keys:
            continue
        if _overlaps(occupied, span):
            log.append(_log_entry(span, REMOVED))
        else:
            kept.append(span)
    return sorted([*kept, *added], key=_start)


def _overlaps(spans: Sequence[Span], span: Span) -> bool:
    """Tell whether a span overlaps one of others, which are sorted and do not overlap each other."""
    after = bisect_right(spans, span.start, key=_start)
    return (after > 0 and spans[after - 1].end > span.start) or (after < len(spans) and spans[after].start < span.end)


def _start(span: Span) -> int:
    return span.start


def _log_entry(span: Span, rule: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"start": span.start, "end": span.end, "rule": rule}
    if rule in (RELABELLED, REMOVED):
        entry["label"] = span.label
    if rule == REMOVED and span.score is not None:
        entry["score"] = span.score
    return entry
