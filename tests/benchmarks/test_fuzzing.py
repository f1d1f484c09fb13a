"""Readers on randomly changed files: each is read, or refused with one line. ``benchmarks/fuzzing.py`` does so for hours."""

import logging
import random

import pytest

from benchmarks.fuzzing import Unaccounted, change_structure, check_inputs, targets
from musamma.data.errors import InputError
from musamma.inference import inputs

TARGETS = targets()


def change_bytes(data: bytes, chance: random.Random) -> bytes:
    """Replace, insert, delete or repeat a few bytes."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        end = at + chance.randrange(8)
        changed[at:end] = chance.choice(
            [
                b"",
                chance.randbytes(1),
                chance.choice([b"\0", b"\r\n", b"\n\n", b"\xef\xbb\xbf", b'"', b"["]),
                changed[at:end] * 2,
            ]
        )
    return bytes(changed)


@pytest.mark.parametrize("name", TARGETS)
def test_changed_files_are_read_or_refused(tmp_path, name, caplog):
    caplog.set_level(logging.CRITICAL)
    target = TARGETS[name]
    path = tmp_path / f"a{target.suffix}"
    for seed in range(100):
        chance = random.Random(seed)
        data = chance.choice(target.seeds)
        changed = change_structure(data, target.suffix, chance) if target.structured else change_bytes(data, chance)
        path.write_bytes(data if changed is None else changed)
        error = None
        try:
            target.check(path)
        except InputError as raised:
            error = raised
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", TARGETS)
def test_unchanged_files_are_read(tmp_path, name):
    for seed in TARGETS[name].seeds:
        path = tmp_path / f"a{TARGETS[name].suffix}"
        path.write_bytes(seed)
        TARGETS[name].check(path)


def test_a_record_that_is_lost_is_noticed(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": "a", "text": "x"}\n{"id": "b", "text": "y"}\n')
    check_inputs(path)
    read_all = inputs.read_inputs
    monkeypatch.setattr(inputs, "read_inputs", lambda given: list(read_all(given))[1:])
    with pytest.raises(Unaccounted, match="1 records of 2 lines"):
        check_inputs(path)
