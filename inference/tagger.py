"""The tagger: articles in, the same articles with their names out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from musamma.data.document import Document, Span
from musamma.data.encoding import Encoder
from musamma.data.tags import TagSet
from musamma.models.prediction import Predictor, choose_device, supports_bfloat16
from musamma.models.registry import load_tokenizer, resolve_model
from musamma.models.token_classifier import load_classifier


class Tagger:
    """Finds names with a fine-tuned checkpoint.

    >>> tagger = Tagger("runs/quickstart")                                          # doctest: +SKIP
    >>> tagger.tag("وصل الوفد إلى بيروت وبغداد")                                    # doctest: +SKIP
    [Span(start=15, end=20, label='GPE', score=0.98), Span(start=22, end=27, label='GPE', score=0.97)]

    Args:
        model: a folder, the name of a model that comes with the project, or a hub id.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``...; by default the GPU where there is one.
        batch_tokens: pieces a batch, padding included; by default 4,096 on a CPU, 32,768 on a GPU.
        bfloat16: compute in bfloat16; by default where the device does so in hardware.

    Raises:
        InputError: there is no such model or device, the model has no tokenizer, or it is no entity recogniser.
    """

    def __init__(
        self,
        model: str,
        *,
        device: str | None = None,
        batch_tokens: int | None = None,
        bfloat16: bool | None = None,
    ) -> None:
        name = resolve_model(model)
        where = choose_device(device)
        tokenizer = load_tokenizer(name)
        classifier, options = load_classifier(name)
        id2label = {int(index): name for index, name in (classifier.config.id2label or {}).items()}
        tags, columns = TagSet.from_id2label(id2label, where=model)
        half = supports_bfloat16(where) if bfloat16 is None else bfloat16
        self.model, self.labels = model, tags.labels
        self._predictor = Predictor(
            classifier.to(where),
            Encoder(tokenizer, max_length=options.max_length, overlap=options.overlap),
            tags,
            columns,
            device=where,
            autocast=torch.bfloat16 if half else None,
            batch_tokens=batch_tokens or (32_768 if where.type == "cuda" else 4_096),
        )

    def tag(self, text: str) -> list[Span]:
        """The names in one text, with character-exact offsets into it and a score."""
        return list(next(self.tag_documents([Document("text", text)])).spans)

    def tag_texts(self, texts: Iterable[str]) -> Iterator[list[Span]]:
        """The names in each of many texts, in order; memory does not grow with their number."""
        documents = (Document(str(index), text) for index, text in enumerate(texts))
        return (list(document.spans) for document in self.tag_documents(documents))

    def tag_documents(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents with the names found in them, in order; spans that they had are replaced."""
        return self._predictor.predict(documents)
