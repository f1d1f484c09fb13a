"""The stages of a run: fresh heads alone, then everything together; each goes on where it was stopped."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast, PrinterCallback, TrainingArguments

from musamma.data.files import write_json
from musamma.training.output import LOG_FILE, is_main_process, last_whole_checkpoint
from musamma.training.pretraining.arguments import steps_of, training_arguments
from musamma.training.pretraining.batches import Course, MaskCollator, MaskedRow, Masks
from musamma.training.pretraining.config import PretrainConfig
from musamma.training.pretraining.masking import HEAD, MAIN
from musamma.training.pretraining.objective import MaskedModel, ReplacedModel
from musamma.training.pretraining.results import PretrainResult, curve_of, write_encoder, write_result
from musamma.training.pretraining.text import Text
from musamma.training.pretraining.trainer import MilestoneWriter, PretrainTrainer
from musamma.training.trainer import LogWriter

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
    model: MaskedModel | ReplacedModel
    tokenizer: PreTrainedTokenizerFast
    text: Text
    masks: Masks
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
    checkpoint = last_whole_checkpoint(folder)
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
    checkpoint = last_whole_checkpoint(output / WORK_FOLDER)
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
        curve=curve_of(output / LOG_FILE, before),
        milestones=milestones,
    )
    if is_main_process():
        write_result(config, run.model.encoder, run.tokenizer, result)
        _remove_checkpoints(output / WORK_FOLDER)
    return result


def _trainer(run: Run, arguments: TrainingArguments, course: Course, callbacks: list[Any]) -> PretrainTrainer:
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


def _course(run: Run, arguments: TrainingArguments, steps: int, stream: int) -> Course:
    each = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    return Course(run.text.train, items=steps * each, masks=run.masks, stream=stream)


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
