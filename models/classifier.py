"""The token classifier: a Hugging Face model for the tags and a small second head for the proclitics before a name.

A piece of an XLM-R-style vocabulary often holds a proclitic and the letters behind it together, so tags on pieces alone cannot
say where a name begins. The second head says, at the first piece of a name, how many leading letters of its word are proclitics.

On disk it is a plain Hugging Face checkpoint that `AutoModelForTokenClassification` loads; the head's two tensors lie beside it in
``proclitic_head.safetensors``, and what belongs to decoding stands in ``config.json`` under ``musamma``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers import logging as transformers_logging

from musamma.data.errors import InputError
from musamma.data.tags import TagSet
from musamma.models.calibration import Calibration
from musamma.models.decoding import PROCLITIC_CLASSES

HEAD_FILE = "proclitic_head.safetensors"


@dataclass(frozen=True)
class EncodingOptions:
    """How documents are cut for this model; kept in its ``config.json``.

    Args:
        max_length: longest window in pieces, special tokens included.
        overlap: pieces that neighbouring windows share.
    """

    max_length: int = 256
    overlap: int = 64


class TokenClassifier(nn.Module):
    """Tag logits from a Hugging Face token classifier, proclitic logits from its last hidden layer.

    Args:
        backbone: the Hugging Face model.
        proclitics: whether to have the proclitic head; without it names begin where words do.
    """

    def __init__(self, backbone: PreTrainedModel, *, proclitics: bool = True) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = backbone.config
        self.proclitic_head: nn.Linear | None = None
        if proclitics:
            self.proclitic_head = nn.Linear(backbone.config.hidden_size, PROCLITIC_CLASSES, dtype=backbone.dtype)
            nn.init.normal_(self.proclitic_head.weight, std=0.02)
            nn.init.zeros_(self.proclitic_head.bias)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits of every piece; only those of words' first pieces are trained.

        Args:
            input_ids: piece ids, padded; (windows, pieces).
            attention_mask: 1 for pieces, 0 for padding; (windows, pieces).

        Returns:
            Tag logits, (windows, pieces, tags), and proclitic logits, (windows, pieces, :data:`PROCLITIC_CLASSES`), or ``None``.
        """
        output = self.backbone(
            input_ids=input_ids,
            attention_mask=attention_mask,
            output_hidden_states=self.proclitic_head is not None,
        )
        if self.proclitic_head is None:
            return output.logits, None
        return output.logits, self.proclitic_head(output.hidden_states[-1])

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: dict[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Recompute activations in the backward pass: less memory, more time. The Trainer calls it by this name."""
        self.backbone.activation_checkpointing_enable(activation_checkpointing_kwargs, every_n_layers, offload)

    def save_pretrained(
        self,
        folder: str | Path,
        tokenizer: PreTrainedTokenizerBase,
        options: EncodingOptions,
        *,
        calibration: Calibration | None = None,
    ) -> None:
        """Write a checkpoint folder: a plain Hugging Face one, with the head, the encoding and the calibration beside it."""
        folder = Path(folder)
        own: dict[str, Any] = {"format": 1, "encoding": asdict(options)}
        # None is not written: a calibration that was loaded with the weights may not be theirs any more.
        self.config.musamma = own if calibration is None else {**own, "calibration": calibration.to_dict()}
        self.backbone.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if self.proclitic_head is not None:
            state = {name: tensor.contiguous() for name, tensor in self.proclitic_head.state_dict().items()}
            save_file(state, folder / HEAD_FILE)


def new_classifier(
    encoder: str, tags: TagSet, *, proclitics: bool = True, changes: Mapping[str, Any] | None = None
) -> TokenClassifier:
    """An encoder with fresh heads, in float32, ready for fine-tuning.

    Args:
        encoder: a local folder or a hub id.
        tags: the tags to learn.
        proclitics: whether to learn borders behind proclitics.
        changes: values for the encoder's ``config.json``, such as its dropout.

    Raises:
        InputError: there is no encoder of that name, it cannot be loaded, or its configuration has no such key.
    """
    backbone = _load(
        encoder,
        changes or {},
        fresh_heads=True,
        num_labels=len(tags),
        id2label=tags.id2label,
        label2id=tags.label2id,
        dtype=torch.float32,
    )
    return TokenClassifier(backbone, proclitics=proclitics)


def load_classifier(checkpoint: str, *, dtype: torch.dtype = torch.float32) -> tuple[TokenClassifier, EncodingOptions]:
    """A fine-tuned classifier, in evaluation mode.

    Args:
        checkpoint: a local folder or a hub id; one made by other tools works too, with names that begin where words do.
        dtype: the weights' type in memory.

    Raises:
        InputError: there is no such checkpoint, or it cannot be loaded.
    """
    backbone = _load(checkpoint, {}, fresh_heads=False, dtype=dtype)
    head = Path(checkpoint) / HEAD_FILE if Path(checkpoint).is_dir() else hub_file(checkpoint, HEAD_FILE)
    classifier = TokenClassifier(backbone, proclitics=head is not None and head.is_file())
    if classifier.proclitic_head is not None and head is not None:
        try:
            classifier.proclitic_head.load_state_dict(load_file(head))
        except Exception as error:
            raise InputError(
                f"the proclitic head cannot be read: {error}",
                where=str(head),
                remedy="copy the checkpoint anew, or delete the file to tag whole words",
            ) from error
    return classifier.eval(), encoding_options(backbone.config, checkpoint, limit=positions(backbone))


def positions(model: PreTrainedModel) -> int | None:
    """The most pieces that the encoder takes at a time, special tokens included; ``None`` without such a limit."""
    limit = getattr(model.config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        # RoBERTa numbers its positions from the one behind the padding's.
        if name.endswith(".position_embeddings") and getattr(module, "padding_idx", None) is not None and limit:
            return int(limit - module.padding_idx - 1)
    return limit


def encoding_options(config: PreTrainedConfig, where: str, *, limit: int | None = None) -> EncodingOptions:
    """How documents are cut for a checkpoint, as its configuration says; by default where it says nothing.

    Args:
        config: the configuration.
        where: the checkpoint, for errors.
        limit: the most pieces that its encoder takes.

    Raises:
        InputError: what it says cannot be read.
    """
    options = EncodingOptions()
    if (stored := getattr(config, "musamma", None)) is not None:
        try:
            # A checkpoint of another tool that was calibrated here has no encoding of its own.
            if (encoding := stored.get("encoding")) is not None:
                options = EncodingOptions(max_length=int(encoding["max_length"]), overlap=int(encoding["overlap"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"'musamma' in config.json is {stored!r}",
                where=where,
                expected="'encoding' with 'max_length' and 'overlap'",
                remedy="copy the checkpoint anew, or delete the key to cut documents by default",
            ) from error
    if limit is not None and options.max_length > limit:
        options = EncodingOptions(max_length=limit, overlap=min(options.overlap, limit // 4))
    return options


def hub_file(repository: str, name: str) -> Path | None:
    """A file of a repository on the hub; ``None`` where it has none of that name or cannot be reached."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, name))
    except (EntryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError):
        return None


def _load(name: str, changes: Mapping[str, Any], *, fresh_heads: bool, **options: Any) -> PreTrainedModel:
    """A token classifier. Weights that are missing or of another shape are drawn anew in the heads, if they may be fresh."""
    verbosity = transformers_logging.get_verbosity()
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()  # "newly initialized: classifier" is what fine-tuning is for
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(name)
        for key in changes:
            if not hasattr(config, key):
                raise InputError(
                    f"encoder_config.{key}",
                    where=name,
                    expected=f"a key of its {type(config).__name__}, such as attention_probs_dropout_prob",
                )
        model, info = AutoModelForTokenClassification.from_pretrained(
            name, output_loading_info=True, ignore_mismatched_sizes=True, **options, **changes
        )
        drawn = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
        body = f"{model.base_model_prefix}."
        if lost := sorted(key for key in drawn if not fresh_heads or key.startswith(body)):
            raise InputError(
                f"the weights lack {lost[0]!r} or have it in another shape"
                + f", and {len(lost) - 1} more" * (len(lost) > 1),
                where=name,
                expected=f"the weights of the {type(model).__name__} that config.json describes",
                remedy="copy it anew, or write it with save_pretrained"
                if fresh_heads
                else "fine-tune it with musamma train",
            )
        return model
    except InputError:
        raise
    except Exception as error:
        raise load_error(name, error) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()


def load_error(name: str, error: Exception) -> InputError:
    """What went wrong when a model, tokenizer or data set was loaded by name, in one line with the way out."""
    if Path(name).exists():
        reason = " ".join(str(error).split())
        return InputError(
            f"cannot be loaded: {reason[:300]}",
            where=name,
            expected="a Hugging Face model folder: config.json, model.safetensors, tokenizer.json",
            remedy="copy it anew, or write it with save_pretrained",
        )
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        return InputError("no such folder", where=name, remedy="check the path, or give a hub id such as owner/name")
    return InputError(
        "there is no folder of that name and the Hugging Face hub did not give it",
        where=name,
        expected="a local folder, a model of this package (nawah), or a hub id that can be reached",
        remedy="check the name and the connection, or download it elsewhere and give the folder",
    )
