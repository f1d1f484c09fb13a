"""The training text as packed rows on disk: tokenized once into Arrow files, then memory-mapped.

A JSON record next to the files states from which text and settings they were made.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from musamma.data.document import Document
from musamma.data.errors import InputError, one_line
from musamma.data.files import atomic_folder, write_json
from musamma.data.input_files import read_lines, require_text
from musamma.data.normalization import fast_backend
from musamma.data.windows import DocumentTokenizer, tokenize_batch, tokenize_texts
from musamma.training.pretraining.masking import SpecialTokenCount, find_starts
from musamma.training.pretraining.packing import PackedRow, pack_rows
from musamma.training.pretraining.pretrain_config import PretrainConfig
from musamma.training.run_dir import CHOOSE_OUTPUT

TEXT_FOLDER = "text"
#: Entries of the output folder that belong to the text, complete or not.
TEXT_ENTRIES = (TEXT_FOLDER, f"{TEXT_FOLDER}.part", f"{TEXT_FOLDER}.old")
_RECORD_FILE = "text.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class PackedText:
    """The rows of a run.

    Args:
        train: training rows.
        held_out: rows of the held-out paragraphs.
        special: special tokens around each paragraph.
        counts: numbers of paragraphs, rows and pieces of both parts, by name as in the record.
        digest: digest of the text and the settings that the rows were made from.
    """

    train: RowStore
    held_out: RowStore
    special: SpecialTokenCount
    counts: dict[str, int]
    digest: str


def prepare_text(config: PretrainConfig, tokenizer: PreTrainedTokenizerBase, *, overwrite: bool = False) -> PackedText:
    """Open the packed text in the output folder; tokenize and pack it first if it does not exist.

    The folder appears only when it is complete, so a kill leaves no partial text.

    Args:
        config: the run.
        tokenizer: the encoder's tokenizer, with Musamma's normaliser.
        overwrite: replace a packed text that was made from other files or with other settings.

    Raises:
        InputError: a file is missing, empty or not UTF-8, the training or the held-out part is empty, or the existing
            packed text was made from other files or settings.
    """
    folder = Path(config.output) / TEXT_FOLDER
    paragraph_tokenizer = ParagraphTokenizer(tokenizer, length=config.length, clitics=config.clitics)
    settings = _row_settings(config, tokenizer)
    if (folder / _RECORD_FILE).is_file():
        record = json.loads((folder / _RECORD_FILE).read_text(encoding="utf-8"))
        if not (changed := _changes_since(record, settings, config.text)):
            return _open_text(folder, record, paragraph_tokenizer.special)
        if not overwrite:
            raise _other_text(folder, changed)
    require_text(config.text)
    with atomic_folder(folder, remedy=CHOOSE_OUTPUT) as partial_folder:
        record = {
            "format": _FORMAT,
            "settings": settings,
            "files": [],
            "counts": _write_text(config, len(tokenizer), paragraph_tokenizer, partial_folder),
        }
        record["files"] = [
            {"name": name, "bytes": Path(name).stat().st_size, "sha256": _file_digest(name)} for name in config.text
        ]
        write_json(record, partial_folder / _RECORD_FILE)
    return _open_text(folder, record, paragraph_tokenizer.special)


def _write_text(
    config: PretrainConfig, vocabulary: int, paragraph_tokenizer: ParagraphTokenizer, folder: Path
) -> dict[str, int]:
    """Tokenize, pack and write both parts, and return the counts."""
    counts = {"paragraphs": 0, "held_out_paragraphs": 0, "paragraphs_without_pieces": 0, "paragraphs_cut": 0}
    held_out: list[tuple[np.ndarray, np.ndarray]] = []
    every = config.held_out.every

    def read_paragraphs() -> Iterator[str]:
        paragraphs = read_lines(config.text)
        for paragraph in tqdm(
            paragraphs, desc="text", unit=" paragraphs", unit_scale=True, disable=not sys.stderr.isatty()
        ):
            counts["paragraphs"] += 1
            yield paragraph

    def training_rows() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number, row in enumerate(paragraph_tokenizer.encode_continuously(read_paragraphs()), 1):
            if number % every == 0:
                held_out.append(row)
            else:
                yield row

    def training_segments() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number, segments in enumerate(paragraph_tokenizer.encode(read_paragraphs()), 1):
            counts["paragraphs_without_pieces"] += not segments
            counts["paragraphs_cut"] += len(segments) > 1
            if number % every == 0:
                counts["held_out_paragraphs"] += 1
                held_out.extend(segments)
            else:
                yield from segments

    id_type = np.uint16 if vocabulary <= 2**16 else np.int32
    # The training part comes first, because reading it fills the held-out part.
    train = training_rows() if config.packing == "continuous" else training_segments()
    for name, segments in (("train", train), ("held_out", held_out)):
        writer = ShardWriter(folder, name.replace("_", "-"), length=config.length, id_type=id_type)
        for row in pack_rows(segments, length=config.length, packing=config.packing):
            writer.add(row)
        writer.close()
        counts |= {f"{name}_rows": writer.rows, f"{name}_pieces": writer.pieces}
    for name, purpose, remedy in (
        ("train", "to train on", "give more text"),
        ("held_out", "to measure on", "give more text, or a smaller held_out.every"),
    ):
        if not counts[f"{name}_rows"]:
            unit = "row" if config.packing == "continuous" else "paragraph"
            raise InputError(
                f"{counts['paragraphs']} paragraphs, of which every {config.held_out.every}th {unit} is held out, "
                f"leave none {purpose}",
                where=", ".join(config.text),
                remedy=remedy,
            )
    return counts


def _row_settings(config: PretrainConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return everything besides the text that determines the rows."""
    backend = fast_backend(tokenizer).to_str()
    return {
        "tokenizer": hashlib.sha256(backend.encode("utf-8")).hexdigest(),
        "length": config.length,
        "packing": config.packing,
        "clitics": config.clitics,
        "held_out.every": config.held_out.every,
    }


def _changes_since(record: dict[str, Any], settings: dict[str, Any], files: list[str]) -> list[str]:
    """Return the names of the settings and files that differ from the record.

    The content of files that do not exist is not compared: the rows may have been copied here without them.
    """
    if record.get("format") != _FORMAT:
        return ["version of Musamma"]
    changed = [key for key, value in settings.items() if record["settings"].get(key) != value]
    if [Path(file["name"]).name for file in record["files"]] != [Path(name).name for name in files]:
        return [*changed, "list of files in text"]
    for file, name in zip(record["files"], files, strict=True):
        path = Path(name)
        if path.is_file() and (path.stat().st_size != file["bytes"] or _file_digest(name) != file["sha256"]):
            changed.append(f"content of {name}")
    return changed


def _file_digest(name: str) -> str:
    with Path(name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _record_digest(record: dict[str, Any]) -> str:
    content = [record["settings"], [file["sha256"] for file in record["files"]]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_text_files(config: PretrainConfig) -> None:
    """Check that the text files of a finished run, if they still exist, have the content that it was trained on.

    Raises:
        InputError: the content of a file has changed.
    """
    record_file = Path(config.output) / TEXT_FOLDER / _RECORD_FILE
    if record_file.is_file():
        record = json.loads(record_file.read_text(encoding="utf-8"))
        if changed := _changes_since(record, {}, config.text):
            raise _other_text(record_file.parent, changed)


def _other_text(folder: Path, changed: list[str]) -> InputError:
    return InputError(
        f"the prepared text was made with another {' and another '.join(changed)}",
        where=str(folder),
        remedy="choose another `output`, or replace it with `overwrite=True`",
    )


def _open_text(folder: Path, record: dict[str, Any], special: SpecialTokenCount) -> PackedText:
    parts = []
    for name in ("train", "held-out"):
        expected = record["counts"][f"{name.replace('-', '_')}_rows"]
        shards = sorted(folder.glob(f"{name}-*.arrow"))
        try:
            rows = RowStore(concatenate_datasets([Dataset.from_file(str(shard)) for shard in shards]))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise _incomplete(folder, f"{name} rows cannot be read: {error}") from error
        if len(rows) != expected:
            raise _incomplete(folder, f"{len(rows)} {name} rows of {expected}")
        parts.append(rows)
    return PackedText(parts[0], parts[1], special, record["counts"], _record_digest(record))


def _incomplete(folder: Path, found: str) -> InputError:
    return InputError(
        one_line(found),
        where=str(folder),
        expected="all files of the prepared text",
        remedy="copy the folder again, or delete it",
    )


_LINES_PER_BATCH = 512


class ParagraphTokenizer:
    """Cuts paragraphs into pieces, and long paragraphs into segments that fit into a row.

    Args:
        tokenizer: a fast tokenizer with Musamma's normaliser.
        length: maximum number of pieces in a segment, special tokens included.
        clitics: whether proclitics are separate units.

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
        document_tokenizer = DocumentTokenizer(tokenizer, max_length=length, overlap=0)
        (window,) = document_tokenizer.tokenize(Document("", "ا")).windows
        before = int(window.positions[0])
        self.special = SpecialTokenCount(before, length - document_tokenizer.capacity - before)
        self._prefix = window.input_ids[: self.special.before]
        self._suffix = window.input_ids[len(window.input_ids) - self.special.after :]
        self._backend, self._capacity, self._clitics = document_tokenizer.backend, document_tokenizer.capacity, clitics

    def encode(self, lines: Iterable[str]) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
        """Yield the segments of each line, in order; none for a line that normalises to nothing.

        A line that is longer than a row is cut before the last word that starts in the row; a word that is longer than a
        row is cut at the end of the row.

        Yields:
            For each segment the ids, special tokens included, and whether each piece starts a unit; both (pieces,).
        """
        stream = iter(lines)
        while batch := list(islice(stream, _LINES_PER_BATCH)):
            for text, pieces in zip(batch, tokenize_texts(batch, partial(tokenize_batch, self._backend)), strict=True):
                yield list(self._segments(text, pieces.ids, pieces.offsets))

    def encode_continuously(self, lines: Iterable[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Cut the text of all lines into rows of as many pieces as fit. The end that does not fill a row is left out.

        Yields:
            The ids of a row, special tokens included, and whether each piece starts a unit; both (``length``,).
        """
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        size = 0
        stream = iter(lines)
        while batch := list(islice(stream, _LINES_PER_BATCH)):
            for text, pieces in zip(batch, tokenize_texts(batch, partial(tokenize_batch, self._backend)), strict=True):
                parts.append((pieces.ids, find_starts(text, pieces.offsets, clitics=self._clitics)[1]))
                size += len(pieces.ids)
            if size < self._capacity:
                continue
            ids, unit_starts = (np.concatenate(column) for column in zip(*parts, strict=True))
            end = size - size % self._capacity
            for first in range(0, end, self._capacity):
                yield self._add_special_tokens(ids, unit_starts, first, first + self._capacity)
            parts, size = [(ids[end:], unit_starts[end:])], size - end

    def _add_special_tokens(
        self, ids: np.ndarray, unit_starts: np.ndarray, first: int, stop: int
    ) -> tuple[np.ndarray, np.ndarray]:
        prefix, suffix = (np.ones(len(special), dtype=bool) for special in (self._prefix, self._suffix))
        starts = unit_starts[first:stop].copy()
        starts[0] = True
        return np.concatenate([self._prefix, ids[first:stop], self._suffix]), np.concatenate([prefix, starts, suffix])

    def _segments(self, text: str, ids: np.ndarray, offsets: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        is_word_start, is_unit_start = find_starts(text, offsets, clitics=self._clitics)
        word_starts = np.flatnonzero(is_word_start)
        first = 0
        while first < len(ids):
            stop = min(first + self._capacity, len(ids))
            if stop < len(ids):
                cuts = word_starts[(word_starts > first) & (word_starts <= stop)]
                stop = int(cuts[-1]) if len(cuts) else stop
            yield self._add_special_tokens(ids, is_unit_start, first, stop)
            first = stop


#: Approximate maximum size of a file.
_SHARD_BYTES = 48 * 2**20
_ROWS_PER_BATCH = 256


class ShardWriter:
    """Writes rows as ``NAME-00000.arrow``, ``NAME-00001.arrow``, and so on.

    Args:
        folder: the folder.
        name: name of the part.
        length: maximum number of pieces in a row.
        id_type: type of the piece ids.
    """

    def __init__(self, folder: Path, name: str, *, length: int, id_type: type[np.integer[Any]]) -> None:
        self._folder, self._name = folder, name
        self._schema = pa.schema(
            {
                "input_ids": pa.list_(pa.from_numpy_dtype(np.dtype(id_type))),
                "units": pa.list_(pa.bool_()),
                "documents": pa.list_(pa.uint16()),
            }
        )
        # Ids, flags, and the offsets of three lists; the lengths of paragraphs add little.
        self._rows_per_shard = max(1, _SHARD_BYTES // (length * (np.dtype(id_type).itemsize + 1) + 12))
        self._batch: list[PackedRow] = []
        self._file: pa.ipc.RecordBatchStreamWriter | None = None
        self.rows, self.pieces, self._shards = 0, 0, 0

    def add(self, row: PackedRow) -> None:
        """Append a row."""
        self._batch.append(row)
        self.rows += 1
        self.pieces += len(row.input_ids)
        if len(self._batch) == _ROWS_PER_BATCH:
            self._write_batch()
        if self.rows % self._rows_per_shard == 0:
            self.close()

    def close(self) -> None:
        """Write the remaining rows and end the file."""
        if self._batch:
            self._write_batch()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write_batch(self) -> None:
        if self._file is None:
            path = self._folder / f"{self._name}-{self._shards:05}.arrow"
            self._file = pa.ipc.new_stream(str(path), self._schema)
            self._shards += 1
        columns = (
            [row.input_ids for row in self._batch],
            [row.unit_starts for row in self._batch],
            [row.paragraph_lengths for row in self._batch],
        )
        arrays = [
            pa.ListArray.from_arrays(
                pa.array(np.cumsum([0, *map(len, column)]), pa.int32()),
                pa.array(np.concatenate(column).astype(field.type.value_type.to_pandas_dtype()), field.type.value_type),
            )
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._file.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._batch = []


class RowStore:
    """Rows in memory-mapped files, by number.

    Args:
        dataset: the rows of the files.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset.with_format("arrow")
        lengths = pc.list_value_length(dataset.data.column("input_ids"))
        #: Number of pieces of each row; int64, (rows,).
        self.lengths = lengths.to_numpy().astype(np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, numbers: np.ndarray) -> list[PackedRow]:
        """Return the rows with these numbers."""
        table = self._dataset[numbers.tolist()]
        columns = [_split_lists(table.column(name)) for name in ("input_ids", "units", "documents")]
        return [PackedRow(*arrays) for arrays in zip(*columns, strict=True)]


def _split_lists(column: pa.ChunkedArray) -> list[np.ndarray]:
    lists = column.combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.chunk(0)
    values = lists.flatten().to_numpy(zero_copy_only=False)
    return np.split(values, np.cumsum(lists.value_lengths().to_numpy())[:-1])
