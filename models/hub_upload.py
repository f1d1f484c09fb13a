"""Uploads to the Hugging Face hub: a checkpoint with its card, head and export, or a corpus with its card."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from httpx2 import HTTPError  # the client of huggingface_hub, whose own errors derive from it
from huggingface_hub import CommitOperationAdd, DatasetCard, HfApi, ModelCard, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from musamma.data.errors import InputError, RunError, not_found, not_readable, one_line
from musamma.models.model_names import (
    HEAD_FILE,
    NESTED_HEAD_FILE,
    PACKED_FILE,
    RECORD_FILE,
    packaged_models,
    read_model_json,
)
from musamma.models.nested_labels import check_nested_head

_CARD_FILE = "README.md"
_REQUIRED = ("config.json", "tokenizer.json", _CARD_FILE)
# Logs stay at home, and so does `losses.jsonl`, which quotes training articles.
_CHECKPOINT_FILES = (
    *_REQUIRED,
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "run.yaml",
    "scores.json",
    "LICENSE",
)
_EXPORT_FILES = (
    "*.xml",
    "*.bin",
    "*.onnx",
    "*.onnx.data",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    RECORD_FILE,
    _CARD_FILE,
)


@dataclass(frozen=True)
class HubFile:
    """A file of an upload.

    Args:
        path: its path in the repository.
        source: the local file.
        content: what is uploaded in its place, if that differs.
    """

    path: str
    source: Path
    content: bytes | None = None

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.source.stat().st_size if self.content is None else len(self.content)


@dataclass(frozen=True)
class HubUpload:
    """The files of one upload, all of them part of one commit.

    Args:
        repository: ``OWNER/NAME``.
        kind: the kind of repository.
        files: the files.
        scores: number of results in the card's ``model-index``.
    """

    repository: str
    kind: Literal["model", "dataset"]
    files: tuple[HubFile, ...]
    scores: int = 0


def collect_checkpoint(folder: Path, repository: str, *, exports: Sequence[Path] = ()) -> HubUpload:
    """Collect the files of a checkpoint and of its exports.

    The card's example loads the model by the name of its folder; the uploaded card says ``repository`` instead. Files of
    training (checkpoints of seeds, logs, quotations from the training data) are left out.

    Args:
        folder: the checkpoint.
        repository: ``OWNER/NAME``.
        exports: folders that `export_model` has written. Each becomes a folder of the repository, named by its runtime and
            quantisation: ``openvino-int8``.

    Raises:
        InputError: the name is invalid, a folder or file is missing, or two exports have the same name.
    """
    _check_repository(repository)
    # A name that no folder has may be that of a packaged model.
    named = folder if folder.exists() else packaged_models().get(str(folder), folder)
    if (named / PACKED_FILE).is_file():
        raise InputError(
            "a packed checkpoint, which only Musamma reads",
            where=str(folder),
            expected="a plain checkpoint",
            remedy="write one with musamma unpack",
        )
    _check_folder(folder)
    for name in _REQUIRED:
        if not (folder / name).is_file():
            raise InputError(f"no {name}", where=str(folder), expected="a checkpoint with its tokenizer and model card")
    files = {file.path: file for file in _matching_files(folder, _CHECKPOINT_FILES, "")}
    if not any(path.endswith(".safetensors") and path not in (HEAD_FILE, NESTED_HEAD_FILE) for path in files):
        raise InputError(
            "no model.safetensors",
            where=str(folder),
            expected="a checkpoint" if not (folder / RECORD_FILE).is_file() else "the checkpoint of this export",
        )
    config = read_model_json(str(folder), "config.json")
    check_nested_head(str(folder), config.get("musamma"), where=str(folder))
    try:
        card = ModelCard.load(folder / _CARD_FILE)
    except (OSError, ValueError) as error:
        raise not_readable(folder / _CARD_FILE, error) from error
    name = card.data.model_name or folder.name
    text = (folder / _CARD_FILE).read_text(encoding="utf-8").replace(f'Tagger("{name}")', f'Tagger("{repository}")')
    files[_CARD_FILE] = HubFile(_CARD_FILE, folder / _CARD_FILE, text.encode())
    for export in exports:
        prefix = _export_name(export)
        if any(path.startswith(f"{prefix}/") for path in files):
            raise InputError(
                f"a second export for {prefix}", where=str(export), expected="one for each runtime and precision"
            )
        files |= {file.path: file for file in _matching_files(export, _EXPORT_FILES, f"{prefix}/")}
    return HubUpload(repository, "model", _sort(files.values()), len(card.data.eval_results or []))


def collect_corpus(folder: Path, repository: str) -> HubUpload:
    """Collect the files of a corpus: all of its folder except hidden ones.

    Args:
        folder: the corpus, with its data card.
        repository: ``OWNER/NAME``.

    Raises:
        InputError: the name is invalid, the folder or its card is missing, or the card names no licence.
    """
    _check_repository(repository)
    _check_folder(folder)
    card_file = folder / _CARD_FILE
    if not card_file.is_file():
        raise InputError(f"no {_CARD_FILE}", where=str(folder), expected="a data card with the licence")
    try:
        card = DatasetCard.load(card_file)
    except (OSError, ValueError) as error:
        raise not_readable(card_file, error) from error
    if not card.data.get("license"):
        raise InputError("no licence", where=str(card_file), expected="`license:` in the metadata at its top")
    files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return HubUpload(
        repository,
        "dataset",
        _sort(
            HubFile(name.as_posix(), path)
            for name, path in files.items()
            if not any(part.startswith(".") or part == "__pycache__" for part in name.parts)
        ),
    )


def push(upload: HubUpload, *, private: bool = False, endpoint: str | None = None) -> str:
    """Create the repository if it does not exist and upload the files in one commit.

    Args:
        upload: the files.
        private: create a private repository; an existing one keeps its visibility.
        endpoint: address of the hub; by default that of ``HF_ENDPOINT``, or the public one.

    Returns:
        The address of the commit.

    Raises:
        InputError: there is no access token, or the hub refuses it.
        RunError: the hub cannot be reached, or fails.
    """
    token = get_token()
    if token is None:
        raise InputError(
            "no access token for the hub",
            remedy="log in with `hf auth login`, or set the environment variable HF_TOKEN",
        )
    api = HfApi(endpoint=endpoint, token=token)
    try:
        api.create_repo(upload.repository, repo_type=upload.kind, private=private or None, exist_ok=True)
        commit = api.create_commit(
            upload.repository,
            [
                CommitOperationAdd(file.path, str(file.source) if file.content is None else file.content)
                for file in upload.files
            ],
            commit_message="Upload with Musamma",
            repo_type=upload.kind,
        )
    except HfHubHTTPError as error:
        raise _refusal(error, upload.repository) from error
    except OfflineModeIsEnabled as error:
        raise InputError(
            "the hub is switched off", where=upload.repository, remedy="unset the environment variable HF_HUB_OFFLINE"
        ) from error
    except ValueError as error:  # The hub does not accept the card's metadata.
        raise InputError(one_line(error), where=upload.repository) from error
    except (HTTPError, OSError) as error:
        raise RunError(
            f"{upload.repository}: the hub at {api.endpoint} cannot be reached: {one_line(error)}"
        ) from error
    return commit.commit_url


def _refusal(error: HfHubHTTPError, repository: str) -> Exception:
    status = error.response.status_code
    if status == 401:
        return InputError(
            "the hub does not accept the access token (401)", where=repository, remedy="log in with `hf auth login`"
        )
    if status == 403:
        return InputError(
            "the access token may not write there (403)",
            where=repository,
            remedy="use a token with write access, and an owner that you may write to",
        )
    return RunError(f"{repository}: the hub answers {status}: {one_line(error.server_message or error)}")


def _check_repository(repository: str) -> None:
    expected = "OWNER/NAME, of letters, digits, '-', '_' and '.'"
    if repository.count("/") != 1:
        raise InputError(f"`repository` {repository!r}", expected=expected)
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise InputError(f"`repository` {repository!r}", expected=expected) from error


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise not_found(folder, kind="folder")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InputError("Permission denied", where=str(folder), remedy="check its permissions")


def _export_name(folder: Path) -> str:
    _check_folder(folder)
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        parts = [str(record["runtime"]), str(record["quantization"] or "")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"no {RECORD_FILE} that can be read", where=str(folder), expected="a folder that musamma export has written"
        ) from error
    return "-".join(filter(None, parts))


def _matching_files(folder: Path, patterns: Sequence[str], prefix: str) -> list[HubFile]:
    paths = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return [HubFile(prefix + path.name, path) for path in paths]


def _sort(files: Iterable[HubFile]) -> tuple[HubFile, ...]:
    return tuple(sorted(files, key=lambda file: file.path))
