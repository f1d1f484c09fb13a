"""A run's output folder: claimed without destroying another's, resumed after a kill, and filled at the end."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import yaml

from musamma.data.errors import InputError
from musamma.training.config import BaseConfig

RUN_FILE, SCORES_FILE, CARD_FILE, LOG_FILE = "run.yaml", "scores.json", "README.md", "log.jsonl"


def check_output_folder(
    config: BaseConfig, output: Path, *, resume: bool, overwrite: bool, kept: Collection[str] = ()
) -> None:
    """Fail where the output folder holds what this run must not touch.

    Args:
        config: the run.
        output: the folder.
        resume: go on with a run of the same settings.
        overwrite: an earlier run may be deleted.
        kept: names of what may lie there before a run.

    Raises:
        InputError: it holds another run or other files, or cannot be written.
    """
    record = output / RUN_FILE
    if is_main_process():
        try:
            found = output.exists() and any(path.name not in kept for path in output.iterdir())
            if found and not (overwrite and record.is_file()):
                if not record.is_file():
                    raise InputError(
                        "the folder holds other files", where=str(output), remedy="choose another --output"
                    )
                if not resume:
                    raise InputError(
                        "the folder holds an earlier run",
                        where=str(output),
                        remedy="go on with --resume, start over with --overwrite, or choose another --output",
                    )
                if changed := _changed(record.read_text(encoding="utf-8"), config.to_yaml()):
                    raise InputError(
                        f"the run that is to be resumed had other settings for {', '.join(changed)}",
                        where=str(record),
                        remedy="use its settings, or start over with --overwrite",
                    )
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_writable(output, error) from error


def claim_output(config: BaseConfig, output: Path, *, overwrite: bool, kept: Collection[str] = ()) -> None:
    """Make the output folder this run's own; what is named in ``kept`` stays in it."""
    if is_main_process():
        try:
            if overwrite and (output / RUN_FILE).is_file():
                for path in [output] if not kept else [path for path in output.iterdir() if path.name not in kept]:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            output.mkdir(parents=True, exist_ok=True)
            (output / RUN_FILE).write_text(config.to_yaml(), encoding="utf-8")
        except OSError as error:
            raise _not_writable(output, error) from error


def _not_writable(output: Path, error: OSError) -> InputError:
    return InputError(
        str(error.strerror),
        where=str(error.filename or output),
        remedy="choose an --output that can be written",
    )


def _changed(before: str, after: str) -> list[str]:
    old, new = yaml.safe_load(before) or {}, yaml.safe_load(after)
    return [key for key in new if key not in ("output", "seeds") and old.get(key) != new[key]]


def find_last_checkpoint(work: Path) -> str | None:
    """The newest of the Trainer's checkpoints in ``work`` that was written to its end; broken ones are removed."""
    whole = None
    found = [path for path in work.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-"))):
        # The Trainer writes this file last; a kill may leave it half written too.
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            whole = str(path)
        except (OSError, ValueError):
            if is_main_process():
                shutil.rmtree(path)
    return whole


def publish_checkpoint(source: Path, output: Path) -> None:
    """Put a seed's checkpoint into the output folder itself."""
    for file in source.iterdir():
        if file.is_file() and file.name not in (SCORES_FILE, RUN_FILE, CARD_FILE, LOG_FILE):
            target = output / file.name
            target.unlink(missing_ok=True)
            try:
                os.link(file, target)  # the same weights twice need not take the space twice
            except OSError:
                shutil.copy(file, target)


def write_json_lines(path: Path, records: Iterable[Any]) -> None:
    """Write JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def is_main_process() -> bool:
    """Whether this is the process that writes, of those that torchrun or accelerate launched."""
    return int(os.environ.get("RANK", "0")) == 0
