"""A compact Arabic encoder, cut out of any Hugging Face encoder by dropping the pieces that Arabic text never uses."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from musamma.data.errors import InputError
from musamma.data.files import write_json
from musamma.data.normalization import fast_backend, install_normalizer
from musamma.models.pretrained_encoder import DTYPES, load_encoder, make_folder, save_encoder, wrap_tokenizer
from musamma.models.vocabulary.embeddings import trim_embeddings, word_embedding
from musamma.models.vocabulary.encoder_similarity import HELD_OUT_EVERY, LineSplit
from musamma.models.vocabulary.tokenizer import choose_pieces, count_pieces, trim_tokenizer
from musamma.models.vocabulary.trim_check import TrimCheck, compare_trimmed


@dataclass(frozen=True, slots=True)
class TrimReport:
    """What was cut, and the proof.

    Args:
        source: the encoder that was trimmed.
        dtype: of the saved weights.
        normalized: whether Musamma's Arabic normaliser was installed, before the counting and the proof.
        pieces_before, pieces_after: rows of the word embedding.
        parameters_before, parameters_after: numbers in the encoder, without a pooler.
        file_bytes: size of ``model.safetensors``.
        lines_counted: lines of text that pieces were counted on.
        coverage: share of all counted occurrences that the kept pieces make up.
        proof: what was measured on the held-out lines.
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
    proof: TrimCheck

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return asdict(self)


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
    """Cut an encoder's vocabulary to what a text needs, save it, and prove that it computes the same.

    Special pieces, single Arabic letters, signs and ASCII characters always stay, so nothing Arabic becomes unknown.
    The pooler is dropped: token classification has no use for it.

    Args:
        source: folder, name or hub id of an encoder with a fast Unigram, WordPiece or BPE tokenizer.
        lines: Arabic text, streamed; one line in 50 is held out for the proof.
        output: the folder for ``config.json``, ``model.safetensors``, ``tokenizer.json`` and ``trimming.json``;
            files of these names are replaced, all others stay.
        pieces: the most pieces to keep.
        coverage: or the share of all occurrences to cover; with neither, every piece that occurred is kept.
        dtype: of the saved weights; ``config.json`` asks for float32, so that they are computed with as such.
        normalize: install Musamma's Arabic normaliser first, on both sides of the comparison.
        held_out: the most lines to prove on.
        min_identical: the least share of held-out lines that must be cut as before.
        tolerance: the largest difference of a float32 hidden state on such lines.
        progress: called now and then with the number of lines counted so far.

    Raises:
        InputError: the encoder cannot be loaded or is of a kind that cannot be trimmed, an option is out of range,
            or there is too little text.
        ThresholdError: the proof failed; nothing is written.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r}", where="trim", expected=f"one of {', '.join(DTYPES)}")
    if held_out < 1:
        raise InputError(f"{held_out} lines to hold out", where="trim", expected="at least 1")
    model, tokenizer = load_encoder(str(source))
    if normalize:
        install_normalizer(tokenizer)
    backend = fast_backend(tokenizer)
    backend.no_truncation()
    backend.no_padding()
    held = LineSplit(held_out, progress)
    counts = count_pieces(backend, held.rest(lines))
    if not held.lines:
        raise InputError(
            f"{held.seen} lines of text", where="text", expected=f"at least {HELD_OUT_EVERY}, one to hold out"
        )
    ids = choose_pieces(backend, counts, pieces=pieces, coverage=coverage)
    trimmed = trim_embeddings(model, ids)
    output = make_folder(output)
    with tempfile.TemporaryDirectory(dir=output, prefix=".trim-") as name:
        folder = Path(name)
        save_encoder(trimmed, wrap_tokenizer(tokenizer, trim_tokenizer(backend, ids)), folder, dtype)
        saved, saved_tokenizer = load_encoder(name)[0], AutoTokenizer.from_pretrained(name)
        proof = compare_trimmed(
            (model, trimmed, saved),
            (backend.encode_batch(held.lines), fast_backend(saved_tokenizer).encode_batch(held.lines)),
            ids,
            words=sum(len(line.split()) for line in held.lines),
            unknown=-1 if tokenizer.unk_token_id is None else tokenizer.unk_token_id,
        )
        proof.judge(min_identical=min_identical, tolerance=tolerance)
        report = TrimReport(
            source=str(source),
            dtype=dtype,
            normalized=normalize,
            pieces_before=word_embedding(model).num_embeddings,
            pieces_after=len(ids),
            parameters_before=model.num_parameters(),
            parameters_after=trimmed.num_parameters(),
            file_bytes=sum(file.stat().st_size for file in folder.glob("*.safetensors")),
            lines_counted=held.counted,
            coverage=float(counts[ids].sum() / counts.sum()),
            proof=proof,
        )
        write_json(report.to_dict(), folder / "trimming.json")
        for file in folder.iterdir():
            file.chmod(0o644)
            file.replace(output / file.name)
    return report
