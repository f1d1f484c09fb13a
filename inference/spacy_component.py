"""A spaCy pipeline component: ``nlp.add_pipe("musamma_ner")``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc
from spacy.tokens import Span as TokenSpan
from spacy.util import filter_spans

from musamma.data.document import Span
from musamma.data.errors import not_one_of
from musamma.models.model_names import DEFAULT_MODEL

if TYPE_CHECKING:
    from musamma.inference.tagger import Tagger

#: The key of ``doc.spans`` and the name of the attribute of ``doc._``.
SPANS_KEY = "musamma"

ALIGNMENT_MODES = ("expand", "strict", "contract")

_DEFAULTS: dict[str, Any] = {
    "model": DEFAULT_MODEL,
    "device": None,
    "batch_tokens": None,
    "min_score": 0.0,
    "thresholds": False,
    "alignment_mode": "expand",
}


class NameComponent:
    """Stores the names that a tagger finds in spaCy documents.

    spaCy's Arabic tokenizer does not separate proclitics, so many names end inside a token and no ``spacy.tokens.Span``
    fits them. Each name is therefore stored in up to three places:

    - ``doc._.musamma``: every name as ``{"start", "end", "label", "score"}``, with exact offsets in characters of ``doc.text``.
    - ``doc.spans["musamma"]``: every name, expanded to whole tokens, in the same order; ``.attrs["scores"]`` has the scores.
    - ``doc.ents``: names aligned by ``alignment_mode``. Entities set earlier in the pipeline are kept. Of two names in one
      token the longer is stored, or else the first.

    Args:
        tagger: finds the names.
        alignment_mode: how a name that does not fit tokens is stored in ``doc.ents``, as in ``Doc.char_span``: ``"expand"`` to
            whole tokens, ``"strict"`` not at all, ``"contract"`` to the tokens that lie inside it.

    Raises:
        InputError: the alignment mode is unknown.
    """

    def __init__(self, tagger: Tagger, *, alignment_mode: str = "expand") -> None:
        if alignment_mode not in ALIGNMENT_MODES:
            raise not_one_of("`alignment_mode`", alignment_mode, map(repr, ALIGNMENT_MODES))
        self.tagger, self.alignment_mode = tagger, alignment_mode
        _register_attribute()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore_component, (self.tagger, self.alignment_mode)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that the model knows."""
        return tuple(self.tagger.labels)

    def __call__(self, doc: Doc) -> Doc:
        """Store the names of one document."""
        return self._store_names(doc, self.tagger.tag(doc.text))

    def pipe(self, stream: Iterable[Doc], *, batch_size: int | None = None) -> Iterator[Doc]:
        """Store the names of many documents, in order.

        Args:
            stream: the documents; a few hundred are read ahead of the one that is yielded.
            batch_size: not used. The tagger fills batches with windows of similar length from many documents; their size is
                the setting ``batch_tokens``.
        """
        waiting: deque[Doc] = deque()

        def texts() -> Iterator[str]:
            for doc in stream:
                waiting.append(doc)
                yield doc.text

        for names in self.tagger.tag_texts(texts()):
            yield self._store_names(waiting.popleft(), names)

    def _store_names(self, doc: Doc, names: list[Span]) -> Doc:
        doc._.set(SPANS_KEY, [name.to_dict() for name in names])
        expanded = _align(doc, names, "expand")
        doc.spans[SPANS_KEY] = expanded
        doc.spans[SPANS_KEY].attrs["scores"] = np.array([name.score for name in names], dtype="float32")
        taken = {token.i for entity in doc.ents for token in entity}
        aligned = expanded if self.alignment_mode == "expand" else _align(doc, names, self.alignment_mode)
        free = [span for span in aligned if taken.isdisjoint(range(span.start, span.end))]
        doc.ents = (*doc.ents, *filter_spans(free))
        return doc


@Language.factory(
    "musamma_ner",
    assigns=["doc.ents", "doc.spans", f"doc._.{SPANS_KEY}", "token.ent_iob", "token.ent_type"],
    default_config=_DEFAULTS,
)
def create_name_component(
    nlp: Language,
    name: str,
    model: str,
    device: str | None,
    batch_tokens: int | None,
    min_score: float,
    thresholds: bool,
    alignment_mode: str,
) -> NameComponent:
    """Create the component ``musamma_ner`` of a pipeline; see `Tagger` and `NameComponent` for the settings.

    A pipeline on disk holds these settings and not the weights, so the model must be available where it is loaded.

    Raises:
        InputError: the model cannot be loaded, or a setting is invalid.
    """
    # spaCy imports this module for every pipeline, with this component or without. transformers takes seconds to load.
    from musamma.inference.tagger import Tagger

    tagger = Tagger(model, device=device, batch_tokens=batch_tokens, min_score=min_score, thresholds=thresholds)
    return NameComponent(tagger, alignment_mode=alignment_mode)


def _restore_component(tagger: Tagger, alignment_mode: str) -> NameComponent:
    return NameComponent(tagger, alignment_mode=alignment_mode)


def _align(doc: Doc, names: list[Span], mode: str) -> list[TokenSpan]:
    """Return the names as spans of tokens, without those that the mode leaves out; ``"expand"`` leaves out none."""
    aligned = [doc.char_span(name.start, name.end, label=name.label, alignment_mode=mode) for name in names]
    return [span for span in aligned if span is not None]


def _register_attribute() -> None:
    # `default=None` and not a list: spaCy would share one list between documents.
    if not Doc.has_extension(SPANS_KEY):
        Doc.set_extension(SPANS_KEY, default=None)
