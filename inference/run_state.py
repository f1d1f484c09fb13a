"""How far a run has come: the small file beside its unfinished output, which a resumed run goes on from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.inference.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStats:
    """What a run has done. Always ``records == documents + rejected``.

    Args:
        records: text files, lines and rows that were read.
        documents: how many of them were tagged and written.
        rejected: how many were no document.
        names: names that were written.
        words: words of the tagged texts, as spaces part them.
        left_out: names that were left out for their score.
        lost: what the format could not hold, by kind.
        bytes: length of the unfinished output.
        digest: a fingerprint of all records, in order.
    """

    records: int = 0
    documents: int = 0
    rejected: int = 0
    names: int = 0
    words: int = 0
    left_out: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0
    digest: str = ""

    def with_group(self, group: list[Record], tagged: list[Document], *, digest: str, left_out: int) -> RunStats:
        """With one more group of records, and the documents that they became."""
        return replace(
            self,
            records=self.records + len(group),
            documents=self.documents + len(tagged),
            rejected=self.rejected + len(group) - len(tagged),
            names=self.names + sum(len(document.spans) for document in tagged),
            words=self.words + sum(len(document.text.split()) for document in tagged),
            left_out=self.left_out + left_out,
            digest=digest,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """A run: what it was called with, and what it has done.

    Args:
        settings: what has to be the same for the run to go on.
        stats: what was done.
    """

    settings: Mapping[str, Any]
    stats: RunStats

    def check_settings(self, settings: Mapping[str, Any], *, where: str) -> None:
        """Compare with the settings of a run that wants to go on.

        Raises:
            InputError: they differ; names each difference.
        """
        keys = sorted(set(settings) | set(self.settings))
        if changed := [key for key in keys if settings.get(key) != self.settings.get(key)]:
            before, now = (
                ", ".join(f"{key} {_short(source.get(key))}" for key in changed) for source in (self.settings, settings)
            )
            raise InputError(
                f"the run was begun with {before} and is to go on with {now}",
                where=where,
                expected="the same",
                remedy="give what it was begun with, or begin anew with --overwrite",
            )


def read_state(path: Path) -> RunState:
    """The journal of a file.

    Raises:
        InputError: it cannot be read or is none.
    """
    try:
        content = orjson.loads(path.read_bytes())
        known = {item.name for item in fields(RunStats)}
        account = {key: value for key, value in content["account"].items() if key in known}
        if set(account) != known:
            raise KeyError(", ".join(sorted(known - set(account))))
        return RunState(settings=dict(content["settings"]), stats=RunStats(**account))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"no journal of a run: {error}",
            where=str(path),
            expected="what musamma predict wrote",
            remedy="begin anew with --overwrite",
        ) from error


def write_state(journal: RunState, path: Path) -> None:
    """Put a journal in the place of the one before it, so that a power cut leaves one of both.

    Raises:
        OSError: it cannot be written.
    """
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        # The key is from the time before the field was renamed: unfinished runs of those releases go on.
        content = {"settings": dict(journal.settings), "account": asdict(journal.stats)}
        file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on disk, where the system can be asked to."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def update_digest(digest: str, records: Iterable[Record]) -> str:
    """The fingerprint of all records up to these, from that of the ones before them."""
    hashed = blake2b(digest.encode(), digest_size=16)
    for record in records:
        content = record.content()
        hashed.update(len(content).to_bytes(8, "little"))
        hashed.update(content)
    return hashed.hexdigest()


def checkpoint_digest(folder: Path) -> str:
    """The fingerprint of a checkpoint: what of it decides the outcome."""
    hashed = blake2b(digest_size=16)
    for pattern in ("config.json", "token*.json", "*.safetensors", "openvino_model.*", "*.onnx"):
        for path in sorted(folder.glob(pattern)):
            with path.open("rb") as file:
                hashed.update(path.name.encode())
                while block := file.read(2**20):
                    hashed.update(block)
    return hashed.hexdigest()


def _short(value: Any) -> str:
    shown = orjson.dumps(value).decode()
    return shown if len(shown) <= 80 else shown[:77] + "..."
