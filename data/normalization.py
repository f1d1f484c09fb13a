"""Arabic normalisation as a part of the tokenizer, which keeps all offsets offsets into the raw text.

The normalisers of `tokenizers` keep the alignment of every character. Characters are removed or folded for the encoder only:
pieces still refer to the original characters, training and inference cannot differ, and a checkpoint loaded with plain
`transformers` behaves the same.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

from musamma.data.arabic import FOLDED_LETTERS, REMOVED_MARKS
from musamma.data.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Word borders as in musamma.data.arabic: a number with its separators is one word, every other sign is one by itself.
_SEPARATE = r"\p{N}+(?:[.,٫٬]\p{N}+)+|[^\p{L}\p{M}\p{N}\s]"


def arabic_normalizer() -> normalizers.Normalizer:
    """Build the normaliser: NFKC (which folds presentation forms), marks removed, Persian and Urdu letters folded."""
    steps: list[normalizers.Normalizer] = [normalizers.NFKC(), normalizers.Replace(Regex(REMOVED_MARKS), "")]
    steps += [normalizers.Replace(letter, arabic) for letter, arabic in FOLDED_LETTERS.items()]
    return normalizers.Sequence(steps)


def install_normalizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Insert :func:`arabic_normalizer` before the tokenizer's normaliser, and make its pieces end where words end.

    A SentencePiece-style tokenizer (Metaspace) splits at spaces only, so a piece may contain a bracket and the start of the
    name after it. It is made to split at punctuation as well, as WordPiece tokenizers do by themselves.

    Args:
        tokenizer: a fast tokenizer; its backend is changed in place.

    Returns:
        The tokenizer as a `PreTrainedTokenizerFast`, the class that loads ``tokenizer.json`` unchanged: for a `BertTokenizer` and
        similar classes, `transformers` rebuilds the normaliser when it loads one. A tokenizer with the normaliser keeps it.

    Raises:
        InputError: the tokenizer is slow and therefore has no offsets.
    """
    from transformers import PreTrainedTokenizerFast

    backend = fast_backend(tokenizer)
    if not has_normalizer(tokenizer):
        original = backend.normalizer
        steps = [arabic_normalizer()] if original is None else [arabic_normalizer(), original]
        backend.normalizer = normalizers.Sequence(steps)
        if (metaspace := _metaspace(backend)) is not None:
            backend.pre_tokenizer = pre_tokenizers.Sequence(
                [
                    pre_tokenizers.WhitespaceSplit(),
                    pre_tokenizers.Split(Regex(_SEPARATE), "isolated"),
                    pre_tokenizers.Metaspace(replacement=metaspace, prepend_scheme="always"),
                ]
            )
    if type(tokenizer) is PreTrainedTokenizerFast:
        return tokenizer
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        name_or_path=tokenizer.name_or_path,
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        padding_side=tokenizer.padding_side,
        **tokenizer.special_tokens_map,
    )


def has_normalizer(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether the tokenizer has :func:`arabic_normalizer`."""
    return REMOVED_MARKS in json.dumps(_state(fast_backend(tokenizer))["normalizer"]).replace("\\\\", "\\")


def fast_backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """Return the `tokenizers` object of a fast tokenizer.

    Raises:
        InputError: the tokenizer is slow.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise InputError(
            f"{type(tokenizer).__name__} is a slow tokenizer",
            where=str(tokenizer.name_or_path),
            expected="a fast tokenizer (tokenizer.json), which keeps character offsets",
            remedy="convert it with transformers' AutoTokenizer, or choose another encoder",
        )
    return backend


def _state(backend: Tokenizer) -> dict:
    return json.loads(backend.to_str())


def _metaspace(backend: Tokenizer) -> str | None:
    """The replacement character of a Metaspace pre-tokenizer, alone or in a sequence; ``None`` if there is none."""
    state = _state(backend)["pre_tokenizer"] or {}
    parts = state.get("pretokenizers", [state])
    return next((part["replacement"] for part in parts if part.get("type") == "Metaspace"), None)
