"""Print the figures of Khabar's data card as Markdown. Needs neither network nor model.

    python benchmarks/corpus.py [--beside anercorp_exact_train.jsonl] [--text news.txt.zst]

A word is a run of letters or digits of the raw text; names are outermost names unless nested ones are mentioned. ``--beside`` adds a
column for another corpus to the last table, cut to as many words as the part of Khabar with the habits of found news has. ``--text``
adds the frequency of some words in raw text, a paragraph a line.
"""

from __future__ import annotations

import argparse
import itertools
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from musamma.data.arabic import word_offsets
from musamma.data.corpora import load_khabar
from musamma.data.corpora.release import PARTS
from musamma.data.corpus_files import read_documents
from musamma.data.document import Document, Span
from musamma.data.input_files import read_lines
from musamma.data.labels import SCHEMAS

#: First letters of the ids of the articles with the habits of found news; Khabar's card has the kind of each.
KINDS = "mnopqrstuvw"
#: Words that written articles easily have too often or too seldom.
COMMON_WORDS = ("تم", "من خلال", "وفقا", "خلال", "غير أن", "حيث", "قال", "أكد", "أضاف")


def load_parts() -> dict[str, list[Document]]:
    """Load the documents of each part."""
    return {part: load_khabar(part) for part in PARTS}


def split_words(document: Document) -> list[str]:
    """Words of a document that have a letter or a digit."""
    words = (document.text[start:end] for start, end in word_offsets(document.text))
    return [word for word in words if any(character.isalnum() for character in word)]


def count_words(documents: Iterable[Document]) -> int:
    """Number of words with a letter or a digit."""
    return sum(len(split_words(document)) for document in documents)


def name_forms(documents: Iterable[Document]) -> list[str]:
    """Surface forms of all outermost names, in order."""
    return [document.surface(span) for document in documents for span in document.spans]


def count_after_proclitics(documents: Iterable[Document]) -> int:
    """Number of names that start inside a word."""
    return sum(
        any(start < span.start < end for start, end in word_offsets(document.text))
        for document in documents
        for span in document.spans
    )


def render_tables(parts: dict[str, list[Document]]) -> str:
    """Format all tables, in the order of the card."""
    corpus = [document for documents in parts.values() for document in documents]
    return "\n\n".join((_render_sizes(parts, corpus), _render_labels(parts, corpus), _render_facts(parts, corpus)))


def measure_variety(documents: Sequence[Document]) -> dict[str, str]:
    """Measure how varied a corpus is; the figures by name.

    The type-token ratio is the mean over runs of 1,000 words, which makes corpora of different sizes comparable (Johnson 1944).
    """
    words_by_document = [split_words(document) for document in documents]
    words = [word for document_words in words_by_document for word in document_words]
    runs = [words[start : start + 1000] for start in range(0, len(words) - 999, 1000)]
    documents_of: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for index, document_words in enumerate(words_by_document):
        for start in range(len(document_words) - 5):
            documents_of[tuple(document_words[start : start + 6])].add(index)
    shared = sum(len(indices) > 1 for indices in documents_of.values())
    forms = name_forms(documents)
    sentences = [sentence for document in documents for sentence in split_sentences(document)]
    lengths = [length for length, _ in sentences]
    forms_by_document = [Counter(name_forms([document])) for document in documents]
    recurring = sum(count for counts in forms_by_document for count in counts.values() if count >= 3)
    persons = [document.surface(s) for document in documents for s in document.spans if s.label in ("PER", "PERS")]
    document_lengths = sorted(map(len, words_by_document))
    return {
        "words": f"{len(words):,}",
        "names per 100 words": f"{100 * len(forms) / len(words):.1f}",
        "names after proclitics": f"{count_after_proclitics(documents) / len(forms):.1%}",
        "distinct forms per 100 names": f"{100 * len(set(forms)) / len(forms):.0f}",
        "type-token ratio of 1,000 words": f"{statistics.mean(len(set(run)) / 1000 for run in runs):.3f}",
        "6-word runs in more than one document": f"{shared:,} of {len(documents_of):,} ({shared / len(documents_of):.2%})",
        "words a sentence, mean and standard deviation": f"{statistics.mean(lengths):.1f} ± {statistics.stdev(lengths):.1f}",
        "sentences without a name": f"{sum(not names for _, names in sentences) / len(sentences):.1%}",
        "mentions of the 100 most frequent forms": f"{sum(n for _, n in Counter(forms).most_common(100)) / len(forms):.1%}",
        "mentions of forms that occur three times in their document": f"{recurring / len(forms):.1%}",
        "persons of one word": f"{sum(len(form.split()) == 1 for form in persons) / len(persons):.1%}",
        "words a document: least, median, most": f"{document_lengths[0]}, {statistics.median(document_lengths):.0f}, "
        f"{document_lengths[-1]:,}",
        **{
            f"{word}, in 1,000 words": f"{rate:.2f}"
            for word, rate in count_common_words(document.text for document in documents).items()
        },
    }


def split_sentences(document: Document) -> list[tuple[int, int]]:
    """Number of words and of names that start in each sentence; a line end ends a sentence too."""
    borders = [0, *(match.end() for match in re.finditer(r"(?<=[.!؟?])\s|\n", document.text)), len(document.text)]
    sentences = []
    for start, end in itertools.pairwise(borders):
        words = len(split_words(Document("sentence", document.text[start:end])))
        if words:
            sentences.append((words, sum(start <= span.start < end for span in document.spans)))
    return sentences


def count_common_words(texts: Iterable[str]) -> dict[str, float]:
    """Occurrences of :data:`COMMON_WORDS` in 1,000 words, with and without a conjunction before them."""
    patterns = {word: re.compile(rf"(?<!\w)[وف]?{word}(?!\w)") for word in COMMON_WORDS}
    counts, total = Counter[str](), 0
    for text in texts:
        total += len(re.findall(r"\w+", text))
        counts.update({word: len(pattern.findall(text)) for word, pattern in patterns.items()})
    return {word: 1000 * counts[word] / total for word in COMMON_WORDS}


def take_words(documents: Iterable[Document], limit: int) -> list[Document]:
    """Take documents from the beginning until they have ``limit`` words."""
    selected, total = [], 0
    for document in documents:
        if total >= limit:
            break
        selected.append(document)
        total += len(split_words(document))
    return selected


def render_variety(columns: dict[str, Sequence[Document]]) -> str:
    """Format :func:`measure_variety` of several corpora side by side."""
    figures = [measure_variety(documents) for documents in columns.values()]
    return _render_table(("", *columns), [(name, *(column[name] for column in figures)) for name in figures[0]])


def _render_sizes(parts: dict[str, list[Document]], corpus: list[Document]) -> str:
    rows = [
        (
            name,
            len(documents),
            f"{count_words(documents):,}",
            f"{len(name_forms(documents)):,}",
            f"{sum(len(document.nested) for document in documents):,}",
            f"{100 * len(name_forms(documents)) / count_words(documents):.1f}",
        )
        for name, documents in (*parts.items(), ("all", corpus))
    ]
    return _render_table(("part", "articles", "words", "names", "nested names", "names per 100 words"), rows)


def _render_labels(parts: dict[str, list[Document]], corpus: list[Document]) -> str:
    def count(spans: Iterable[Span]) -> Counter[str]:
        return Counter(span.label for span in spans)

    columns = [count(span for d in documents for span in d.spans) for documents in parts.values()]
    nested = count(span for document in corpus for span in document.nested)
    rows = []
    for label in SCHEMAS["khabar"]:
        total = sum(column[label] for column in columns)
        forms = {d.surface(span) for d in corpus for span in d.spans if span.label == label}
        rows.append((f"`{label}`", *(column[label] for column in columns), total, len(forms), nested[label]))
    return _render_table(("label", *parts, "all", "distinct forms", "nested"), rows)


def _render_facts(parts: dict[str, list[Document]], corpus: list[Document]) -> str:
    all_forms, known = name_forms(corpus), set(name_forms(parts["train"]))
    inside = count_after_proclitics(corpus)
    containing = sum(
        any(span.start <= inner.start and inner.end <= span.end for inner in document.nested)
        for document in corpus
        for span in document.spans
    )
    rows: list[tuple[str, str]] = [
        ("names after proclitics", _format_share(inside, len(all_forms))),
        ("names that hold a name", _format_share(containing, len(all_forms))),
        (
            "names of more than one word",
            _format_share(sum(len(form.split()) > 1 for form in all_forms), len(all_forms)),
        ),
        ("distinct surface forms", f"{len(set(all_forms)):,}"),
    ]
    for name in ("dev", "test"):
        forms = name_forms(parts[name])
        unseen = sum(form not in known for form in forms)
        rows.append((f"{name} names whose form is not in train", _format_share(unseen, len(forms))))
    return _render_table(("", "names"), rows)


def _format_share(count: int, whole: int) -> str:
    return f"{count:,} of {whole:,} ({count / whole:.1%})"


def _render_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def main() -> None:
    """Print the card's tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", help="another corpus, in any format that Musamma reads")
    parser.add_argument("--text", type=Path, help="raw text, for the frequency of some words")
    options = parser.parse_args()
    parts = load_parts()
    print(render_tables(parts))
    corpus = [document for documents in parts.values() for document in documents]
    older, newer = [], []
    for document in corpus:
        (newer if re.fullmatch(rf"[{KINDS}]\d+", document.id) else older).append(document)
    columns: dict[str, Sequence[Document]] = {"Khabar": corpus, "a to l": older, "m to w": newer}
    if options.beside:
        columns[options.beside] = take_words(read_documents(options.beside), count_words(newer))
    print()
    print(render_variety(columns))
    if options.text:
        print(f"\n{options.text}, in 1,000 words:")
        print(", ".join(f"{word} {rate:.2f}" for word, rate in count_common_words(read_lines([options.text])).items()))


if __name__ == "__main__":
    main()
