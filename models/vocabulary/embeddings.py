"""The word embeddings of an encoder: drop the rows of pieces, or add rows for new pieces made from their parts."""

from __future__ import annotations

import copy

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedModel

from musamma.data.errors import InputError
from musamma.models.vocabulary.word_vocabulary import tokenize_words

INITIALIZATIONS = ("mean", "scaled", "first", "letters")


def word_embedding(encoder: PreTrainedModel) -> nn.Embedding:
    """Return the table of piece embeddings.

    Raises:
        InputError: the encoder looks up pieces in another way.
    """
    embedding = encoder.get_input_embeddings()
    if not isinstance(embedding, nn.Embedding):
        raise InputError(
            f"pieces are looked up in a {type(embedding).__name__}",
            where=str(encoder.name_or_path),
            expected="one table of word embeddings (torch.nn.Embedding)",
        )
    return embedding


def check_single_table(encoder: PreTrainedModel) -> None:
    """Check that a model has no decoder and only one table with a row per piece.

    Raises:
        InputError: the model has a decoder or a second table.
    """
    embedding = word_embedding(encoder)
    if getattr(encoder.config, "is_encoder_decoder", False):
        raise InputError("a model with a decoder", where=str(encoder.name_or_path), expected="an encoder alone")
    rows = embedding.num_embeddings
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Embedding) and module is not embedding and module.num_embeddings == rows:
            if "position" in name:
                continue
            raise InputError(
                f"{name} is a second table of {rows} rows",
                where=str(encoder.name_or_path),
                expected="one table of word embeddings",
            )


def trim_embeddings(encoder: PreTrainedModel, ids: list[int]) -> PreTrainedModel:
    """Return a copy of an encoder with the word embeddings of ``ids`` only; special ids in its config are renumbered.

    Raises:
        InputError: the embedding has too few rows for the largest id.
    """
    new_ids = {old: i for i, old in enumerate(ids)}
    trimmed = copy.deepcopy(encoder)
    embedding = word_embedding(trimmed)
    if ids[-1] >= len(embedding.weight):
        raise InputError(
            f"piece id {ids[-1]}",
            where=str(encoder.name_or_path),
            expected=f"ids below {len(embedding.weight)}, the rows of the embedding",
            remedy="the tokenizer belongs to another model, or pieces were added to it afterwards",
        )
    embedding.weight = nn.Parameter(embedding.weight.detach()[torch.tensor(ids)])
    embedding.num_embeddings = len(ids)
    if embedding.padding_idx is not None:
        embedding.padding_idx = new_ids[embedding.padding_idx]
    trimmed.config.vocab_size = len(ids)
    for key, value in trimmed.config.to_dict().items():
        if key.endswith("_token_id") and isinstance(value, int):
            setattr(trimmed.config, key, new_ids.get(value))
    return trimmed


def extend_embeddings(
    encoder: PreTrainedModel, tokenizer: Tokenizer, words: list[str], *, initial: str = "letters"
) -> PreTrainedModel:
    """Return a copy of an encoder with rows for whole words, at the ids that :func:`extend_tokenizer` gives them.

    Args:
        encoder: the encoder.
        tokenizer: its tokenizer, without the words.
        words: the new pieces.
        initial: see :func:`build_rows`.
    """
    extended = copy.deepcopy(encoder)
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
    """Build the embeddings of whole words from those of their parts.

    Args:
        table: embeddings of the pieces, (pieces, hidden).
        tokenizer: cuts the words into parts.
        words: the new pieces.
        initial: ``mean``, the mean of the parts; ``scaled``, that mean scaled to the parts' mean norm; ``first``, scaled
            likewise, where each part weighs half as much as the one before; ``letters``, scaled likewise, where each part
            weighs as much as it has letters.

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
