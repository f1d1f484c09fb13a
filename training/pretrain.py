"""The pre-training script: raw Arabic text and an encoder in, an encoder that knows more Arabic out.

Run it as ``musamma encoder pretrain CONFIG``, or over several processes as ``torchrun --nproc-per-node N -m
musamma.training.pretrain CONFIG``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast, set_seed

from musamma.data.errors import InputError
from musamma.data.normalization import install_normalizer
from musamma.models.encoder import load_encoder, word_embedding
from musamma.models.token_classifier import positions
from musamma.training.output import RUN_FILE, check_output, claim, is_main_process
from musamma.training.pretraining.arguments import training_arguments
from musamma.training.pretraining.batches import MaskCollator, Masks, held_out_rows
from musamma.training.pretraining.config import PretrainConfig
from musamma.training.pretraining.memory import keep_freed_memory
from musamma.training.pretraining.objective import MaskedModel, ReplacedModel
from musamma.training.pretraining.packing import check_packing
from musamma.training.pretraining.results import RESULT_FILE, PretrainResult, read_result
from musamma.training.pretraining.stages import WORK_FOLDER, Run, learn_all, learn_heads
from musamma.training.pretraining.text import PART, TEXT, Text, prepare_text

_KEPT = (TEXT, PART)


def prepare(config: PretrainConfig, *, overwrite: bool = False) -> Text:
    """Only make the text's rows, in the output folder, so that they can be carried to another machine.

    Raises:
        InputError: the configuration cannot be carried out, or the folder holds other files.
    """
    output = Path(config.output)
    if not (output / RUN_FILE).is_file():
        check_output(config, output, resume=False, overwrite=False, kept=_KEPT)
    _, tokenizer = _encoder(config)
    return prepare_text(config, tokenizer, overwrite=overwrite)


def pretrain(config: PretrainConfig, *, resume: bool = False, overwrite: bool = False) -> PretrainResult:
    """Run a configuration: text, fresh heads alone, then everything together.

    Args:
        config: the run.
        resume: go on where a run with the same configuration was stopped.
        overwrite: delete what an earlier run left in the output folder; rows of the same text are kept.

    Raises:
        InputError: the configuration cannot be carried out, or the output folder holds another run.
    """
    output = Path(config.output)
    check_output(config, output, resume=resume, overwrite=overwrite, kept=_KEPT)
    if (output / RESULT_FILE).is_file() and resume and not overwrite:
        return read_result(output)
    # All that can be wrong is told before anything is written, and before an earlier run is deleted.
    arguments = training_arguments(config, output / WORK_FOLDER)
    if config.compiled:
        _check_compiler(arguments.device)
    encoder, tokenizer = _encoder(config)
    if arguments.device.type == "cpu":
        # PyTorch's fused attention goes back through a masked batch slower than all the rest of a step does.
        encoder.set_attn_implementation("eager")
        keep_freed_memory()
    set_seed(config.seed)
    model = _model(config, encoder)
    with arguments.main_process_first():
        text = prepare_text(config, tokenizer, overwrite=overwrite and is_main_process())
    claim(config, output, overwrite=overwrite, kept=_KEPT)
    masks = Masks(text.special, config.mask_share, config.seed)
    run = Run(
        config,
        model,
        tokenizer,
        text,
        masks,
        held_out_rows(text.held_out, limit=config.held_out.rows, masks=masks),
        MaskCollator(
            int(tokenizer.pad_token_id or 0), int(tokenizer.mask_token_id), config.length if config.packing else None
        ),
    )
    before = learn_heads(run)
    return learn_all(run, arguments, before)


def _encoder(config: PretrainConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The encoder, checked, and its tokenizer with Musamma's normaliser.

    Raises:
        InputError: it cannot be loaded, or not be used as configured.
    """
    encoder, tokenizer = load_encoder(config.encoder)
    limit, rows = positions(encoder), word_embedding(encoder).num_embeddings
    if limit is not None and config.length > limit:
        raise InputError(
            f"length {config.length}", where=config.encoder, expected=f"at most {limit}, the encoder's positions"
        )
    if len(tokenizer) > rows:
        raise InputError(
            f"a tokenizer of {len(tokenizer)} pieces and an embedding of {rows}",
            where=config.encoder,
            expected="an embedding for every piece",
            remedy="the tokenizer belongs to another model, or pieces were added to it afterwards",
        )
    if config.packing:
        for attention in ("eager", "sdpa"):
            encoder.set_attn_implementation(attention)
            check_packing(encoder, config.encoder, length=config.length)
    normalized = install_normalizer(tokenizer)
    assert isinstance(normalized, PreTrainedTokenizerFast), "no other keeps a normaliser"
    return encoder, normalized


def _check_compiler(device: torch.device) -> None:
    """Try `torch.compile`.

    Raises:
        InputError: it lacks what it needs, mostly a C++ compiler.
    """
    try:
        torch.compile(torch.exp)(torch.ones(8, device=device))
    except Exception as error:  # what lacks is told by exceptions of many kinds, of PyTorch's inner modules
        raise InputError(
            f"compiled: true, and torch.compile does not work on this machine ({' '.join(str(error).split())[:160]})",
            where="the configuration",
            expected="what it needs: on a CPU a C++ compiler and Python's headers, on a GPU Triton",
            remedy="install that, or set compiled: false",
        ) from error


def _model(config: PretrainConfig, encoder: PreTrainedModel) -> MaskedModel | ReplacedModel:
    if config.dropout is not None:
        # In the modules, so that the saved configuration keeps its own for fine-tuning.
        for module in encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = config.dropout
    if config.objective == "mlm":
        return MaskedModel(encoder, packing=config.packing)
    return ReplacedModel(encoder, packing=config.packing, layers=config.generator_layers)


def main(arguments: list[str] | None = None) -> None:
    """``python -m musamma.training.pretrain CONFIG [OPTIONS]``, for torchrun and accelerate launch."""
    from musamma.cli.main import main as command

    command(["encoder", "pretrain", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    main()
