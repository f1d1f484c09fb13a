"""A conditional random field (CRFsuite) with the usual features of the field: the words around, their affixes and their shape.

Checked against python-crfsuite 0.9.12. The features follow Benajiba and Rosso (2008), "Arabic Named Entity Recognition using Conditional Random Fields",
and Abdul-Hamid and Darwish (2010), "Simplified Feature Set for Arabic Named Entity Recognition", as far as they need no analyser or list of names.
Words are those of this project, so a name ends before punctuation, but a name behind proclitics includes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from predicted_names import TextPrediction, decode_word_tags, predict_documents
from text_passages import split_sentences, split_words

from musamma.data.arabic import FOLDED_LETTERS, PROCLITIC_PATTERN, strip_marks
from musamma.data.document import Document
from musamma.evaluation.word_boundaries import tag_words

#: Name of the model in its folder.
MODEL_FILE = "model.crfsuite"

_SPELLINGS = str.maketrans({**FOLDED_LETTERS, **dict.fromkeys("أإآٱ", "ا"), "ى": "ي", "ة": "ه"})
_AFFIX_LENGTHS = range(1, 5)
_WINDOW = range(-2, 3)


def word_features(words: Sequence[str]) -> list[list[str]]:
    """Return the features of every word of a sentence.

    Args:
        words: as they are written.
    """
    forms = [strip_marks(word).translate(_SPELLINGS) for word in words]
    own = [_own_features(word, form) for word, form in zip(words, forms, strict=True)]
    features = []
    for index in range(len(words)):
        found = ["bias"]
        for distance in _WINDOW:
            position = index + distance
            if 0 <= position < len(words):
                # The neighbours' affixes would double the features and are not usual.
                found += [f"{distance}:{feature}" for feature in (own[position] if not distance else own[position][:3])]
            else:
                found.append(f"{distance}:outside")
        found += [f"{left}|{left + 1}:{_pair(forms, index + left)}" for left in (-1, 0)]
        features.append(found)
    return features


def _own_features(word: str, form: str) -> list[str]:
    """The features of a word by itself; the first three are also features of its neighbours."""
    stem = form[PROCLITIC_PATTERN.match(form).end() :]
    stem = stem.removeprefix("ال")
    return [
        f"word={form}",
        f"shape={_shape(word)}",
        f"stem={stem}",
        f"written={word}",
        f"length={min(len(form), 8)}",
        *(f"prefix={form[:length]}" for length in _AFFIX_LENGTHS if length < len(form)),
        *(f"suffix={form[-length:]}" for length in _AFFIX_LENGTHS if length < len(form)),
    ]


def _shape(word: str) -> str:
    """The kinds of a word's characters."""
    if word.isdigit():
        return f"{min(len(word), 5)} digits"
    if not any(character.isalnum() for character in word):
        return f"sign {word}"
    if word.isascii():
        return "Latin capital" if word[0].isupper() else "Latin"
    return "Arabic" if not any(character.isdigit() for character in word) else "mixed"


def _pair(forms: Sequence[str], index: int) -> str:
    return "/".join(forms[position] if 0 <= position < len(forms) else "" for position in (index, index + 1))


def train(
    documents: Iterable[Document],
    *,
    output: Path,
    c1: float = 0.1,
    c2: float = 0.1,
    iterations: int = 100,
) -> None:
    """Train a CRF by L-BFGS and write it to ``output``.

    Args:
        documents: annotated documents; a name that starts inside a word takes the whole word.
        output: an existing folder.
        c1, c2: coefficients of the L1 and L2 penalties.
        iterations: number of passes over the documents.
    """
    import pycrfsuite

    trainer = pycrfsuite.Trainer(algorithm="lbfgs", verbose=False)
    trainer.set_params({"c1": c1, "c2": c2, "max_iterations": iterations, "feature.possible_transitions": True})
    for document in documents:
        for words in split_words(document.text, split_sentences(document.text)):
            surfaces = [document.text[start:end] for start, end in words]
            trainer.append(word_features(surfaces), tag_words(words, document.spans))
    trainer.train(str(output / MODEL_FILE))


def tag(documents: Iterable[Document], *, model: str, device: str) -> Iterator[Document]:
    """Return the documents with the names that a CRF predicts; the call itself loads the model.

    Args:
        documents: their spans are ignored.
        model: a folder written by :func:`train`.
        device: ignored: CRFsuite computes on one CPU core.
    """
    import pycrfsuite

    tagger = pycrfsuite.Tagger()
    tagger.open(str(Path(model) / MODEL_FILE))

    def predict(batch: Sequence[Document]) -> Iterator[TextPrediction]:
        for document in batch:
            offsets, tags = [], []
            for words in split_words(document.text, split_sentences(document.text)):
                offsets += words
                tags += tagger.tag(word_features([document.text[start:end] for start, end in words]))
            yield decode_word_tags(offsets, tags, where=f"document {document.id!r}")

    return predict_documents(documents, predict)
