"""Training speed: `musamma train` against a plain Trainer loop, as in transformers' run_ner example.

    python benchmarks/training.py TRAIN.jsonl [--documents N] [--epochs N] [--batch-size N] [--learning-rate R] [--plain-learning-rate R]
        [--profile]

Both fine-tune the same encoder on the same documents, with the same batch size, schedule and seed. Musamma uses the settings of
configs/nawah-anercorp.yaml that the plain loop does not have (a learning rate for the heads, layer-wise decay). Layer-wise decay
lowers the mean learning rate, so each side may be given the rate that suits it. Both are scored after each epoch on the last tenth,
by whole-word F1 (seqeval, strict IOB2). The plain loop labels the first pieces of whitespace words, shuffles, and pads to the
longest row of a batch. It also computes in bfloat16 if the processor supports it (its best setting); a few steps of its float32
default are timed, too. Only training steps are timed, not scoring. Each of the three runs in a process of its own, because Musamma makes
its process keep freed memory.

``--profile`` also samples a few steps of Musamma with PyTorch's profiler: the share of matrix products in the time of all operations, and their
rate. The inverse of the share bounds what a step can gain without faster products.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2
from torch.profiler import ProfilerActivity, profile, schedule
from transformers import (
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging

from musamma.data.corpus_files import read_documents
from musamma.data.document import Document
from musamma.data.tags import TagSet
from musamma.evaluation.word_boundaries import tag_words, whitespace_words
from musamma.models.checkpoint import load_tokenizer
from musamma.models.model_names import resolve_model
from musamma.models.runtimes.torch import supports_bfloat16
from musamma.training import finetune as finetune_script
from musamma.training.config import RunConfig
from musamma.training.dataset import Corpus
from musamma.training.trainer import SpanTrainer

# PyTorch's operations for matrix products.
_PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"}


@dataclass(eq=False)
class Curve(TrainerCallback):
    """Records the seconds of training steps and the score after each epoch."""

    score: object = None
    steps: int = 0
    seconds: float = 0.0
    points: list[tuple[float, float]] = field(default_factory=list)
    start: float = 0.0

    def on_step_begin(self, args, state, control, **kwargs):
        self.start = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds += time.perf_counter() - self.start
        self.steps += 1

    def on_epoch_end(self, args, state, control, **kwargs):
        self.points.append((self.seconds, self.score()))

    def time_to(self, target: float) -> float:
        """Return the seconds until a score was reached, interpolated between epochs; infinite if it was not."""
        before = (0.0, 0.0)
        for point in self.points:
            if point[1] >= target > before[1]:
                share = (target - before[1]) / (point[1] - before[1])
                return before[0] + share * (point[0] - before[0])
            before = point
        return float("inf")


@dataclass(eq=False)
class ProductShare(TrainerCallback):
    """Measures the matrix products in a few steps, and ends the training after them.

    Args:
        steps: number of steps to measure.
        skipped: number of steps before them.
    """

    steps: int = 8
    skipped: int = 3
    share: float = 0.0
    rate: float = 0.0
    profiler: object = None

    def on_train_begin(self, args, state, control, **kwargs):
        self.profiler = profile(
            activities=[ProfilerActivity.CPU],
            schedule=schedule(wait=self.skipped - 1, warmup=1, active=self.steps, repeat=1),
            on_trace_ready=self._measure,
            with_flops=True,
        )
        self.profiler.start()

    def on_step_end(self, args, state, control, **kwargs):
        self.profiler.step()
        control.should_training_stop = state.global_step >= self.skipped + self.steps

    def on_train_end(self, args, state, control, **kwargs):
        self.profiler.stop()
        self.profiler = None  # it does not leave the process

    def _measure(self, profiler: profile) -> None:
        events = profiler.key_averages()
        products = [event for event in events if event.key in _PRODUCTS]
        seconds = sum(event.self_cpu_time_total for event in products) / 1e6
        self.share = 1e6 * seconds / sum(event.self_cpu_time_total for event in events)
        self.rate = sum(event.flops for event in products) / seconds


def words_and_tags(document: Document) -> tuple[list[str], list[str]]:
    return document.text.split(), tag_words(whitespace_words(document.text), document.spans)


def whole_word_f1(gold: list[list[str]], predicted: list[list[str]]) -> float:
    return float(f1_score(gold, predicted, mode="strict", scheme=IOB2))


def encode_words(documents: list[Document], tokenizer: PreTrainedTokenizerBase, ids: dict[str, int]) -> Dataset:
    """Return the rows of the plain loop: whitespace words, each labelled on its first piece."""
    rows = {"input_ids": [], "attention_mask": [], "labels": []}
    for words, tags in map(words_and_tags, documents):
        encoding = tokenizer(words, is_split_into_words=True, truncation=True, max_length=256)
        labels, previous = [], None
        for word in encoding.word_ids():
            labels.append(-100 if word is None or word == previous else ids[tags[word]])
            previous = word
        rows["input_ids"].append(encoding["input_ids"])
        rows["attention_mask"].append(encoding["attention_mask"])
        rows["labels"].append(labels)
    return Dataset.from_dict(rows)


def plain_trainer(
    corpus: Corpus, options: argparse.Namespace, folder: str, *, bfloat16: bool, steps: int = -1
) -> Curve:
    """Train with the recipe of run_ner."""
    name = resolve_model(options.encoder)
    tokenizer = load_tokenizer(name)
    ids = corpus.tag_set.label2id
    set_seed(1)
    model = AutoModelForTokenClassification.from_pretrained(
        name,
        num_labels=len(corpus.tag_set),
        id2label=corpus.tag_set.id2label,
        label2id=ids,
        dtype=torch.float32,
        trust_remote_code=False,
    )
    curve = Curve()
    arguments = TrainingArguments(
        output_dir=folder,
        num_train_epochs=options.epochs,
        max_steps=steps,
        learning_rate=options.plain_learning_rate or options.learning_rate,
        warmup_steps=0.1,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=64,
        save_strategy="no",
        bf16=bfloat16,
        use_cpu=True,
        seed=1,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=encode_words(corpus.train, tokenizer, ids),
        data_collator=DataCollatorForTokenClassification(tokenizer),
        callbacks=[curve],
    )
    trainer.remove_callback(PrinterCallback)
    dev = encode_words(corpus.dev, tokenizer, ids)
    names = corpus.tag_set.tags

    def score() -> float:
        if steps > 0:
            return 0.0
        output = trainer.predict(dev)
        gold, predicted = [], []
        for row, labels in zip(output.predictions.argmax(-1), output.label_ids, strict=True):
            gold.append([names[label] for label in labels[labels != -100]])
            predicted.append([names[tag] for tag in row[labels != -100]])
        return whole_word_f1(gold, predicted)

    curve.score = score
    trainer.train()
    curve.score = None  # a function does not leave the process
    return curve


def musamma_trainer(
    corpus: Corpus, options: argparse.Namespace, folder: str, *, products: ProductShare | None = None
) -> Curve | ProductShare:
    """Train with the fine-tuning script, as ``musamma train`` does; with ``products``, only the steps that it measures."""
    curve = Curve()
    gold = [words_and_tags(document)[1] for document in corpus.dev]

    class Timed(SpanTrainer):
        def __init__(self, **settings):
            settings["options"]["callbacks"].append(products or curve)
            super().__init__(**settings)
            curve.score = lambda: whole_word_f1(
                gold, [words_and_tags(document)[1] for document in self._tagged(corpus.dev)]
            )

        def _tagged(self, documents):
            self.model.eval()
            tagged = list(self.predictor.predict(document.with_spans([]) for document in documents))
            self.model.train()
            return tagged

        def evaluate(self, *arguments, **settings):
            return {"eval_strict_f1": 0.0}  # scored by the curve

    config = RunConfig.model_validate(
        {
            "encoder": options.encoder,
            "data": {"train": "benchmark"},
            "output": folder,
            "encoder_config": {"attention_probs_dropout_prob": 0.0},
            "layerwise_decay": 0.9,
            "head_learning_rate": 1e-3,
            "trainer": {
                "num_train_epochs": options.epochs,
                "learning_rate": options.learning_rate,
                "warmup_steps": 0.1,
                "per_device_train_batch_size": options.batch_size,
                "save_strategy": "no",
                "eval_strategy": "no",
            },
        }
    )
    finetune_script.SpanTrainer = Timed
    finetune_script.load_corpus = lambda _: corpus
    finetune_script.finetune(config, overwrite=True)
    curve.score = None  # a function does not leave the process
    return products or curve


def train_apart(train: Callable[..., Any], *arguments, threads: int, **settings) -> Any:
    """Train in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_train_quietly, train, arguments, threads, settings).result()


def _train_quietly(train: Callable[..., Any], arguments: tuple, threads: int, settings: dict) -> Any:
    torch.set_num_threads(threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return train(*arguments, **settings)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("--encoder", default="nawah")
    parser.add_argument(
        "--documents", type=int, default=2000, help="training documents; the last tenth of the file is the dev part"
    )
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--plain-learning-rate", type=float, help="learning rate of the plain loop, if different")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--profile", action="store_true", help="measure the matrix products of a step")
    return parser.parse_args()


def padding_waste(documents: list[Document], options: argparse.Namespace) -> float:
    """Return how many positions a piece takes in padded batches of random documents, on average."""
    tokenizer = load_tokenizer(resolve_model(options.encoder))
    lengths = np.array([len(tokenizer(document.text)["input_ids"]) for document in documents])
    return float(
        np.mean(
            [
                len(b) * b.max() / b.sum()
                for b in np.array_split(
                    np.random.default_rng(1).permutation(lengths), max(1, len(lengths) // options.batch_size)
                )
            ]
        )
    )


def print_results(
    musamma: Curve, plain: Curve, default: Curve, options: argparse.Namespace, *, documents: int, words: int
) -> None:
    """Print speeds, scores and ratios.

    Args:
        musamma: the curve of Musamma.
        plain: that of the plain loop in its best setting.
        default: that of a few steps of the plain loop's default; ``plain`` if that is its best setting.
        options: the options.
        documents, words: size of the training part.
    """
    half = default is not plain
    target = min(max(score for _, score in curve.points) for curve in (musamma, plain))

    def rate(curve: Curve, epochs: float) -> float:
        return words * epochs / curve.seconds

    table = Table(
        title=f"{documents} documents, {words} words, {options.epochs} epochs, {options.threads} threads",
        title_justify="left",
    )
    for heading in ("", "words/s", "seconds an epoch", f"seconds to whole-word F1 {100 * target:.1f}", "F1 by epoch"):
        table.add_column(heading)
    for name, curve in (("musamma train", musamma), (f"plain Trainer, {'bfloat16' if half else 'float32'}", plain)):
        scores = " ".join(f"{100 * score:.1f}" for _, score in curve.points)
        table.add_row(
            name,
            f"{rate(curve, options.epochs):.0f}",
            f"{curve.seconds / options.epochs:.1f}",
            f"{curve.time_to(target):.0f}",
            scores,
        )
    if half:
        share = default.steps * options.batch_size / documents
        table.add_row(
            "plain Trainer, float32 (15 steps)", f"{rate(default, share):.0f}", f"{default.seconds / share:.1f}", "", ""
        )
    console = Console(width=140)
    console.print(table)
    console.print(
        f"words/s, Musamma relative to the plain loop: {rate(musamma, 1) / rate(plain, 1):.2f} (both bfloat16)"
    )
    if half:
        console.print(
            f"words/s, Musamma relative to the plain loop's default (float32): "
            f"{rate(musamma, options.epochs) / rate(default, share):.2f}"
        )
    if target > 0:
        console.print(
            f"time to the same F1, the plain loop relative to Musamma: "
            f"{plain.time_to(target) / musamma.time_to(target):.2f}"
        )
    else:
        console.print("time to the same F1: one of them found no names; use more --documents or --epochs")


def main() -> None:
    """Run both and print speeds and ratios."""
    options = parse_options()
    documents = list(read_documents(options.train))
    cut = len(documents) - round(len(documents) / 10)
    train, dev = documents[:cut][: options.documents], documents[cut:]
    corpus = Corpus(train, dev, [], TagSet.from_labels(s.label for d in train for s in d.spans))
    words = sum(len(document.text.split()) for document in train)
    half = supports_bfloat16(torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        threads = options.threads
        musamma = train_apart(musamma_trainer, corpus, options, str(Path(folder) / "musamma"), threads=threads)
        plain_options = (plain_trainer, corpus, options, str(Path(folder) / "plain"))
        plain = train_apart(*plain_options, threads=threads, bfloat16=half)
        default = train_apart(*plain_options, threads=threads, bfloat16=False, steps=15) if half else plain
        products = None
        if options.profile:
            folder_of_steps = str(Path(folder) / "steps")
            products = train_apart(
                musamma_trainer, corpus, options, folder_of_steps, threads=threads, products=ProductShare()
            )
    print_results(musamma, plain, default, options, documents=len(train), words=words)
    waste = padding_waste(train, options)
    print(f"random batches of {options.batch_size}, padded, have {waste:.2f} times as many positions as pieces")
    if products is not None:
        print(f"matrix products take {products.share:.0%} of a step of Musamma, at {products.rate / 1e9:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
