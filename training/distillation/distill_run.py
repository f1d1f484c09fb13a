"""The distillation script: a teacher, annotated articles and raw text in, a smaller token classifier and its scores out.

Run it as ``musamma distill CONFIG``, or in several processes as ``torchrun --nproc-per-node N -m musamma distill CONFIG``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from torch.utils.data import ConcatDataset
from transformers import PreTrainedTokenizerBase, PrinterCallback, TrainingArguments, set_seed

from musamma.data.errors import InputError
from musamma.data.tags import TagSet
from musamma.data.windows import DocumentTokenizer
from musamma.models.checkpoint import load_tokenizer
from musamma.models.classifier import TokenClassifier
from musamma.models.dropout import set_dropout
from musamma.models.loading import load_predictor
from musamma.models.model_names import resolve_model
from musamma.models.runtimes.torch import TorchRuntime
from musamma.training.arguments import LENGTH_COLUMN, finetune_arguments
from musamma.training.cards import format_distilled_card
from musamma.training.compiler import check_trainer_compiler
from musamma.training.cpu_training import speed_up_on_cpu
from musamma.training.dataset import Corpus, read_corpus
from musamma.training.distillation.distill_config import DistillConfig
from musamma.training.distillation.distiller import DistillCollator, Distiller, DistillTrainer
from musamma.training.distillation.raw_text import RawText, RawWindows, read_raw_text
from musamma.training.distillation.student import (
    build_student,
    count_layers,
    load_student,
    match_layers,
    select_layers,
)
from musamma.training.examples import Examples, build_examples
from musamma.training.mixture import MixtureSampler, build_sampler
from musamma.training.run_dir import (
    LOG_FILE,
    SeedResult,
    digest_weights,
    open_output_folder,
)
from musamma.training.seed_runs import build_predictor, digest_corpus, run_seeds, train_seed, training_folder
from musamma.training.trainer import LogWriter


def distill(config: DistillConfig, *, resume: bool = False, overwrite: bool = False) -> list[SeedResult]:
    """Train a student of a teacher with every seed of a configuration.

    The output folder becomes a plain Hugging Face checkpoint as that of :func:`musamma.training.finetune.finetune`.

    Args:
        config: the run.
        resume: continue a run with the same configuration, data and teacher; finished seeds are kept.
        overwrite: delete an earlier run in the output folder.

    Returns:
        One result per seed.

    Raises:
        InputError: the configuration cannot be used, or the output folder holds another run.
        RunError: a loss, gradient or weight is not finite.
    """
    output = Path(config.output)
    with open_output_folder(config, output, resume=resume, overwrite=overwrite):
        return _distill(config, output, overwrite=overwrite)


@dataclass(frozen=True)
class _Teacher:
    """A teacher with its tokenizer and its tags.

    Args:
        classifier: the model, in evaluation mode.
        tokenizer: its tokenizer, as it is saved with the student.
        document_tokenizer: cuts documents into windows as the teacher reads them.
        tag_set: its tags.
        columns: index of each tag in its logits; int, (tags,).
    """

    classifier: TokenClassifier
    tokenizer: PreTrainedTokenizerBase
    document_tokenizer: DocumentTokenizer
    tag_set: TagSet
    columns: np.ndarray


@dataclass(frozen=True)
class _Run:
    """The objects that the seeds of a run share.

    Args:
        config: the run.
        teacher: the teacher.
        student: the student before training.
        corpus: the annotated documents.
        text: the raw text, if there is any.
    """

    config: DistillConfig
    teacher: _Teacher
    student: TokenClassifier
    corpus: Corpus
    text: RawText | None

    def format_card(self, results: Sequence[SeedResult]) -> str:
        """Format the model card of the student."""
        return format_distilled_card(
            self.config,
            self.corpus,
            results,
            layers=count_layers(self.student),
            depth=count_layers(self.teacher.classifier),
            text_words=self.text.words if self.text else 0,
        )


def _distill(config: DistillConfig, output: Path, *, overwrite: bool) -> list[SeedResult]:
    """Train a student with every seed, in an output folder that is checked and locked."""
    # Report all mistakes before anything is written and before an earlier run is deleted.
    check_trainer_compiler(finetune_arguments(config, seed=config.seeds[0], output_dir=output))
    teacher = _load_teacher(config.teacher)
    student = _make_student(config, teacher.classifier)
    corpus = _read_corpus(config, teacher)
    text = read_raw_text(config.text, words=config.text_words) if config.text else None
    run = _Run(config, teacher, student, corpus, text)
    models = {"teacher": digest_weights(teacher.classifier)}
    if config.student is not None:
        models["student"] = digest_weights(student)
    inputs = digest_corpus(corpus, teacher.document_tokenizer) | models
    return run_seeds(
        config,
        config.seeds,
        output,
        inputs=inputs | ({"raw text": text.digest()} if text else {}),
        overwrite=overwrite,
        run_seed=partial(_run_seed, run),
        format_card=run.format_card,
    )


def _load_teacher(name: str) -> _Teacher:
    """Load a teacher on the CPU, in float32.

    Raises:
        InputError: there is no such checkpoint, or it cannot be loaded.
    """
    predictor = load_predictor(name, device="cpu", bfloat16=False)
    if not isinstance(predictor.runtime, TorchRuntime):
        raise InputError("an exported model", where=name, expected="the checkpoint that it was exported from")
    return _Teacher(
        predictor.runtime.classifier.requires_grad_(False),
        # Not the predictor's, which keeps the settings of its last call.
        load_tokenizer(resolve_model(name)),
        predictor.document_tokenizer,
        predictor.tag_set,
        predictor.columns,
    )


def _make_student(config: DistillConfig, teacher: TokenClassifier) -> TokenClassifier:
    """Build the student from layers of the teacher, or load an earlier one.

    Raises:
        InputError: the teacher does not have these layers or cannot be shortened, or the earlier student does not fit it.
    """
    if config.student is not None:
        return load_student(config.student, teacher, where=config.teacher)
    layers = select_layers(config.layers, count_layers(teacher), where=config.teacher)
    return build_student(teacher, layers, where=config.teacher)


def _read_corpus(config: DistillConfig, teacher: _Teacher) -> Corpus:
    """Read the annotated documents; both layers of names have the labels of the teacher.

    Raises:
        InputError: a document has a label that the teacher does not have, or the documents cannot be used.
    """
    nested = teacher.classifier.nested_tag_set
    try:
        corpus = read_corpus(config.data, labels=teacher.tag_set.labels, nested=False if nested is None else "auto")
    except InputError as error:
        # A configuration of this command has no labels of its own.
        if "'labels'" not in (error.remedy or ""):
            raise
        raise error.replace(
            remedy=f"map it with data.labels: the student has the labels of {config.teacher}"
        ) from error
    return replace(corpus, nested_tag_set=nested)


def _run_seed(run: _Run, seed: int, folder: Path) -> SeedResult:
    teacher, corpus = run.teacher, run.corpus
    arguments = finetune_arguments(run.config, seed=seed, output_dir=training_folder(folder))
    set_seed(seed)
    student = copy.deepcopy(run.student)
    set_dropout(student, 0.0)
    teacher.classifier.to(arguments.device)
    if arguments.device.type == "cpu":
        speed_up_on_cpu(student.backbone, compiled=arguments.torch_compile)
    examples = build_examples(
        corpus,
        teacher.document_tokenizer,
        proclitics=student.proclitic_head is not None,
        device=arguments.device,
    )
    trainer = _build_trainer(run, student, examples, arguments, log_file=folder / LOG_FILE)
    return train_seed(
        trainer,
        seed,
        folder,
        corpus=corpus,
        tokenizer=teacher.tokenizer,
        misalignments=examples.misalignments,
        format_card=run.format_card,
    )


def _build_trainer(
    run: _Run, student: TokenClassifier, examples: Examples, arguments: TrainingArguments, *, log_file: Path
) -> DistillTrainer:
    """Build the trainer, which scores the student on the development documents and logs to ``log_file``."""
    config, teacher, corpus = run.config, run.teacher, run.corpus
    raw = None if run.text is None else RawWindows(run.text, teacher.document_tokenizer)
    distiller = Distiller(
        student,
        teacher.classifier,
        matched=match_layers(count_layers(student), count_layers(teacher.classifier)),
        tag_set=corpus.tag_set,
        columns=teacher.columns,
        temperature=config.temperature,
        hidden_weight=config.hidden_weight,
        gold_weight=config.gold_weight,
        gold_loss=examples.loss,
    )
    document_tokenizer = teacher.document_tokenizer
    trainer = DistillTrainer(
        predictor=build_predictor(corpus, student, document_tokenizer, arguments, columns=teacher.columns),
        dev=corpus.dev,
        sources=corpus.sources,
        sampler=_mix_with_text(examples, raw, arguments),
        nested_ids=corpus.nested_ids,
        layerwise_decay=1.0,
        head_learning_rate=None,
        options={
            "model": distiller,
            "args": arguments,
            "train_dataset": examples.windows if raw is None else ConcatDataset([examples.windows, raw]),
            "eval_dataset": examples.windows.select([]),
            "data_collator": DistillCollator(
                document_tokenizer.padding_id, document_tokenizer.max_length, corpus.nested_tag_set is not None
            ),
            "callbacks": [LogWriter(log_file)],
        },
    )
    # Metrics go to TensorBoard and log.jsonl; standard output is for the result.
    trainer.remove_callback(PrinterCallback)
    return trainer


def _mix_with_text(examples: Examples, raw: RawWindows | None, arguments: TrainingArguments) -> MixtureSampler:
    """Build the sampler, which draws each window of raw text once in a run, as many in each epoch."""
    sizes, factors = list(examples.sizes), list(examples.sampling_factors)
    lengths = list(examples.windows[LENGTH_COLUMN])
    if raw is not None:
        sizes.append(len(raw))
        factors.append(1 / arguments.num_train_epochs)
        lengths += raw.lengths
    return build_sampler(sizes, factors, lengths, arguments)
