"""The runs of a recipe, one for each seed: training, scores and checkpoint; the output folder gets the best one."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase, TrainingArguments

from musamma.data.document import Document
from musamma.data.files import write_json, write_lines
from musamma.data.windows import DocumentTokenizer, Misalignment
from musamma.models.classifier import TokenClassifier
from musamma.models.loading import CPU_BATCH_TOKENS, GPU_BATCH_TOKENS
from musamma.models.predictor import Predictor
from musamma.models.runtimes.torch import TorchRuntime
from musamma.models.window_options import WindowOptions
from musamma.training.config_fields import BaseConfig
from musamma.training.dataset import Corpus
from musamma.training.run_dir import (
    CARD_FILE,
    RUN_FILE,
    SCORES_FILE,
    SeedResult,
    check_inputs,
    claim_output_folder,
    digest_documents,
    find_last_checkpoint,
    is_main_process,
    publish_checkpoint,
    read_seed_result,
    remove_checkpoints,
)
from musamma.training.trainer import SpanTrainer

#: Formats the model card for the results of one or several seeds.
CardFormatter = Callable[[Sequence[SeedResult]], str]

_TRAINING_FOLDER = "training"


def training_folder(folder: Path) -> Path:
    """Return the folder for the Trainer's checkpoints of a seed, whose own folder is given."""
    return folder / _TRAINING_FOLDER


def run_seeds(
    config: BaseConfig,
    seeds: Sequence[int],
    output: Path,
    *,
    inputs: Mapping[str, str],
    overwrite: bool,
    run_seed: Callable[[int, Path], SeedResult],
    format_card: CardFormatter,
) -> list[SeedResult]:
    """Run every seed that is not finished, and publish the checkpoint of the seed with the best development score.

    Args:
        config: the recipe.
        seeds: its seeds.
        output: the output folder, which is checked and locked.
        inputs: digests of the data and the model that the run starts from, by name.
        overwrite: delete an earlier run in the output folder.
        run_seed: trains with a seed and writes the given folder, see :func:`train_seed`.
        format_card: formats the model card.

    Raises:
        InputError: the output folder holds a run with other inputs.
    """
    if not overwrite:
        check_inputs(inputs, output)
    claim_output_folder(config, output, inputs=inputs, overwrite=overwrite)
    results = []
    for seed in seeds:
        folder = output / f"seed-{seed}"
        results.append(read_seed_result(seed, folder) or run_seed(seed, folder))
    if is_main_process():
        best = max(results, key=lambda result: result.dev_f1)
        publish_checkpoint(best.folder, output)
        (output / CARD_FILE).write_text(format_card(results), encoding="utf-8")
        record = {"best_seed": best.seed, "seeds": [result.to_dict() for result in results]}
        write_json(record, output / SCORES_FILE)
    return results


def digest_corpus(corpus: Corpus, document_tokenizer: DocumentTokenizer) -> dict[str, str]:
    """Return digests of the documents of a run, of its sources and of the tokenizer, by name."""
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
        | {"tokenizer": blake2b(tokenizer.encode(), digest_size=16).hexdigest()}
    )


def train_seed(
    trainer: SpanTrainer,
    seed: int,
    folder: Path,
    *,
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    misalignments: Sequence[tuple[Document, Misalignment]],
    format_card: CardFormatter,
    finish: Callable[[], None] | None = None,
) -> SeedResult:
    """Train with a seed, from the last checkpoint if there is one, and write the seed's folder.

    Args:
        trainer: the trainer.
        seed: its seed.
        folder: the folder to write.
        corpus: the documents to score.
        tokenizer: the tokenizer of the checkpoint.
        misalignments: the annotated names that tags cannot represent exactly.
        format_card: formats the model card.
        finish: called after training, before the classifier is scored.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if is_main_process():
        records = (_misalignment_record(document, misalignment) for document, misalignment in misalignments)
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        write_lines(lines, folder / "losses.jsonl")
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=find_last_checkpoint(training_folder(folder)))
    seconds = time.perf_counter() - start
    if "wandb" in (trainer.args.report_to or ()):
        _finish_wandb_run()
    trainer.check_weights()
    if finish is not None:
        finish()
    part_scores = trainer.score_development() | ({"test": trainer.score(corpus.test)} if corpus.test else {})
    scores = {part: part_score.to_dict() for part, part_score in part_scores.items()}
    result = SeedResult(seed, folder, round(seconds, 1), scores)
    if is_main_process():
        document_tokenizer = trainer.predictor.document_tokenizer
        encoding = WindowOptions(max_length=document_tokenizer.max_length, overlap=document_tokenizer.overlap)
        trainer.classifier.save_pretrained(folder, tokenizer, encoding)
        (folder / CARD_FILE).write_text(format_card([result]), encoding="utf-8")
        shutil.copyfile(folder.parent / RUN_FILE, folder / RUN_FILE)
        # Written last, because its presence marks the seed as finished.
        result.write()
        remove_checkpoints(training_folder(folder))
    return result


def build_predictor(
    corpus: Corpus,
    classifier: TokenClassifier,
    document_tokenizer: DocumentTokenizer,
    arguments: TrainingArguments,
    *,
    columns: np.ndarray | None = None,
) -> Predictor:
    """Build the predictor that scores a classifier in training.

    Args:
        corpus: the documents and their tags.
        classifier: the classifier.
        document_tokenizer: cuts documents into windows.
        arguments: the arguments of the training.
        columns: index of each tag in the classifier's logits; by default they have the order of the tags.
    """
    return Predictor(
        TorchRuntime(classifier, device=arguments.device, autocast=torch.bfloat16 if arguments.bf16 else None),
        document_tokenizer,
        corpus.tag_set,
        np.arange(len(corpus.tag_set)) if columns is None else columns,
        batch_tokens=GPU_BATCH_TOKENS if arguments.device.type == "cuda" else CPU_BATCH_TOKENS,
        nested_tag_set=corpus.nested_tag_set,
    )


def _finish_wandb_run() -> None:
    """End the run of Weights & Biases. Otherwise the next seed continues it; transformers ends only runs of other trackers."""
    import wandb

    wandb.finish()


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
