"""Rows of an embedding for new pieces, made from the rows of their parts."""

from __future__ import annotations

import copy

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedModel

from musamma.data.errors import InputError
from musamma.models.vocabulary.word_vocabulary import tokenize_words

INITIALIZATIONS = ("mean", "scaled", "first", "letters")


def extend_embeddings(
    model: PreTrainedModel, tokenizer: Tokenizer, words: list[str], *, initial: str = "letters"
) -> PreTrainedModel:
    """A copy of an encoder with rows for whole words, in the places that :func:`extend_tokenizer` gives them.

    Args:
        model: the encoder.
        tokenizer: its tokenizer, without the words.
        words: the new pieces.
        initial: see :func:`build_rows`.
    """
    extended = copy.deepcopy(model)
    embedding = word_embedding(extended)
    table = embedding.weight.detach()
    start = tokenizer.get_vocab_size(with_added_tokens=False)
    rows = build_rows(table, tokenizer, words, initial=initial)
    embedding.weight = nn.Parameter(torch.cat([table[:start], rows, table[start:]]))
    embedding.num_embeddings = extended.config.vocab_size = len(embedding.weight)
    if embedding.padding_idx is not None and embedding.padding_idx >= start:
        embedding.padding_idx += len(words)
    for key, value in extended.config.to_dict().items():
        if key.endswith("_token_id") and isinstance(value, int) and value >= start:
            setattr(extended.config, key, value + len(words))
    return extended


def build_rows(table: torch.Tensor, tokenizer: Tokenizer, words: list[str], *, initial: str) -> torch.Tensor:
    """Embeddings of whole words from those of their parts.

    Args:
        table: of the pieces, shape (pieces, hidden).
        tokenizer: what cuts the words into parts.
        words: the new pieces.
        initial: ``mean`` of the parts; ``scaled``, their mean with the parts' mean norm; and, as long, ``first``, where
            each part weighs half of the one before, or ``letters``, where it weighs as many as it has letters.

    Returns:
        Shape (words, hidden).
    """
    names = {i: piece for piece, i in tokenizer.get_vocab().items()}
    rows = torch.empty(len(words), table.shape[1], dtype=table.dtype)
    for number, ids in enumerate(tokenize_words(tokenizer, words).values()):
        weights = torch.ones(len(ids))
        if initial == "first":
            weights = 0.5 ** torch.arange(len(ids))
        elif initial == "letters":
            weights = torch.tensor([float(len(names[i].removeprefix("##").lstrip("▁"))) for i in ids])
        parts = table[ids]
        row = (weights[:, None] * parts).sum(0) / weights.sum()
        rows[number] = row if initial == "mean" else row * (parts.norm(dim=1).mean() / row.norm().clamp_min(1e-12))
    return rows


def check_single_table(model: PreTrainedModel) -> None:
    """Refuse a model that keeps a second table with a row for each piece, or that has a decoder."""
    own = word_embedding(model)
    if getattr(model.config, "is_encoder_decoder", False):
        raise InputError("a model with a decoder", where=str(model.name_or_path), expected="an encoder alone")
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and module is not own and module.num_embeddings == own.num_embeddings:
            if "position" in name:
                continue
            raise InputError(
                f"{name} is a second table of {own.num_embeddings} rows",
                where=str(model.name_or_path),
                expected="one table of word embeddings",
            )


def word_embedding(model: PreTrainedModel) -> nn.Embedding:
    """The table of piece embeddings.

    Raises:
        InputError: pieces are looked up in another way.
    """
    embedding = model.get_input_embeddings()
    if not isinstance(embedding, nn.Embedding):
        raise InputError(
            f"pieces are looked up in a {type(embedding).__name__}",
            where=str(model.name_or_path),
            expected="one table of word embeddings (torch.nn.Embedding)",
        )
    return embedding


def trim_embeddings(model: PreTrainedModel, ids: list[int]) -> PreTrainedModel:
    """A copy of an encoder with the word embeddings of ``ids`` only; special ids in its config are renumbered.

    Raises:
        InputError: the embedding has fewer rows than the largest id needs.
    """
    new = {old: i for i, old in enumerate(ids)}
    trimmed = copy.deepcopy(model)
    embedding = word_embedding(trimmed)
    if ids[-1] >= len(embedding.weight):
        raise InputError(
            f"piece id {ids[-1]}",
            where=str(model.name_or_path),
            expected=f"ids below {len(embedding.weight)}, the rows of the embedding",
            remedy="the tokenizer belongs to another model, or pieces were added to it afterwards",
        )
    embedding.weight = nn.Parameter(embedding.weight.detach()[torch.tensor(ids)])
    embedding.num_embeddings = len(ids)
    if embedding.padding_idx is not None:
        embedding.padding_idx = new[embedding.padding_idx]
    trimmed.config.vocab_size = len(ids)
    for key, value in trimmed.config.to_dict().items():
        if key.endswith("_token_id") and isinstance(value, int):
            setattr(trimmed.config, key, new.get(value))
    return trimmed
