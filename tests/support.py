"""Functions that test modules share: spans by their surface, checkpoints with random heads, commands that must fail."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from musamma.data.corpus_files import ReadOptions, read_documents
from musamma.data.document import Document, Span
from musamma.data.import_audit import ImportAudit

if TYPE_CHECKING:
    from musamma.models.calibration import Calibration
    from musamma.models.classifier import TokenClassifier

#: Words with proclitics, vowel marks, presentation forms, direction marks and punctuation, and texts of them.
SHORT_WORDS = st.sampled_from(
    [
        "وصل",
        "مُحَمَّد",
        "السعيد",
        "إلى",
        "بالموصل",
        "وداعش",
        "للجيش",
        "وبالقاهرة",
        "،",
        "(",
        ")",
        "كـــتاب",
        "ﷺ",
        "3.5",
        "😀",
        "ـ",
        "ً",
        "\u202bدمشق\u202c",
        "ﻟﻠﺠﻴﺶ",
        "General",
        "و",
        "إف-16",
        "㎏",
    ]
)
SHORT_TEXTS = st.lists(SHORT_WORDS, max_size=120).map(" ".join)


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Make this thread obey the permissions of files, which root otherwise does not; skip the test where that fails."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("Ii", 0x20080522, 0)  # version 3 of the interface, this thread
    before = ctypes.create_string_buffer(24)
    if not sys.platform.startswith("linux") or libc.capget(header, before):
        pytest.skip("root without Linux capabilities")
    effective, *others = struct.unpack("6I", before.raw)
    overrides = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    libc.capset(header, struct.pack("6I", effective & ~overrides, *others))
    try:
        yield
    finally:
        libc.capset(header, before)


def span(text: str, surface: str, label: str = "LOC", *, after: int = 0, score: float | None = None) -> Span:
    """Return the span of the first occurrence of a surface in a text.

    Args:
        text: the text.
        surface: the characters of the name; a ``ValueError`` is raised where the text does not hold them.
        label: its label.
        after: code points to skip before the search.
        score: its score.
    """
    start = text.index(surface, after)
    return Span(start, start + len(surface), label, score)


def make_document(
    text: str,
    *names: tuple[str, str] | tuple[str, str, float],
    id: str = "d",
    meta: Mapping[str, Any] | None = None,
) -> Document:
    """Return a document with names at the first occurrence of each surface.

    Args:
        text: the text.
        names: surface and label, and the score where the name has one.
        id: the document's id.
    """
    return Document(
        id, text, tuple(span(text, name[0], name[1], score=name[2] if name[2:] else None) for name in names)
    )


def surfaces(document: Document) -> list[tuple[str, str]]:
    """Return the surface and label of every span of a document."""
    return [(document.surface(span), span.label) for span in document.spans]


def default_mode(folder: Path) -> int:
    """Return the permissions of a new file in a folder, which follow the umask."""
    path = folder / ".new-file"
    path.touch()
    mode = path.stat().st_mode & 0o777
    path.unlink()
    return mode


def file_modes(folder: Path) -> dict[str, int]:
    """Return the permissions of the files of a folder and of those inside it, by name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in files}


def write_random_checkpoint(
    folder: Path,
    encoder: Path,
    *,
    labels: Sequence[str] = ("PER", "LOC", "ORG"),
    seed: int = 5,
    head_std: float | None = 2.0,
    proclitic_std: float | None = 2.0,
    nested: Sequence[str] = (),
    adjust: Callable[[TokenClassifier], None] | None = None,
    calibration: Calibration | None = None,
) -> Path:
    """Write a checkpoint whose heads are drawn at random; with wide heads it finds names in any text.

    Args:
        folder: where to write.
        encoder: the encoder's folder, such as the fixture ``wordpiece_encoder``.
        labels: the labels of names.
        seed: PyTorch's seed.
        head_std: standard deviation of the weights of the tag head; ``None`` keeps their usual initial values.
        proclitic_std: the same for the head of proclitic borders.
        nested: the labels of nested names; without any, the checkpoint has no head for them. Its weights are as wide as those of
            the tag head.
        adjust: changes the classifier before it is written.
        calibration: stored with the checkpoint.

    Returns:
        The folder.
    """
    import torch

    from musamma.data.normalization import install_normalizer
    from musamma.data.tags import TagSet
    from musamma.models.checkpoint import build_classifier, load_tokenizer
    from musamma.models.window_options import WindowOptions

    torch.manual_seed(seed)
    classifier = build_classifier(
        str(encoder), TagSet.from_labels(labels), nested=TagSet.from_labels(nested) if nested else None
    )
    if head_std is not None:
        torch.nn.init.normal_(classifier.backbone.classifier.weight, std=head_std)
    if proclitic_std is not None:
        torch.nn.init.normal_(classifier.proclitic_head.weight, std=proclitic_std)
    if head_std is not None and classifier.nested_head is not None:
        torch.nn.init.normal_(classifier.nested_head.weight, std=head_std)
    if adjust is not None:
        with torch.no_grad():
            adjust(classifier)
    tokenizer = install_normalizer(load_tokenizer(str(encoder)))
    classifier.save_pretrained(folder, tokenizer, WindowOptions(max_length=64, overlap=16), calibration=calibration)
    return folder


def refused_command(
    capsys: pytest.CaptureFixture[str],
    *arguments: object,
    status: int = 2,
    run: Callable[[list[str]], int] | None = None,
    prefix: str = "musamma: ",
) -> str:
    """Run a command that must fail with one line on stderr and nothing on stdout; return the line without its prefix.

    Args:
        capsys: the fixture.
        arguments: of the command; converted to strings.
        status: the expected exit status.
        run: the program; :func:`musamma.cli.main.run` by default.
        prefix: how the line must begin.
    """
    if run is None:
        from musamma.cli.main import run
    capsys.readouterr()
    actual = run([*map(str, arguments)])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(prefix), captured.err
    assert captured.err.endswith("\n")
    assert len(captured.err.splitlines()) == 1, captured.err
    assert actual == status, captured.err
    return captured.err.removeprefix(prefix).removesuffix("\n")


def read_content(tmp_path: Path, content: Any, name: str, **options: Any) -> tuple[list[Document], ImportAudit]:
    """Write a file, JSON unless ``content`` is text, and read its documents with the audit of the import."""
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), "utf-8")
    audit = ImportAudit()
    return list(read_documents(path, options=ReadOptions(**options), audit=audit)), audit


def tag_in_turns(tagger: Any, requests: Sequence[Sequence[Document]]) -> list[list[Document]]:
    """Take a step of each request in turn, until all are done; return the documents of each as tagged."""
    steps = dict(enumerate(map(tagger.tag_in_steps, requests)))
    tagged: dict[int, list[Document]] = {}
    shares = dict.fromkeys(steps, 0.0)
    while len(tagged) < len(requests):
        for number in steps.keys() - tagged.keys():
            try:
                share = next(steps[number])
                assert shares[number] <= share <= 1
                shares[number] = share
            except StopIteration as stop:
                tagged[number] = stop.value
    return [tagged[number] for number in steps]


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, with the package of this checkout."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src"), "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def write_packed(checkpoint: Path, folder: Path) -> Path:
    """Write a checkpoint with 8-bit weights, and return the folder."""
    from safetensors.numpy import load_file

    from musamma.models.packed_weights import write_packed_checkpoint

    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    weights = load_file(checkpoint / "model.safetensors")
    prefix = "bert." if config["model_type"] == "bert" else "roberta."
    write_packed_checkpoint(checkpoint, config, weights, folder, prefix=prefix)
    return folder
