"""The pre-training script: raw Arabic text and an encoder in, an encoder that knows more Arabic out.

Run it as ``musamma encoder pretrain CONFIG``, or over several processes as ``torchrun --nproc-per-node N -m
musamma encoder pretrain CONFIG``.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast, PrinterCallback, TrainingArguments, set_seed

from musamma.data.errors import InputError
from musamma.data.files import write_json
from musamma.data.normalization import install_normalizer
from musamma.models.classifier import max_positions
from musamma.models.pretrained_encoder import load_encoder
from musamma.models.vocabulary.embeddings import word_embedding
from musamma.training.arguments import steps_of, training_arguments
from musamma.training.pretraining.masking import (
    HEAD,
    MAIN,
    MaskCollator,
    MaskedRow,
    MaskingConfig,
    RowSchedule,
    held_out_rows,
)
from musamma.training.pretraining.objectives import MaskedLanguageModel, ReplacedTokenDetector
from musamma.training.pretraining.packed_text import PARTIAL_FOLDER, TEXT_FOLDER, PackedText, prepare_text
from musamma.training.pretraining.packing import check_packing
from musamma.training.pretraining.pretrain_config import PretrainConfig
from musamma.training.pretraining.pretrain_results import (
    RESULT_FILE,
    PretrainResult,
    read_curve,
    read_result,
    write_encoder,
    write_result,
)
from musamma.training.pretraining.pretrain_trainer import MilestoneWriter, PretrainTrainer, keep_freed_memory
from musamma.training.run_dir import (
    LOG_FILE,
    RUN_FILE,
    check_output_folder,
    claim_output,
    find_last_checkpoint,
    is_main_process,
)
from musamma.training.trainer import LogWriter

_KEPT = (TEXT_FOLDER, PARTIAL_FOLDER)


def prepare(config: PretrainConfig, *, overwrite: bool = False) -> PackedText:
    """Only make the text's rows, in the output folder, so that they can be carried to another machine.

    Raises:
        InputError: the configuration cannot be carried out, or the folder holds other files.
    """
    output = Path(config.output)
    if not (output / RUN_FILE).is_file():
        check_output_folder(config, output, resume=False, overwrite=False, kept=_KEPT)
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
    check_output_folder(config, output, resume=resume, overwrite=overwrite, kept=_KEPT)
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
    claim_output(config, output, overwrite=overwrite, kept=_KEPT)
    masks = MaskingConfig(text.special, config.mask_share, config.seed)
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
    limit, rows = max_positions(encoder), word_embedding(encoder).num_embeddings
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


def _model(config: PretrainConfig, encoder: PreTrainedModel) -> MaskedLanguageModel | ReplacedTokenDetector:
    if config.dropout is not None:
        # In the modules, so that the saved configuration keeps its own for fine-tuning.
        for module in encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = config.dropout
    if config.objective == "mlm":
        return MaskedLanguageModel(encoder, packing=config.packing)
    return ReplacedTokenDetector(encoder, packing=config.packing, layers=config.generator_layers)


HEAD_FOLDER, WORK_FOLDER, MILESTONES = "head", "training", "milestones"
_HEADS, _BEFORE = "heads.safetensors", "before.json"


@dataclass(frozen=True)
class Run:
    """What the stages of a run share.

    Args:
        config: the run.
        model: the encoder with its heads.
        tokenizer: the encoder's, with Musamma's normaliser.
        text: the rows.
        masks: how they are masked.
        held_out: the rows that are measured on.
        collator: makes batches of rows.
    """

    config: PretrainConfig
    model: MaskedLanguageModel | ReplacedTokenDetector
    tokenizer: PreTrainedTokenizerFast
    text: PackedText
    masks: MaskingConfig
    held_out: list[MaskedRow]
    collator: MaskCollator

    @property
    def output(self) -> Path:
        """The run's folder."""
        return Path(self.config.output)


def learn_heads(run: Run) -> dict[str, float]:
    """Let the fresh heads learn on the encoder as it is; the held-out figures under them.

    Without it their first gradients, which are those of chance, would go through all of the encoder.
    """
    config, model, folder = run.config, run.model, run.output / HEAD_FOLDER
    heads = {name: weight for name, weight in model.named_parameters() if "encoder." not in name}
    if (folder / _BEFORE).is_file():
        saved = load_file(folder / _HEADS)
        with torch.no_grad():
            for name, weight in heads.items():
                weight.copy_(saved[name])
        return json.loads((folder / _BEFORE).read_text(encoding="utf-8"))
    changes = {"max_steps": config.head_steps, "learning_rate": config.head_learning_rate, "eval_strategy": "no"}
    arguments = training_arguments(config, folder, **changes)
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in heads)
    model.frozen = True
    course = _course(run, arguments, config.head_steps, HEAD)
    checkpoint = find_last_checkpoint(folder)
    folder.mkdir(parents=True, exist_ok=True)
    trainer = _trainer(run, arguments, course, [LogWriter(_rewound(folder / LOG_FILE, checkpoint))])
    trainer.start_clock(_step(checkpoint))
    trainer.train(resume_from_checkpoint=checkpoint)
    before = {name.removeprefix("eval_"): value for name, value in trainer.evaluate().items()}
    model.frozen = False
    model.requires_grad_(True)
    if is_main_process():
        save_file({name: weight.detach().cpu().contiguous() for name, weight in heads.items()}, folder / _HEADS)
        # Last: its presence says that the heads are done.
        write_json(before, folder / _BEFORE)
        _remove_checkpoints(folder)
    return before


def learn_all(run: Run, arguments: TrainingArguments, before: dict[str, float]) -> PretrainResult:
    """Train encoder and heads together, and fill the output folder.

    Args:
        run: the run.
        arguments: the Trainer's.
        before: held-out figures that :func:`learn_heads` gave.
    """
    config, output = run.config, run.output
    steps = steps_of(arguments, len(run.text.train))
    arguments.max_steps = steps
    course = _course(run, arguments, steps, MAIN)
    checkpoint = find_last_checkpoint(output / WORK_FOLDER)
    each = len(course) // steps
    reached = [(tokens, -(-course.items_for(tokens) // each)) for tokens in config.milestones]
    milestones = [
        {"tokens": tokens, "tokens_seen": course.tokens(step * each), "step": step, "folder": f"{MILESTONES}/{tokens}"}
        for tokens, step in reached
        if step <= steps
    ]

    def write(step: int) -> None:
        for record in milestones:
            if record["step"] == step:
                write_encoder(
                    run.model.encoder, run.tokenizer, output / str(record["folder"]), dtype=config.dtype, record=record
                )

    trainer = _trainer(
        run,
        arguments,
        course,
        [LogWriter(_rewound(output / LOG_FILE, checkpoint)), MilestoneWriter(write)],
    )
    if config.compiled:
        # Packed rows have one shape; padded ones have many, for which the code has to be general.
        run.model.compile_encoders(dynamic=False if config.packing else None)
    trainer.start_clock(_step(checkpoint))
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.evaluate()
    result = PretrainResult(
        encoder=config.encoder,
        objective=config.objective,
        steps=steps,
        tokens=course.tokens(len(course)),
        passes=course.passes(len(course)),
        text=run.text.counts,
        curve=read_curve(output / LOG_FILE, before),
        milestones=milestones,
    )
    if is_main_process():
        write_result(config, run.model.encoder, run.tokenizer, result)
        _remove_checkpoints(output / WORK_FOLDER)
    return result


def _trainer(run: Run, arguments: TrainingArguments, course: RowSchedule, callbacks: list[Any]) -> PretrainTrainer:
    trainer = PretrainTrainer(
        course=course,
        held_out=run.held_out,
        rtd_weight=run.config.rtd_weight,
        seed=run.config.seed,
        options={"model": run.model, "args": arguments, "data_collator": run.collator, "callbacks": callbacks},
    )
    # Metrics go to TensorBoard and log.jsonl; standard output is for the result.
    trainer.remove_callback(PrinterCallback)
    return trainer


def _course(run: Run, arguments: TrainingArguments, steps: int, stream: int) -> RowSchedule:
    each = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    return RowSchedule(run.text.train, items=steps * each, masks=run.masks, stream=stream)


def _step(checkpoint: str | None) -> int:
    return 0 if checkpoint is None else int(checkpoint.rpartition("-")[2])


def _rewound(log: Path, checkpoint: str | None) -> Path:
    """A log without what came after the checkpoint: the run comes there again."""
    if is_main_process() and log.is_file():
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        kept = [line for line in lines if checkpoint and json.loads(line)["step"] <= _step(checkpoint)]
        log.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    return log


def _remove_checkpoints(folder: Path) -> None:
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
