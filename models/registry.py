"""Finding a model by name, folder or hub id."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from musamma.data.errors import InputError
from musamma.models.token_classifier import load_error


def packaged_models() -> dict[str, Path]:
    """Names and folders of the models that come with the project; the same from a checkout and from an installed wheel."""
    root = Path(str(resources.files("musamma.models")))
    return {path.parent.name: path.parent for path in sorted(root.glob("*/config.json"))}


def resolve_model(name: str) -> str:
    """The folder or hub id behind a name.

    Args:
        name: a folder, the name of a model that comes with the project, or a hub id; looked for in that order.

    Raises:
        InputError: a path was given and nothing is there.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(
                "the folder holds no config.json",
                where=name,
                expected="a Hugging Face model folder",
                remedy="give the folder that musamma train wrote (OUTPUT/seed-N or OUTPUT/best)",
            )
        return str(path)
    if (packaged := packaged_models().get(name)) is not None:
        return str(packaged)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError("no such folder", where=name, remedy="check the path, or give a hub id such as owner/name")
    if "/" not in name:
        known = ", ".join(packaged_models()) or "none"
        raise InputError(
            "no such model",
            where=name,
            expected=f"a folder, a hub id (owner/name), or a model that comes with the project ({known})",
            remedy="musamma quickstart makes one in runs/quickstart/best",
        )
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
