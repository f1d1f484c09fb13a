"""spaCy: the names (``doc.ents``) of any pipeline.

Checked against spaCy 3.8.18, with a blank Arabic pipeline and rules. spaCy has no trained Arabic pipeline of its own: this is for
your own ones. Its tokens are whitespace words less punctuation, so names hold proclitics unless the pipeline splits them off. A text
above ``nlp.max_length`` characters is an error of spaCy's, not cut. It gives no scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from offsets import Findings, Found, tagged

from musamma.data.document import Document


def tag(documents: Iterable[Document], *, model: str, device: str) -> Iterator[Document]:
    """The documents with the names that a spaCy pipeline finds; the pipeline is loaded at the call.

    Args:
        documents: their own spans are not looked at.
        model: an installed pipeline or a folder.
        device: ``cpu``, ``cuda`` or ``cuda:1``...

    Raises:
        InputError: its offsets are not those of the text.
    """
    import spacy

    if device == "cpu":
        spacy.require_cpu()
    else:
        spacy.require_gpu(int(device.partition(":")[2] or 0))
    run = spacy.load(model)

    def find(batch: Sequence[Document]) -> Iterator[Findings]:
        return (
            Findings(tuple(Found(e.start_char, e.end_char, e.label_, surface=e.text) for e in found.ents))
            for found in run.pipe(document.text for document in batch)
        )

    return tagged(documents, find)
