"""The fine-tuning script: annotated articles and an encoder in, a token classifier and its scores out.

Run it as ``musamma train CONFIG``, or in several processes as ``torchrun --nproc-per-node N -m musamma train CONFIG``.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from transformers import (
    EarlyStoppingCallback,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainingArguments,
    set_seed,
)

from musamma.data.errors import InputError
from musamma.data.normalization import install_normalizer
from musamma.data.windows import DocumentTokenizer
from musamma.models.checkpoint import build_classifier, load_tokenizer
from musamma.models.classifier import TokenClassifier, max_positions
from musamma.models.model_names import resolve_model
from musamma.training.arguments import LENGTH_COLUMN, finetune_arguments
from musamma.training.cards import format_finetuned_card
from musamma.training.compiler import check_trainer_compiler
from musamma.training.config import RunConfig
from musamma.training.cpu_training import speed_up_on_cpu
from musamma.training.dataset import Corpus, WindowCollator, keep_nested_layer, load_corpus
from musamma.training.examples import Examples, build_examples
from musamma.training.lora import add_adapters, merge_adapters
from musamma.training.mixture import build_sampler
from musamma.training.run_dir import (
    LOG_FILE,
    SeedResult,
    digest_weights,
    open_output_folder,
)
from musamma.training.seed_runs import build_predictor, digest_corpus, run_seeds, train_seed, training_folder
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
    with open_output_folder(config, output, resume=resume, overwrite=overwrite):
        return _finetune(config, output, overwrite=overwrite)


def _finetune(config: RunConfig, output: Path, *, overwrite: bool) -> list[SeedResult]:
    """Fine-tune with every seed, in an output folder that is checked and locked."""
    corpus = keep_nested_layer(load_corpus(config), config)
    # Report all mistakes before anything is written and before an earlier run is deleted.
    arguments = finetune_arguments(config, seed=config.seeds[0], output_dir=output)
    check_trainer_compiler(arguments)
    _, document_tokenizer, classifier = _load_encoder(config, corpus)
    inputs = digest_corpus(corpus, document_tokenizer) | {"encoder": digest_weights(classifier.backbone.base_model)}
    if config.lora is not None:
        add_adapters(classifier, config.lora)
    return run_seeds(
        config,
        config.seeds,
        output,
        inputs=inputs,
        overwrite=overwrite,
        run_seed=partial(_run_seed, config, corpus),
        format_card=partial(format_finetuned_card, config, corpus),
    )


def _run_seed(config: RunConfig, corpus: Corpus, seed: int, folder: Path) -> SeedResult:
    arguments = finetune_arguments(config, seed=seed, output_dir=training_folder(folder))
    # Set before any weight is drawn, so that the heads are the same in each run with this seed.
    set_seed(seed)
    tokenizer, document_tokenizer, classifier = _load_encoder(config, corpus)
    if config.lora is not None:
        add_adapters(classifier, config.lora)
    if arguments.device.type == "cpu":
        speed_up_on_cpu(classifier.backbone, compiled=arguments.torch_compile)
        if not arguments.torch_compile:  # which needs batches of few shapes
            classifier.try_unpadded(length=document_tokenizer.max_length)
    examples = build_examples(
        corpus,
        document_tokenizer,
        proclitics=config.proclitics,
        device=arguments.device,
        noise=config.noise,
        seed=seed,
    )
    trainer = _build_trainer(
        config, corpus, examples, classifier, document_tokenizer, arguments, log_file=folder / LOG_FILE
    )
    return train_seed(
        trainer,
        seed,
        folder,
        corpus=corpus,
        tokenizer=tokenizer,
        misalignments=examples.misalignments,
        format_card=partial(format_finetuned_card, config, corpus),
        finish=None if config.lora is None else partial(merge_adapters, classifier),
    )


def _build_trainer(
    config: RunConfig,
    corpus: Corpus,
    examples: Examples,
    classifier: TokenClassifier,
    document_tokenizer: DocumentTokenizer,
    arguments: TrainingArguments,
    *,
    log_file: Path,
) -> SpanTrainer:
    """Build the trainer, which scores the classifier on the development documents and logs to ``log_file``."""
    callbacks: list[Any] = [LogWriter(log_file)]
    if config.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(config.early_stopping_patience))
    sampler = None  # the Trainer's own
    if corpus.sources:
        lengths = list(examples.windows[LENGTH_COLUMN])
        sampler = build_sampler(examples.sizes, examples.sampling_factors, lengths, arguments)
    trainer = SpanTrainer(
        predictor=build_predictor(corpus, classifier, document_tokenizer, arguments),
        dev=corpus.dev,
        sources=corpus.sources,
        sampler=sampler,
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
