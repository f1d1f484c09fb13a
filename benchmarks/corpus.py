"""The figures of Khabar's data card, as Markdown. No network and no model.

    python benchmarks/corpus.py [--beside anercorp_exact_train.jsonl]

A word is a run of letters or digits of the raw text; a name is an outermost one unless said otherwise. ``--beside`` adds a column for
another corpus to the last table, on as many words of it as Khabar has.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from musamma.data.arabic import word_offsets
from musamma.data.corpora import load_khabar
from musamma.data.corpora.release import PARTS
from musamma.data.document import Document, Span
from musamma.data.formats import read_documents
from musamma.data.labels import SCHEMAS


def parts() -> dict[str, list[Document]]:
    """The documents of each part."""
    return {part: load_khabar(part) for part in PARTS}


def tokens(document: Document) -> list[str]:
    """The words of a document that hold a letter or a digit."""
    found = (document.text[start:end] for start, end in word_offsets(document.text))
    return [word for word in found if any(character.isalnum() for character in word)]


def words(documents: Iterable[Document]) -> int:
    """Words with a letter or a digit."""
    return sum(len(tokens(document)) for document in documents)


def names(documents: Iterable[Document]) -> list[str]:
    """The surface form of every outermost name, in order."""
    return [document.surface(span) for document in documents for span in document.spans]


def behind_proclitics(documents: Iterable[Document]) -> int:
    """Names that begin inside a word."""
    return sum(
        any(start < span.start < end for start, end in word_offsets(document.text))
        for document in documents
        for span in document.spans
    )


def render(split: dict[str, list[Document]]) -> str:
    """All tables, in the order of the card."""
    everything = [document for documents in split.values() for document in documents]
    return "\n\n".join((_sizes(split, everything), _labels(split, everything), _facts(split, everything)))


def variety(documents: Sequence[Document]) -> dict[str, str]:
    """What tells a varied corpus from a monotonous one, by name of the figure.

    The type-token ratio is the mean over runs of 1,000 words, which makes corpora of different size comparable (Johnson 1944).
    """
    runs = [tokens(document) for document in documents]
    stream = [word for run in runs for word in run]
    pieces = [stream[at : at + 1000] for at in range(0, len(stream) - 999, 1000)]
    holders: dict[tuple[str, ...], set[int]] = defaultdict(set)
    count = 0
    for index, run in enumerate(runs):
        for at in range(len(run) - 5):
            holders[tuple(run[at : at + 6])].add(index)
            count += 1
    shared = sum(len(ids) > 1 for ids in holders.values())
    found = names(documents)
    sentences = [
        len(tokens(Document("sentence", part)))
        for document in documents
        for part in re.split(r"(?<=[.!؟?])\s|\n", document.text)
        if part.strip()
    ]
    lengths = [length for length in sentences if length]
    return {
        "words": f"{len(stream):,}",
        "names per 100 words": f"{100 * len(found) / len(stream):.1f}",
        "names behind proclitics": f"{behind_proclitics(documents) / len(found):.1%}",
        "distinct forms per 100 names": f"{100 * len(set(found)) / len(found):.0f}",
        "type-token ratio of 1,000 words": f"{statistics.mean(len(set(piece)) / 1000 for piece in pieces):.3f}",
        "6-word runs in more than one document": f"{shared:,} of {len(holders):,} ({shared / len(holders):.2%})",
        "words a sentence, mean and standard deviation": f"{statistics.mean(lengths):.1f} ± {statistics.stdev(lengths):.1f}",
    }


def first_words(documents: Iterable[Document], limit: int) -> list[Document]:
    """Documents from the beginning until they hold ``limit`` words."""
    found, total = [], 0
    for document in documents:
        if total >= limit:
            break
        found.append(document)
        total += len(tokens(document))
    return found


def render_variety(columns: dict[str, Sequence[Document]]) -> str:
    """:func:`variety` of corpora side by side."""
    figures = [variety(documents) for documents in columns.values()]
    return _table(("", *columns), [(name, *(column[name] for column in figures)) for name in figures[0]])


def _sizes(split: dict[str, list[Document]], everything: list[Document]) -> str:
    rows = [
        (
            name,
            len(documents),
            f"{words(documents):,}",
            f"{len(names(documents)):,}",
            f"{sum(len(document.nested) for document in documents):,}",
            f"{100 * len(names(documents)) / words(documents):.1f}",
        )
        for name, documents in (*split.items(), ("all", everything))
    ]
    return _table(("part", "articles", "words", "names", "nested names", "names per 100 words"), rows)


def _labels(split: dict[str, list[Document]], everything: list[Document]) -> str:
    def count(spans: Iterable[Span]) -> Counter[str]:
        return Counter(span.label for span in spans)

    columns = [count(span for d in documents for span in d.spans) for documents in split.values()]
    nested = count(span for document in everything for span in document.nested)
    rows = []
    for label in SCHEMAS["khabar"]:
        total = sum(column[label] for column in columns)
        forms = {d.surface(span) for d in everything for span in d.spans if span.label == label}
        rows.append((f"`{label}`", *(column[label] for column in columns), total, len(forms), nested[label]))
    return _table(("label", *split, "all", "distinct forms", "nested"), rows)


def _facts(split: dict[str, list[Document]], everything: list[Document]) -> str:
    found, known = names(everything), set(names(split["train"]))
    inside = behind_proclitics(everything)
    holders = sum(
        any(span.start <= inner.start and inner.end <= span.end for inner in document.nested)
        for document in everything
        for span in document.spans
    )
    rows: list[tuple[str, str]] = [
        ("names behind proclitics", _share(inside, len(found))),
        ("names that hold a name", _share(holders, len(found))),
        ("names of more than one word", _share(sum(len(form.split()) > 1 for form in found), len(found))),
        ("distinct surface forms", f"{len(set(found)):,}"),
    ]
    for name in ("dev", "test"):
        forms = names(split[name])
        unseen = sum(form not in known for form in forms)
        rows.append((f"{name} names whose form is not in train", _share(unseen, len(forms))))
    return _table(("", "names"), rows)


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({part / whole:.1%})"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main() -> None:
    """Print the card's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", help="another corpus, in any format that musamma reads")
    options = parser.parse_args()
    split = parts()
    print(render(split))
    columns: dict[str, Sequence[Document]] = {"Khabar": [document for part in split.values() for document in part]}
    if options.beside:
        columns[options.beside] = first_words(read_documents(options.beside), words(columns["Khabar"]))
    print()
    print(render_variety(columns))


if __name__ == "__main__":
    main()
