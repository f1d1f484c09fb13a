"""Scoring: time and memory on a million names, and time compared with seqeval on a corpus of ANERcorp's size.

    python benchmarks/scoring.py [--documents N] [--runs N]

No network, no model. The documents are generated while they are read, with a fixed seed and ten names each. Of the
predictions, about four in five are correct, one in ten has other borders or another label, and the rest are missing or
invented. Generating them is timed separately. Memory is the growth of the process's peak from before the first document; only
ids have to be kept. The smaller corpus has 4,000 sentences and about 9,000 names on whole words, so that seqeval can score it:
its two reports hold the two IOB2 modes, those of musamma all modes. The runs alternate, and the medians are compared. Times
are seconds of one processor core.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from seqeval.metrics import classification_report
from seqeval.scheme import IOB2

from musamma.data.document import Document, Span
from musamma.evaluation import MODES, Scorer, score_documents, score_tags
from musamma.evaluation.document_pairing import pair_documents
from musamma.evaluation.word_boundaries import tag_words, whitespace_words

_LABELS = ("PER", "LOC", "ORG", "MISC")
_TEXT = "أعلن المتحدث باسم الأمم المتحدة ستيفان دوجاريك وبالموصل أن الوفد، وصل إلى «بيروت» من بغداد للجيش العراقي أمس"
_WORDS = _TEXT.split()
_NAMES = 10


def corpus(documents: int, *, names: int = _NAMES, gap: int = 6, predicted: bool, seed: int = 1) -> Iterator[Document]:
    """Yield documents with names on whole words, annotated or predicted, on the same texts.

    Args:
        documents: number of documents.
        names: names per document.
        gap: words from the start of a name to the start of the next.
        predicted: yield the predictions instead of the gold.
        seed: of the random numbers.
    """
    for number in range(documents):
        random_ = random.Random(seed * 1_000_003 + number)
        text = " ".join(random_.choices(_WORDS, k=names * gap))
        borders = whitespace_words(text)
        gold, predictions = [], []
        for at in range(0, names * gap, gap):
            length = random_.choice((1, 1, 2, 3))
            label, luck = random_.choice(_LABELS), random_.random()
            gold.append(Span(borders[at][0], borders[at + length - 1][1], label))
            if luck < 0.8:
                predictions.append(gold[-1])
            elif luck < 0.9:
                predictions.append(Span(borders[at][0], borders[at + length][1], label))
            elif luck < 0.95:
                predictions.append(Span(*borders[at], "ORG"))
            else:
                predictions.append(Span(*borders[at + gap - 1], label))
        yield Document(f"d{number}", text, tuple(predictions if predicted else gold))


def sentences(*, predicted: bool) -> list[Document]:
    """Return 4,000 sentences of 30 words, three in four of them with two names and the others with three."""
    shapes = ((3_000, 2), (1_000, 3))
    parts = (corpus(count, names=names, gap=30 // names, predicted=predicted, seed=names) for count, names in shapes)
    return [replace(document, id=f"{part}-{document.id}") for part, made in enumerate(parts) for document in made]


def seconds(action: Callable[[], object]) -> float:
    """Return the processor seconds of an action: nothing here waits or uses threads, and other processes do not count."""
    begin = time.process_time()
    action()
    return time.process_time() - begin


def peak() -> float:
    """Return the peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def score_large_corpus(documents: int) -> None:
    """Print time and memory of scoring a large streamed corpus."""
    score_documents(corpus(100, predicted=False), corpus(100, predicted=True))
    before, begin, taken = peak(), time.process_time(), 0.0
    scorer = Scorer()
    for gold, prediction in pair_documents(corpus(documents, predicted=False), corpus(documents, predicted=True)):
        start = time.process_time()
        scorer.add(gold, prediction)
        taken += time.process_time() - start
    total, grown, micro = time.process_time() - begin, peak() - before, scorer.scores().strict.micro
    print(
        f"{documents:,} documents, {micro.support:,} gold and {micro.predicted:,} predicted names, {len(MODES)} modes"
    )
    print(
        f"scoring {taken:.1f} s; generating and pairing the documents {total - taken:.1f} s; peak memory +{grown:.0f} MB"
    )


def compare_with_seqeval(runs: int) -> None:
    """Print the time of both libraries on a corpus of ANERcorp's size."""
    gold, predicted = sentences(predicted=False), sentences(predicted=True)
    gold_tags, predicted_tags = (
        [tag_words(whitespace_words(d.text), d.spans) for d in side] for side in (gold, predicted)
    )

    def reports() -> None:
        classification_report(gold_tags, predicted_tags, output_dict=True, zero_division=0)
        classification_report(gold_tags, predicted_tags, output_dict=True, zero_division=0, mode="strict", scheme=IOB2)

    actions: dict[str, Callable[[], object]] = {
        "seqeval, both readings of the tags": reports,
        "score_tags, both readings of the tags": lambda: score_tags(gold_tags, predicted_tags),
        f"score_documents, {len(MODES)} modes, partial credit, layers": lambda: score_documents(gold, predicted),
        "score_documents, strict and iob2_strict": lambda: score_documents(gold, predicted, modes=["iob2_strict"]),
    }
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(runs):
        for name, action in actions.items():
            taken[name].append(seconds(action))
    names = sum(len(document.spans) for document in gold)
    print(
        f"{len(gold):,} sentences, {sum(map(len, gold_tags)):,} words, {names:,} names; median of {runs} alternating runs"
    )
    base = statistics.median(taken["seqeval, both readings of the tags"])
    for name, times in taken.items():
        middle = statistics.median(times)
        print(f"{name}: {middle:.3f} s, {middle / base:.2f} of seqeval's ({min(times):.3f} to {max(times):.3f})")


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    score_large_corpus(options.documents)
    compare_with_seqeval(options.runs)


if __name__ == "__main__":
    main()
