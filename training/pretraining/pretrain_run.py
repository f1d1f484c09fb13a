"""The pre-training script: raw Arabic text and an encoder in, an encoder that knows more Arabic out.

Run it as ``musamma encoder pretrain CONFIG``, or in several processes as ``torchrun --nproc-per-node N -m musamma
encoder pretrain CONFIG``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast, PrinterCallback, TrainingArguments, set_seed

from musamma.data.errors import InputError
from musamma.data.files import apply_default_mode, atomic_folder, write_json
from musamma.data.normalization import install_normalizer
from musamma.models.classifier import max_positions
from musamma.models.dropout import set_dropout
from musamma.models.pretrained_encoder import load_encoder, save_encoder
from musamma.models.vocabulary.embeddings import word_embedding
from musamma.training.arguments import count_steps, pretrain_arguments, rows_per_step
from musamma.training.cards import format_pretrained_card
from musamma.training.compiler import check_compiler
from musamma.training.cpu_training import speed_up_on_cpu
from musamma.training.pretraining.masked_rows import MaskCollator, MaskedRow, RowSchedule, select_held_out_rows
from musamma.training.pretraining.masking import MaskingConfig, RandomStream
from musamma.training.pretraining.objectives import MaskedLanguageModel, ReplacedTokenDetector
from musamma.training.pretraining.packed_text import TEXT_ENTRIES, PackedText, check_text_files, prepare_text
from musamma.training.pretraining.packing import check_packing
from musamma.training.pretraining.pretrain_config import PretrainConfig
from musamma.training.pretraining.pretrain_results import RESULT_FILE, PretrainResult, read_curve, read_result
from musamma.training.pretraining.pretrain_trainer import MilestoneWriter, PretrainTrainer
from musamma.training.run_dir import (
    CARD_FILE,
    LOG_FILE,
    RUN_FILE,
    check_inputs,
    check_output_folder,
    claim_output_folder,
    digest_weights,
    find_last_checkpoint,
    is_main_process,
    lock_output_folder,
    open_output_folder,
    remove_checkpoints,
)
from musamma.training.trainer import LogWriter

_HEAD_FOLDER, _MAIN_FOLDER, _MILESTONE_FOLDER = "head", "training", "milestones"
_HEAD_WEIGHTS, _HEAD_METRICS, _MILESTONE_RECORD = "heads.safetensors", "before.json", "milestone.json"


def prepare(config: PretrainConfig, *, overwrite: bool = False) -> PackedText:
    """Tokenize and pack the text into the output folder without training, from which it can be copied to another machine.

    Raises:
        InputError: the configuration cannot be used, or the folder holds other files.
    """
    output = Path(config.output)
    if not (output / RUN_FILE).is_file():
        check_output_folder(config, output, resume=False, overwrite=False, ignore=TEXT_ENTRIES)
    with lock_output_folder(output):
        _, tokenizer = _load_checked_encoder(config)
        return prepare_text(config, tokenizer, overwrite=overwrite)


def pretrain(config: PretrainConfig, *, resume: bool = False, overwrite: bool = False) -> PretrainResult:
    """Run a configuration: prepare the text, train new heads alone, then encoder and heads together.

    Args:
        config: the run.
        resume: continue a run with the same configuration.
        overwrite: delete an earlier run in the output folder; rows of the same text are kept.

    Raises:
        InputError: the configuration cannot be used, or the output folder holds another run.
        RunError: a loss, gradient, weight or held-out metric is not finite.
    """
    output = Path(config.output)
    with open_output_folder(config, output, resume=resume, overwrite=overwrite, ignore=TEXT_ENTRIES):
        return _pretrain(config, output, resume=resume, overwrite=overwrite)


def _pretrain(config: PretrainConfig, output: Path, *, resume: bool, overwrite: bool) -> PretrainResult:
    """Run a configuration, in an output folder that is checked and locked."""
    if (output / RESULT_FILE).is_file() and resume and not overwrite:
        if is_main_process():
            check_text_files(config)
        return read_result(output)
    # Report all mistakes before anything is written and before an earlier run is deleted.
    arguments = pretrain_arguments(config, output_dir=output / _MAIN_FOLDER)
    if config.time_limit is not None and arguments.world_size > 1:
        raise InputError(
            f"time_limit in a run of {arguments.world_size} processes",
            where="time_limit",
            expected="one process: the clocks of several differ, and with them the learning rates",
            remedy="set trainer.max_steps instead",
        )
    if config.compiled:
        check_compiler(arguments.device, key="compiled")
    encoder, tokenizer = _load_checked_encoder(config)
    if arguments.device.type == "cpu":
        speed_up_on_cpu(encoder, compiled=config.compiled)
    encoder_digest = digest_weights(encoder)
    set_seed(config.seed)
    model = _build_model(config, encoder)
    with arguments.main_process_first():
        text = prepare_text(config, tokenizer, overwrite=overwrite and is_main_process())
    inputs = {"text": text.digest, "encoder": encoder_digest}
    if not overwrite:
        check_inputs(inputs, output)
    claim_output_folder(config, output, inputs=inputs, overwrite=overwrite, retain=TEXT_ENTRIES)
    masking = MaskingConfig(text.special, config.mask_share, config.seed)
    run = _Run(
        config,
        model,
        tokenizer,
        text,
        masking,
        select_held_out_rows(text.held_out, limit=config.held_out.rows, masking=masking),
        MaskCollator(
            int(tokenizer.pad_token_id or 0), int(tokenizer.mask_token_id), config.length if config.packing else None
        ),
    )
    before = _train_heads(run)
    return _train_encoder(run, arguments, before)


def _load_checked_encoder(config: PretrainConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load the encoder and its tokenizer, with Musamma's normaliser, and check that they can be used.

    Raises:
        InputError: the encoder or the tokenizer cannot be loaded, or cannot be used as configured.
    """
    encoder, tokenizer = load_encoder(config.encoder)
    limit, embeddings = max_positions(encoder), word_embedding(encoder).num_embeddings
    if limit is not None and config.length > limit:
        raise InputError(
            f"length {config.length}",
            where=config.encoder,
            expected=f"at most {limit}, the number of the encoder's positions",
        )
    if len(tokenizer) > embeddings:
        raise InputError(
            f"a tokenizer of {len(tokenizer)} pieces and {embeddings} embeddings",
            where=config.encoder,
            expected="an embedding for every piece",
            remedy="use the tokenizer of this model, without pieces that were added later",
        )
    if config.packing is True:
        for attention in ("eager", "sdpa"):
            encoder.set_attn_implementation(attention)
            check_packing(encoder, config.encoder, length=config.length)
    normalized = install_normalizer(tokenizer)
    assert isinstance(normalized, PreTrainedTokenizerFast), "only a fast tokenizer keeps a normaliser"
    return encoder, normalized


def _build_model(config: PretrainConfig, encoder: PreTrainedModel) -> MaskedLanguageModel | ReplacedTokenDetector:
    if config.dropout is not None:
        set_dropout(encoder, config.dropout)
    if config.objective == "mlm":
        return MaskedLanguageModel(encoder, packing=config.packing)
    return ReplacedTokenDetector(encoder, packing=config.packing, layers=config.generator_layers)


@dataclass(frozen=True)
class _Run:
    """The objects that the stages of a run share.

    Args:
        config: the run.
        model: the encoder with its heads.
        tokenizer: the encoder's tokenizer, with Musamma's normaliser.
        text: the rows.
        masking: the masking of the rows.
        held_out: the held-out rows to evaluate on.
        collator: makes batches of rows.
    """

    config: PretrainConfig
    model: MaskedLanguageModel | ReplacedTokenDetector
    tokenizer: PreTrainedTokenizerFast
    text: PackedText
    masking: MaskingConfig
    held_out: list[MaskedRow]
    collator: MaskCollator

    @property
    def output(self) -> Path:
        """The output folder."""
        return Path(self.config.output)


def _train_heads(run: _Run) -> dict[str, float]:
    """Train the new heads on the unchanged encoder, and return the held-out metrics.

    Without this stage, the first gradients, which come from random heads, would change the whole encoder.
    """
    config, model, folder = run.config, run.model, run.output / _HEAD_FOLDER
    heads = {name: weight for name, weight in model.named_parameters() if "encoder." not in name}
    if (folder / _HEAD_METRICS).is_file():
        saved = load_file(folder / _HEAD_WEIGHTS)
        with torch.no_grad():
            for name, weight in heads.items():
                weight.copy_(saved[name])
        return json.loads((folder / _HEAD_METRICS).read_text(encoding="utf-8"))
    overrides = {"max_steps": config.head_steps, "learning_rate": config.head_learning_rate, "eval_strategy": "no"}
    arguments = pretrain_arguments(config, output_dir=folder, overrides=overrides)
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in heads)
    model.encoder_frozen = True
    schedule = _build_schedule(run, arguments, config.head_steps, RandomStream.HEADS)
    checkpoint = find_last_checkpoint(folder)
    folder.mkdir(parents=True, exist_ok=True)
    trainer = _build_trainer(run, arguments, schedule, [LogWriter(_rewind_log(folder / LOG_FILE, checkpoint))])
    trainer.start_clock(_checkpoint_step(checkpoint))
    trainer.train(resume_from_checkpoint=checkpoint)
    before = {name.removeprefix("eval_"): value for name, value in trainer.evaluate().items()}
    model.encoder_frozen = False
    model.requires_grad_(True)
    if is_main_process():
        save_file({name: weight.detach().cpu().contiguous() for name, weight in heads.items()}, folder / _HEAD_WEIGHTS)
        apply_default_mode(folder / _HEAD_WEIGHTS)
        # Written last, because its presence marks the heads as finished.
        write_json(before, folder / _HEAD_METRICS)
        remove_checkpoints(folder)
    return before


def _train_encoder(run: _Run, arguments: TrainingArguments, before: dict[str, float]) -> PretrainResult:
    """Train encoder and heads together, and write the output folder.

    Args:
        run: the run.
        arguments: the Trainer's arguments.
        before: held-out metrics of the original encoder.
    """
    config, output = run.config, run.output
    steps = count_steps(arguments, len(run.text.train))
    schedule = _build_schedule(run, arguments, steps, RandomStream.MAIN)
    checkpoint = find_last_checkpoint(output / _MAIN_FOLDER)
    step_rows = rows_per_step(arguments)
    milestone_steps = [(tokens, -(-schedule.items_for_tokens(tokens) // step_rows)) for tokens in config.milestones]
    milestones: list[dict[str, Any]] = [
        {
            "tokens": tokens,
            "tokens_seen": schedule.count_tokens(step * step_rows),
            "step": step,
            "folder": f"{_MILESTONE_FOLDER}/{tokens}",
        }
        for tokens, step in milestone_steps
        if step <= steps
    ]

    def write_milestones(step: int) -> None:
        for milestone in milestones:
            if milestone["step"] == step:
                trainer.check_weights()
                with atomic_folder(output / str(milestone["folder"])) as folder:
                    save_encoder(run.model.encoder, run.tokenizer, folder, config.dtype)
                    write_json(milestone, folder / _MILESTONE_RECORD)

    log = _rewind_log(output / LOG_FILE, checkpoint)
    callbacks = [LogWriter(log), MilestoneWriter(write_milestones)]
    trainer = _build_trainer(run, arguments, schedule, callbacks, time_limit=config.time_limit)
    if config.compiled:
        # Packed rows have one shape. Padded rows have many shapes, which need code for dynamic shapes.
        run.model.compile_encoders(dynamic=False if config.packing else None)
    trainer.start_clock(_checkpoint_step(checkpoint))
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.check_weights()
    trainer.evaluate()
    # Fewer than planned if the time was over before.
    steps = trainer.state.global_step
    result = PretrainResult(
        encoder=config.encoder,
        objective=config.objective,
        steps=steps,
        tokens=schedule.count_tokens(steps * step_rows),
        passes=schedule.count_passes(steps * step_rows),
        text=run.text.counts,
        curve=read_curve(output / LOG_FILE, before),
        milestones=[milestone for milestone in milestones if milestone["step"] <= steps],
    )
    if is_main_process():
        save_encoder(run.model.encoder, run.tokenizer, output, config.dtype)
        (output / CARD_FILE).write_text(format_pretrained_card(config, result), encoding="utf-8")
        # Written last, because its presence marks the run as finished.
        result.write(output)
        remove_checkpoints(output / _MAIN_FOLDER)
    return result


def _build_trainer(
    run: _Run,
    arguments: TrainingArguments,
    schedule: RowSchedule,
    callbacks: list[Any],
    *,
    time_limit: float | None = None,
) -> PretrainTrainer:
    trainer = PretrainTrainer(
        schedule=schedule,
        held_out=run.held_out,
        rtd_weight=run.config.rtd_weight,
        seed=run.config.seed,
        time_limit=time_limit,
        options={"model": run.model, "args": arguments, "data_collator": run.collator, "callbacks": callbacks},
    )
    # Metrics go to TensorBoard and log.jsonl; standard output is for the result.
    trainer.remove_callback(PrinterCallback)
    return trainer


def _build_schedule(run: _Run, arguments: TrainingArguments, steps: int, stream: RandomStream) -> RowSchedule:
    return RowSchedule(run.text.train, items=steps * rows_per_step(arguments), masking=run.masking, stream=stream)


def _checkpoint_step(checkpoint: str | None) -> int:
    return 0 if checkpoint is None else int(checkpoint.rpartition("-")[2])


def _rewind_log(log: Path, checkpoint: str | None) -> Path:
    """Remove the events after the checkpoint from a log, because the resuming run logs them again."""
    if is_main_process() and log.is_file():
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        step = _checkpoint_step(checkpoint)
        retained = [line for line in lines if checkpoint and json.loads(line)["step"] <= step]
        log.write_text("".join(line + "\n" for line in retained), encoding="utf-8")
    return log
