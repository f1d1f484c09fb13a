"""Check that a trimmed encoder computes what its source computes, on lines that were held out of the counting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding
from transformers import PreTrainedModel

from musamma.data.errors import ThresholdError
from musamma.models.vocabulary.encoder_similarity import hidden_states, max_magnitude

_COMPARED_LINES = 32


@dataclass(frozen=True, slots=True)
class TrimCheck:
    """Measurements on the held-out lines.

    Args:
        lines: number of held-out lines.
        identical: share of them that both tokenizers cut identically, piece by piece and offset by offset.
        pieces_per_word_before, pieces_per_word_after: words are separated by white space; special pieces do not count.
        unknown_before, unknown_after: number of unknown pieces.
        hidden_lines: number of identical lines whose last hidden states were compared, spread over all of them.
        hidden_difference: largest absolute difference of any hidden state, all in float32.
        hidden_difference_saved: the same for the weights as saved, loaded again into float32.
        hidden_scale: largest absolute hidden state, for comparison with the differences.
    """

    lines: int
    identical: float
    pieces_per_word_before: float
    pieces_per_word_after: float
    unknown_before: int
    unknown_after: int
    hidden_lines: int
    hidden_difference: float
    hidden_difference_saved: float
    hidden_scale: float


def check_trim(check: TrimCheck, *, min_identical: float, tolerance: float) -> None:
    """Check the measurements against their limits.

    Raises:
        ThresholdError: fewer than ``min_identical`` of the lines are identical, a float32 state differs by more than
            ``tolerance``, or there was no line to compare states on.
    """
    if check.identical < min_identical:
        raise ThresholdError(
            f"{check.identical:.4f} of {check.lines} held-out lines are cut as before, below {min_identical}; "
            "retain more pieces, or count them on more text"
        )
    if check.hidden_lines == 0:
        raise ThresholdError("no held-out line is cut as before, so no hidden state could be compared")
    if not check.hidden_difference <= tolerance:
        raise ThresholdError(
            f"hidden states differ by {check.hidden_difference:.3g}, above {tolerance:.3g}; "
            "this model uses piece ids in another way than through their embeddings"
        )


def compare_trimmed(
    encoders: tuple[PreTrainedModel, PreTrainedModel, PreTrainedModel],
    encodings: tuple[Sequence[Encoding], Sequence[Encoding]],
    ids: Sequence[int],
    *,
    words: int,
    unknown: int,
) -> TrimCheck:
    """Compare an encoder with its trimmed copy.

    Args:
        encoders: the source, the trimmed encoder, and the trimmed encoder as saved and loaded again; all in float32.
        encodings: the held-out lines, encoded by the source's tokenizer and by the saved one.
        ids: the source's ids of the retained pieces, in the order of the new ids.
        words: number of white-space words in those lines.
        unknown: the source's id of the unknown piece, -1 if it has none.
    """
    old_lines, new_lines = encodings
    retained = np.array(ids)
    translated = [retained[line.ids].tolist() for line in new_lines]
    identical = [
        (old.ids, new.ids)
        for old, new, source_ids in zip(old_lines, new_lines, translated, strict=True)
        if old.ids == source_ids and old.offsets == new.offsets
    ]
    sample = identical[:: max(1, len(identical) // _COMPARED_LINES)][:_COMPARED_LINES]
    exact_difference = saved_difference = scale = 0.0
    for old_ids, new_ids in sample:
        source, trimmed, saved = (
            hidden_states(encoder, pieces)
            for encoder, pieces in zip(encoders, (old_ids, new_ids, new_ids), strict=True)
        )
        exact_difference = max(exact_difference, max_magnitude(source - trimmed))
        saved_difference = max(saved_difference, max_magnitude(source - saved))
        scale = max(scale, max_magnitude(source))
    return TrimCheck(
        lines=len(old_lines),
        identical=len(identical) / len(old_lines),
        pieces_per_word_before=_count_text_pieces(old_lines) / max(words, 1),
        pieces_per_word_after=_count_text_pieces(new_lines) / max(words, 1),
        unknown_before=sum(list(line.ids).count(unknown) for line in old_lines),
        unknown_after=sum(line.count(unknown) for line in translated),
        hidden_lines=len(sample),
        hidden_difference=exact_difference,
        hidden_difference_saved=saved_difference,
        hidden_scale=scale,
    )


def _count_text_pieces(lines: Sequence[Encoding]) -> int:
    return sum(len(line.ids) - sum(line.special_tokens_mask) for line in lines)
