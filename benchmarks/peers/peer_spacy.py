"""spaCy: the names (``doc.ents``) of any pipeline.

Checked against spaCy 3.8.18, with a blank Arabic pipeline and rules. spaCy has no trained Arabic pipeline: use one of your own. Its
tokens are whitespace words without punctuation, so names include proclitics unless the pipeline splits them off. A text of more
than ``nlp.max_length`` characters is an error in spaCy. There are no scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from predicted_names import PredictedName, TextPrediction, predict_documents

from musamma.data.document import Document


def tag(documents: Iterable[Document], *, model: str, device: str) -> Iterator[Document]:
    """Return the documents with the names that a spaCy pipeline predicts; the call itself loads the pipeline.

    Args:
        documents: their spans are ignored.
        model: an installed pipeline or a folder.
        device: ``cpu``, ``cuda`` or ``cuda:1``...

    Raises:
        InputError: its offsets do not fit the text.
    """
    import spacy

    if device == "cpu":
        spacy.require_cpu()
    else:
        spacy.require_gpu(int(device.partition(":")[2] or 0))
    nlp = spacy.load(model)

    def predict(batch: Sequence[Document]) -> Iterator[TextPrediction]:
        return (
            TextPrediction(
                tuple(PredictedName(e.start_char, e.end_char, e.label_, surface=e.text) for e in parsed.ents)
            )
            for parsed in nlp.pipe(document.text for document in batch)
        )

    return predict_documents(documents, predict)
