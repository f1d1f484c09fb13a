"""spaCy: the names (``doc.ents``) of any pipeline, and the training of one from nothing.

Checked against spaCy 3.8.18. spaCy has no trained Arabic pipeline: use one of your own. Its tokens are whitespace words without
punctuation, so names include proclitics unless the pipeline splits them off. A text of more than ``nlp.max_length`` characters is an
error in spaCy. There are no scores.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from predicted_names import PredictedName, TextPrediction, predict_documents

from musamma.data.document import Document

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

#: Folder of the best model, in the output of spaCy's training.
BEST_MODEL = "model-best"


def train(
    documents: Iterable[Document],
    dev: Iterable[Document],
    *,
    output: Path,
    seed: int = 1,
    max_steps: int = 20_000,
    patience: int = 1_600,
) -> None:
    """Train spaCy's ``tok2vec`` and ``ner`` from nothing, and write the best model to ``output/model-best``.

    The settings are those of ``spacy init config --lang ar --pipeline ner --optimize accuracy``, without word vectors, which spaCy
    does not have for Arabic.

    Args:
        documents: annotated documents; a name that starts inside a token takes the whole token.
        dev: as ``documents``, to choose the step.
        output: an existing folder.
        seed: seed of all random numbers.
        max_steps: most steps; the default is spaCy's.
        patience: number of steps without a better score on ``dev`` after which training ends; the default is spaCy's.
    """
    import spacy
    from spacy.cli.init_config import init_config
    from spacy.cli.train import train as train_pipeline
    from spacy.tokens import DocBin

    config = init_config(lang="ar", pipeline=["ner"], optimize="accuracy")
    config["components"]["tok2vec"]["model"]["embed"]["include_static_vectors"] = False
    tokenizer = spacy.blank("ar")
    with tempfile.TemporaryDirectory() as folder:
        for part, part_documents in (("train", documents), ("dev", dev)):
            config["paths"][part] = f"{folder}/{part}.spacy"
            DocBin(docs=annotate(tokenizer, part_documents)).to_disk(config["paths"][part])
        config["system"]["seed"] = seed
        config["training"] |= {"max_steps": max_steps, "patience": patience}
        config.to_disk(f"{folder}/config.cfg")
        train_pipeline(f"{folder}/config.cfg", output)


def annotate(nlp: Language, documents: Iterable[Document]) -> Iterator[Doc]:
    """Yield annotated documents as spaCy's, with names extended to whole tokens; of names that share one the longest is retained.

    Args:
        nlp: a pipeline, of which the tokenizer is used.
        documents: annotated documents.
    """
    from spacy.util import filter_spans

    for document in documents:
        doc = nlp.make_doc(document.text)
        names = (doc.char_span(*span.key, alignment_mode="expand") for span in document.spans)
        doc.ents = filter_spans([name for name in names if name is not None])
        yield doc


def tag(documents: Iterable[Document], *, model: str, device: str) -> Iterator[Document]:
    """Return the documents with the names that a spaCy pipeline predicts; the call itself loads the pipeline.

    Args:
        documents: their spans are ignored.
        model: an installed pipeline, its folder, or a folder written by :func:`train`.
        device: ``cpu``, ``cuda`` or ``cuda:1``...

    Raises:
        InputError: its offsets do not fit the text.
    """
    import spacy

    if device == "cpu":
        spacy.require_cpu()
    else:
        spacy.require_gpu(int(device.partition(":")[2] or 0))
    best = Path(model) / BEST_MODEL
    nlp = spacy.load(best if best.is_dir() else model)

    def predict(batch: Sequence[Document]) -> Iterator[TextPrediction]:
        return (
            TextPrediction(
                tuple(PredictedName(e.start_char, e.end_char, e.label_, surface=e.text) for e in parsed.ents)
            )
            for parsed in nlp.pipe(document.text for document in batch)
        )

    return predict_documents(documents, predict)
