"""The state of a batch run: what it has done so far, saved next to the unfinished output so that the run can be resumed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from musamma.data.document import Document
from musamma.data.errors import InputError, not_readable
from musamma.data.files import format_json, write_durably
from musamma.inference.inputs import Record

#: The remedy of errors about an unfinished run that cannot be resumed.
START_OVER = "start over with `overwrite=True`"

# Keys of the file. The second one is kept from earlier releases, so that their unfinished runs can be resumed.
_SETTINGS, _STATS = "settings", "account"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStats:
    """The counts of a run. Always ``records == documents + rejected``.

    Args:
        records: text files, lines and rows read.
        documents: records tagged and written.
        rejected: records that are not documents.
        names: names written.
        words: whitespace-separated words of the tagged texts.
        left_out: names left out because of their score.
        lost: number of items the output format could not hold, by kind.
        bytes: length of the unfinished output.
        digest: digest of all records, in order.
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
        """Return these stats plus those of one group of records and the documents tagged from it."""
        return replace(
            self,
            records=self.records + len(group),
            documents=self.documents + len(tagged),
            rejected=self.rejected + len(group) - len(tagged),
            names=self.names + sum(len(document.all_spans) for document in tagged),
            words=self.words + sum(len(document.text.split()) for document in tagged),
            left_out=self.left_out + left_out,
            digest=digest,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """The settings and the stats of a run.

    Args:
        settings: all settings that a resuming run must share.
        stats: what the run has done.
    """

    settings: Mapping[str, Any]
    stats: RunStats

    def check_settings(self, settings: Mapping[str, Any], *, where: str) -> None:
        """Compare with the settings of the resuming run.

        Raises:
            InputError: the settings differ; the message names each difference.
        """
        keys = sorted(set(settings) | set(self.settings))
        if changed := [key for key in keys if settings.get(key) != self.settings.get(key)]:
            started, resumed = (
                ", ".join(f"{key} {_format_setting(source.get(key))}" for key in changed)
                for source in (self.settings, settings)
            )
            raise InputError(
                f"the run was started with {started} and is resumed with {resumed}",
                where=where,
                expected="the same settings",
                remedy=f"give the settings it was started with, or {START_OVER}",
            )


def read_state(path: Path) -> RunState:
    """Read the state of a run.

    Raises:
        InputError: the file cannot be read or does not hold a state.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise not_readable(path, error) from error
    try:
        content = orjson.loads(data)
        names = {item.name for item in fields(RunStats)}
        stats = {key: value for key, value in content[_STATS].items() if key in names}
        if set(stats) != names:
            raise KeyError(", ".join(sorted(names - set(stats))))
        return RunState(settings=dict(content[_SETTINGS]), stats=RunStats(**stats))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"not the state of a run: {error}",
            where=str(path),
            expected="a file written by musamma predict",
            remedy=START_OVER,
        ) from error


def write_state(state: RunState, path: Path) -> None:
    """Replace the saved state of a run. After a power cut the file holds the old or the new state, complete.

    Raises:
        OSError: the file cannot be written.
    """
    write_durably(format_json({_SETTINGS: dict(state.settings), _STATS: asdict(state.stats)}), path)


def update_digest(digest: str, records: Iterable[Record]) -> str:
    """Return the digest of all records up to and including these; ``digest`` is that of the records before them."""
    hashed = blake2b(digest.encode(), digest_size=16)
    for record in records:
        content = record.content()
        hashed.update(len(content).to_bytes(8, "little"))
        hashed.update(content)
    return hashed.hexdigest()


def unfinished_output(path: Path, *, missing_state: str | None = None) -> InputError:
    """Return the error for an unfinished output at the path; ``missing_state`` names the state file if it is missing."""
    return InputError(
        f"an unfinished output without its {missing_state}" if missing_state else "an unfinished output",
        where=str(path),
        expected="no unfinished output",
        remedy=START_OVER if missing_state else f"{START_OVER}, or continue it with `resume=True` and its settings",
    )


def complete_output(path: Path, *, expected: str) -> InputError:
    """Return the error for a complete output at the path."""
    return InputError(
        "the output is complete", where=str(path), expected=expected, remedy="`overwrite=True` tags everything again"
    )


def _format_setting(value: Any) -> str:
    formatted = orjson.dumps(value).decode()
    return formatted if len(formatted) <= 80 else formatted[:77] + "..."
