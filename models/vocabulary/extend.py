"""Extend an encoder's vocabulary: frequent words become pieces, and the least used pieces are dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedModel

from musamma.data.errors import InputError, ThresholdError, not_one_of
from musamma.data.files import write_json
from musamma.data.normalization import fast_backend, install_normalizer
from musamma.models.model_names import resolve_model
from musamma.models.pretrained_encoder import (
    check_dtype,
    count_weight_bytes,
    load_encoder,
    make_folder,
    save_encoder,
    staged_files,
    wrap_tokenizer,
)
from musamma.models.vocabulary.embeddings import (
    INITIALIZATIONS,
    check_single_table,
    extend_embeddings,
    trim_embeddings,
    word_embedding,
)
from musamma.models.vocabulary.encoder_similarity import (
    HELD_OUT_EVERY,
    EncoderSimilarity,
    Fertility,
    LineSplit,
    measure_fertility,
    measure_similarity,
)
from musamma.models.vocabulary.tokenizer import trim_tokenizer
from musamma.models.vocabulary.word_vocabulary import choose_vocabulary, count_words, extend_tokenizer, unknown_piece_id

# Number of new words listed in the report, and of lines on which exact equality is checked.
_REPORTED_WORDS = 20
_CHECKED_LINES = 20
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class ExtensionReport:
    """The result of extending an encoder.

    Args:
        source: the encoder that was extended.
        dtype: type of the saved weights.
        normalized: whether Musamma's Arabic normaliser was installed first.
        initial: initialisation of new rows, one of :data:`~musamma.models.vocabulary.embeddings.INITIALIZATIONS`.
        words_added, pieces_dropped: number of new and of dropped pieces.
        pieces_before, pieces_after: rows of the word embedding.
        parameters_before, parameters_after: number of parameters, without a pooler.
        file_bytes_before: size of the source's weights; ``None`` if it is not a folder.
        file_bytes: size of ``model.safetensors``.
        lines_counted: number of lines that words were counted on.
        words_counted: number of words and signs in them.
        words_forgotten: number of occurrences of rare words for which the table had no room.
        most_saving: the new words that save most pieces, with the pieces each saved in the counted text.
        files: fertility on held-out lines, by text.
        total: fertility on all held-out lines together.
        hidden_difference: largest difference of a float32 hidden state if the new encoder is given the old pieces.
        similarity: similarity of hidden states on held-out lines, with the weights as saved.
    """

    source: str
    dtype: str
    normalized: bool
    initial: str
    words_added: int
    pieces_dropped: int
    pieces_before: int
    pieces_after: int
    parameters_before: int
    parameters_after: int
    file_bytes_before: int | None
    file_bytes: int
    lines_counted: int
    words_counted: int
    words_forgotten: int
    most_saving: list[tuple[str, int]]
    files: dict[str, Fertility]
    total: Fertility
    hidden_difference: float
    similarity: EncoderSimilarity

    def to_dict(self) -> dict[str, Any]:
        """Return the report as it stands in ``extension.json``."""
        record = asdict(self)
        record["likeness"] = record.pop("similarity")
        return record


def extend_encoder(
    source: str | Path,
    texts: Mapping[str, Iterable[str]],
    output: str | Path,
    *,
    words: int,
    pieces: int | None = None,
    dtype: str = "float16",
    normalize: bool = True,
    held_out: int = 2000,
    initial: str = "letters",
    progress: Callable[[int], None] | None = None,
) -> ExtensionReport:
    """Add whole-word pieces to an encoder for the words that save most pieces, save it, and measure what changed.

    The encoder's output changes for words with new pieces and, less so, for the words around them, so further pre-training
    should follow. All other weights stay as they are. The pooler is dropped.

    Args:
        source: folder, name or hub id of an encoder with a fast Unigram or WordPiece tokenizer.
        texts: lines of Arabic text by the text's name, streamed; one line in 50 is held out for measuring.
        output: folder for ``config.json``, ``model.safetensors``, ``tokenizer.json`` and ``extension.json``; new or empty.
        words: number of pieces to add.
        pieces: total number of pieces; the least used ones are dropped. ``None`` drops none.
        dtype: type of the saved weights; ``config.json`` declares float32.
        normalize: install Musamma's Arabic normaliser first.
        held_out: maximum number of lines per text to measure on.
        initial: initialisation of new rows, see :func:`musamma.models.vocabulary.embeddings.build_rows`.
        progress: called from time to time with the number of lines counted so far.

    Raises:
        InputError: the encoder cannot be loaded or extended, an option is out of range, the folder is not empty, or there is
            too little text.
        ThresholdError: the new encoder computes other hidden states from the same pieces; nothing is written.
    """
    _check_options(words=words, dtype=dtype, held_out=held_out, initial=initial, output=Path(output))
    encoder, tokenizer = load_encoder(str(source))
    check_single_table(encoder)
    if normalize:
        tokenizer = install_normalizer(tokenizer)
    backend = fast_backend(tokenizer)
    backend.no_truncation()
    backend.no_padding()
    splits = {name: LineSplit(held_out) for name in texts}
    word_vocabulary = count_words(backend, _lines_to_count(texts, splits, progress))
    lines = [line for split in splits.values() for line in split.held_out]
    if not lines:
        seen = sum(split.num_seen for split in splits.values())
        raise InputError(f"{seen} lines of text", where="text", expected=f"at least {HELD_OUT_EVERY}, one to hold out")
    choice = choose_vocabulary(backend, word_vocabulary, words=words, pieces=pieces)
    base = trim_tokenizer(backend, choice.ids)
    extended = extend_embeddings(trim_embeddings(encoder, choice.ids), base, choice.words, initial=initial)
    with staged_files(make_folder(output)) as folder:
        save_encoder(extended, wrap_tokenizer(tokenizer, extend_tokenizer(base, choice.words)), folder, dtype)
        saved, saved_tokenizer = load_encoder(str(folder))
        new_backend = fast_backend(saved_tokenizer)
        retained, vocabulary = set(choice.ids), new_backend.get_vocab()
        new_ids = {old: vocabulary[piece] for piece, old in backend.get_vocab().items() if old in retained}
        tokenizers = (backend, new_backend)
        difference = _check_hidden_states((encoder, extended), tokenizers, lines, new_ids)
        unknown = (unknown_piece_id(backend), unknown_piece_id(new_backend))
        by_saving = sorted(range(len(choice.words)), key=lambda i: -choice.savings[i])[:_REPORTED_WORDS]
        report = ExtensionReport(
            source=str(source),
            dtype=dtype,
            normalized=normalize,
            initial=initial,
            words_added=len(choice.words),
            pieces_dropped=backend.get_vocab_size() - len(choice.ids),
            pieces_before=word_embedding(encoder).num_embeddings,
            pieces_after=word_embedding(extended).num_embeddings,
            parameters_before=encoder.num_parameters(),
            parameters_after=extended.num_parameters(),
            file_bytes_before=count_weight_bytes(resolve_model(str(source))),
            file_bytes=count_weight_bytes(folder) or 0,
            lines_counted=sum(split.num_counted for split in splits.values()),
            words_counted=sum(word_vocabulary.counts.values()) + word_vocabulary.forgotten,
            words_forgotten=word_vocabulary.forgotten,
            most_saving=[(choice.words[i], choice.savings[i]) for i in by_saving],
            files={
                name: measure_fertility(tokenizers, split.held_out, unknown)
                for name, split in splits.items()
                if split.held_out
            },
            total=measure_fertility(tokenizers, lines, unknown),
            hidden_difference=difference,
            similarity=measure_similarity((encoder, saved), tokenizers, lines, new_ids),
        )
        write_json(report.to_dict(), folder / "extension.json")
    return report


def _check_options(*, words: int, dtype: str, held_out: int, initial: str, output: Path) -> None:
    check_dtype(dtype, where="extend")
    if initial not in INITIALIZATIONS:
        raise not_one_of("initial", initial, INITIALIZATIONS, where="extend")
    for name, number in (("words to add", words), ("lines to hold out", held_out)):
        if number < 1:
            raise InputError(f"{number} {name}", where="extend", expected="at least 1")
    if output.is_dir() and any(output.iterdir()):
        raise InputError("the folder is not empty", where=str(output), remedy="choose a new folder")


def _check_hidden_states(
    encoders: tuple[PreTrainedModel, PreTrainedModel],
    tokenizers: tuple[Tokenizer, Tokenizer],
    lines: Sequence[str],
    new_ids: Mapping[int, int],
) -> float:
    """Return the largest difference of a hidden state between two encoders that are given the same pieces.

    Args:
        encoders: the encoder and the extended one, in float32.
        tokenizers: their tokenizers.
        lines: text, of which an even sample is compared.
        new_ids: the pieces' ids in the extended encoder, by their ids in the encoder.

    Raises:
        ThresholdError: it is not rounding.
    """
    exact = measure_similarity(encoders, tokenizers, lines, new_ids, max_lines=_CHECKED_LINES)
    if not exact.hidden_difference <= _TOLERANCE:
        raise ThresholdError(
            f"hidden states differ by {exact.hidden_difference:.3g} where the pieces are the same; "
            "this model uses piece ids in another way than through their embeddings"
        )
    return exact.hidden_difference


def _lines_to_count(
    texts: Mapping[str, Iterable[str]], splits: Mapping[str, LineSplit], progress: Callable[[int], None] | None
) -> Iterator[str]:
    """Yield the lines of all texts that are not held out."""
    counted = 0
    for name, lines in texts.items():
        for line in splits[name].skip_held_out(lines):
            counted += 1
            if progress and counted % 10_000 == 0:
                progress(counted)
            yield line
