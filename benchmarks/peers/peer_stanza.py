"""Stanza: the Arabic pipeline of tokenizer, multi-word tokens and names.

Checked against the source of Stanza 1.15.0. It splits sentences itself and cuts nothing off. Names are made of tokens, before clitics are
parted from them: whole words, proclitics included, for which ``whole_word`` is the fair mode. It gives no scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from offsets import Findings, Found, tagged

from musamma.data.document import Document


def tag(documents: Iterable[Document], *, model: str, device: str) -> Iterator[Document]:
    """The documents with the names that Stanza finds; models that are not on the disk yet are fetched at the call.

    Args:
        documents: their own spans are not looked at.
        model: a package of names for Arabic: ``default``, ``aqmar_charlm``...
        device: ``cpu``, ``cuda`` or ``cuda:1``...

    Raises:
        InputError: its offsets are not those of the text.
    """
    import stanza

    run = stanza.Pipeline(
        "ar",
        processors="tokenize,mwt,ner",
        package={"ner": model},
        device=device,
        download_method=stanza.DownloadMethod.REUSE_RESOURCES,
        verbose=False,
    )

    def find(batch: Sequence[Document]) -> Iterator[Findings]:
        return (
            Findings(tuple(Found(e.start_char, e.end_char, e.type, surface=e.text) for e in found.ents))
            for found in run.bulk_process([document.text for document in batch])
        )

    return tagged(documents, find)
