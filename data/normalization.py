"""Arabic normalisation as a part of the tokenizer, so that offsets stay offsets into the raw text.

`tokenizers` keeps the alignment of every character through its normalisers. What is dropped or folded here is therefore
dropped for the encoder only: pieces still point at the characters that were given, training and inference cannot differ,
and whoever loads the checkpoint with plain `transformers` gets the same.
"""

from __future__ import annotations

import json

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from musamma.data.arabic import FOLDED_LETTERS, REMOVED_MARKS
from musamma.data.errors import InputError

# Words as musamma.data.arabic cuts them: a number with its separators is one, every other sign stands alone.
_SIGN = r"\p{N}+(?:[.,٫٬]\p{N}+)+|[^\p{L}\p{M}\p{N}\s]"


def arabic_normalizer() -> normalizers.Normalizer:
    """NFKC (which folds presentation forms), without vowel signs, tatweel and invisible controls, with Arabic letters."""
    steps: list[normalizers.Normalizer] = [normalizers.NFKC(), normalizers.Replace(Regex(REMOVED_MARKS), "")]
    steps += [normalizers.Replace(letter, arabic) for letter, arabic in FOLDED_LETTERS.items()]
    return normalizers.Sequence(steps)


def install_normalizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Put :func:`arabic_normalizer` before the tokenizer's own normaliser, and make its pieces end where words end.

    A SentencePiece-style tokenizer (Metaspace) cuts at spaces only, so that a piece may hold a bracket and the name behind
    it; it is made to cut at punctuation too. A WordPiece tokenizer does so by itself.

    Args:
        tokenizer: a fast tokenizer; its backend is changed in place.

    Returns:
        The same tokenizer under the class that keeps to its ``tokenizer.json``: `transformers` builds the normaliser of a
        `BertTokenizer` and its like anew when it loads one. One that has the normaliser already is given back as it is.

    Raises:
        InputError: the tokenizer is a slow one, which has no offsets.
    """
    backend = fast_backend(tokenizer)
    if not has_normalizer(tokenizer):
        own = backend.normalizer
        steps = [arabic_normalizer()] if own is None else [arabic_normalizer(), own]
        backend.normalizer = normalizers.Sequence(steps)
        if (metaspace := _metaspace(backend)) is not None:
            backend.pre_tokenizer = pre_tokenizers.Sequence(
                [
                    pre_tokenizers.WhitespaceSplit(),
                    pre_tokenizers.Split(Regex(_SIGN), "isolated"),
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
    """Whether the tokenizer already carries :func:`arabic_normalizer`."""
    return REMOVED_MARKS in json.dumps(_state(fast_backend(tokenizer))["normalizer"]).replace("\\\\", "\\")


def fast_backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The `tokenizers` object behind a fast tokenizer.

    Raises:
        InputError: it is a slow one.
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
    """The replacement character of a Metaspace pre-tokenizer, alone or in a sequence with nothing that cuts at signs."""
    state = _state(backend)["pre_tokenizer"] or {}
    parts = state.get("pretokenizers", [state])
    found = [part["replacement"] for part in parts if part.get("type") == "Metaspace"]
    return found[0] if found else None
