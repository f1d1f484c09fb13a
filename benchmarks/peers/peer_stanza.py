"""Stanza: the Arabic pipeline of tokenizer, multi-word tokens and names.

Checked against the source of Stanza 1.15.0. It splits sentences itself and truncates nothing. Names consist of tokens before clitics are
split off: whole words including proclitics, so ``whole_word`` is the fair mode. There are no scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from predicted_names import PredictedName, TextPrediction, predict_documents

from musamma.data.document import Document


def tag(documents: Iterable[Document], *, model: str, device: str) -> Iterator[Document]:
    """Return the documents with the names that Stanza predicts; the call itself downloads a model that is missing.

    Args:
        documents: their spans are ignored.
        model: a named-entity package for Arabic: ``default``, ``aqmar_charlm``...
        device: ``cpu``, ``cuda`` or ``cuda:1``...

    Raises:
        InputError: its offsets do not fit the text.
    """
    import stanza

    nlp = stanza.Pipeline(
        "ar",
        processors="tokenize,mwt,ner",
        package={"ner": model},
        device=device,
        download_method=stanza.DownloadMethod.REUSE_RESOURCES,
        verbose=False,
    )

    def predict(batch: Sequence[Document]) -> Iterator[TextPrediction]:
        return (
            TextPrediction(tuple(PredictedName(e.start_char, e.end_char, e.type, surface=e.text) for e in parsed.ents))
            for parsed in nlp.bulk_process([document.text for document in batch])
        )

    return predict_documents(documents, predict)
