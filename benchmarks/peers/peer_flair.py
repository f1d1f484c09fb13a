"""Flair: a ``SequenceTagger`` that is trained with its encoder, as Flair's documentation recommends for transformers.

Checked against Flair 0.15.1 with transformers 4.57. Words are those of this project, so a name ends before punctuation, but a name behind
proclitics includes them. The tagger gets passages of whole sentences, as long as fit into its encoder, for the context that this project's windows have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from predicted_names import PredictedName, TextPrediction, predict_documents
from text_passages import split_passages, split_words

from musamma.data.arabic import word_offsets
from musamma.data.document import Document
from musamma.data.tags import decode_tags
from musamma.evaluation.word_boundaries import tag_words

#: Name of the model in its folder: that of Flair's trainer for the best epoch.
MODEL_FILE = "best-model.pt"

#: Most words of a passage. With 1.8 pieces a word, most passages fit into the 512 pieces of an encoder; Flair splits the others.
PASSAGE_WORDS = 200

_LAYER = "ner"


def split_passage_words(text: str) -> list[list[tuple[int, int]]]:
    """Return start and end of the words of every passage of a text, in code points."""
    passages = split_passages(text, fits=lambda passage: len(word_offsets(passage)) <= PASSAGE_WORDS)
    return split_words(text, passages.borders)


def train(
    documents: Iterable[Document],
    dev: Iterable[Document],
    *,
    encoder: str,
    output: Path,
    seed: int = 1,
    epochs: int = 10,
    learning_rate: float = 5e-5,
    batch_size: int = 4,
) -> None:
    """Fine-tune an encoder with a linear layer, and write the best epoch's model to ``output``.

    Args:
        documents: annotated documents; a name that starts inside a word takes the whole word.
        dev: as ``documents``, to choose the epoch.
        encoder: a folder or a hub id.
        output: an existing folder.
        seed: seed of all random numbers.
        epochs: number of epochs.
        learning_rate: its maximum; the schedule is linear, with a warm-up of a tenth.
        batch_size: passages per step.
    """
    import flair
    from flair.data import Corpus
    from flair.datasets import FlairDatapointDataset
    from flair.embeddings import TransformerWordEmbeddings
    from flair.models import SequenceTagger
    from flair.trainers import ModelTrainer

    flair.set_seed(seed)
    parts = [FlairDatapointDataset(list(annotate_sentences(part))) for part in (documents, dev)]
    corpus: Corpus[Any] = Corpus(train=parts[0], dev=parts[1], sample_missing_splits=False)
    embeddings = TransformerWordEmbeddings(
        encoder, layers="-1", subtoken_pooling="first", fine_tune=True, use_context=False
    )
    tagger = SequenceTagger(
        hidden_size=256,
        embeddings=embeddings,
        tag_dictionary=corpus.make_label_dictionary(_LAYER, add_unk=False),
        tag_type=_LAYER,
        use_crf=False,
        use_rnn=False,
        reproject_embeddings=False,
    )
    ModelTrainer(tagger, corpus).fine_tune(
        output,
        learning_rate=learning_rate,
        mini_batch_size=batch_size,
        max_epochs=epochs,
        use_final_model_for_eval=False,
    )


def annotate_sentences(documents: Iterable[Document]) -> Iterator[Any]:
    """Yield the passages of annotated documents as Flair's sentences with labels."""
    from flair.data import Sentence

    for document in documents:
        for words in split_passage_words(document.text):
            sentence = Sentence([document.text[start:end] for start, end in words])
            tags = tag_words(words, document.spans)
            for name in decode_tags([(tag,) for tag in tags], scheme="iob2", where=[document.id] * len(tags))[0]:
                sentence[name.start : name.end].add_label(_LAYER, name.label)
            yield sentence


def tag(documents: Iterable[Document], *, model: str, device: str) -> Iterator[Document]:
    """Return the documents with the names that a Flair tagger predicts; the call itself loads the model.

    Args:
        documents: their spans are ignored.
        model: a folder written by :func:`train`, a file of Flair, or one of its names.
        device: ``cpu``, ``cuda`` or ``cuda:1``...
    """
    import flair
    import torch
    from flair.data import Sentence
    from flair.models import SequenceTagger

    flair.device = torch.device(device)
    file = Path(model) / MODEL_FILE
    tagger = SequenceTagger.load(file if file.is_file() else model)

    def predict(batch: Sequence[Document]) -> Iterator[TextPrediction]:
        passages = [(document, words) for document in batch for words in split_passage_words(document.text)]
        sentences = [Sentence([document.text[start:end] for start, end in words]) for document, words in passages]
        tagger.predict(sentences, mini_batch_size=8)
        names: dict[str, list[PredictedName]] = {document.id: [] for document in batch}
        for (document, words), sentence in zip(passages, sentences, strict=True):
            names[document.id] += [
                PredictedName(words[span[0].idx - 1][0], words[span[-1].idx - 1][1], span.tag, span.score)
                for span in sentence.get_spans(tagger.label_type)
            ]
        return (TextPrediction(tuple(names[document.id])) for document in batch)

    return predict_documents(documents, predict)
