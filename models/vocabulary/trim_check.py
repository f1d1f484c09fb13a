"""The proof that a trimmed encoder computes what its source does, on lines that were held out of the counting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tokenizers import Encoding
from transformers import PreTrainedModel

from musamma.data.errors import ThresholdError
from musamma.models.vocabulary.encoder_similarity import hidden_states, largest

_HIDDEN_LINES = 32


@dataclass(frozen=True, slots=True)
class TrimCheck:
    """What was measured on the held-out lines.

    Args:
        lines: held-out lines.
        identical: share of those that both tokenizers cut alike, piece by piece and offset by offset.
        pieces_per_word_before, pieces_per_word_after: words are what white space separates; no special pieces.
        unknown_before, unknown_after: unknown pieces.
        hidden_lines: identical lines whose last hidden states were compared, spread over all of them.
        hidden_difference: largest absolute difference of any hidden state, all in float32.
        hidden_difference_saved: the same for the weights as they were saved, loaded again into float32.
        hidden_scale: largest absolute hidden state, to read the differences by.
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

    def to_dict(self) -> dict[str, Any]:
        """The measurements as a JSON object."""
        return asdict(self)

    def judge(self, *, min_identical: float, tolerance: float) -> None:
        """Pass, or raise.

        Raises:
            ThresholdError: fewer than ``min_identical`` lines are cut alike, or a float32 state differs by more than
                ``tolerance``, or there was no line to compare states on.
        """
        if self.identical < min_identical:
            raise ThresholdError(
                f"{self.identical:.4f} of {self.lines} held-out lines are cut as before, below {min_identical}; "
                "keep more pieces, or count them on more text"
            )
        if self.hidden_lines == 0:
            raise ThresholdError("no held-out line is cut as before, so no hidden state could be compared")
        if not self.hidden_difference <= tolerance:
            raise ThresholdError(
                f"hidden states differ by {self.hidden_difference:.3g}, above {tolerance:.3g}; "
                "this model reads piece ids in another way than by their embeddings"
            )


def compare_trimmed(
    models: tuple[PreTrainedModel, PreTrainedModel, PreTrainedModel],
    encodings: tuple[Sequence[Encoding], Sequence[Encoding]],
    ids: Sequence[int],
    *,
    words: int,
    unknown: int,
) -> TrimCheck:
    """Compare an encoder with its trimmed self.

    Args:
        models: the source, the trimmed one, and the trimmed one as saved and loaded again; all in float32.
        encodings: the held-out lines, cut by the source's tokenizer and by the saved one.
        ids: the source's piece ids that were kept, in the order of the new ids.
        words: white-space words in those lines.
        unknown: the source's id of the unknown piece, -1 where it has none.
    """
    old_lines, new_lines = encodings
    kept = np.array(ids)
    translated = [kept[line.ids].tolist() for line in new_lines]
    identical = [
        (old.ids, new.ids)
        for old, new, back in zip(old_lines, new_lines, translated, strict=True)
        if old.ids == back and old.offsets == new.offsets
    ]
    sample = identical[:: max(1, len(identical) // _HIDDEN_LINES)][:_HIDDEN_LINES]
    exact = saved = scale = 0.0
    for old, new in sample:
        source, trimmed, loaded = (
            hidden_states(model, pieces) for model, pieces in zip(models, (old, new, new), strict=True)
        )
        exact = max(exact, largest(source - trimmed))
        saved = max(saved, largest(source - loaded))
        scale = max(scale, largest(source))
    return TrimCheck(
        lines=len(old_lines),
        identical=len(identical) / len(old_lines),
        pieces_per_word_before=_text_pieces(old_lines) / max(words, 1),
        pieces_per_word_after=_text_pieces(new_lines) / max(words, 1),
        unknown_before=sum(list(line.ids).count(unknown) for line in old_lines),
        unknown_after=sum(line.count(unknown) for line in translated),
        hidden_lines=len(sample),
        hidden_difference=exact,
        hidden_difference_saved=saved,
        hidden_scale=scale,
    )


def _text_pieces(lines: Sequence[Encoding]) -> int:
    return sum(len(line.ids) - sum(line.special_tokens_mask) for line in lines)
