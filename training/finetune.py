"""The fine-tuning script: annotated articles and an encoder in, a token classifier and its scores out.

Run it as ``musamma train CONFIG``, or in several processes as ``torchrun --nproc-per-node N -m musamma train CONFIG``.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    EarlyStoppingCallback,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainingArguments,
    set_seed,
)

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.files import write_json, write_lines
from musamma.data.normalization import install_normalizer
from musamma.data.windows import DocumentTokenizer, Misalignment
from musamma.models.checkpoint import build_classifier, load_tokenizer
from musamma.models.classifier import TokenClassifier, max_positions
from musamma.models.dropout import replace_dropout
from musamma.models.model_names import resolve_model
from musamma.models.predictor import Predictor
from musamma.models.runtimes.torch import TorchRuntime
from musamma.models.window_options import WindowOptions
from musamma.training.arguments import LENGTH_COLUMN, finetune_arguments
from musamma.training.cards import format_finetuned_card
from musamma.training.compiler import check_compiler
from musamma.training.config import RunConfig
from musamma.training.dataset import (
    Corpus,
    WindowCollator,
    build_noisy_copies,
    build_window_dataset,
    joint_loss,
    load_corpus,
)
from musamma.training.freed_memory import keep_freed_memory
from musamma.training.lora import add_adapters, merge_adapters
from musamma.training.mixture import Mixture, MixtureSampler, build_mixture
from musamma.training.run_dir import (
    CARD_FILE,
    LOG_FILE,
    RUN_FILE,
    SCORES_FILE,
    SeedResult,
    check_inputs,
    check_output_folder,
    claim_output_folder,
    digest_documents,
    digest_weights,
    find_last_checkpoint,
    is_main_process,
    lock_output_folder,
    publish_checkpoint,
    read_seed_result,
    remove_checkpoints,
)
from musamma.training.trainer import LogWriter, SpanTrainer


def finetune(config: RunConfig, *, resume: bool = False, overwrite: bool = False) -> list[SeedResult]:
    """Fine-tune an encoder with every seed of a configuration.

    The output folder becomes a plain Hugging Face checkpoint: that of the seed with the best development score. Its
    ``seed-N`` folders hold the checkpoints of all seeds, and ``scores.json`` their scores.

    Args:
        config: the run.
        resume: continue a run with the same configuration, data and encoder; finished seeds are kept.
        overwrite: delete an earlier run in the output folder.

    Returns:
        One result per seed.

    Raises:
        InputError: the configuration cannot be used, or the output folder holds another run.
        RunError: a loss, gradient or weight is not finite.
    """
    output = Path(config.output)
    check_output_folder(config, output, resume=resume, overwrite=overwrite)
    with lock_output_folder(output):
        return _finetune(config, output, overwrite=overwrite)


def _finetune(config: RunConfig, output: Path, *, overwrite: bool) -> list[SeedResult]:
    """Fine-tune with every seed, in an output folder that is checked and locked."""
    corpus = load_corpus(config)
    # Report all mistakes before anything is written and before an earlier run is deleted.
    arguments = finetune_arguments(config, seed=config.seeds[0], output_dir=output)
    if arguments.torch_compile and arguments.torch_compile_backend == "inductor":
        check_compiler(arguments.device, key="trainer.torch_compile")
    _, document_tokenizer, classifier = _load_encoder(config, corpus)
    inputs = _digest_inputs(corpus, document_tokenizer, classifier)
    if config.lora is not None:
        add_adapters(classifier, config.lora)
    if not overwrite:
        check_inputs(inputs, output)
    claim_output_folder(config, output, inputs=inputs, overwrite=overwrite)
    results = [_run_seed(config, corpus, seed, output / f"seed-{seed}") for seed in config.seeds]
    if is_main_process():
        best = max(results, key=lambda result: result.dev_f1)
        publish_checkpoint(best.folder, output)
        (output / CARD_FILE).write_text(format_finetuned_card(config, corpus, results), encoding="utf-8")
        record = {"best_seed": best.seed, "seeds": [result.to_dict() for result in results]}
        write_json(record, output / SCORES_FILE)
    return results


def _digest_inputs(
    corpus: Corpus, document_tokenizer: DocumentTokenizer, classifier: TokenClassifier
) -> dict[str, str]:
    """Return digests of the data and of the encoder without its new heads, by name."""
    parts = {"training data": corpus.train, "development data": corpus.dev, "test data": corpus.test}
    tokenizer = document_tokenizer.backend.to_str()
    nested = corpus.nested_tag_set is not None
    sources = [
        [s.name, len(s.train), len(s.dev), s.sampling_factor, s.allows.whole_words, sorted(s.allows.table.items())]
        for s in corpus.sources
    ]
    digests = {"sources": blake2b(json.dumps(sources).encode(), digest_size=16).hexdigest()} if sources else {}
    return (
        {name: digest_documents(documents, nested=nested) for name, documents in parts.items()}
        | digests
        | {
            "encoder": digest_weights(classifier.backbone.base_model),
            "tokenizer": blake2b(tokenizer.encode(), digest_size=16).hexdigest(),
        }
    )


def _run_seed(config: RunConfig, corpus: Corpus, seed: int, folder: Path) -> SeedResult:
    if (finished := read_seed_result(seed, folder)) is not None:
        return finished
    checkpoint_folder = folder / "training"
    arguments = finetune_arguments(config, seed=seed, output_dir=checkpoint_folder)
    # Set before any weight is drawn, so that the heads are the same in each run with this seed.
    set_seed(seed)
    tokenizer, document_tokenizer, classifier = _load_encoder(config, corpus)
    if config.lora is not None:
        add_adapters(classifier, config.lora)
    if arguments.device.type == "cpu":
        _speed_up(classifier, compiled=arguments.torch_compile, length=document_tokenizer.max_length)
    examples = _build_examples(config, corpus, document_tokenizer, arguments)
    folder.mkdir(parents=True, exist_ok=True)
    if is_main_process():
        records = (_misalignment_record(document, misalignment) for document, misalignment in examples.misalignments)
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        write_lines(lines, folder / "losses.jsonl")
    trainer = _build_trainer(
        config, corpus, examples, classifier, document_tokenizer, arguments, log_file=folder / LOG_FILE
    )
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=find_last_checkpoint(checkpoint_folder))
    seconds = time.perf_counter() - start
    if "wandb" in (arguments.report_to or ()):
        _finish_wandb_run()
    trainer.check_weights()
    if config.lora is not None:
        merge_adapters(classifier)
    part_scores = trainer.score_development() | ({"test": trainer.score(corpus.test)} if corpus.test else {})
    scores = {part: part_score.to_dict() for part, part_score in part_scores.items()}
    result = SeedResult(seed, folder, round(seconds, 1), scores)
    if is_main_process():
        encoding = WindowOptions(max_length=document_tokenizer.max_length, overlap=document_tokenizer.overlap)
        classifier.save_pretrained(folder, tokenizer, encoding)
        (folder / CARD_FILE).write_text(format_finetuned_card(config, corpus, [result]), encoding="utf-8")
        shutil.copyfile(folder.parent / RUN_FILE, folder / RUN_FILE)
        # Written last, because its presence marks the seed as finished.
        result.write()
        remove_checkpoints(checkpoint_folder)
    return result


def _speed_up(classifier: TokenClassifier, *, compiled: bool, length: int) -> None:
    """Prepare a classifier for training on a CPU.

    Args:
        classifier: the classifier.
        compiled: whether it will be compiled; then the compiler speeds up dropout, and needs batches of few shapes.
        length: maximum number of pieces in a window.
    """
    # The backward pass of PyTorch's fused attention over a padded batch takes longer than the rest of a step.
    classifier.backbone.set_attn_implementation("eager")
    keep_freed_memory()
    if not compiled:
        replace_dropout(classifier)
        classifier.try_unpadded(length=length)


@dataclass(frozen=True)
class _Examples:
    """What a seed trains on.

    Args:
        windows: the windows with their targets.
        misalignments: the annotated names that tags cannot represent exactly.
        loss: the loss of a batch of windows.
        sampler: the order of the windows; ``None`` for the Trainer's.
    """

    windows: Dataset
    misalignments: Sequence[tuple[Document, Misalignment]]
    loss: Callable[..., torch.Tensor] = joint_loss
    sampler: MixtureSampler | None = None


def _build_examples(
    config: RunConfig, corpus: Corpus, document_tokenizer: DocumentTokenizer, arguments: TrainingArguments
) -> _Examples:
    """Build the windows of the training documents; those of several sources are a mixture with a loss and an order of its own."""
    if not corpus.sources:
        windows, misalignments = build_window_dataset(
            _with_noisy_copies(config, corpus.train, arguments.seed),
            document_tokenizer,
            corpus.tag_set,
            proclitics=config.proclitics,
            nested=corpus.nested_tag_set,
            nested_ids=corpus.nested_ids,
        )
        return _Examples(windows, _of_documents(misalignments, corpus))
    mixture = build_mixture(
        [replace(source, train=_with_noisy_copies(config, source.train, arguments.seed)) for source in corpus.sources],
        document_tokenizer,
        corpus.tag_set,
        proclitics=config.proclitics,
        nested=corpus.nested_tag_set,
    )
    loss: Callable[..., torch.Tensor] = joint_loss
    if len(mixture.tag_sets):
        loss = partial(joint_loss, tag_sets=torch.from_numpy(mixture.tag_sets).to(arguments.device))
    misalignments = _of_documents(mixture.misalignments, corpus)
    return _Examples(mixture.windows, misalignments, loss, _build_sampler(mixture, corpus, arguments))


def _with_noisy_copies(config: RunConfig, documents: list[Document], seed: int) -> list[Document]:
    if config.noise is None:
        return documents
    return [*documents, *build_noisy_copies(documents, config.noise, seed=seed)]


def _of_documents(
    misalignments: Sequence[tuple[Document, Misalignment]], corpus: Corpus
) -> list[tuple[Document, Misalignment]]:
    """Return the misalignments of the training documents themselves, without those of their noisy copies."""
    documents = {id(document) for document in corpus.train}
    return [(document, misalignment) for document, misalignment in misalignments if id(document) in documents]


def _build_trainer(
    config: RunConfig,
    corpus: Corpus,
    examples: _Examples,
    classifier: TokenClassifier,
    document_tokenizer: DocumentTokenizer,
    arguments: TrainingArguments,
    *,
    log_file: Path,
) -> SpanTrainer:
    """Build the trainer, which scores the classifier on the development documents and logs to ``log_file``."""
    predictor = Predictor(
        TorchRuntime(classifier, device=arguments.device, autocast=torch.bfloat16 if arguments.bf16 else None),
        document_tokenizer,
        corpus.tag_set,
        np.arange(len(corpus.tag_set)),
        batch_tokens=32_768 if arguments.device.type == "cuda" else 4_096,
        nested_tag_set=corpus.nested_tag_set,
    )
    callbacks: list[Any] = [LogWriter(log_file)]
    if config.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(config.early_stopping_patience))
    trainer = SpanTrainer(
        predictor=predictor,
        dev=corpus.dev,
        sources=corpus.sources,
        sampler=examples.sampler,
        nested_ids=corpus.nested_ids,
        layerwise_decay=config.layerwise_decay,
        head_learning_rate=config.head_learning_rate,
        options={
            "model": classifier,
            "args": arguments,
            "train_dataset": examples.windows,
            "eval_dataset": examples.windows.select([]),
            "data_collator": WindowCollator(document_tokenizer.padding_id, document_tokenizer.max_length),
            "compute_loss_func": examples.loss,
            "callbacks": callbacks,
        },
    )
    # Metrics go to TensorBoard and log.jsonl; standard output is for the result.
    trainer.remove_callback(PrinterCallback)
    return trainer


def _build_sampler(mixture: Mixture, corpus: Corpus, arguments: TrainingArguments) -> MixtureSampler:
    by_length = arguments.train_sampling_strategy == "group_by_length"
    return MixtureSampler(
        mixture.sizes,
        [source.sampling_factor for source in corpus.sources],
        seed=arguments.seed,
        lengths=list(mixture.windows[LENGTH_COLUMN]) if by_length else None,
        batch_size=arguments.train_batch_size * arguments.gradient_accumulation_steps,
    )


def _finish_wandb_run() -> None:
    """End the run of Weights & Biases. Otherwise the next seed continues it; transformers ends only runs of other trackers."""
    import wandb

    wandb.finish()


def _load_encoder(
    config: RunConfig, corpus: Corpus
) -> tuple[PreTrainedTokenizerBase, DocumentTokenizer, TokenClassifier]:
    """Load the tokenizer, the document tokenizer that uses it, and the classifier, with new heads on the encoder.

    Raises:
        InputError: the encoder cannot be loaded, or cannot be used as configured.
    """
    name = resolve_model(config.encoder)
    tokenizer = install_normalizer(load_tokenizer(name))
    document_tokenizer = DocumentTokenizer(
        tokenizer, max_length=config.encoding.max_length, overlap=config.encoding.overlap
    )
    classifier = build_classifier(
        name,
        corpus.tag_set,
        proclitics=config.proclitics,
        nested=corpus.nested_tag_set,
        changes=config.encoder_config,
    )
    limit = max_positions(classifier.backbone)
    if limit is not None and document_tokenizer.max_length > limit:
        raise InputError(
            f"encoding.max_length {document_tokenizer.max_length}",
            where=config.encoder,
            expected=f"at most {limit}, the number of the encoder's positions",
        )
    return tokenizer, document_tokenizer, classifier


def _misalignment_record(document: Document, misalignment: Misalignment) -> dict[str, Any]:
    """Describe an annotated name that tags cannot represent exactly, as JSON."""
    return {
        "id": document.id,
        "span": misalignment.span.to_dict(),
        "surface": document.surface(misalignment.span),
        "reason": misalignment.reason,
        "kept": None if misalignment.replacement is None else misalignment.replacement.to_dict(),
        **({"layer": "nested"} if misalignment.nested else {}),
    }
