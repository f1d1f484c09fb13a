"""The text of a run as packed rows in memory-mapped Arrow files, made once and checked against what it was made
from."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, concatenate_datasets
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.files import write_json
from musamma.data.normalization import fast_backend
from musamma.data.raw_text import read_lines
from musamma.data.windows import DocumentTokenizer, tokenize_batch, tokenize_texts
from musamma.training.pretraining.masking import SpecialTokenCount, piece_borders
from musamma.training.pretraining.packing import RowStore, ShardWriter, fill_rows
from musamma.training.pretraining.pretrain_config import PretrainConfig

TEXT_FOLDER, PARTIAL_FOLDER = "text", "text.part"
_RECORD = "text.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class PackedText:
    """The rows of a run.

    Args:
        train: what is learnt from.
        held_out: what is measured on.
        special: special tokens around each paragraph.
        counts: paragraphs, segments and pieces, of both parts, by name.
    """

    train: RowStore
    held_out: RowStore
    special: SpecialTokenCount
    counts: dict[str, int]


def prepare_text(config: PretrainConfig, tokenizer: PreTrainedTokenizerBase, *, overwrite: bool = False) -> PackedText:
    """Open the text in the output folder, after making it where it is not there yet.

    It is written beside its place and moved there when it is whole, so that a kill in the middle leaves nothing half
    done.

    Args:
        config: the run.
        tokenizer: the encoder's, with Musamma's normaliser.
        overwrite: make anew what was made from other text or with other settings.

    Raises:
        InputError: a file is missing, empty or not UTF-8, nothing is left on one side of the holding out, or what is
            there was made from something else.
    """
    folder = Path(config.output) / TEXT_FOLDER
    encoder = ParagraphTokenizer(tokenizer, length=config.length, clitics=config.clitics)
    settings = _settings(config, tokenizer)
    if (folder / _RECORD).is_file():
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        if not (changed := _changed(record, settings, config.text)):
            return _open(folder, record, encoder.special)
        if not overwrite:
            raise InputError(
                f"the prepared text was made with another {' and another '.join(changed)}",
                where=str(folder),
                remedy="choose another --output, or start over with --overwrite",
            )
    for path in map(Path, config.text):
        if not path.is_file():
            raise InputError("no such file", where=str(path), expected="a text file", remedy="check the path")
        if path.stat().st_size == 0:
            raise InputError("the file is empty", where=str(path), expected="a paragraph a line", remedy="leave it out")
    record = _made(config, tokenizer, encoder, settings)
    return _open(folder, record, encoder.special)


def _made(
    config: PretrainConfig, tokenizer: PreTrainedTokenizerBase, encoder: ParagraphTokenizer, settings: dict[str, Any]
) -> dict[str, Any]:
    part = Path(config.output) / PARTIAL_FOLDER
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        counts = {"paragraphs": 0, "held_out_paragraphs": 0, "paragraphs_without_pieces": 0, "paragraphs_cut": 0}
        held: list[tuple[np.ndarray, np.ndarray]] = []
        width = np.uint16 if len(tokenizer) <= 2**16 else np.int32
        train = ShardWriter(part, "train", length=config.length, width=width)
        aside = ShardWriter(part, "held-out", length=config.length, width=width)

        def training() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            lines = tqdm(
                read_lines(config.text),
                desc="text",
                unit=" paragraphs",
                unit_scale=True,
                disable=not sys.stderr.isatty(),
            )
            for number, segments in enumerate(encoder.encode(lines), 1):
                counts["paragraphs"] += 1
                counts["paragraphs_without_pieces"] += not segments
                counts["paragraphs_cut"] += len(segments) > 1
                if number % config.held_out.every == 0:
                    counts["held_out_paragraphs"] += 1
                    held.extend(segments)
                else:
                    yield from segments

        for row in fill_rows(training(), length=config.length, packing=config.packing):
            train.add(row)
        for row in fill_rows(held, length=config.length, packing=config.packing):
            aside.add(row)
        for name, writer in (("train", train), ("held_out", aside)):
            writer.close()
            counts |= {f"{name}_rows": writer.rows, f"{name}_pieces": writer.pieces}
        _check_parts(config, counts)
        record = {
            "format": _FORMAT,
            "settings": settings,
            "files": [
                {"name": name, "bytes": Path(name).stat().st_size, "sha256": _digest(name)} for name in config.text
            ],
            "counts": counts,
        }
        write_json(record, part / _RECORD)
        folder = Path(config.output) / TEXT_FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    except OSError as error:
        raise InputError(
            str(error.strerror or error),
            where=str(error.filename or part),
            remedy="choose an --output that can be written",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return record


def _check_parts(config: PretrainConfig, counts: dict[str, int]) -> None:
    for name, remedy in (("train", "give more text"), ("held_out", "give more text, or a smaller held_out.every")):
        if not counts[f"{name}_rows"]:
            raise InputError(
                f"{counts['paragraphs']} paragraphs, of which each {config.held_out.every}th is held out, leave none "
                + ("to train on" if name == "train" else "to measure on"),
                where=", ".join(config.text),
                remedy=remedy,
            )


def _settings(config: PretrainConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What decides the rows, apart from the text."""
    backend = fast_backend(tokenizer).to_str()
    return {
        "tokenizer": hashlib.sha256(backend.encode("utf-8")).hexdigest(),
        "length": config.length,
        "packing": config.packing,
        "clitics": config.clitics,
        "held_out.every": config.held_out.every,
    }


def _changed(record: dict[str, Any], settings: dict[str, Any], files: list[str]) -> list[str]:
    """Names of what differs. Files that are not here are taken as they were: the rows may have been carried to this
    place."""
    if record.get("format") != _FORMAT:
        return ["version of Musamma"]
    changed = [key for key, value in settings.items() if record["settings"].get(key) != value]
    if [Path(one["name"]).name for one in record["files"]] != [Path(name).name for name in files]:
        return [*changed, "list of files in text"]
    for one, name in zip(record["files"], files, strict=True):
        path = Path(name)
        if path.is_file() and (path.stat().st_size != one["bytes"] or _digest(name) != one["sha256"]):
            changed.append(f"content of {name}")
    return changed


def _digest(name: str) -> str:
    with Path(name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open(folder: Path, record: dict[str, Any], special: SpecialTokenCount) -> PackedText:
    parts = []
    for name in ("train", "held-out"):
        shards = sorted(folder.glob(f"{name}-*.arrow"))
        try:
            rows = RowStore(concatenate_datasets([Dataset.from_file(str(shard)) for shard in shards]))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise _broken(folder, f"{name} rows cannot be read: {error}") from error
        if len(rows) != record["counts"][f"{name.replace('-', '_')}_rows"]:
            raise _broken(folder, f"{len(rows)} {name} rows of {record['counts'][name.replace('-', '_') + '_rows']}")
        parts.append(rows)
    return PackedText(parts[0], parts[1], special, record["counts"])


def _broken(folder: Path, found: str) -> InputError:
    return InputError(
        " ".join(found.split()),
        where=str(folder),
        expected="all files that --prepare wrote",
        remedy="copy the folder anew, or delete it",
    )


_BATCH = 512


class ParagraphTokenizer:
    """Cuts paragraphs into pieces and rows' worth of them.

    Args:
        tokenizer: a fast tokenizer with Musamma's normaliser.
        length: the most pieces, special tokens included.
        clitics: whether proclitics are units of their own.

    Raises:
        InputError: the tokenizer is slow, or has no mask token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, length: int, clitics: bool) -> None:
        if tokenizer.mask_token_id is None:
            raise InputError(
                "the tokenizer has no mask token",
                where=str(tokenizer.name_or_path),
                remedy="choose an encoder that was pre-trained with masks",
            )
        encoder = DocumentTokenizer(tokenizer, max_length=length, overlap=0)
        (window,) = encoder.tokenize(Document("", "ا")).windows
        before = int(window.positions[0])
        self.special = SpecialTokenCount(before, length - encoder.capacity - before)
        self._prefix = window.input_ids[: self.special.before]
        self._suffix = window.input_ids[len(window.input_ids) - self.special.behind :]
        self._tokenizer, self._capacity, self._clitics = tokenizer, encoder.capacity, clitics

    def encode(self, lines: Iterable[str]) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
        """Each line's segments, in order; none for a line that normalises to nothing.

        A line that is longer than a row is cut before the last word that begins in it, a longer word wherever the row
        ends.

        Returns:
            Of each segment the ids, special tokens included, and which of them begin a unit; (pieces,) both.
        """
        stream = iter(lines)
        while batch := list(islice(stream, _BATCH)):
            for text, pieces in zip(
                batch, tokenize_texts(batch, partial(tokenize_batch, self._tokenizer)), strict=True
            ):
                yield list(self._segments(text, pieces.ids, pieces.offsets))

    def _segments(self, text: str, ids: np.ndarray, offsets: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        words, units = piece_borders(text, offsets, clitics=self._clitics)
        starts = np.flatnonzero(words)
        first = 0
        while first < len(ids):
            last = min(first + self._capacity, len(ids))
            if last < len(ids):
                before = starts[(starts > first) & (starts <= last)]
                last = int(before[-1]) if len(before) else last
            inner = units[first:last].copy()
            inner[0] = True
            around = np.ones(len(self._prefix), dtype=bool), np.ones(len(self._suffix), dtype=bool)
            yield (
                np.concatenate([self._prefix, ids[first:last], self._suffix]),
                np.concatenate([around[0], inner, around[1]]),
            )
            first = last
