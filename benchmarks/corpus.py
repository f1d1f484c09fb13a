"""The figures of Khabar's data card, as Markdown: ``python benchmarks/corpus.py``. No network and no model.

A word is a run of letters or digits of the raw text; a name is an outermost one unless said otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from musamma.data.corpora import khabar
from musamma.data.document import Document, Span
from musamma.data.labels import SCHEMAS
from musamma.data.words import segment


def parts() -> dict[str, list[Document]]:
    """The documents of each part; the training part is what the development and the test part leave."""
    held_out = {name: khabar(name) for name in ("dev", "test")}
    taken = {document.id for documents in held_out.values() for document in documents}
    return {"train": [document for document in khabar() if document.id not in taken], **held_out}


def words(documents: Iterable[Document]) -> int:
    """Words with a letter or a digit."""
    return sum(
        any(character.isalnum() for character in document.text[start:end])
        for document in documents
        for start, end in segment(document.text)
    )


def names(documents: Iterable[Document]) -> list[str]:
    """The surface form of every outermost name, in order."""
    return [document.surface(span) for document in documents for span in document.spans]


def behind_proclitics(documents: Iterable[Document]) -> int:
    """Names that begin inside a word."""
    return sum(
        any(start < span.start < end for start, end in segment(document.text))
        for document in documents
        for span in document.spans
    )


def render(split: dict[str, list[Document]]) -> str:
    """All tables, in the order of the card."""
    everything = [document for documents in split.values() for document in documents]
    return "\n\n".join((_sizes(split, everything), _labels(split, everything), _facts(split, everything)))


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


if __name__ == "__main__":
    print(render(parts()))
