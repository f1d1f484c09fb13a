"""Trim an encoder: drop the pieces that Arabic text never uses from any Hugging Face encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from musamma.data.errors import InputError
from musamma.data.files import write_json
from musamma.data.normalization import fast_backend, install_normalizer
from musamma.models.pretrained_encoder import (
    check_dtype,
    count_weight_bytes,
    load_encoder,
    make_folder,
    save_encoder,
    staged_files,
    wrap_tokenizer,
)
from musamma.models.vocabulary.embeddings import trim_embeddings, word_embedding
from musamma.models.vocabulary.encoder_similarity import HELD_OUT_EVERY, LineSplit
from musamma.models.vocabulary.tokenizer import choose_pieces, count_pieces, trim_tokenizer
from musamma.models.vocabulary.trim_check import TrimCheck, check_trim, compare_trimmed


@dataclass(frozen=True, slots=True)
class TrimReport:
    """The result of trimming an encoder.

    Args:
        source: the encoder that was trimmed.
        dtype: type of the saved weights.
        normalized: whether Musamma's Arabic normaliser was installed, before counting and comparing.
        pieces_before, pieces_after: rows of the word embedding.
        parameters_before, parameters_after: number of parameters, without a pooler.
        file_bytes: size of ``model.safetensors``.
        lines_counted: number of lines that pieces were counted on.
        coverage: share of all counted occurrences that belong to retained pieces.
        check: the measurements on the held-out lines.
    """

    source: str
    dtype: str
    normalized: bool
    pieces_before: int
    pieces_after: int
    parameters_before: int
    parameters_after: int
    file_bytes: int
    lines_counted: int
    coverage: float
    check: TrimCheck

    def to_dict(self) -> dict[str, Any]:
        """Return the report as it stands in ``trimming.json``."""
        record = asdict(self)
        record["proof"] = record.pop("check")
        return record


def trim_encoder(
    source: str | Path,
    lines: Iterable[str],
    output: str | Path,
    *,
    pieces: int | None = None,
    coverage: float | None = None,
    dtype: str = "float16",
    normalize: bool = True,
    held_out: int = 2000,
    min_identical: float = 0.9,
    tolerance: float = 1e-5,
    progress: Callable[[int], None] | None = None,
) -> TrimReport:
    """Cut an encoder's vocabulary to what a text needs, save it, and check that it computes the same.

    Special pieces, single Arabic letters, signs and ASCII characters always stay, so that nothing Arabic becomes unknown.
    The pooler is dropped: token classification does not use it.

    Args:
        source: folder, name or hub id of an encoder with a fast Unigram, WordPiece or BPE tokenizer.
        lines: Arabic text, streamed; one line in 50 is held out for the check.
        output: folder for ``config.json``, ``model.safetensors``, ``tokenizer.json`` and ``trimming.json``; files of these
            names are replaced, all others stay.
        pieces: maximum number of pieces to retain.
        coverage: alternatively, the share of all occurrences to cover. With neither, every piece that occurred is retained.
        dtype: type of the saved weights; ``config.json`` declares float32, so that they are used in float32.
        normalize: install Musamma's Arabic normaliser first, on both sides of the comparison.
        held_out: maximum number of lines for the check.
        min_identical: minimum share of held-out lines that must be cut into the same pieces as before.
        tolerance: maximum difference of a float32 hidden state on such lines.
        progress: called from time to time with the number of lines counted so far.

    Raises:
        InputError: the encoder cannot be loaded or trimmed, an option is out of range, or there is too little text.
        ThresholdError: the check failed; nothing is written.
    """
    check_dtype(dtype, where="trim")
    if held_out < 1:
        raise InputError(f"{held_out} lines to hold out", where="trim", expected="at least 1")
    encoder, tokenizer = load_encoder(str(source))
    if normalize:
        install_normalizer(tokenizer)
    backend = fast_backend(tokenizer)
    backend.no_truncation()
    backend.no_padding()
    split = LineSplit(held_out, progress)
    counts = count_pieces(backend, split.skip_held_out(lines))
    if not split.held_out:
        raise InputError(
            f"{split.num_seen} lines of text", where="text", expected=f"at least {HELD_OUT_EVERY}, one to hold out"
        )
    ids = choose_pieces(backend, counts, pieces=pieces, coverage=coverage)
    trimmed = trim_embeddings(encoder, ids)
    with staged_files(make_folder(output)) as folder:
        save_encoder(trimmed, wrap_tokenizer(tokenizer, trim_tokenizer(backend, ids)), folder, dtype)
        saved, saved_tokenizer = load_encoder(str(folder))
        check = compare_trimmed(
            (encoder, trimmed, saved),
            (backend.encode_batch(split.held_out), fast_backend(saved_tokenizer).encode_batch(split.held_out)),
            ids,
            words=sum(len(line.split()) for line in split.held_out),
            unknown=-1 if tokenizer.unk_token_id is None else tokenizer.unk_token_id,
        )
        check_trim(check, min_identical=min_identical, tolerance=tolerance)
        report = TrimReport(
            source=str(source),
            dtype=dtype,
            normalized=normalize,
            pieces_before=word_embedding(encoder).num_embeddings,
            pieces_after=len(ids),
            parameters_before=encoder.num_parameters(),
            parameters_after=trimmed.num_parameters(),
            file_bytes=count_weight_bytes(folder) or 0,
            lines_counted=split.num_counted,
            coverage=float(counts[ids].sum() / counts.sum()),
            check=check,
        )
        write_json(report.to_dict(), folder / "trimming.json")
    return report
