"""Comparison of the gold and predicted names of a document: matches by mode, and pairs that show the kind of each error."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

from musamma.data.arabic import is_proclitic
from musamma.data.document import Document, Span
from musamma.data.errors import not_one_of
from musamma.evaluation.word_boundaries import SpanKey, WordAlignedNames, align_to_words

STRICT = "strict"
PROCLITIC, WHOLE_WORD, OVERLAP = "proclitic", "whole_word", "overlap"
IOB2_STRICT, CONLLEVAL = "iob2_strict", "conlleval"

#: The scoring modes: exact characters (always scored), exact except for proclitics, exact by whole words, two readings of
#: IOB2 tags, any overlap.
MODES = (STRICT, PROCLITIC, WHOLE_WORD, IOB2_STRICT, CONLLEVAL, OVERLAP)

#: The modes counted on IOB2 tags.
TAG_MODES = (IOB2_STRICT, CONLLEVAL)

#: The layers of annotation with nested names: the outermost names, those inside them, and both together.
OUTERMOST, NESTED, ALL = "outermost", "nested", "all"

CORRECT, WRONG_LABEL, PROCLITIC_BORDER = "correct", "label", "proclitic"
WRONG_BORDER, WRONG_LABEL_AND_BORDER = "border", "label_and_border"
MISSED, SPURIOUS = "missed", "spurious"

#: The kinds of pairs, best first; see :class:`NamePair`. A name with two possible partners is paired with the one whose kind
#: comes first.
PAIR_KINDS = (CORRECT, WRONG_LABEL, PROCLITIC_BORDER, WRONG_BORDER, WRONG_LABEL_AND_BORDER, MISSED, SPURIOUS)

_label = itemgetter(2)


@dataclass(frozen=True, slots=True)
class NamePair:
    """A gold name and the predicted name paired with it; one of them is ``None`` if the other has no partner.

    Args:
        document: the document's id.
        kind: one of :data:`PAIR_KINDS`:

            - ``correct``: right label, right borders;
            - ``label``: wrong label, right borders;
            - ``proclitic``: right label; the names differ only by proclitic letters at the start;
            - ``border``: right label; the names share a character, but differ in a border otherwise;
            - ``label_and_border``: wrong label; the names share a character, but differ in a border;
            - ``missed``: a gold name without a partner;
            - ``spurious``: a predicted name without a partner.
        gold: the annotated name.
        predicted: the predicted name.
    """

    document: str
    kind: str
    gold: Span | None
    predicted: Span | None

    @property
    def start(self) -> int:
        """Offset of the first character of either name."""
        return min(span.start for span in (self.gold, self.predicted) if span is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return the pair as a JSON object."""
        spans = {"gold": self.gold, "predicted": self.predicted}
        return {
            "document": self.document,
            "kind": self.kind,
            **{side: span.to_dict() for side, span in spans.items() if span is not None},
        }


class MatchedLabels(NamedTuple):
    """The labels of a document's names in one mode: of all gold, all predicted and all matched names."""

    gold: Sequence[str]
    predicted: Sequence[str]
    matched: Sequence[str]


@dataclass(frozen=True, slots=True)
class Matches:
    """The gold and predicted names of one document, compared.

    Args:
        modes: the labels by mode.
        gold: all annotated names, sorted.
        predicted: all predicted names, sorted.
        exact: the names that are both gold and predicted.
        unmatched_gold: the gold names outside ``exact``, sorted.
        unmatched_predicted: the predicted names outside ``exact``, sorted.
        gold_words: the gold names by whole words.
        predicted_words: the predicted names by whole words.
    """

    modes: dict[str, MatchedLabels]
    gold: Sequence[Span]
    predicted: Sequence[Span]
    exact: set[SpanKey]
    unmatched_gold: Sequence[Span]
    unmatched_predicted: Sequence[Span]
    gold_words: WordAlignedNames
    predicted_words: WordAlignedNames


def select_modes(modes: Iterable[str]) -> tuple[str, ...]:
    """Return the named modes and ``strict``, in the order of :data:`MODES`.

    Raises:
        InputError: a mode is unknown.
    """
    selected = {STRICT, *modes}
    if unknown := sorted(selected - set(MODES)):
        raise not_one_of("mode", unknown[0], MODES)
    return tuple(mode for mode in MODES if mode in selected)


def match_by_mode(text: str, gold: Sequence[Span], predicted: Sequence[Span], *, modes: Collection[str]) -> Matches:
    """Compare the names of a text in several modes.

    A name that is both gold and predicted overlaps no other name, gold or predicted. The modes that tolerate different
    borders therefore compare only the remaining names.

    Args:
        text: the raw text.
        gold: its annotated names, sorted, without overlap.
        predicted: its predicted names, likewise.
        modes: some of :data:`MODES`.
    """
    exact, unmatched_gold, unmatched_predicted = _split_exact(gold, predicted)
    cache: dict[tuple[int, int], tuple[int, int] | None] = {}
    gold_words = align_to_words(text, gold, cache=cache)
    same = not unmatched_gold and not unmatched_predicted
    predicted_words = gold_words if same else align_to_words(text, predicted, cache=cache)
    labels = [span.label for span in gold], [span.label for span in predicted]
    exact_labels = list(map(_label, exact))
    by_mode: dict[str, MatchedLabels] = {}
    for mode in modes:
        if mode == STRICT:
            by_mode[mode] = MatchedLabels(*labels, exact_labels)
        elif mode == PROCLITIC:
            proclitic_matches = _match_except_proclitics(text, unmatched_gold, unmatched_predicted)
            by_mode[mode] = MatchedLabels(*labels, exact_labels + proclitic_matches)
        elif mode == OVERLAP:
            overlapping = match_overlapping(unmatched_gold, unmatched_predicted)
            by_mode[mode] = MatchedLabels(*labels, exact_labels + overlapping)
        elif mode == WHOLE_WORD:
            by_mode[mode] = match_sets(gold_words.whole_word, predicted_words.whole_word)
        else:
            # Tags made from spans are valid IOB2, so the strict and the lenient reading give the same names.
            by_mode[mode] = match_sets(set(gold_words.iob2), set(predicted_words.iob2))
    return Matches(by_mode, gold, predicted, exact, unmatched_gold, unmatched_predicted, gold_words, predicted_words)


def pair_names(document: Document, predicted: Sequence[Span]) -> list[NamePair]:
    """Pair the gold names of a document one to one with its predicted names. Nested gold names are left out.

    Exact pairs come first, then those of the other kinds in the order of :data:`PAIR_KINDS`. Within a kind, the pair with
    more common characters comes first, then the earlier one.

    Args:
        document: the annotated document.
        predicted: predicted names of the same text, sorted, without overlap.

    Returns:
        The pairs in the order of the text. Each gold and each predicted name is in exactly one pair.
    """
    return _pair(document, document.spans, predicted, *_split_exact(document.spans, predicted))


def pair_matches(document: Document, matches: Matches) -> list[NamePair]:
    """Pair the names of a document as :func:`pair_names` does, using the result of :func:`match_by_mode`."""
    return _pair(
        document,
        matches.gold,
        matches.predicted,
        matches.exact,
        matches.unmatched_gold,
        matches.unmatched_predicted,
    )


def match_overlapping(gold: Sequence[Span], predicted: Sequence[Span]) -> list[str]:
    """Match gold and predicted names that share a label and a character, as many as possible and one to one.

    Args:
        gold: names, sorted, without overlap.
        predicted: names, likewise.

    Returns:
        The label of each matched pair.
    """
    matched = []
    by_label: dict[str, list[Span]] = {}
    for span in predicted:
        by_label.setdefault(span.label, []).append(span)
    next_candidate = dict.fromkeys(by_label, 0)
    # Gold names do not overlap each other, nor do predicted names, so the leftmost partner is always a best choice.
    for span in gold:
        candidates = by_label.get(span.label, [])
        index = next_candidate.get(span.label, 0)
        while index < len(candidates) and candidates[index].end <= span.start:
            index += 1
        if index < len(candidates) and candidates[index].start < span.end:
            matched.append(span.label)
            index += 1
        if candidates:
            next_candidate[span.label] = index
    return matched


def differ_by_proclitic(text: str, gold: Span, predicted: Span) -> bool:
    """Tell whether two names have the same end, and only proclitic letters (و ف ب ل ك س) between their starts."""
    if gold.end != predicted.end or gold.start == predicted.start:
        return False
    return is_proclitic(text[min(gold.start, predicted.start) : max(gold.start, predicted.start)])


def overlapping_pairs(gold: Sequence[Span], predicted: Sequence[Span]) -> Iterator[tuple[int, int]]:
    """Yield the indices of each gold and predicted name that share a character, in the order of the gold names.

    Args:
        gold: names, sorted, without overlap.
        predicted: names, likewise.
    """
    first = 0
    for gold_index, span in enumerate(gold):
        while first < len(predicted) and predicted[first].end <= span.start:
            first += 1
        for predicted_index in range(first, len(predicted)):
            if predicted[predicted_index].start >= span.end:
                break
            yield gold_index, predicted_index


def common_characters(gold: Span, predicted: Span) -> int:
    """Return the number of characters that two overlapping names share."""
    return min(gold.end, predicted.end) - max(gold.start, predicted.start)


def _split_exact(
    gold: Sequence[Span], predicted: Sequence[Span]
) -> tuple[set[SpanKey], Sequence[Span], Sequence[Span]]:
    """Return the names that are both gold and predicted, the other gold names and the other predicted names."""
    # Tuples built here, because a property call for each name would be slower.
    gold_keys = {(span.start, span.end, span.label) for span in gold}
    predicted_keys = {(span.start, span.end, span.label) for span in predicted}
    exact = gold_keys & predicted_keys
    return (
        exact,
        [s for s in gold if (s.start, s.end, s.label) not in exact] if len(exact) < len(gold_keys) else (),
        [s for s in predicted if (s.start, s.end, s.label) not in exact] if len(exact) < len(predicted_keys) else (),
    )


def _match_except_proclitics(text: str, gold: Sequence[Span], predicted: Sequence[Span]) -> list[str]:
    """Return the labels of the gold names that differ from a predicted name by proclitic letters only.

    Args:
        text: the raw text.
        gold: names, sorted, without overlap. No two have the same end, so each has at most one partner.
        predicted: names, likewise.
    """
    if not gold or not predicted:
        return []
    by_end = {(span.end, span.label): span for span in predicted}
    partners = ((span, by_end.get((span.end, span.label))) for span in gold)
    return [
        span.label for span, partner in partners if partner is not None and differ_by_proclitic(text, span, partner)
    ]


def _span_keys(spans: Iterable[Span]) -> set[SpanKey]:
    return {span.key for span in spans}


def match_sets(gold: set[SpanKey], predicted: set[SpanKey]) -> MatchedLabels:
    """Return the labels of two sets of names, and of those in both."""
    return MatchedLabels(*(list(map(_label, names)) for names in (gold, predicted, gold & predicted)))


def match_layers(gold: Document, prediction: Document | None) -> dict[str, MatchedLabels]:
    """Match the layers :data:`NESTED` and :data:`ALL` exactly; a prediction that is ``None`` counts as one without names."""
    spans, nested = (prediction.spans, prediction.nested) if prediction is not None else ((), ())
    gold_nested, predicted_nested = _span_keys(gold.nested), _span_keys(nested)
    return {
        NESTED: match_sets(gold_nested, predicted_nested),
        ALL: match_sets(_span_keys(gold.spans) | gold_nested, _span_keys(spans) | predicted_nested),
    }


def _pair(
    document: Document,
    gold: Sequence[Span],
    predicted: Sequence[Span],
    exact: set[SpanKey],
    unmatched_gold: Sequence[Span],
    unmatched_predicted: Sequence[Span],
) -> list[NamePair]:
    predicted_by_key = {span.key: span for span in predicted} if exact else {}
    pairs = [
        NamePair(document.id, CORRECT, span, predicted_by_key[span.key])
        for span in gold
        if span.key in predicted_by_key
    ]
    candidates = []
    for gold_index, predicted_index in overlapping_pairs(unmatched_gold, unmatched_predicted):
        gold_name, predicted_name = unmatched_gold[gold_index], unmatched_predicted[predicted_index]
        rank = PAIR_KINDS.index(_kind(document.text, gold_name, predicted_name))
        candidates.append((rank, -common_characters(gold_name, predicted_name), gold_index, predicted_index))
    paired_gold: set[int] = set()
    paired_predicted: set[int] = set()
    for rank, _, gold_index, predicted_index in sorted(candidates):
        if gold_index not in paired_gold and predicted_index not in paired_predicted:
            paired_gold.add(gold_index)
            paired_predicted.add(predicted_index)
            gold_name, predicted_name = unmatched_gold[gold_index], unmatched_predicted[predicted_index]
            pairs.append(NamePair(document.id, PAIR_KINDS[rank], gold_name, predicted_name))
    pairs += [
        NamePair(document.id, MISSED, span, None)
        for index, span in enumerate(unmatched_gold)
        if index not in paired_gold
    ]
    pairs += [
        NamePair(document.id, SPURIOUS, None, span)
        for index, span in enumerate(unmatched_predicted)
        if index not in paired_predicted
    ]
    return sorted(pairs, key=lambda pair: (pair.start, PAIR_KINDS.index(pair.kind)))


def _kind(text: str, gold: Span, predicted: Span) -> str:
    same_borders = (gold.start, gold.end) == (predicted.start, predicted.end)
    if gold.label != predicted.label:
        return WRONG_LABEL if same_borders else WRONG_LABEL_AND_BORDER
    return PROCLITIC_BORDER if differ_by_proclitic(text, gold, predicted) else WRONG_BORDER
