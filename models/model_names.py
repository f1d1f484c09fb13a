"""Names of models: the folder or hub id that a name stands for, and the files there. Needs neither torch nor transformers."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from musamma.data.errors import InputError, not_found, not_readable, one_line

#: The model that tags where none is named.
DEFAULT_MODEL = "nawah-ner"

#: Files that Musamma adds to a model: the heads of a checkpoint besides the tag head, and the record of an export.
HEAD_FILE, NESTED_HEAD_FILE, RECORD_FILE = "proclitic_head.safetensors", "nested_head.safetensors", "export.json"
#: The weights of a packed checkpoint, see :mod:`musamma.models.packed_weights`.
PACKED_FILE = "model-int8.safetensors"

_MODEL_FOLDER = "a folder with config.json, model.safetensors and tokenizer.json"
# Seconds the hub has to answer.
_HUB_TIMEOUT = 10.0


def packaged_models() -> dict[str, Path]:
    """Return the names and folders of the packaged models, from a checkout or an installed wheel alike."""
    return {path.parent.name: path.parent for path in sorted(packaged_folder().glob("*/config.json"))}


def packaged_folder() -> Path:
    """Return the folder that holds the folders of the packaged models."""
    return Path(str(resources.files("musamma.models")))


def resolve_model(name: str) -> str:
    """Return the folder or hub id that a name stands for.

    If the hub cannot be reached, the hub id of a repository in the local cache becomes its folder there.

    Args:
        name: a folder, the name of a packaged model, or a hub id, tried in this order. A folder of other things does not hide a
            packaged model.

    Raises:
        InputError: the name stands for nothing, or for something other than a model.
    """
    if not name:
        raise InputError("an empty name", where="`model`", expected=_known_models())
    path = Path(name).expanduser()
    try:
        if path.is_dir():
            if (path / "config.json").is_file():
                return str(path)
            if name not in packaged_models() or _was_a_model(path):
                raise _not_a_model(path, name)
    except PermissionError as error:
        raise not_readable(error.filename or name, error) from error
    if (packaged := packaged_models().get(name)) is not None:
        return str(packaged)
    if name == DEFAULT_MODEL:
        raise InputError(
            "this installation does not include the model",
            where=name,
            expected=f"its folder {packaged_folder() / name}",
            remedy="give another `model`: a folder that musamma train wrote, or a hub id",
        )
    if path.is_file():
        raise InputError("a file", where=name, expected=_MODEL_FOLDER, remedy="give the folder that holds the file")
    if is_path(name):
        raise missing_folder(name)
    if "/" not in name:
        raise InputError(
            "no such model",
            where=name,
            expected=_known_models(),
            remedy="musamma quickstart makes one in runs/quickstart",
        )
    return _resolve_hub_id(name)


def find_model_file(model: str, name: str) -> Path | None:
    """Return the path of a file of a model, which is downloaded from the hub if necessary.

    Args:
        model: a folder or a hub id.
        name: the file's name.

    Returns:
        ``None`` if the model has no such file or the hub cannot be reached.
    """
    if Path(model).is_dir():
        path = Path(model) / name
        return path if path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(model, name))
    except (EntryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError):
        return None


def require_model_file(model: str, name: str, *, expected: str, remedy: str, where: str | None = None) -> Path:
    """Return the path of a file of a model, as :func:`find_model_file` does.

    Args:
        model: a folder or a hub id.
        name: the file's name.
        expected: what the file holds.
        remedy: what to do if there is none.
        where: the name of the model in the error; by default ``model``.

    Raises:
        InputError: the model has no such file, or the hub cannot be reached.
    """
    path = find_model_file(model, name)
    if path is None:
        raise InputError(f"no {name}", where=where or model, expected=expected, remedy=remedy)
    return path


def read_model_json(model: str, name: str) -> dict[str, Any]:
    """Return the content of a JSON file of a model; empty if there is no such file, or it is not a JSON object.

    Args:
        model: a folder or a hub id.
        name: the file's name.

    Raises:
        InputError: the file may not be read.
    """
    path = find_model_file(model, name)
    if path is None:
        return {}
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise not_readable(path, error) from error
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def unreadable_file(folder: Path) -> InputError | None:
    """Return the error for the first file of a folder that may not be read: libraries report it as missing or broken."""
    try:
        for path in sorted(folder.iterdir()):
            if path.is_file():
                path.open("rb").close()
    except PermissionError as error:
        return not_readable(error.filename or folder, error)
    return None


def is_path(name: str) -> bool:
    """True if a name can only be meant as a path, not as a hub id."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def missing_folder(name: str) -> InputError:
    """Return the error for a name that can only be a folder, but does not exist."""
    return not_found(name, kind="folder", remedy="check the path, or give a hub id such as owner/name")


def _known_models() -> str:
    return f"a folder, a hub id (owner/name), or a packaged model ({', '.join(packaged_models())})"


def _was_a_model(path: Path) -> bool:
    """True if a folder without ``config.json`` has other files of a model or of a run, so that it may be meant."""
    return (path / "run.yaml").is_file() or any(path.glob("*.safetensors"))


def _not_a_model(path: Path, name: str) -> InputError:
    found = "the folder is empty" if not any(path.iterdir()) else "the folder holds no config.json"
    remedy = "give the folder that musamma train wrote"
    if (path / "run.yaml").is_file():
        found, remedy = "the folder holds an unfinished training run", "resume the run with musamma train"
    return InputError(found, where=name, expected=_MODEL_FOLDER, remedy=remedy)


def _resolve_hub_id(name: str) -> str:
    """Return the hub id if the hub has it, or its folder in the local cache if the hub cannot be reached.

    Loading would notice as well, but only after half a minute of retries.
    """
    # Imported here, because it takes a third of a second and a folder does not need it.
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, is_offline_mode, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=_HUB_TIMEOUT)
    except GatedRepoError as error:
        raise InputError(
            "the Hugging Face hub gives this model only to users who were granted access",
            where=name,
            remedy="request access on the model's page, then run hf auth login",
        ) from error
    except (RepositoryNotFoundError, EntryNotFoundError, HFValidationError) as error:
        raise InputError(
            "neither a folder nor a model on the Hugging Face hub",
            where=name,
            expected=_known_models(),
            remedy="check the name; for a private model run hf auth login",
        ) from error
    except Exception as error:  # the network has more ways to fail than can be named
        cached = try_to_load_from_cache(name, "config.json")
        if isinstance(cached, str):
            return str(Path(cached).parent)
        reason = "HF_HUB_OFFLINE is set" if is_offline_mode() else f"{type(error).__name__}: {error}"
        raise InputError(
            f"no folder of that name, and the Hugging Face hub cannot be reached ({one_line(reason, limit=160)})",
            where=name,
            expected=_known_models(),
            remedy="check the name and the connection, or download the model elsewhere and give its folder",
        ) from error
    return name
