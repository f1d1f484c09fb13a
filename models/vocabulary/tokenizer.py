"""The vocabulary of a fast tokenizer, cut to the pieces that a language needs.

Multilingual encoders spend most of their parameters on pieces that Arabic text never uses. What is kept here keeps its meaning:
pieces stay in their order, Unigram pieces their scores, BPE merges their ranks. A line whose pieces are all kept is cut as
before, but for rare ties; a line that needs a dropped piece falls back to shorter ones.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import regex
from tokenizers import Tokenizer, pre_tokenizers

from musamma.data.errors import InputError

SUPPORTED_MODELS = ("Unigram", "WordPiece", "BPE")
# What must not become <unk>: Arabic letters, digits and signs (by block: many are of no script), ASCII, Latin-1, punctuation.
_ALWAYS = regex.compile(
    r"[\p{Arabic}\u0600-\u06FF\u0750-\u077F\u0870-\u08FF\x21-\x7E\xA1-\xFF\u2010-\u2027\u2030-\u203E\u20AC]"
)
_MARKS = ("▁", "##", "Ġ")


def count_pieces(tokenizer: Tokenizer, lines: Iterable[str], *, batch: int = 1000) -> np.ndarray:
    """How often each piece occurs in a text.

    Args:
        tokenizer: the full tokenizer; its normaliser and pre-tokenizer run as they are.
        lines: streamed, never held as a whole.
        batch: lines a call of the tokenizer.

    Returns:
        int64, shape (pieces,): occurrences by piece id.
    """
    counts = np.zeros(tokenizer.get_vocab_size(with_added_tokens=True), np.int64)
    for chunk in _batches(lines, batch):
        ids = [i for one in tokenizer.encode_batch_fast(chunk, add_special_tokens=False) for i in one.ids]
        counts += np.bincount(np.array(ids, np.int64), minlength=len(counts))
    return counts


def choose_pieces(
    tokenizer: Tokenizer, counts: np.ndarray, *, pieces: int | None = None, coverage: float | None = None
) -> list[int]:
    """The pieces to keep: special ones, every single Arabic or ASCII character, then by frequency.

    A BPE piece brings the shorter pieces that it is merged from. A piece that never occurred is not kept.

    Args:
        tokenizer: the full tokenizer.
        counts: occurrences by piece id, from :func:`count_pieces`.
        pieces: the most pieces to keep.
        coverage: keep the fewest frequent pieces that make up this share of all occurrences, in (0, 1].
            With neither, every piece that occurred is kept.

    Returns:
        Piece ids in ascending order.

    Raises:
        InputError: no text was counted, both limits are given, a limit is out of range, or the tokenizer is of another kind.
    """
    state = tokenizer_state(tokenizer)
    total = int(counts.sum())
    if total == 0:
        raise InputError("no piece was counted", where="text", expected="Arabic text", remedy="check the text files")
    if pieces is not None and coverage is not None:
        raise InputError(f"pieces {pieces} and coverage {coverage}", where="trim", expected="one of the two")
    if coverage is not None and not 0 < coverage <= 1:
        raise InputError(f"coverage {coverage}", where="trim", expected="a share above 0, at most 1")
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    parts = _merge_parts(state)
    kept = find_required_pieces(tokenizer)
    required = len(kept)
    if pieces is not None and pieces < required:
        raise InputError(
            f"{pieces} pieces",
            where="trim",
            expected=f"at least {required}: special pieces and single characters",
        )
    covered = _occurrences(counts, kept)
    names = {i: piece for piece, i in vocabulary.items()}
    for piece_id in np.argsort(-counts, kind="stable").tolist():
        if counts[piece_id] == 0 or (coverage is not None and covered >= coverage * total):
            break
        if piece_id in kept or piece_id not in names:
            continue
        added = _with_parts(names[piece_id], parts, kept, vocabulary)
        if pieces is not None and len(kept) + len(added) > pieces:
            break
        kept |= added
        covered += _occurrences(counts, added)
    return sorted(kept)


def trim_tokenizer(tokenizer: Tokenizer, ids: list[int]) -> Tokenizer:
    """The tokenizer with the chosen pieces only, renumbered from 0 in the order of ``ids``.

    Args:
        tokenizer: left as it is.
        ids: ascending, from :func:`choose_pieces`; must hold the special pieces.

    Raises:
        InputError: a special piece is not among ``ids``, or the ids of added tokens do not follow the model's.
    """
    state = tokenizer_state(tokenizer)
    new = {old: i for i, old in enumerate(ids)}
    model = state["model"]
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    if missing := [piece for piece in _special(state) if vocabulary[piece] not in new]:
        raise InputError(f"special piece {missing[0]!r} is not kept", where="trim", expected="every special piece")
    if model["type"] == "Unigram":
        model["vocab"] = [entry for i, entry in enumerate(model["vocab"]) if i in new]
        if model["unk_id"] is not None:
            model["unk_id"] = new[model["unk_id"]]
    else:
        model["vocab"] = {piece: new[i] for piece, i in model["vocab"].items() if i in new}
    if model["type"] == "BPE":
        prefix = model.get("continuing_subword_prefix") or ""
        pairs = [_pair(merge) for merge in model["merges"]]
        model["merges"] = [[a, b] for a, b in pairs if a + b.removeprefix(prefix) in model["vocab"]]
    return renumber_tokenizer(state, vocabulary, new)


def renumber_tokenizer(state: dict[str, Any], vocabulary: dict[str, int], new: dict[int, int]) -> Tokenizer:
    """A tokenizer whose model has its new pieces already, with the ids of all else brought into line.

    Args:
        state: of the tokenizer, with the new model; changed in place.
        vocabulary: piece -> id before.
        new: id before -> id now.

    Raises:
        InputError: a piece would not come to its id.
    """
    for added in state["added_tokens"]:
        added["id"] = new[added["id"]]
    _renumber(state["post_processor"], new)
    if state["padding"]:
        state["padding"]["pad_id"] = new[state["padding"]["pad_id"]]
    made = Tokenizer.from_str(json.dumps(state, ensure_ascii=False))
    for piece, old in vocabulary.items():
        if old in new and made.token_to_id(piece) != new[old]:
            raise InputError(
                f"piece {piece!r} would move to {made.token_to_id(piece)} instead of {new[old]}",
                where="tokenizer.json",
                expected="added tokens that come after the model's own pieces",
            )
    return made


def find_required_pieces(tokenizer: Tokenizer) -> set[int]:
    """Ids of the pieces that always stay: special ones, single characters of Arabic text, and what they are merged from."""
    state = tokenizer_state(tokenizer)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    parts = _merge_parts(state)
    kept: set[int] = set()
    for piece in _required(state, vocabulary):
        kept |= _with_parts(piece, parts, kept, vocabulary)
    return kept


def tokenizer_state(tokenizer: Tokenizer) -> dict[str, Any]:
    """The tokenizer as its ``tokenizer.json`` would have it.

    Raises:
        InputError: it is neither Unigram nor WordPiece nor BPE.
    """
    state: dict[str, Any] = json.loads(tokenizer.to_str())
    if (kind := state["model"]["type"]) not in SUPPORTED_MODELS:
        raise InputError(
            f"a {kind} tokenizer", where="tokenizer.json", expected=f"one of {', '.join(SUPPORTED_MODELS)}"
        )
    return state


def _special(state: dict[str, Any]) -> list[str]:
    """Added tokens and the unknown piece."""
    model = state["model"]
    special = [added["content"] for added in state["added_tokens"]]
    if model["type"] == "Unigram" and model["unk_id"] is not None:
        special.append(model["vocab"][model["unk_id"]][0])
    elif model.get("unk_token") is not None:
        special.append(model["unk_token"])
    return special


def _required(state: dict[str, Any], vocabulary: dict[str, int]) -> list[str]:
    """Special pieces, bytes of a byte-level or byte-fallback model, and single characters of Arabic text."""
    required = set(_special(state))
    byte_level = '"ByteLevel"' in json.dumps([state["pre_tokenizer"], state["normalizer"]])
    alphabet = set(pre_tokenizers.ByteLevel.alphabet()) if byte_level else set()
    for piece in vocabulary:
        bare = next((piece.removeprefix(mark) for mark in _MARKS if piece.startswith(mark)), piece)
        is_byte = piece in alphabet or regex.fullmatch(r"<0x[0-9A-F]{2}>", piece)
        if is_byte or bare == "" or (not byte_level and len(bare) == 1 and _ALWAYS.match(bare)):
            required.add(piece)
    return sorted(piece for piece in required if piece in vocabulary)


def _merge_parts(state: dict[str, Any]) -> dict[str, set[str]]:
    """Piece -> the pieces that any BPE merge makes it from; empty for other models."""
    parts: dict[str, set[str]] = defaultdict(set)
    if state["model"]["type"] == "BPE":
        prefix = state["model"].get("continuing_subword_prefix") or ""
        for a, b in map(_pair, state["model"]["merges"]):
            parts[a + b.removeprefix(prefix)] |= {a, b}
    return {piece: found for piece, found in parts.items() if found}


def _with_parts(piece: str, parts: dict[str, set[str]], kept: set[int], vocabulary: dict[str, int]) -> set[int]:
    """The ids of a piece and of all it is merged from, less what is kept already."""
    names, found = [piece], set[int]()
    while names:
        name = names.pop()
        if (i := vocabulary[name]) not in kept and i not in found:
            found.add(i)
            names.extend(parts.get(name, ()))
    return found


def _occurrences(counts: np.ndarray, ids: set[int]) -> int:
    return int(sum(counts[i] for i in ids))


def _pair(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _renumber(processor: dict[str, Any] | None, new: dict[int, int]) -> None:
    """Set the piece ids of a post-processor, in place."""
    if processor is None:
        return
    for one in processor.get("processors", []):
        _renumber(one, new)
    for token in (processor.get("special_tokens") or {}).values():
        token["ids"] = [new[i] for i in token["ids"]]
    for key in ("sep", "cls"):
        if key in processor:
            processor[key] = [processor[key][0], new[processor[key][1]]]


def _batches(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    stream = iter(lines)
    while chunk := list(islice(stream, size)):
        yield chunk
