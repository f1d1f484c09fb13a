"""Small checkpoints that have memorised four sentences and tag them correctly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from musamma.data.document import Document
from musamma.data.formats.markup import parse_markup
from musamma.data.normalization import install_normalizer
from musamma.data.tags import TagSet
from musamma.data.windows import DocumentTokenizer
from musamma.models.checkpoint import build_classifier, load_tokenizer
from musamma.models.window_options import WindowOptions
from musamma.training.dataset import WindowCollator, build_window_dataset, joint_loss

TAGS = TagSet.from_labels(["PER", "LOC", "ORG"])
KNOWN = [
    ("وصل [محمد السعيد|PER] إلى [بيروت|LOC] و[بغداد|LOC] أمس", "known-1"),
    ("أعلنت [وزارة الدفاع العراقية|ORG] تقدم القوات نحو [الموصل|LOC]، وقال [محمد السعيد|PER]: نعم", "known-2"),
    ("شهدت شوارع [القاهرة|LOC] احتفالات ل[الجيش|ORG] والشرطة", "known-3"),
    ("فاز [النادي الأهلي|ORG] على [الزمالك|ORG] في مباراة أقيمت ب[الإسكندرية|LOC] مساء الجمعة", "known-4"),
]


@pytest.fixture(scope="session")
def known() -> list[Document]:
    """The sentences with their names."""
    documents = []
    for text, id in KNOWN:
        plain, spans, nested = parse_markup(text, where=id)
        assert not nested
        documents.append(Document(id, plain, spans))
    return documents


@pytest.fixture(scope="session", params=["wordpiece_encoder", "unigram_encoder"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, known: list[Document]) -> Path:
    """The folder of a checkpoint for each kind of encoder."""
    name = str(request.getfixturevalue(request.param))
    torch.manual_seed(1)
    classifier = build_classifier(name, TAGS)
    tokenizer = install_normalizer(load_tokenizer(name))
    rows, losses = build_window_dataset(
        known, DocumentTokenizer(tokenizer, max_length=64, overlap=16), TAGS, proclitics=True
    )
    assert not losses
    batch = WindowCollator(tokenizer.pad_token_id, 64)([rows[index] for index in range(len(rows))])
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=3e-3)
    for _ in range(120):
        loss = joint_loss(classifier(batch["input_ids"], batch["attention_mask"]), batch["labels"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    folder = tmp_path_factory.mktemp("checkpoint")
    classifier.save_pretrained(folder, tokenizer, WindowOptions(max_length=64, overlap=16))
    return folder
