"""The output folder of a run: checks before the run, the files that mark a run as started and finished, and checkpoints."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import yaml
from pydantic import ValidationError

from musamma.data.document import Document
from musamma.data.errors import InputError, not_writable, one_line
from musamma.data.files import lock_path, unlock, write_json
from musamma.training.config_fields import BaseConfig

RUN_FILE, SCORES_FILE, CARD_FILE, LOG_FILE = "run.yaml", "scores.json", "README.md", "log.jsonl"
#: File with digests of the data and the encoder that a run was started with.
INPUTS_FILE = "inputs.json"

_LOG = logging.getLogger(__name__)

#: Remedy for an output folder that cannot be written.
CHOOSE_OUTPUT = "choose an `output` that can be written"


def check_output_folder(
    config: BaseConfig, output: Path, *, resume: bool, overwrite: bool, ignore: Collection[str] = ()
) -> None:
    """Check that a run may use its output folder, and create the folder.

    Args:
        config: the run.
        output: the folder.
        resume: continue a run with the same settings.
        overwrite: allow an earlier run to be deleted.
        ignore: names of entries that may exist before a run.

    Raises:
        InputError: the folder holds another run or other files, or cannot be written.
    """
    run_file = output / RUN_FILE
    if not is_main_process():
        return
    try:
        occupied = output.exists() and any(path.name not in ignore for path in output.iterdir())
        if occupied and not (overwrite and run_file.is_file()):
            if not run_file.is_file():
                raise InputError("the folder holds other files", where=str(output), remedy="choose another `output`")
            if not resume:
                raise InputError(
                    "the folder holds an earlier run",
                    where=str(output),
                    remedy="continue it with `resume=True`, replace it with `overwrite=True`, or choose another `output`",
                )
            if changed := _changed_settings(run_file, config):
                raise InputError(
                    f"the run to resume has other settings for {', '.join(changed)}",
                    where=str(run_file),
                    remedy="use its settings, or replace it with `overwrite=True`",
                )
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise not_writable(output, error, remedy=CHOOSE_OUTPUT) from error


@contextmanager
def lock_output_folder(output: Path) -> Iterator[None]:
    """Lock the output folder, so that no other run trains into it at the same time.

    The lock ends with this process at the latest, also if it is killed and a worker of its data loader outlives it. Of the
    processes that torchrun starts, the main one holds it.

    Args:
        output: the folder, which exists.

    Raises:
        InputError: another run has locked it.
    """
    if not is_main_process():
        yield
        return
    try:
        handle = lock_path(output)
    except OSError as error:
        raise not_writable(output, error, remedy=CHOOSE_OUTPUT) from error
    try:
        yield
    finally:
        unlock(handle)


@contextmanager
def open_output_folder(
    config: BaseConfig, output: Path, *, resume: bool, overwrite: bool, ignore: Collection[str] = ()
) -> Iterator[None]:
    """Check the output folder of a run and lock it; see :func:`check_output_folder` and :func:`lock_output_folder`."""
    check_output_folder(config, output, resume=resume, overwrite=overwrite, ignore=ignore)
    with lock_output_folder(output):
        yield


def check_inputs(inputs: Mapping[str, str], output: Path) -> None:
    """Check that a run is resumed with the data and the encoder it was started with.

    Args:
        inputs: digests by name.
        output: the output folder. If it holds no run, there is nothing to check. A run of an earlier version has no digests;
            a warning is then logged.

    Raises:
        InputError: a digest differs.
    """
    if not is_main_process() or not (output / RUN_FILE).is_file():
        return
    file = output / INPUTS_FILE
    try:
        recorded = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(recorded, dict):
            raise TypeError(f"a JSON {type(recorded).__name__}")
        changed = [name for name, digest in inputs.items() if name in recorded and recorded[name] != digest]
    except FileNotFoundError:
        _LOG.warning(
            "%s: no such file, so it cannot be checked that the run was started with this data and this encoder", file
        )
        return
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(file, "the digests of a run", error) from error
    if changed:
        raise InputError(
            f"changed since the run was started: {', '.join(changed)}",
            where=str(output),
            expected="the content that the run was started with",
            remedy="restore it, or start over with `overwrite=True`",
        )


def digest_documents(documents: Iterable[Document], *, nested: bool = False) -> str:
    """Return a digest of what is learnt from documents: their ids, texts and spans, in order, and nested names on request."""
    hashed = blake2b(digest_size=16)
    for document in documents:
        layers = [document.spans, document.nested] if nested else [document.spans]
        names = [[[span.start, span.end, span.label] for span in layer] for layer in layers]
        hashed.update(json.dumps([document.id, document.text, *names]).encode() + b"\n")
    return hashed.hexdigest()


def digest_weights(module: torch.nn.Module) -> str:
    """Return a digest of the weights of a module: their names, types, shapes and values."""
    hashed = blake2b(digest_size=16)
    for name, weight in module.named_parameters():
        value = weight.detach().cpu().contiguous()
        hashed.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        hashed.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def claim_output_folder(
    config: BaseConfig, output: Path, *, inputs: Mapping[str, str], overwrite: bool, retain: Collection[str] = ()
) -> None:
    """Write ``run.yaml`` and ``inputs.json`` into the output folder, after deleting an earlier run if ``overwrite`` is set.

    Args:
        config: the run.
        output: the folder.
        inputs: digests of the data and the encoder of the run, by name.
        overwrite: delete an earlier run.
        retain: names of entries that are not deleted.

    Raises:
        InputError: the folder cannot be written.
    """
    if not is_main_process():
        return
    try:
        if overwrite and (output / RUN_FILE).is_file():
            # Not the folder itself, which may be a link or a mounted volume.
            for path in [path for path in output.iterdir() if path.name not in retain]:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        output.mkdir(parents=True, exist_ok=True)
        (output / RUN_FILE).write_text(config.to_yaml(), encoding="utf-8")
        write_json(dict(inputs), output / INPUTS_FILE)
    except OSError as error:
        raise not_writable(output, error, remedy=CHOOSE_OUTPUT) from error


def _changed_settings(run_file: Path, config: BaseConfig) -> list[str]:
    """Return the keys that differ, apart from the folder and the seeds, which may change when a run is resumed.

    A key that an earlier version did not have counts as its default, in every section. Settings that this version does not accept
    are compared as they stand.

    Raises:
        InputError: the file does not hold settings.
    """
    try:
        old = yaml.safe_load(run_file.read_text(encoding="utf-8"))
        if not isinstance(old, dict):
            raise TypeError(f"a YAML {type(old).__name__}")
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise _damaged(run_file, "the settings of a run", error) from error
    new = yaml.safe_load(config.to_yaml())
    try:
        old = yaml.safe_load(type(config).model_validate(old).to_yaml())
    except ValidationError:
        old = yaml.safe_load(type(config).model_construct().to_yaml()) | old
    return [key for key in new if key not in ("output", "seeds") and old.get(key) != new[key]]


def _damaged(
    path: Path, expected: str, error: Exception, *, remedy: str = "start over with `overwrite=True`"
) -> InputError:
    """Return the error for a file of a run that was cut short or changed since it was written."""
    return InputError(f"not {expected}: {one_line(error)}", where=str(path), remedy=remedy)


def find_last_checkpoint(folder: Path) -> str | None:
    """Return the newest complete checkpoint of the Trainer in ``folder``; delete incomplete ones."""
    last = None
    checkpoints = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(checkpoints, key=lambda path: int(path.name.removeprefix("checkpoint-"))):
        # The Trainer writes this file last. A kill may leave it missing or incomplete.
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            last = str(path)
        except (OSError, ValueError):
            if is_main_process():
                shutil.rmtree(path)
    return last


def remove_checkpoints(folder: Path) -> None:
    """Delete the Trainer's checkpoints in ``folder``."""
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


@dataclass(frozen=True)
class SeedResult:
    """The result of one seed of a fine-tuning run.

    Args:
        seed: the seed.
        folder: folder of its checkpoint.
        seconds: duration of training, without the part before a resume.
        scores: the result of `Scores.to_dict` by part: ``dev``, or ``dev NAME`` for each of several sources, and, if there is
            one, ``test``.
    """

    seed: int
    folder: Path
    seconds: float
    scores: dict[str, Any]

    @property
    def dev_f1(self) -> float:
        """Character-exact micro F1 on the development part; with several sources, the mean of theirs."""
        return mean(
            float(scores["micro"]["f1"])
            for part, scores in self.scores.items()
            if part == "dev" or part.startswith("dev ")
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON for ``scores.json``."""
        return {"seed": self.seed, "seconds": self.seconds, "scores": self.scores}

    def write(self) -> None:
        """Write ``scores.json`` into the seed's folder; its presence marks the seed as finished."""
        write_json(self.to_dict(), self.folder / SCORES_FILE)


def read_seed_result(seed: int, folder: Path) -> SeedResult | None:
    """Read the result of a finished seed; ``None`` if the seed is not finished.

    Raises:
        InputError: the file of its scores cannot be read.
    """
    file = folder / SCORES_FILE
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return SeedResult(seed, folder, record["seconds"], record["scores"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = "delete the file to train the seed again, or start over with `overwrite=True`"
        raise _damaged(file, "the scores of a seed", error, remedy=remedy) from error


def publish_checkpoint(source: Path, output: Path) -> None:
    """Copy a seed's checkpoint into the output folder."""
    for file in source.iterdir():
        if file.is_file() and file.name not in (SCORES_FILE, RUN_FILE, CARD_FILE, LOG_FILE):
            target = output / file.name
            target.unlink(missing_ok=True)
            try:
                os.link(file, target)  # a link, because a second copy of the weights would take space
            except OSError:
                shutil.copyfile(file, target)


def is_main_process() -> bool:
    """Tell whether this process writes and prints: one of those that torchrun or accelerate started, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0
