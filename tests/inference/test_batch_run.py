"""Runs that stop anywhere and go on: what comes out is the same, byte by byte, and every line is accounted for."""

from __future__ import annotations

import base64
import json
import os
import re
import resource
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from musamma.data.document import Document, Span, read_jsonl
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from musamma.inference import batch_run as batch
from musamma.inference.batch_run import LoadedTagger, reject_bad_file_names, tag_records
from musamma.inference.inputs import Inputs, read_inputs
from musamma.inference.progress_bar import ProgressBar
from musamma.inference.resumable_file import ResumableFile
from musamma.inference.run_state import RunStats, read_state
from musamma.inference.writers import build_output_format

COUNT = 23


class Killed(BaseException):
    """As a kill from outside: nothing of ours handles it."""


class Finder:
    """Finds every Baghdad, and can be killed at a document."""

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
    monkeypatch.setattr(batch, "GROUP_SIZE", 4)


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
    packing: str | None = None,
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
            build_output_format(format, packing=packing, audit=audit, table=None),
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
    """What a kill in the middle of writing can leave: bytes behind what the journal tells of."""
    with path.open("ab") as file:
        file.write(b"half a li")


FORMATS = [("jsonl", None), ("jsonl", "gzip"), ("jsonl", "zstd"), ("conll", None), ("conll", "gzip"), ("html", None)]
FORMATS += [("parquet", None), ("brat", None)]


@pytest.mark.parametrize(("format", "packing"), FORMATS)
@pytest.mark.parametrize("kills", [[0], [3], [4], [13, 14], [22], [5, 9, 13, 17, 21]])
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(tmp_path, archive, format, packing, kills):
    whole = tag(archive, tmp_path / "whole", format=format, packing=packing)
    tagged = []
    for resume, kill in enumerate(kills):
        finder = Finder(killed_at=f"م/{kill}")
        with pytest.raises(Killed):
            tag(archive, tmp_path / "out", format=format, packing=packing, finder=finder, resume=resume > 0)
        kept = kill // 4 * 4
        tagged += finder.seen
        assert (tmp_path / "out.part").exists() == bool(kept)
        if kept:
            damage(tmp_path / "out.part")
            assert read_state(tmp_path / "out.part.json").stats.records == kept
        assert not (tmp_path / "out").exists()
    finder = Finder()
    done = tag(archive, tmp_path / "out", format=format, packing=packing, finder=finder, resume=True)
    assert finder.seen[0] == f"م/{kills[-1] // 4 * 4}"  # nothing of what was done is tagged again
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert done == whole
    assert (done.records, done.documents, done.rejected, done.left_out) == (COUNT, COUNT, 0, COUNT)
    assert names(tmp_path) == ["in.jsonl", "out", "whole"]


def stopped(archive: Path, target: Path, **options: Any) -> None:
    with pytest.raises(Killed):
        tag(archive, target, finder=Finder(killed_at="م/10"), **options)


def test_a_leftover_is_an_error_that_says_how_to_go_on(tmp_path, archive):
    stopped(archive, tmp_path / "out")
    with pytest.raises(
        InputError, match=r"out\.part: an unfinished output; .*`overwrite=True`, or continue it with `resume=True`"
    ):
        tag(archive, tmp_path / "out")
    assert tag(archive, tmp_path / "out", overwrite=True).records == COUNT
    with pytest.raises(InputError, match=r"out: the output is complete; expected an unfinished out\.part"):
        tag(archive, tmp_path / "out", resume=True)
    assert tag(archive, tmp_path / "out").records == COUNT  # replaced as a whole


@pytest.mark.parametrize("content", [b"", b"{}", b'{"settings": {}, "account": {"records": 1}}', b"\xff"])
def test_a_journal_that_is_none(tmp_path, archive, content):
    stopped(archive, tmp_path / "out")
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
        # While the model is loaded, and then between the journal and the head: as a kill, nothing is tidied up.
        during.setattr(ResumableFile, "__exit__", lambda part, *_: part._file.close())
        with during.context() as loading:
            loading.setattr(ResumableFile, "begin", killed)
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


def test_an_output_shorter_than_its_journal_says(tmp_path, archive):
    stopped(archive, tmp_path / "out")
    os.truncate(tmp_path / "out.part", 10)
    with pytest.raises(
        InputError, match=r"out\.part: 10 bytes; expected the [\d,]+ bytes that out\.part\.json records"
    ):
        tag(archive, tmp_path / "out", resume=True)


def test_other_settings_are_named(tmp_path, archive):
    stopped(archive, tmp_path / "out", settings={"model": "a", "device": "cpu", "format": "jsonl"})
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
def test_an_input_that_has_changed_is_an_error(tmp_path, archive, change: Callable[[list[bytes]], list[bytes]]):
    stopped(archive, tmp_path / "out")
    before = contents(tmp_path / "out.part")
    archive.write_bytes(b"".join(change(archive.read_bytes().splitlines(keepends=True))))
    with pytest.raises(InputError, match="the first 8 documents of the input are not those the run was started with"):
        tag(archive, tmp_path / "out", resume=True)
    assert contents(tmp_path / "out.part") == before


def test_a_line_that_stopped_a_run_can_be_corrected(tmp_path, archive):
    whole = archive.read_bytes()
    lines = whole.splitlines(keepends=True)
    archive.write_bytes(b"".join([*lines[:17], b'{"id": "x"}\n', *lines[18:]]))
    with pytest.raises(InputError, match=r"in\.jsonl:18: text is NoneType"):
        tag(archive, tmp_path / "out")
    archive.write_bytes(whole)
    tag(archive, tmp_path / "out", resume=True)
    tag(archive, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_ctrl_c_leaves_what_is_done_and_nothing_where_nothing_is(tmp_path, archive, monkeypatch):
    for kill, left in (("م/2", []), ("م/6", ["out.part", "out.part.json"])):
        finder = Finder(killed_at=kill)
        monkeypatch.setattr(f"{__name__}.Killed", KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            tag(archive, tmp_path / "out", finder=finder)
        assert names(tmp_path) == ["in.jsonl", *left]


def test_a_full_disk_is_one_line_and_can_be_gone_on_from(tmp_path, archive):
    """A limit on the size of files fails a write in its middle, as a full disk does."""
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


# Lines that are no documents, and some that look so.

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
FINE = {
    "empty": "",
    "spaces": " \t\n\u00a0",
    "bidi override": "\u202e",
    "controls": "بغداد\x00\x01\x1b[31m\x7f\u0085\u2028",
    "noncharacters": "\uffff\U0010ffff\ufdd0",
    "ten megabytes": "في بغداد " + ("ا" * 900_000 + " ") * 6,
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("place", [1, 14, COUNT])
def test_a_bad_line_stops_the_run_or_is_put_aside(tmp_path, archive, name, place):
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
    assert not (tmp_path / "out.rejects.jsonl").exists()  # it told of another output


@pytest.mark.parametrize("kill", [6, 12, 22])
def test_rejects_of_a_killed_run_are_all_there(tmp_path, archive, kill):
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


@pytest.mark.parametrize("name", FINE)
@pytest.mark.parametrize(
    ("format", "packing"), [("jsonl", None), ("conll", None), ("html", None), ("parquet", None), ("brat", None)]
)
def test_strange_texts_are_documents(tmp_path, name, format, packing):
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps({"id": "x", "text": FINE[name]}) + "\n", encoding="utf-8")
    done = tag(source, tmp_path / "out", format=format)
    assert (done.documents, done.rejected) == (1, 0)
    if format == "jsonl":
        (document,) = read_jsonl(tmp_path / "out")
        assert document.text == FINE[name]
        assert len(document.spans) == FINE[name].count("بغداد")


@pytest.mark.parametrize("packing", [None, "gzip", "zstd"])
def test_a_run_in_which_everything_is_rejected(tmp_path, packing):
    (tmp_path / "in.jsonl").write_bytes(b"x\ny\n")
    done = tag(tmp_path / "in.jsonl", tmp_path / "out.gz", packing=packing, skip=True)
    assert (done.records, done.documents, done.rejected) == (2, 0, 2)
    assert ((tmp_path / "out.gz").stat().st_size > 0) == (packing is not None)


def test_brat_rejects_what_cannot_name_a_file(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"id": "../x", "text": "نص"}\n{"id": "y", "text": "نص"}', encoding="utf-8")
    with pytest.raises(InputError, match=r"in\.jsonl:1: id '\.\./x' cannot name a file"):
        tag(tmp_path / "in.jsonl", tmp_path / "out", format="brat")
    assert tag(tmp_path / "in.jsonl", tmp_path / "out", format="brat", skip=True).rejected == 1
    assert names(tmp_path / "out") == ["y.ann", "y.txt"]


def test_groups_end_where_they_are_large(tmp_path, archive, monkeypatch):
    monkeypatch.setattr(batch, "GROUP_BYTES", 200)
    records = list(read_inputs(Inputs(names=(str(archive),))))
    groups = list(batch.group_records(records))
    assert [record for group in groups for record in group] == records
    for group in groups[:-1]:
        sizes = [len(record.raw) for record in group]
        assert len(group) == 4 or sum(sizes) >= 200 > sum(sizes[:-1])
    assert len({len(group) for group in groups[:-1]}) > 1
