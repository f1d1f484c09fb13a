"""The vocabulary of a fast tokenizer: count its pieces on a text, choose the pieces to retain, and drop the others.

Multilingual encoders spend most of their parameters on pieces that Arabic text never uses. Retained pieces keep their meaning:
pieces keep their order, Unigram pieces their scores, BPE merges their ranks. A line whose pieces are all retained is cut as
before, except for rare ties; a line that needs a dropped piece falls back to shorter ones.
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
# Characters that must not become <unk>: Arabic letters, digits and signs (listed by block, because many belong to no script),
# ASCII, Latin-1, punctuation.
_REQUIRED_CHARACTERS = regex.compile(
    r"[\p{Arabic}\u0600-\u06FF\u0750-\u077F\u0870-\u08FF\x21-\x7E\xA1-\xFF\u2010-\u2027\u2030-\u203E\u20AC]"
)
_WORD_MARKS = ("▁", "##", "Ġ")


def count_pieces(tokenizer: Tokenizer, lines: Iterable[str], *, batch: int = 1000) -> np.ndarray:
    """Count how often each piece occurs in a text.

    Args:
        tokenizer: the full tokenizer; its normaliser and pre-tokenizer are used as they are.
        lines: the text, streamed.
        batch: number of lines per call of the tokenizer.

    Returns:
        int64, shape (pieces,): occurrences by piece id.
    """
    counts = np.zeros(tokenizer.get_vocab_size(with_added_tokens=True), np.int64)
    for chunk in _batch_lines(lines, batch):
        encodings = tokenizer.encode_batch_fast(chunk, add_special_tokens=False)
        ids = [i for encoding in encodings for i in encoding.ids]
        counts += np.bincount(np.array(ids, np.int64), minlength=len(counts))
    return counts


def choose_pieces(
    tokenizer: Tokenizer, counts: np.ndarray, *, pieces: int | None = None, coverage: float | None = None
) -> list[int]:
    """Choose the pieces to retain: special pieces, every single Arabic or ASCII character, then by frequency.

    With a BPE piece, the shorter pieces that it is merged from are retained too. Other pieces that never occurred are dropped.

    Args:
        tokenizer: the full tokenizer.
        counts: occurrences by piece id, from :func:`count_pieces`.
        pieces: maximum number of pieces to retain.
        coverage: retain the fewest frequent pieces that make up this share of all occurrences, in (0, 1]. With neither
            limit, every piece that occurred is retained.

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
    retained = find_required_pieces(tokenizer)
    if pieces is not None and pieces < len(retained):
        raise InputError(
            f"{pieces} pieces",
            where="trim",
            expected=f"at least {len(retained)}: special pieces and single characters",
        )
    covered = _count_occurrences(counts, retained)
    names = {i: piece for piece, i in vocabulary.items()}
    for piece_id in np.argsort(-counts, kind="stable").tolist():
        if counts[piece_id] == 0 or (coverage is not None and covered >= coverage * total):
            break
        if piece_id in retained or piece_id not in names:
            continue
        added = _find_missing_parts(names[piece_id], parts, retained, vocabulary)
        if pieces is not None and len(retained) + len(added) > pieces:
            break
        retained |= added
        covered += _count_occurrences(counts, added)
    return sorted(retained)


def trim_tokenizer(tokenizer: Tokenizer, ids: list[int]) -> Tokenizer:
    """Return the tokenizer with the chosen pieces only, renumbered from 0 in the order of ``ids``.

    Args:
        tokenizer: the full tokenizer; it is not changed.
        ids: ascending, from :func:`choose_pieces`; must contain the special pieces.

    Raises:
        InputError: a special piece is not among ``ids``, or the ids of added tokens do not follow the model's.
    """
    state = tokenizer_state(tokenizer)
    new_ids = {old: i for i, old in enumerate(ids)}
    model = state["model"]
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    if missing := [piece for piece in _list_special(state) if vocabulary[piece] not in new_ids]:
        raise InputError(f"special piece {missing[0]!r} is not retained", where="trim", expected="every special piece")
    if model["type"] == "Unigram":
        model["vocab"] = [entry for i, entry in enumerate(model["vocab"]) if i in new_ids]
        if model["unk_id"] is not None:
            model["unk_id"] = new_ids[model["unk_id"]]
    else:
        model["vocab"] = {piece: new_ids[i] for piece, i in model["vocab"].items() if i in new_ids}
    if model["type"] == "BPE":
        prefix = model.get("continuing_subword_prefix") or ""
        pairs = [_split_merge(merge) for merge in model["merges"]]
        model["merges"] = [[a, b] for a, b in pairs if a + b.removeprefix(prefix) in model["vocab"]]
    return renumber_tokenizer(state, vocabulary, new_ids)


def renumber_tokenizer(state: dict[str, Any], vocabulary: dict[str, int], new_ids: dict[int, int]) -> Tokenizer:
    """Build a tokenizer from a state with a new model, with all other ids adapted to it.

    Args:
        state: the tokenizer's state with the new model; changed in place.
        vocabulary: piece -> old id.
        new_ids: old id -> new id.

    Raises:
        InputError: a piece would not get its new id.
    """
    for added in state["added_tokens"]:
        added["id"] = new_ids[added["id"]]
    _renumber(state["post_processor"], new_ids)
    if state["padding"]:
        state["padding"]["pad_id"] = new_ids[state["padding"]["pad_id"]]
    tokenizer = Tokenizer.from_str(json.dumps(state, ensure_ascii=False))
    for piece, old in vocabulary.items():
        if old in new_ids and tokenizer.token_to_id(piece) != new_ids[old]:
            raise InputError(
                f"piece {piece!r} would move to {tokenizer.token_to_id(piece)} instead of {new_ids[old]}",
                where="tokenizer.json",
                expected="added tokens that come after the model's own pieces",
            )
    return tokenizer


def find_required_pieces(tokenizer: Tokenizer) -> set[int]:
    """Return the ids of the pieces that are always retained: special pieces, single characters of Arabic text, their parts."""
    state = tokenizer_state(tokenizer)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    parts = _merge_parts(state)
    required: set[int] = set()
    for piece in _list_required(state, vocabulary):
        required |= _find_missing_parts(piece, parts, required, vocabulary)
    return required


def tokenizer_state(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the tokenizer as the content of its ``tokenizer.json``.

    Raises:
        InputError: the tokenizer's model is neither Unigram nor WordPiece nor BPE.
    """
    state: dict[str, Any] = json.loads(tokenizer.to_str())
    if (kind := state["model"]["type"]) not in SUPPORTED_MODELS:
        raise InputError(
            f"a {kind} tokenizer", where="tokenizer.json", expected=f"one of {', '.join(SUPPORTED_MODELS)}"
        )
    return state


def _list_special(state: dict[str, Any]) -> list[str]:
    """List added tokens and the unknown piece."""
    model = state["model"]
    special = [added["content"] for added in state["added_tokens"]]
    if model["type"] == "Unigram" and model["unk_id"] is not None:
        special.append(model["vocab"][model["unk_id"]][0])
    elif model.get("unk_token") is not None:
        special.append(model["unk_token"])
    return special


def _list_required(state: dict[str, Any], vocabulary: dict[str, int]) -> list[str]:
    """List special pieces, bytes of a byte-level or byte-fallback model, and single characters of Arabic text."""
    required = set(_list_special(state))
    byte_level = '"ByteLevel"' in json.dumps([state["pre_tokenizer"], state["normalizer"]])
    alphabet = set(pre_tokenizers.ByteLevel.alphabet()) if byte_level else set()
    for piece in vocabulary:
        unmarked = next((piece.removeprefix(mark) for mark in _WORD_MARKS if piece.startswith(mark)), piece)
        is_byte = piece in alphabet or regex.fullmatch(r"<0x[0-9A-F]{2}>", piece)
        if (
            is_byte
            or unmarked == ""
            or (not byte_level and len(unmarked) == 1 and _REQUIRED_CHARACTERS.match(unmarked))
        ):
            required.add(piece)
    return sorted(piece for piece in required if piece in vocabulary)


def _merge_parts(state: dict[str, Any]) -> dict[str, set[str]]:
    """Map each BPE piece to the pieces that any merge makes it from; empty for other models."""
    parts: dict[str, set[str]] = defaultdict(set)
    if state["model"]["type"] == "BPE":
        prefix = state["model"].get("continuing_subword_prefix") or ""
        for a, b in map(_split_merge, state["model"]["merges"]):
            parts[a + b.removeprefix(prefix)] |= {a, b}
    return {piece: merged for piece, merged in parts.items() if merged}


def _find_missing_parts(
    piece: str, parts: dict[str, set[str]], retained: set[int], vocabulary: dict[str, int]
) -> set[int]:
    """Return the ids of a piece and of all pieces it is merged from that are not retained yet."""
    pending, missing = [piece], set[int]()
    while pending:
        name = pending.pop()
        if (i := vocabulary[name]) not in retained and i not in missing:
            missing.add(i)
            pending.extend(parts.get(name, ()))
    return missing


def _count_occurrences(counts: np.ndarray, ids: set[int]) -> int:
    return int(sum(counts[i] for i in ids))


def _split_merge(merge: str | list[str]) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _renumber(processor: dict[str, Any] | None, new_ids: dict[int, int]) -> None:
    """Set the piece ids of a post-processor, in place."""
    if processor is None:
        return
    for step in processor.get("processors", []):
        _renumber(step, new_ids)
    for token in (processor.get("special_tokens") or {}).values():
        token["ids"] = [new_ids[i] for i in token["ids"]]
    for key in ("sep", "cls"):
        if key in processor:
            processor[key] = [processor[key][0], new_ids[processor[key][1]]]


def _batch_lines(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    stream = iter(lines)
    while chunk := list(islice(stream, size)):
        yield chunk
