"""Time of the analysis of a test set and of its report. No network, no model, no corpus.

    python benchmarks/analysis.py [--resamples 10000] [--documents 400]

The test set is synthetic, the same in every run, and of the size of the usual Arabic ones: 25,000 words and 2,300 names in 400
documents, eight labels, names after proclitics, a third of the forms seen in training, three metadata keys. The predictions
have scores, and four names in five are correct. Analysis and report together should take less than 20 seconds on two cores.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

from musamma.data.document import Document, Span
from musamma.evaluation.analysis import analyse
from musamma.evaluation.counts import count_table
from musamma.evaluation.error_analysis import analyse_errors
from musamma.evaluation.matching import pair_names
from musamma.evaluation.metrics import Scorer
from musamma.evaluation.report import write_report
from musamma.evaluation.significance import bootstrap_intervals
from musamma.evaluation.slices import Slicer, count_slices

LABELS = ("PER", "ORG", "GPE", "LOC", "FAC", "EVENT", "NORP", "PROD")
WORDS = (
    "أعلن قال وصل في إلى على من عن بعد قبل أمس اليوم خلال حيث التي الذي هذا هذه كان كانت المدينة الرئيس الوزير القوات"
    " المعارك اجتماع زيارة اتفاق جديد كبير عدد أكثر منذ بين نحو ضد مع ثم كما أن إن لا ما لم تم وقد ، . :"
)
NAMES = (
    "محمد أحمد علي حسن السعيد العراقي بغداد دمشق الموصل القاهرة بيروت الرياض وزارة جامعة شركة قناة حزب تنظيم الدفاع الخارجية"
    " النفط الاتحاد النادي الأهلي الوطني العربي الدولي نهر جبل ميناء مطار كأس دوري مؤتمر الأكراد السريان هاتف صاروخ"
)
_T = TypeVar("_T")

NAMES_A_WORD = 2_200 / 25_000
WORDS_A_DOCUMENT = 62


def article(number: int, forms: list[tuple[str, str]]) -> Document:
    """Return a document of about sixty words with names; the same for the same number."""
    draw = random.Random(number)
    pieces: list[tuple[str, str | None]] = []
    plain = WORDS.split()
    words = 0
    while words < WORDS_A_DOCUMENT:
        # A name replaces as many words as it has: 1.8 on average.
        if draw.random() < NAMES_A_WORD / (1 - 0.8 * NAMES_A_WORD):
            form, label = draw.choices(forms, weights=[1 / rank for rank in range(1, len(forms) + 1)])[0]
            pieces += [(draw.choice("وبل"), None)] if draw.random() < 0.2 else []
            pieces.append((form, label))
            words += form.count(" ") + 1
        else:
            pieces.append((draw.choice(plain), None))
            words += 1
        pieces.append((" ", None))
    starts = accumulate((len(piece) for piece, _ in pieces), initial=0)
    spans = [
        Span(start, start + len(piece), label)
        for start, (piece, label) in zip(starts, pieces, strict=False)
        if label is not None
    ]
    meta = {
        "source": f"s{draw.randrange(8)}",
        "topic": f"t{draw.randrange(12)}",
        "date": f"20{draw.randrange(16, 26)}-05-01",
    }
    return Document(f"d{number}", "".join(piece for piece, _ in pieces), tuple(spans), meta=meta)


def tagged(document: Document) -> Document:
    """Return the predictions of a system with four correct names in five."""
    draw = random.Random(document.id)
    names = []
    for span in document.spans:
        fate, start, end, label = draw.random(), span.start, span.end, span.label
        if fate < 0.07:
            continue
        if fate < 0.14:
            label = draw.choice(LABELS)
        elif fate < 0.17 and start and document.text[start - 1] != " ":
            start -= 1
        elif fate < 0.2 and " " in document.surface(span):
            end = start + document.surface(span).index(" ")
        names.append(
            Span(start, end, label, round(draw.betavariate(30, 1) if fate >= 0.2 else draw.betavariate(9, 2), 4))
        )
    taken = {offset for span in (*names, *document.spans) for offset in range(span.start - 1, span.end + 1)}
    for start in range(0, len(document.text) - 4, 97):
        if draw.random() < 0.1 and taken.isdisjoint(range(start, start + 4)):
            names.append(Span(start, start + 4, draw.choice(LABELS), round(draw.betavariate(4, 2), 4)))
    return document.with_spans(names)


def test_set(documents: int) -> tuple[list[Document], list[Document], list[Document]]:
    """Return gold, predicted and training documents."""
    draw = random.Random(1)
    forms = [
        (" ".join(draw.choices(NAMES.split(), k=draw.choice((1, 1, 1, 2, 2, 4)))), draw.choice(LABELS))
        for _ in range(1_500)
    ]
    gold = [article(number, forms) for number in range(documents)]
    training = [article(documents + number, forms[::3]) for number in range(documents)]
    return gold, [tagged(document) for document in gold], training


def timed(part: str, work: Callable[[], _T]) -> _T:
    """Do the work and print its duration."""
    start = time.perf_counter()
    outcome = work()
    print(f"{part:<24}{time.perf_counter() - start:8.2f} s", flush=True)
    return outcome


def main() -> None:
    """Print the duration of every part, then of the whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--documents", type=int, default=400)
    options = parser.parse_args()
    gold, predictions, training = test_set(options.documents)
    words = sum(len(document.text.split()) for document in gold)
    print(f"{len(gold)} documents, {words} words, {sum(len(document.spans) for document in gold)} names")
    pairs = list(zip(gold, predictions, strict=True))
    scorer = Scorer()
    timed("scores", lambda: [scorer.add(one, other) for one, other in pairs])
    name_pairs = timed(
        "pairs of names", lambda: [pair for one, other in pairs for pair in pair_names(one, other.spans)]
    )
    counts = timed("counts by document", lambda: count_table(pairs))
    slicer = timed("training forms", lambda: Slicer(training=training))
    table = timed("slices", lambda: counts.join(count_slices(pairs, slicer)))
    timed("intervals", lambda: bootstrap_intervals(table, resamples=options.resamples))
    errors = timed("errors", lambda: analyse_errors(pairs, name_pairs))
    print(f"strict F1 {scorer.scores().strict.micro.f1:.3f}, {len(table.rows)} rows, {len(errors.suspects)} suspects")
    start = time.perf_counter()
    analysis = timed(
        "analysis",
        lambda: analyse(gold, predictions, system="synthetic", training=training, resamples=options.resamples),
    )
    with tempfile.TemporaryDirectory() as folder:
        timed("report", lambda: write_report(analysis, Path(folder) / "report"))
    print(f"{'analysis and report':<24}{time.perf_counter() - start:8.2f} s")


if __name__ == "__main__":
    main()
