"""Batch runs: a resuming run ends in the same bytes as an uninterrupted one, and every record is written or rejected."""

from __future__ import annotations

import base64
import json
import os
import re
import resource
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow.parquet as pq
import pytest

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from musamma.inference import batch_run
from musamma.inference.batch_run import (
    LoadedTagger,
    check_output,
    reject_bad_file_names,
    run_settings,
    tag_inputs,
    tag_records,
)
from musamma.inference.inputs import Inputs, read_inputs
from musamma.inference.output_formats import build_output_format
from musamma.inference.progress_bar import ProgressBar
from musamma.inference.resumable_file import ResumableFile
from musamma.inference.run_state import RunState, RunStats, read_state, write_state

COUNT = 23


class Killed(BaseException):
    """Stands for a kill of the process: no code of the project handles it."""


class Finder:
    """A tagger that finds every "بغداد", and is killed at a given document."""

    def __init__(self, *, killed_at: str | None = None) -> None:
        self.killed_at, self.seen = killed_at, []

    def tag_groups(self, groups: Iterable[list[Document]]) -> Iterator[tuple[list[Document], int]]:
        for group in groups:
            yield [self.tagged(document) for document in group], len(group)

    def tagged(self, document: Document) -> Document:
        if document.id == self.killed_at:
            raise Killed
        self.seen.append(document.id)
        return document.with_spans(
            Span(match.start(), match.end(), "LOC", 0.5) for match in re.finditer("بغداد", document.text)
        )


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_run, "GROUP_SIZE", 4)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    lines = [{"id": f"م/{n}", "text": "وصل إلى بغداد " * (n % 5) + "نعم", "meta": {"n": n}} for n in range(COUNT)]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def tag(
    source: Path,
    target: Path,
    *,
    format: str = "jsonl",
    compression: str | None = None,
    finder: Finder | None = None,
    settings: dict[str, Any] | None = None,
    skip: bool = False,
    **options: bool,
) -> RunStats:
    audit = ImportAudit()
    with (
        ProgressBar(None) as progress_bar,
        ResumableFile(target, **options) as part,
        closing(read_inputs(Inputs(names=(str(source),)))) as read,
    ):
        done = tag_records(
            reject_bad_file_names(read) if format == "brat" else read,
            lambda: LoadedTagger(tagger=finder or Finder(), settings=settings or {"model": "a"}),
            part,
            build_output_format(format, compression=compression, audit=audit, table=None),
            audit=audit,
            progress_bar=progress_bar,
            skip=skip,
        )
    assert done.lost == {kind: count for kind, count in audit.kinds.items() if count}
    return done


def contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def damage(path: Path) -> None:
    """Append bytes that the state does not include, as a kill in the middle of writing can leave them."""
    with path.open("ab") as file:
        file.write(b"half a li")


FORMATS = [("jsonl", None), ("jsonl", "gzip"), ("jsonl", "zstd"), ("conll", None), ("conll", "gzip"), ("html", None)]
FORMATS += [("parquet", None), ("brat", None)]


@pytest.mark.parametrize(("format", "compression"), FORMATS)
@pytest.mark.parametrize("kills", [[0], [3], [4], [13, 14], [22], [5, 9, 13, 17, 21]])
def test_a_killed_run_is_resumed_and_ends_in_the_same_bytes(tmp_path, archive, format, compression, kills):
    whole = tag(archive, tmp_path / "whole", format=format, compression=compression)
    tagged = []
    for resume, kill in enumerate(kills):
        finder = Finder(killed_at=f"م/{kill}")
        with pytest.raises(Killed):
            tag(archive, tmp_path / "out", format=format, compression=compression, finder=finder, resume=resume > 0)
        kept = kill // 4 * 4
        tagged += finder.seen
        assert (tmp_path / "out.part").exists() == bool(kept)
        if kept:
            damage(tmp_path / "out.part")
            assert read_state(tmp_path / "out.part.json").stats.records == kept
        assert not (tmp_path / "out").exists()
    finder = Finder()
    done = tag(archive, tmp_path / "out", format=format, compression=compression, finder=finder, resume=True)
    assert finder.seen[0] == f"م/{kills[-1] // 4 * 4}"  # Documents that were written are not tagged again.
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert done == whole
    assert (done.records, done.documents, done.rejected, done.left_out) == (COUNT, COUNT, 0, COUNT)
    assert names(tmp_path) == ["in.jsonl", "out", "whole"]


# The state of a run of an earlier release that stopped at the tenth document of the archive.
STATE = """{
  "settings": {
    "inputs": [
      "in.jsonl"
    ],
    "text column": null,
    "id column": null,
    "format": "jsonl",
    "packing": null,
    "model": "a"
  },
  "account": {
    "records": 8,
    "documents": 8,
    "rejected": 0,
    "names": 13,
    "words": 47,
    "left_out": 8,
    "lost": {},
    "bytes": 1385,
    "digest": "f7054d471a58ddc6ec0349d7fe4c7ee3"
  }
}
"""


def test_the_state_is_that_of_earlier_releases(tmp_path, archive, monkeypatch):
    """Their unfinished runs can be resumed."""
    monkeypatch.chdir(tmp_path)

    def tag_all(output: str, finder: Finder, **options: bool) -> tuple[RunStats, RunStats]:
        return tag_inputs(
            Inputs(names=("in.jsonl",), output=output),
            lambda: LoadedTagger(tagger=finder, settings={"model": "a"}),
            format="jsonl",
            compression=None,
            audit=ImportAudit(),
            progress_bar=ProgressBar(None),
            **options,
        )

    with pytest.raises(Killed):
        tag_all("out", Finder(killed_at="م/10"))
    assert Path("out.part.json").read_text("utf-8") == STATE
    assert Path("out.part").stat().st_size == 1385
    finder = Finder()
    done, before = tag_all("out", finder, resume=True)
    assert (before.documents, done.documents) == (8, COUNT)
    assert finder.seen[0] == "م/8"
    tag_all("whole", Finder())
    assert Path("out").read_bytes() == Path("whole").read_bytes()


@pytest.mark.parametrize(
    ("output", "format", "message"),
    [
        (None, "parquet", "`format='parquet'` to standard output; expected a file to write"),
        (None, "brat", "`format='brat'` to standard output; "),
        ("in.jsonl", "jsonl", "in.jsonl: an input is also the output; choose another `output`"),
        ("folder", "jsonl", "folder: a folder; expected a file to write; "),
        ("folder", "brat", "folder: a folder with files in it; "),
        ("in.jsonl", "brat", "in.jsonl: "),
    ],
)
def test_outputs_that_cannot_be_written(tmp_path, archive, monkeypatch, output, format, message):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("folder/x").touch()
    before = contents(tmp_path)
    with pytest.raises(InputError) as failed:
        check_output(Inputs(names=("in.jsonl",), output=output), format=format)
    assert str(failed.value).startswith(message)
    assert contents(tmp_path) == before


def stop_early(archive: Path, target: Path, **options: Any) -> None:
    with pytest.raises(Killed):
        tag(archive, target, finder=Finder(killed_at="م/10"), **options)


def test_an_unfinished_output_is_an_error_that_says_how_to_continue(tmp_path, archive):
    stop_early(archive, tmp_path / "out")
    with pytest.raises(
        InputError, match=r"out\.part: an unfinished output; .*`overwrite=True`, or continue it with `resume=True`"
    ):
        tag(archive, tmp_path / "out")
    assert tag(archive, tmp_path / "out", overwrite=True).records == COUNT
    with pytest.raises(InputError, match=r"out: the output is complete; expected an unfinished out\.part"):
        tag(archive, tmp_path / "out", resume=True)
    assert tag(archive, tmp_path / "out").records == COUNT  # The complete output is replaced.


def test_one_run_at_a_time_writes_an_output(tmp_path, archive):
    with ResumableFile(tmp_path / "out"):
        for options in ({}, {"resume": True}, {"overwrite": True}):
            message = (
                r"out\.part: another run is writing it; expected one run at a time; wait until it has ended, or choose"
            )
            with pytest.raises(InputError, match=message):
                ResumableFile(tmp_path / "out", **options)
        assert (tmp_path / "out.part").exists()
    (tmp_path / "out.part").unlink()
    late = ResumableFile(tmp_path / "out")  # before the other run has made its file
    with ResumableFile(tmp_path / "out"), pytest.raises(InputError, match=r"another run is writing it"):
        late.__enter__()
    (tmp_path / "out.part").unlink()
    stop_early(archive, tmp_path / "out")
    with pytest.raises(InputError, match=r"out\.part: an unfinished output; "):
        late.__enter__()
    assert tag(archive, tmp_path / "out", resume=True).records == COUNT


def test_a_link_stays_and_the_run_is_beside_its_file(tmp_path, archive):
    tag(archive, tmp_path / "whole")
    (tmp_path / "far").mkdir()
    (tmp_path / "out").symlink_to("far/out")
    stop_early(archive, tmp_path / "out")
    assert names(tmp_path / "far") == ["out.part", "out.part.json"]
    tag(archive, tmp_path / "out", resume=True)
    assert (tmp_path / "out").is_symlink()
    assert names(tmp_path / "far") == ["out"]
    assert (tmp_path / "far" / "out").read_bytes() == (tmp_path / "whole").read_bytes()


def test_an_unfinished_output_is_a_file(tmp_path):
    """A link in its place, as anyone may put into /tmp, is not followed."""
    (tmp_path / "private").write_text("text")
    (tmp_path / "out.part").symlink_to("private")
    with pytest.raises(
        InputError, match=r"out\.part: a link; expected nothing, or the unfinished output of a run; delete"
    ):
        ResumableFile(tmp_path / "out", overwrite=True)
    assert (tmp_path / "private").read_text() == "text"


@pytest.mark.parametrize("format", ["jsonl", "conll", "html"])
def test_a_fifo_receives_the_bytes_of_the_file(tmp_path, archive, format):
    tag(archive, tmp_path / "whole", format=format)
    os.mkfifo(tmp_path / "fifo")
    received: list[bytes] = []
    thread = Thread(target=lambda: received.append((tmp_path / "fifo").read_bytes()), daemon=True)
    thread.start()
    inputs = Inputs(names=(str(archive),), output=str(tmp_path / "fifo"))
    load = lambda: LoadedTagger(tagger=Finder(), settings={})  # noqa: E731
    with ProgressBar(None) as progress_bar:
        done, _ = tag_inputs(
            inputs, load, format=format, compression=None, audit=ImportAudit(), progress_bar=progress_bar
        )
        thread.join(timeout=20)
        assert done.documents == COUNT
        assert received == [(tmp_path / "whole").read_bytes()]
        for option in ("skip", "resume", "overwrite"):
            with pytest.raises(InputError, match=r"fifo: a FIFO, which can only be written from start to end; "):
                tag_inputs(
                    inputs,
                    load,
                    format=format,
                    compression=None,
                    audit=ImportAudit(),
                    progress_bar=progress_bar,
                    **{option: True},
                )
    assert names(tmp_path) == ["fifo", "in.jsonl", "whole"]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"settings": {}, "account": {"records": 1}}', b"\xff"])
def test_an_invalid_state(tmp_path, archive, content):
    stop_early(archive, tmp_path / "out")
    (tmp_path / "out.part.json").write_bytes(content)
    with pytest.raises(
        InputError, match=r"out\.part\.json: not the state of a run: .*; start over with `overwrite=True`"
    ):
        tag(archive, tmp_path / "out", resume=True)
    (tmp_path / "out.part.json").unlink()
    with pytest.raises(InputError, match=r"out\.part: an unfinished output without its out\.part\.json; "):
        tag(archive, tmp_path / "out", resume=True)


@pytest.mark.parametrize("format", ["jsonl", "html"])
def test_a_kill_before_anything_is_tagged(tmp_path, archive, format, monkeypatch):
    tag(archive, tmp_path / "whole", format=format)

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as during:
        # While the model is loaded, and then between the state and the head. As after a kill, nothing is cleaned up.
        during.setattr(ResumableFile, "__exit__", lambda part, *_: part._file.close())
        with during.context() as loading:
            loading.setattr(ResumableFile, "begin_or_resume", killed)
            with pytest.raises(Killed):
                tag(archive, tmp_path / "out", format=format)
        assert not (tmp_path / "out.part.json").exists()
        with during.context() as heading:
            heading.setattr(ResumableFile, "append", killed)
            with pytest.raises(Killed):
                tag(archive, tmp_path / "out", format=format, resume=True)
    assert (tmp_path / "out.part.json").exists()
    assert tag(archive, tmp_path / "out", format=format, resume=True).records == COUNT
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()


def test_an_output_shorter_than_its_state_records(tmp_path, archive):
    stop_early(archive, tmp_path / "out")
    os.truncate(tmp_path / "out.part", 10)
    with pytest.raises(
        InputError, match=r"out\.part: 10 bytes; expected the [\d,]+ bytes that out\.part\.json records"
    ):
        tag(archive, tmp_path / "out", resume=True)


def test_changed_settings_are_named(tmp_path, archive):
    stop_early(archive, tmp_path / "out", settings={"model": "a", "device": "cpu", "format": "jsonl"})
    before = contents(tmp_path)
    with pytest.raises(
        InputError,
        match=r'started with device "cpu", model "a" and is resumed with device "cuda", model "b"; expected the same settings',
    ):
        tag(archive, tmp_path / "out", resume=True, settings={"model": "b", "device": "cuda", "format": "jsonl"})
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [lines[0].replace(b"}", b', "x": 1}', 1), *lines[1:]],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: lines[1:],
        lambda lines: lines[:5],
    ],
)
def test_a_changed_input_is_an_error(tmp_path, archive, change: Callable[[list[bytes]], list[bytes]]):
    stop_early(archive, tmp_path / "out")
    before = contents(tmp_path / "out.part")
    archive.write_bytes(b"".join(change(archive.read_bytes().splitlines(keepends=True))))
    with pytest.raises(InputError, match="the first 8 records of the input differ from those the run was started with"):
        tag(archive, tmp_path / "out", resume=True)
    assert contents(tmp_path / "out.part") == before


def test_the_line_that_stopped_a_run_may_be_corrected(tmp_path, archive):
    whole = archive.read_bytes()
    lines = whole.splitlines(keepends=True)
    archive.write_bytes(b"".join([*lines[:17], b'{"id": "x"}\n', *lines[18:]]))
    with pytest.raises(InputError, match=r"in\.jsonl:18: text is NoneType"):
        tag(archive, tmp_path / "out")
    archive.write_bytes(whole)
    tag(archive, tmp_path / "out", resume=True)
    tag(archive, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_ctrl_c_keeps_written_groups_and_leaves_nothing_without_any(tmp_path, archive, monkeypatch):
    for kill, left in (("م/2", []), ("م/6", ["out.part", "out.part.json"])):
        finder = Finder(killed_at=kill)
        monkeypatch.setattr(f"{__name__}.Killed", KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            tag(archive, tmp_path / "out", finder=finder)
        assert names(tmp_path) == ["in.jsonl", *left]


def test_a_run_can_be_resumed_after_a_full_disk(tmp_path, archive):
    """A limit on file sizes makes a write fail halfway, as a full disk does."""
    tag(archive, tmp_path / "whole")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (tmp_path / "whole").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size * 2 // 3, hard))
    try:
        with pytest.raises(
            InputError, match=r"out\.part: File too large; free some space, and continue with `resume=True`$"
        ):
            tag(archive, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 0 < read_state(tmp_path / "out.part.json").stats.records < COUNT
    tag(archive, tmp_path / "out", resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


# Lines that are not documents, and odd texts that are
BAD = {
    "broken JSON": (b'{"id": "x", "te', "broken JSON: "),
    "invalid UTF-8": (b'{"id": "x", "text": "caf\xe9"}', "byte 0xe9 at byte 25 is not UTF-8; expected UTF-8"),
    "missing text": (b'{"id": "x"}', "text is NoneType; expected a string under 'text'"),
    "missing id": (b'{"text": "x"}', "id is None; expected a non-empty string under 'id'"),
    "text of another type": (b'{"id": "x", "text": ["x"]}', "text is list; expected a string"),
    "id of another type": (b'{"id": true, "text": "x"}', "id is True; expected a non-empty string"),
    "no object": (b'["x"]', "a JSON list; expected an object"),
    "lone surrogate": (b'{"id": "x", "text": "\\ud800"}', "broken JSON: "),
    "no space": (b'{"id": "x", "text": "' + b"x" * 1_000_001 + b'"}', "1,000,001 characters without a space"),
    "raw control character": (b'{"id": "x", "text": "a\x00b"}', "broken JSON: "),
    "duplicate id": (b'{"id": "\xd9\x85/0", "text": "x"}', "id 'م/0' is taken by line 1; expected unique ids"),
}

#: Odd texts that are documents: the text, the offsets of its names and its tokens in CoNLL.
LONG_WORD = "ا" * 900_000
ODD = {
    "empty": ("", [], ""),
    "spaces": (" \t\n\u00a0", [], ""),
    "bidi override": ("\u202e", [], ""),
    "controls": ("بغداد\x00\x01\x1b[31m\x7f\u0085\u2028", [(0, 5)], "بغداد B-LOC\n[ O\n31m O\n\n"),
    "noncharacters": ("\uffff\U0010ffff\ufdd0", [], "\uffff O\n\U0010ffff O\n\ufdd0 O\n\n"),
    "ten megabytes": (
        "في بغداد " + (LONG_WORD + " ") * 6,
        [(3, 8)],
        "في O\nبغداد B-LOC\n" + (LONG_WORD + " O\n") * 6 + "\n",
    ),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("place", [1, 14, COUNT])
def test_a_bad_line_stops_the_run_or_is_rejected(tmp_path, archive, name, place):
    line, message = BAD[name]
    lines = archive.read_bytes().splitlines(keepends=True)
    tag(archive, tmp_path / "whole")
    archive.write_bytes(b"".join([*lines[:place], line + b"\n", *lines[place:]]))
    with pytest.raises(InputError) as failed:
        tag(archive, tmp_path / "out")
    assert str(failed.value).startswith(f"{archive}:{place + 1}: {message}")
    assert (tmp_path / "out.part").exists() == (place >= 4)
    done = tag(archive, tmp_path / "out", skip=True, resume=place >= 4)
    assert (done.records, done.documents, done.rejected) == (COUNT + 1, COUNT, 1)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    (reject,) = [json.loads(line) for line in (tmp_path / "out.rejects.jsonl").read_bytes().splitlines()]
    raw = base64.b64decode(reject["base64"]) if "base64" in reject else reject["text"].encode()
    assert raw == line
    assert reject | {"text": 0, "base64": 0} == {
        "file": str(archive),
        "line": place + 1,
        "reason": str(failed.value),
        "text": 0,
        "base64": 0,
    }
    assert names(tmp_path) == ["in.jsonl", "out", "out.rejects.jsonl", "whole"]
    archive.write_bytes(b"".join(lines))
    tag(archive, tmp_path / "out")
    assert not (tmp_path / "out.rejects.jsonl").exists()  # It belonged to the replaced output.


@pytest.mark.parametrize("kill", [6, 12, 22])
def test_a_resumed_run_keeps_all_rejects(tmp_path, archive, kill):
    lines = archive.read_bytes().splitlines(keepends=True)
    archive.write_bytes(b"".join(b"{" * (n % 3) + line for n, line in enumerate(lines)))
    whole = tag(archive, tmp_path / "whole", skip=True)
    finder = Finder(killed_at=f"م/{kill - kill % 3}")
    with pytest.raises(Killed):
        tag(archive, tmp_path / "out", skip=True, finder=finder)
    assert tag(archive, tmp_path / "out", skip=True, resume=True) == whole
    assert whole.rejected == COUNT - COUNT // 3 - 1
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert contents(tmp_path / "out.rejects.jsonl") == contents(tmp_path / "whole.rejects.jsonl")


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("format", ["jsonl", "conll", "html", "parquet", "brat"])
def test_odd_texts_are_documents(tmp_path, name, format):
    text, offsets, conll = ODD[name]
    source, output = tmp_path / "in.jsonl", tmp_path / "out"
    source.write_text(json.dumps({"id": "x", "text": text}) + "\n", encoding="utf-8")
    done = tag(source, output, format=format)
    assert (done.documents, done.rejected, done.names) == (1, 0, len(offsets))
    spans = [{"start": start, "end": end, "label": "LOC", "score": 0.5} for start, end in offsets]
    if format == "jsonl":
        assert json.loads(output.read_bytes()) == {"id": "x", "text": text, "spans": spans, "meta": {}}
    elif format == "conll":
        assert output.read_bytes().decode() == conll
    elif format == "html":
        marked = text.replace(
            "بغداد", '<mark class="LOC" title="0.500"><bdi>بغداد</bdi><small><bdi>LOC</bdi></small></mark>'
        )
        article = f"<article><h2><bdi>x</bdi></h2><div class=text>{marked}</div></article>\n"
        assert output.read_bytes().decode().partition("<body>\n")[2] == article + "</body></html>\n"
    elif format == "parquet":
        assert pq.read_table(output).to_pylist() == [{"id": "x", "text": text, "spans": spans, "meta": "{}"}]
    else:
        annotations = "".join(f"T1\tLOC {start} {end}\tبغداد\n" for start, end in offsets)
        assert contents(output) == {"x.txt": text.encode(), "x.ann": annotations.encode()}


@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_a_run_that_rejects_everything(tmp_path, compression):
    (tmp_path / "in.jsonl").write_bytes(b"x\ny\n")
    done = tag(tmp_path / "in.jsonl", tmp_path / "out.gz", compression=compression, skip=True)
    assert (done.records, done.documents, done.rejected) == (2, 0, 2)
    assert ((tmp_path / "out.gz").stat().st_size > 0) == (compression is not None)


def test_brat_rejects_ids_that_cannot_name_a_file(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"id": "../x", "text": "نص"}\n{"id": "y", "text": "نص"}', encoding="utf-8")
    with pytest.raises(InputError, match=r"in\.jsonl:1: id '\.\./x' cannot name a file"):
        tag(tmp_path / "in.jsonl", tmp_path / "out", format="brat")
    assert tag(tmp_path / "in.jsonl", tmp_path / "out", format="brat", skip=True).rejected == 1
    assert names(tmp_path / "out") == ["y.ann", "y.txt"]


def test_a_group_ends_when_it_is_large(tmp_path, archive, monkeypatch):
    monkeypatch.setattr(batch_run, "GROUP_BYTES", 200)
    records = list(read_inputs(Inputs(names=(str(archive),))))
    groups = list(batch_run.group_records(records))
    assert [record for group in groups for record in group] == records
    for group in groups[:-1]:
        sizes = [len(record.raw) for record in group]
        assert len(group) == 4 or sum(sizes) >= 200 > sum(sizes[:-1])
    assert len({len(group) for group in groups[:-1]}) > 1


def test_settings_with_names_that_are_not_utf8_stay_the_same(tmp_path: Path) -> None:
    inputs = Inputs(names=(os.fsdecode(b"caf\xe9"),))
    settings = run_settings(inputs, format="jsonl", compression=None)
    write_state(RunState(settings=settings, stats=RunStats()), tmp_path / "state.json")
    read_state(tmp_path / "state.json").check_settings(settings, where="state.json")
