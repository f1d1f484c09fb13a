"""Stand-ins for libraries of other systems that tests of the peers share."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from types import MappingProxyType, ModuleType, SimpleNamespace

import pytest


@pytest.fixture
def fake_module(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a package that is not installed into ``sys.modules``, with what a peer imports of it."""

    def add(name: str, **contents: object) -> None:
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)

    return add


class FakeGliner:
    """What ``GLiNER`` does with texts: words and pieces beyond its lengths are cut off, names come with offsets."""

    names = MappingProxyType({"محمد السعيد": "person", "بيروت": "city", "بغداد": "city"})

    def __init__(self) -> None:
        self.config = SimpleNamespace(max_len=12)
        self.data_processor = SimpleNamespace(words_splitter=self.split, transformer_tokenizer=self)
        self.model_max_length = 40
        self.device = None

    @classmethod
    def from_pretrained(cls, name: str) -> FakeGliner:
        assert name == "some/gliner"
        return cls()

    def to(self, device: str) -> FakeGliner:
        self.device = device
        return self

    @staticmethod
    def split(text: str) -> Iterator[tuple[str, int, int]]:
        return ((m[0], m.start(), m.end()) for m in re.finditer(r"\w+(?:[-_]\w+)*|\S", text))

    def __call__(self, words, is_split_into_words: bool = False) -> dict[str, list[int]]:
        return {"input_ids": [0] * len(words if is_split_into_words else words.split())}

    def inference(self, texts: list[str], labels: list[str], *, flat_ner: bool, threshold: float) -> list[list[dict]]:
        assert flat_ner
        return [self.find(text, labels) for text in texts]

    def find(self, text: str, labels: list[str]) -> list[dict]:
        words = list(self.split(text))[: self.config.max_len]
        seen = text[: words[-1][2]]
        return [
            {"start": m.start(), "end": m.end(), "text": m[0], "label": self.names[m[0]], "score": 0.75}
            for m in re.finditer("|".join(self.names), seen)
            if self.names[m[0]] in labels
        ]


@pytest.fixture
def fake_gliner(fake_module: Callable[..., None]) -> type[FakeGliner]:
    """The package ``gliner`` with a stand-in; returns the stand-in's class."""
    fake_module("gliner", GLiNER=FakeGliner)
    return FakeGliner
