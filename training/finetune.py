"""The fine-tuning script: annotated articles and an encoder in, a token classifier with its scores out.

Run it as ``musamma train CONFIG``, or over several processes as ``torchrun --nproc-per-node N -m musamma train CONFIG``.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import EarlyStoppingCallback, PrinterCallback, TrainingArguments, set_seed

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.files import write_json
from musamma.data.normalization import install_normalizer
from musamma.data.windows import DocumentTokenizer, Misalignment
from musamma.models.classifier import TokenClassifier, WindowOptions, max_positions
from musamma.models.loading import build_classifier, load_tokenizer, resolve_model
from musamma.models.predictor import Predictor
from musamma.models.runtimes.torch import TorchRuntime, supports_bfloat16
from musamma.training.cards import build_model_card
from musamma.training.config import RunConfig, trainer_arguments
from musamma.training.dataset import LENGTH, Corpus, WindowCollator, build_window_dataset, joint_loss, load_corpus
from musamma.training.run_dir import (
    CARD_FILE,
    LOG_FILE,
    RUN_FILE,
    SCORES_FILE,
    check_output_folder,
    claim_output,
    find_last_checkpoint,
    is_main_process,
    publish_checkpoint,
    write_json_lines,
)
from musamma.training.trainer import LogWriter, SpanTrainer

_METRIC = "eval_strict_f1"


@dataclass(frozen=True)
class SeedResult:
    """What one seed's run gave.

    Args:
        seed: the seed.
        folder: its checkpoint.
        seconds: duration of training, without resumption's earlier part.
        scores: by part, ``dev`` and, where there is one, ``test``: the figures of every mode as `Scores.to_dict` gives them.
    """

    seed: int
    folder: Path
    seconds: float
    scores: dict[str, Any]

    @property
    def dev_f1(self) -> float:
        """Character-exact micro F1 on the development part."""
        return float(self.scores["dev"]["micro"]["f1"])


def finetune(config: RunConfig, *, resume: bool = False, overwrite: bool = False) -> list[SeedResult]:
    """Run a configuration: every seed, then the card.

    The output folder is a plain Hugging Face checkpoint, that of the seed with the best development score; ``seed-N`` beside
    it holds every seed's own, and ``scores.json`` the figures of all.

    Args:
        config: the run.
        resume: go on where a run with the same configuration was stopped; finished seeds are kept.
        overwrite: delete what an earlier run left in the output folder.

    Raises:
        InputError: the configuration cannot be carried out, or the output folder holds another run.
    """
    output = Path(config.output)
    check_output_folder(config, output, resume=resume, overwrite=overwrite)
    corpus = load_corpus(config)
    # All that can be wrong is told before anything is written, and before an earlier run is deleted.
    _arguments(config, config.seeds[0], output)
    _new_parts(config, corpus)
    claim_output(config, output, overwrite=overwrite)
    results = [_run_seed(config, corpus, seed, output / f"seed-{seed}") for seed in config.seeds]
    if is_main_process():
        best = max(results, key=lambda result: result.dev_f1)
        publish_checkpoint(best.folder, output)
        (output / CARD_FILE).write_text(build_model_card(config, corpus, results), encoding="utf-8")
        records = [{"seed": result.seed, "seconds": result.seconds, "scores": result.scores} for result in results]
        write_json({"best_seed": best.seed, "seeds": records}, output / SCORES_FILE)
    return results


def _run_seed(config: RunConfig, corpus: Corpus, seed: int, folder: Path) -> SeedResult:
    finished = folder / SCORES_FILE
    if finished.is_file():
        record = json.loads(finished.read_text(encoding="utf-8"))
        return SeedResult(seed, folder, record["seconds"], record["scores"])
    work = folder / "training"
    options = _arguments(config, seed, work)
    # Before any weight is drawn, so that the heads are the same in every run of this seed.
    set_seed(seed)
    encoder, classifier = _new_parts(config, corpus)
    if options.device.type == "cpu":
        # PyTorch's fused attention goes back through a batch of sentences slower than all the rest of a step does.
        classifier.backbone.set_attn_implementation("eager")
    windows, losses = build_window_dataset(corpus.train, encoder, corpus.tags, proclitics=config.proclitics)
    folder.mkdir(parents=True, exist_ok=True)
    if is_main_process():
        write_json_lines(folder / "losses.jsonl", (_loss_record(document, loss) for document, loss in losses))
    predictor = Predictor(
        TorchRuntime(classifier, device=options.device, autocast=torch.bfloat16 if options.bf16 else None),
        encoder,
        corpus.tags,
        np.arange(len(corpus.tags)),
        batch_tokens=32_768 if options.device.type == "cuda" else 4_096,
    )
    callbacks: list[Any] = [LogWriter(folder / LOG_FILE)]
    if config.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(config.early_stopping_patience))
    trainer = SpanTrainer(
        predictor=predictor,
        dev=corpus.dev,
        layerwise_decay=config.layerwise_decay,
        head_learning_rate=config.head_learning_rate,
        options={
            "model": classifier,
            "args": options,
            "train_dataset": windows,
            "eval_dataset": windows.select([]),
            "data_collator": WindowCollator(encoder.tokenizer.pad_token_id or 0, encoder.max_length),
            "compute_loss_func": joint_loss,
            "callbacks": callbacks,
        },
    )
    # Metrics go to TensorBoard and log.jsonl; standard output is for the result.
    trainer.remove_callback(PrinterCallback)
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=find_last_checkpoint(work))
    seconds = time.perf_counter() - start
    parts = {"dev": corpus.dev} | ({"test": corpus.test} if corpus.test else {})
    scores = {part: trainer.score(documents).to_dict() for part, documents in parts.items()}
    result = SeedResult(seed, folder, round(seconds, 1), scores)
    if is_main_process():
        encoding = WindowOptions(max_length=encoder.max_length, overlap=encoder.overlap)
        classifier.save_pretrained(folder, encoder.tokenizer, encoding)
        (folder / CARD_FILE).write_text(build_model_card(config, corpus, [result]), encoding="utf-8")
        shutil.copy(folder.parent / RUN_FILE, folder / RUN_FILE)
        # Last: its presence says that the seed is done.
        write_json({"seed": seed, "seconds": result.seconds, "scores": scores}, finished)
        for checkpoint in work.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
    return result


def _new_parts(config: RunConfig, corpus: Corpus) -> tuple[DocumentTokenizer, TokenClassifier]:
    """What cuts the documents, and the classifier with fresh heads.

    Raises:
        InputError: the encoder cannot be loaded, or not be used as configured.
    """
    name = resolve_model(config.encoder)
    encoder = DocumentTokenizer(
        install_normalizer(load_tokenizer(name)),
        max_length=config.encoding.max_length,
        overlap=config.encoding.overlap,
    )
    classifier = build_classifier(name, corpus.tags, proclitics=config.proclitics, changes=config.encoder_config)
    limit = max_positions(classifier.backbone)
    if limit is not None and encoder.max_length > limit:
        raise InputError(
            f"encoding.max_length {encoder.max_length}",
            where=config.encoder,
            expected=f"at most {limit}, the encoder's positions",
        )
    return encoder, classifier


def _arguments(config: RunConfig, seed: int, work: Path) -> TrainingArguments:
    use_cpu = config.device == "cpu" or not torch.cuda.is_available()
    device = torch.device("cpu" if use_cpu else "cuda")
    bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and supports_bfloat16(device))
    settings: dict[str, Any] = {
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "logging_steps": 50,
        "save_total_limit": 1,
        "train_sampling_strategy": "group_by_length",
        "length_column_name": LENGTH,
        "optim": "adamw_torch_fused",
        # Every weight takes part in every step; looking for others costs time and forbids recomputation.
        "ddp_find_unused_parameters": False,
        **config.trainer,
        "output_dir": str(work),
        "seed": seed,
        "data_seed": seed,
        "bf16": bfloat16,
        "use_cpu": use_cpu,
        "metric_for_best_model": _METRIC,
        "greater_is_better": True,
        "load_best_model_at_end": True,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "report_to": ["tensorboard"],
        "disable_tqdm": not sys.stderr.isatty(),
        "dataloader_pin_memory": not use_cpu,
    }
    return trainer_arguments(settings)


def _loss_record(document: Document, loss: Misalignment) -> dict[str, Any]:
    """An annotated name that tags cannot carry as it stands, as JSON."""
    return {
        "id": document.id,
        "span": loss.span.to_dict(),
        "surface": document.surface(loss.span),
        "reason": loss.reason,
        "kept": None if loss.replacement is None else loss.replacement.to_dict(),
    }
