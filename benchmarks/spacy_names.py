"""The spaCy component on Khabar's test part: its names are those of `Tagger`, and many of them end inside a token of spaCy.

    python benchmarks/spacy_names.py [--model MODEL] [--documents N]

The texts are tagged by `Tagger` and by a blank Arabic pipeline with the component, each with a model of its own. Names, in `doc._.musamma`,
are compared with their offsets, labels and scores, and the text of each `doc` with the original. The second table counts what
each `alignment_mode` makes of the names as entities of `doc.ents`. Exit status 1 if a name or a text differs.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import spacy
from rich.console import Console
from rich.table import Table
from spacy.tokens import Doc

from musamma.data.corpora import load_khabar
from musamma.data.document import Span
from musamma.inference import Tagger
from musamma.inference.spacy_component import ALIGNMENT_MODES, NameComponent
from musamma.models.model_names import DEFAULT_MODEL


class KnownNames:
    """Stands for a tagger that has already found the names of a text."""

    def __init__(self, names: Sequence[Span]) -> None:
        self.names = list(names)

    def tag(self, text: str) -> list[Span]:
        return self.names


def count_differing(names: Iterable[Span], component: Iterable[dict[str, Any]]) -> int:
    """Count the names of one side that the other lacks."""
    first = Counter(tuple(sorted(name.to_dict().items())) for name in names)
    second = Counter(tuple(sorted(name.items())) for name in component)
    return ((first - second) + (second - first)).total()


def count_entities(nlp: spacy.Language, texts: Sequence[str], names: Sequence[Sequence[Span]], mode: str) -> list[int]:
    """Count what an alignment mode makes of names: entities, those with the borders of a name, and names without an entity."""
    entities = exact = absent = 0
    for text, found in zip(texts, names, strict=True):
        doc = NameComponent(KnownNames(found), alignment_mode=mode)(nlp.make_doc(text))
        borders = {(name.start, name.end) for name in found}
        entities += len(doc.ents)
        exact += sum((entity.start_char, entity.end_char) in borders for entity in doc.ents)
        absent += len(found) - len(doc.ents)
    return [entities, exact, entities - exact, absent]


def end_inside_tokens(doc: Doc, names: Sequence[Span]) -> int:
    """Count the names that no span of tokens fits."""
    return sum(doc.char_span(name.start, name.end) is None for name in names)


def main() -> None:
    """Tag, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--documents", type=int)
    options = parser.parse_args()
    texts = [document.text for document in load_khabar("test")][: options.documents]
    names = list(Tagger(options.model, device="cpu").tag_texts(texts))
    nlp = spacy.blank("ar")
    nlp.add_pipe("musamma_ner", config={"model": options.model, "device": "cpu"})
    docs = list(nlp.pipe(texts))

    differing = sum(count_differing(found, doc._.musamma) for found, doc in zip(names, docs, strict=True))
    changed = sum(doc.text != text for doc, text in zip(docs, texts, strict=True))
    inside = [end_inside_tokens(doc, found) for doc, found in zip(docs, names, strict=True)]
    table = Table(show_header=False, title=options.model)
    for title, count in (
        ("documents", len(texts)),
        ("words", sum(len(text.split()) for text in texts)),
        ("names of Tagger", sum(map(len, names))),
        ("names of the component", sum(len(doc._.musamma) for doc in docs)),
        ("names that differ", differing),
        ("texts that differ", changed),
        ("names that begin or end inside a token", sum(inside)),
        ("documents with such names", sum(map(bool, inside))),
    ):
        table.add_row(title, f"{count:,}")
    console = Console()
    console.print(table)
    modes = Table(
        "alignment_mode", "entities", "as the name", "wider or narrower", "names without entity", title="doc.ents"
    )
    for mode in ALIGNMENT_MODES:
        modes.add_row(mode, *(f"{count:,}" for count in count_entities(nlp, texts, names, mode)))
    console.print(modes)
    sys.exit(bool(differing or changed))


if __name__ == "__main__":
    main()
