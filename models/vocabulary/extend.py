"""An encoder whose vocabulary is re-examined: frequent words become pieces, and the least used pieces go."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from musamma.data.errors import InputError, ThresholdError
from musamma.data.files import write_json
from musamma.data.normalization import fast_backend, install_normalizer
from musamma.models.loading import resolve_model
from musamma.models.pretrained_encoder import (
    DTYPES,
    count_weight_bytes,
    load_encoder,
    make_folder,
    save_encoder,
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

_NAMED = 20
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class ExtensionReport:
    """What was added and dropped, and what it did.

    Args:
        source: the encoder that was extended.
        dtype: of the saved weights.
        normalized: whether Musamma's Arabic normaliser was installed first.
        initial: how the rows of new pieces were made, one of :data:`~musamma.models.vocabulary.embeddings.INITIALIZATIONS`.
        words_added, pieces_dropped: new pieces and pieces that went.
        pieces_before, pieces_after: rows of the word embedding.
        parameters_before, parameters_after: numbers in the encoder, without a pooler.
        file_bytes_before: size of the source's weights; ``None`` where it is no folder.
        file_bytes: size of ``model.safetensors``.
        lines_counted: lines of text that words were counted on.
        words_counted: words and signs in them.
        words_forgotten: those of rare words that the table had no room for.
        most_saving: the most saving new words, and the pieces that each saved in the counted text.
        files: how held-out lines are cut, by text.
        total: the same for all together.
        hidden_difference: largest difference of a float32 hidden state where the new encoder is given the old cut.
        likeness: of the hidden states on held-out lines, with the weights as saved.
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
    likeness: EncoderSimilarity

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return asdict(self)


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
    """Give an encoder whole-word pieces for the words that save most, save it, and measure what changed.

    What it computes for a word changes with the word's pieces, and, less, for the words around it; further pre-training
    is meant to follow. Every other weight stays as it is. The pooler is dropped.

    Args:
        source: folder, name or hub id of an encoder with a fast Unigram or WordPiece tokenizer.
        texts: lines of Arabic text by the text's name, streamed; one line in 50 is held out for the measuring.
        output: the folder for ``config.json``, ``model.safetensors``, ``tokenizer.json`` and
            ``extension.json``; new or empty.
        words: pieces to add.
        pieces: how many pieces to have in all; the least used ones go. ``None`` drops none.
        dtype: of the saved weights; ``config.json`` asks for float32.
        normalize: install Musamma's Arabic normaliser first.
        held_out: the most lines of a text to measure on.
        initial: how rows of new pieces are made, see :func:`musamma.models.vocabulary.embeddings.build_rows`.
        progress: called now and then with the number of lines counted so far.

    Raises:
        InputError: the encoder cannot be loaded or is of a kind that cannot be extended, an option is out of range, the
            folder holds something, or there is too little text.
        ThresholdError: the new encoder computes something else where the pieces are the same; nothing is written.
    """
    _check(words=words, dtype=dtype, held_out=held_out, initial=initial, output=Path(output))
    model, tokenizer = load_encoder(str(source))
    check_single_table(model)
    if normalize:
        tokenizer = install_normalizer(tokenizer)
    backend = fast_backend(tokenizer)
    backend.no_truncation()
    backend.no_padding()
    held = {name: LineSplit(held_out) for name in texts}
    lexicon = count_words(backend, _counted(texts, held, progress))
    lines = [line for one in held.values() for line in one.lines]
    if not lines:
        seen = sum(one.seen for one in held.values())
        raise InputError(f"{seen} lines of text", where="text", expected=f"at least {HELD_OUT_EVERY}, one to hold out")
    choice = choose_vocabulary(backend, lexicon, words=words, pieces=pieces)
    base = trim_tokenizer(backend, choice.ids)
    extended = extend_embeddings(trim_embeddings(model, choice.ids), base, choice.words, initial=initial)
    output = make_folder(output)
    with tempfile.TemporaryDirectory(dir=output, prefix=".extend-") as name:
        folder = Path(name)
        save_encoder(extended, wrap_tokenizer(tokenizer, extend_tokenizer(base, choice.words)), folder, dtype)
        saved, new = load_encoder(name)[0], fast_backend(AutoTokenizer.from_pretrained(name))
        kept, places = set(choice.ids), new.get_vocab()
        moved = {old: places[piece] for piece, old in backend.get_vocab().items() if old in kept}
        exact = measure_similarity((model, extended), (backend, new), lines, moved, most=_NAMED)
        if not exact.hidden_difference <= _TOLERANCE:
            raise ThresholdError(
                f"hidden states differ by {exact.hidden_difference:.3g} where the pieces are the same; "
                "this model reads piece ids in another way than by their embeddings"
            )
        tokenizers, unknown = (backend, new), (unknown_piece_id(backend), unknown_piece_id(new))
        order = sorted(range(len(choice.words)), key=lambda i: -choice.savings[i])[:_NAMED]
        report = ExtensionReport(
            source=str(source),
            dtype=dtype,
            normalized=normalize,
            initial=initial,
            words_added=len(choice.words),
            pieces_dropped=backend.get_vocab_size() - len(choice.ids),
            pieces_before=word_embedding(model).num_embeddings,
            pieces_after=word_embedding(extended).num_embeddings,
            parameters_before=model.num_parameters(),
            parameters_after=extended.num_parameters(),
            file_bytes_before=count_weight_bytes(resolve_model(str(source))),
            file_bytes=count_weight_bytes(folder) or 0,
            lines_counted=sum(one.counted for one in held.values()),
            words_counted=sum(lexicon.counts.values()) + lexicon.forgotten,
            words_forgotten=lexicon.forgotten,
            most_saving=[(choice.words[i], choice.savings[i]) for i in order],
            files={key: measure_fertility(tokenizers, one.lines, unknown) for key, one in held.items() if one.lines},
            total=measure_fertility(tokenizers, lines, unknown),
            hidden_difference=exact.hidden_difference,
            likeness=measure_similarity((model, saved), tokenizers, lines, moved),
        )
        write_json(report.to_dict(), folder / "extension.json")
        for file in folder.iterdir():
            file.chmod(0o644)
            file.replace(output / file.name)
    return report


def _check(*, words: int, dtype: str, held_out: int, initial: str, output: Path) -> None:
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r}", where="extend", expected=f"one of {', '.join(DTYPES)}")
    if initial not in INITIALIZATIONS:
        raise InputError(f"initial {initial!r}", where="extend", expected=f"one of {', '.join(INITIALIZATIONS)}")
    for name, number in (("words to add", words), ("lines to hold out", held_out)):
        if number < 1:
            raise InputError(f"{number} {name}", where="extend", expected="at least 1")
    if output.is_dir() and any(output.iterdir()):
        raise InputError("the folder is not empty", where=str(output), remedy="choose a new folder")


def _counted(
    texts: Mapping[str, Iterable[str]], held: Mapping[str, LineSplit], progress: Callable[[int], None] | None
) -> Iterator[str]:
    """The lines of all texts that are not held out."""
    counted = 0
    for name, lines in texts.items():
        for line in held[name].rest(lines):
            counted += 1
            if progress and counted % 10_000 == 0:
                progress(counted)
            yield line
