"""Finding a model by name, folder or hub id."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_url, is_offline_mode, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HFValidationError, RepositoryNotFoundError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from musamma.data.errors import InputError
from musamma.models.classifier import load_error

_FOLDER = "a folder with config.json, model.safetensors and tokenizer.json"
#: How long the hub may take to answer.
_SECONDS = 10.0


def packaged_models() -> dict[str, Path]:
    """Names and folders of the models that come with the project; the same from a checkout and from an installed wheel."""
    root = Path(str(resources.files("musamma.models")))
    return {path.parent.name: path.parent for path in sorted(root.glob("*/config.json"))}


def resolve_model(name: str) -> str:
    """The folder or hub id behind a name.

    A hub id whose repository is in the local cache becomes its folder there when the hub cannot be reached.

    Args:
        name: a folder, the name of a model that comes with the project, or a hub id; looked for in that order.

    Raises:
        InputError: nothing is there, or what is there is no model.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise _no_model(path, name)
        return str(path)
    if (packaged := packaged_models().get(name)) is not None:
        return str(packaged)
    if path.is_file():
        raise InputError("a file", where=name, expected=_FOLDER, remedy="give the folder that the file is in")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError("no such folder", where=name, remedy="check the path, or give a hub id such as owner/name")
    if "/" not in name:
        raise InputError(
            "no such model",
            where=name,
            expected=_known(),
            remedy="musamma quickstart makes one in runs/quickstart",
        )
    return _on_hub(name)


def _known() -> str:
    return f"a folder, a hub id (owner/name), or a model that comes with the project ({', '.join(packaged_models())})"


def _no_model(path: Path, name: str) -> InputError:
    found = "the folder is empty" if not any(path.iterdir()) else "the folder holds no config.json"
    if (path / "run.yaml").is_file():
        found = "the folder holds a training run that has not come to its end"
        return InputError(found, where=name, expected=_FOLDER, remedy="finish it with musamma train --resume")
    return InputError(found, where=name, expected=_FOLDER, remedy="give the folder that musamma train wrote")


def _on_hub(name: str) -> str:
    """The hub id, if the hub has it; its folder in the local cache, if the hub cannot be asked.

    Loading would find out as well, but only after half a minute of new attempts.
    """
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=_SECONDS)
    except GatedRepoError as error:
        raise InputError(
            "the Hugging Face hub gives this model only to those who were granted access",
            where=name,
            remedy="ask for it on the model's page, then run hf auth login",
        ) from error
    except (RepositoryNotFoundError, EntryNotFoundError, HFValidationError) as error:
        raise InputError(
            "neither a folder nor a model on the Hugging Face hub",
            where=name,
            expected=_known(),
            remedy="check the name; for a private model run hf auth login",
        ) from error
    except Exception as error:  # the network has more ways to fail than can be named
        cached = try_to_load_from_cache(name, "config.json")
        if isinstance(cached, str):
            return str(Path(cached).parent)
        reason = "HF_HUB_OFFLINE is set" if is_offline_mode() else f"{type(error).__name__}: {error}"
        raise InputError(
            f"no folder of that name, and the Hugging Face hub cannot be asked ({' '.join(reason.split())[:160]})",
            where=name,
            expected=_known(),
            remedy="check the name and the connection, or download the model elsewhere and give its folder",
        ) from error
    return name


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The fast tokenizer of a folder or hub id.

    Raises:
        InputError: there is none, or it cannot be loaded.
    """
    path = Path(name)
    if path.is_dir() and not any(
        (path / file).is_file()
        for file in (
            "tokenizer.json",
            "vocab.txt",
            "vocab.json",
            "sentencepiece.bpe.model",
            "spiece.model",
            "tokenizer.model",
        )
    ):
        raise InputError(
            "the checkpoint has no tokenizer",
            where=name,
            expected="tokenizer.json beside config.json",
            remedy="save the encoder's tokenizer into the folder: AutoTokenizer.from_pretrained(...).save_pretrained(...)",
        )
    try:
        return AutoTokenizer.from_pretrained(name)
    except Exception as error:
        raise load_error(name, error) from error
