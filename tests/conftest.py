"""Small encoders in place of those of a hub, checkpoints that have memorised four sentences, and a browser; all offline and in seconds."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

# One thread per test process: more threads than cores only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"

from pathlib import Path

import hypothesis
import pytest
import torch
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from musamma.data.corpora import load_khabar
from musamma.data.document import Document
from musamma.data.formats.markup import parse_markup
from musamma.data.normalization import install_normalizer
from musamma.data.tags import TagSet
from musamma.data.windows import DocumentTokenizer
from musamma.models.checkpoint import build_classifier, load_tokenizer
from musamma.models.window_options import WindowOptions
from musamma.training.dataset import WindowCollator, build_window_dataset, joint_loss

# On a busy machine an example may take any time.
hypothesis.settings.register_profile("musamma", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("musamma")

pytest_plugins = ["tests.own_process"]
pytest.register_assert_rewrite("tests.support")

SENTENCES = [
    "أعلنت وزارة الدفاع العراقية تقدم القوات نحو الموصل وبلدة قره قوش شرقي المدينة",
    "وقال محمد السعيد لوكالة رويترز في بيروت إن الاجتماع سيعقد في القاهرة غدا",
    "فاز النادي الأهلي على الزمالك بهدفين في مباراة أقيمت بالإسكندرية مساء الجمعة 12 يناير 2024",
    "وصل الرئيس إلى دمشق وبغداد ولندن، ثم غادر إلى باريس (فرنسا) برفقة وفد من الأمم المتحدة",
    "ذكرت صحيفة الحياة أن شركة أرامكو وقعت عقدا بقيمة 3.5 مليار دولار مع شركة General Electric",
    "تنظيم داعش، حركة حماس، حزب الله، مجلس الأمن الدولي، الاتحاد الأوروبي، جامعة الموصل",
    "شهدت شوارع المدينة احتفالات للجيش والشرطة الاتحادية بعد تحرير ناحية النمرود من مسلحي التنظيم",
    "ولد الكاتب في حي السيدة زينب عام 1935 ودرس في جامعة القاهرة ثم عمل بالصحافة في الكويت",
]
LETTERS = list("ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىي٠١٢٣٤٥٦٧٨٩0123456789abcdefghijklmnopqrstuvwxyz.,،؛؟:-()\"'/")


_VOCABULARY_SIZE = 400


def _dimensions(vocabulary: int) -> dict[str, int]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
    }


def _frequent_substrings(begin: str, inside: str) -> list[str]:
    """Return the most frequent substrings of words. The trainers of `tokenizers` break ties at random; this does not."""
    counts: Counter[str] = Counter()
    for word in (word for sentence in SENTENCES for word in sentence.split()):
        for start, end in combinations(range(len(word) + 1), 2):
            if 2 <= end - start <= 6:
                counts[(inside if start else begin) + word[start:end]] += 1
    return sorted(counts, key=lambda piece: (-counts[piece], piece))


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Captured messages of every level: a library of the exports raises the level of all handlers of the root logger."""
    caplog.handler.setLevel(logging.NOTSET)
    return caplog


@pytest.fixture(scope="session")
def wordpiece_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with a vocabulary like AraBERT's: WordPiece, cased, BERT's pre-tokenizer."""
    folder = tmp_path_factory.mktemp("wordpiece")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    vocabulary = list(dict.fromkeys([*special, *letters, *_frequent_substrings("", "##")]))[:_VOCABULARY_SIZE]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=False).save_pretrained(folder)
    torch.manual_seed(1)
    config = BertConfig(**_dimensions(len(vocabulary)), max_position_embeddings=128)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def unigram_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small XLM-RoBERTa with a vocabulary like SentencePiece's: Unigram pieces split at spaces only."""
    folder = tmp_path_factory.mktemp("unigram")
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    letters = ["▁", *LETTERS, *(f"▁{letter}" for letter in LETTERS)]
    pieces = list(dict.fromkeys([*special, *letters, *_frequent_substrings("▁", "")]))[:_VOCABULARY_SIZE]
    # Longer pieces have higher scores.
    tokenizer = Tokenizer(
        Unigram([(piece, -12.0 + min(len(piece), 6)) for piece in pieces], unk_id=special.index("<unk>"))
    )
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        special_tokens=[("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>"))],
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", mask_token="<mask>", **names
    ).save_pretrained(folder)
    torch.manual_seed(1)
    config = XLMRobertaConfig(**_dimensions(tokenizer.get_vocab_size()), max_position_embeddings=130, pad_token_id=1)
    XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture(params=["wordpiece_encoder", "unigram_encoder"])
def any_encoder(request: pytest.FixtureRequest) -> Path:
    """Each of the two encoders in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def seed_article() -> Document:
    """The seed article with its names."""
    return next(document for document in load_khabar("test") if document.id == "seed-mosul")


# Also suppresses the browser's own network requests.
BROWSER_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--disable-dev-shm-usage",
]  # fmt: skip


# Playwright runs an event loop while the browser is open: modules that use it run in a process of their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, through Playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    if chromium is None:
        pytest.skip("needs a browser: Debian's package chromium")
    with sync_api.sync_playwright() as playwright:
        try:
            launched = playwright.chromium.launch(executable_path=chromium, headless=True, args=BROWSER_FLAGS)
        except sync_api.Error as error:
            pytest.skip(f"{chromium} does not start here: {str(error).splitlines()[0]}")
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address; the test fails if the page logs an error, opens a dialog or requests a foreign address.

    The function takes the address; `own`, which returns whether an address may be requested; `expected`, a pattern of messages to
    ignore; and Playwright's options of a context.
    """
    contexts, errors = [], []

    def open_one(address: str, *, own: Callable[[str], bool], expected: str = "", **options: Any) -> Any:
        context = browser.new_context(viewport=options.pop("viewport", {"width": 1280, "height": 900}), **options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()

        def report(kind: str, what: str) -> None:
            if not (expected and re.search(expected, what)):
                errors.append(f"{kind}: {what}")

        page.on("console", lambda message: report("console", message.text))
        page.on("pageerror", lambda error: report("error", str(error)))
        page.on("dialog", lambda dialog: (report("dialog", dialog.message), dialog.dismiss()))
        page.on("request", lambda request: own(request.url) or report("request", request.url))
        page.goto(address)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert errors == []


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
