"""Pre-training: its speed against a plain loop as in transformers' run_mlm example, and what it gives a recogniser.

    python benchmarks/pretraining.py speed TEXT [--encoder E] [--length N] [--batch-size N] [--steps N] [--rounds N]
    [--threads N]
    python benchmarks/pretraining.py curve RUN --recipe CONFIG [--before E] [--seeds N] [--set KEY=VALUE] [--points N...]
    python benchmarks/pretraining.py plot RUN PLOT.svg

``speed`` trains the same encoder for a few steps in each way, every measurement in a process of its own, in turns, and
prints the pieces of text a second of the best round and of all. The plain loop is `Trainer` with
`DataCollatorForLanguageModeling` on rows that are concatenated and cut, or on padded lines; it computes in bfloat16
where the processor does so in hardware (its best setting), and in float32 (its default). ``curve`` fine-tunes the
encoder before the run, each milestone and the end with a recipe of `musamma train` and scores the development part;
every score is appended to RUN/curve.jsonl, so that a stopped measurement goes on. ``--before`` names another encoder to
compare with, such as the one that the run's own was cut from. ``plot`` draws the run's held-out loss and these scores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import chain, islice, pairwise
from pathlib import Path
from statistics import mean, stdev

import yaml
from rich.console import Console
from rich.table import Table

#: Name: whether the encoder is compiled.
OURS = {"musamma encoder pretrain": False, "musamma encoder pretrain, compiled: true": True}
#: Name: rows, bfloat16.
PLAIN = {
    "plain, concatenated, bfloat16": ("concatenated", True),
    "plain, padded lines, bfloat16": ("lines", True),
    "plain, concatenated, float32 (default)": ("concatenated", False),
}
_SHARE = 0.15
CURVE = "curve.jsonl"
#: Stands for the tokens of an encoder that is no part of the run.
_BEFORE = -1


def ours(options: argparse.Namespace, compiled: bool) -> float:
    """Pieces a second of steps of a run, the first two left out."""
    from musamma.training.pretraining.pretrain_config import PretrainConfig
    from musamma.training.pretraining.pretrain_run import pretrain

    output = Path(options.folder) / "run"
    pretrain(
        PretrainConfig.model_validate(
            {
                "encoder": options.encoder,
                "text": options.text,
                "output": str(output),
                "length": options.length,
                "mask_share": _SHARE,
                "head_steps": 1,
                "held_out": {"rows": 1},
                "compiled": compiled,
                "trainer": {
                    "max_steps": options.steps,
                    "per_device_train_batch_size": options.batch_size,
                    "logging_steps": 1,
                    "eval_strategy": "no",
                    "save_strategy": "no",
                },
            }
        ),
        overwrite=True,
    )
    events = [json.loads(line) for line in (output / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [event for event in events if "tokens_per_second" in event]
    tokens = [after["tokens"] - before["tokens"] for before, after in pairwise(steps[1:])]
    seconds = [count / event["tokens_per_second"] for count, event in zip(tokens, steps[2:], strict=True)]
    return sum(tokens) / sum(seconds)


def plain(options: argparse.Namespace, rows: str, bfloat16: bool) -> float:
    """The same of the run_mlm loop."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForMaskedLM,
        DataCollatorForLanguageModeling,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from musamma.data.input_files import read_lines
    from musamma.models.loading import load_tokenizer, resolve_model

    name = resolve_model(options.encoder)
    tokenizer = load_tokenizer(name)
    lines = list(islice(read_lines(options.text), 20_000))
    encoded = tokenizer(lines, truncation=rows == "lines", max_length=options.length, return_special_tokens_mask=True)
    if rows == "concatenated":
        columns = {key: list(chain.from_iterable(values[:4000])) for key, values in encoded.items()}
        size = options.length
        count = len(columns["input_ids"]) // size
        encoded = {key: [v[i * size : (i + 1) * size] for i in range(count)] for key, v in columns.items()}
    seen: list[tuple[int, float]] = []

    class Collator(DataCollatorForLanguageModeling):
        def torch_call(self, examples):
            batch = super().torch_call(examples)
            self.pieces = int(batch["attention_mask"].sum())
            return batch

    class Clock(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            # The loader is one batch ahead, so the pieces are those of the next step: the mean is what counts.
            self.start, self.pieces = time.perf_counter(), collator.pieces

        def on_step_end(self, args, state, control, **kwargs):
            seen.append((self.pieces, time.perf_counter() - self.start))

    collator = Collator(tokenizer, mlm_probability=_SHARE)
    arguments = TrainingArguments(
        output_dir=options.folder,
        max_steps=options.steps,
        per_device_train_batch_size=options.batch_size,
        bf16=bfloat16,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=AutoModelForMaskedLM.from_pretrained(name, dtype=torch.float32),
        args=arguments,
        train_dataset=Dataset.from_dict(dict(encoded)),
        data_collator=collator,
        callbacks=[Clock()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    steps = seen[2:]
    return sum(pieces for pieces, _ in steps) / sum(seconds for _, seconds in steps)


def measure(options: argparse.Namespace) -> None:
    """One measurement, printed as its last line."""
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    way = options.way
    rate = ours(options, OURS[way]) if way in OURS else plain(options, *PLAIN[way])
    print(json.dumps(rate))


def speed(options: argparse.Namespace) -> None:
    """All ways in turns; figures and ratios."""
    rates: dict[str, list[float]] = {way: [] for way in (*OURS, *PLAIN)}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.rounds):
            for way in sorted(rates, reverse=turn % 2 == 1):
                given = ["--way", way, "--folder", folder, "--encoder", options.encoder, "--length", options.length]
                given += ["--batch-size", options.batch_size, "--steps", options.steps, "--threads", options.threads]
                done = subprocess.run(
                    [sys.executable, __file__, "measure", *options.text, *map(str, given)],
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                    env={**os.environ, "OMP_NUM_THREADS": str(options.threads)},
                )
                rates[way].append(json.loads(done.stdout.splitlines()[-1]))
                print(f"round {turn + 1}: {way}: {rates[way][-1]:.0f} pieces/s", file=sys.stderr, flush=True)
    table = Table(
        title=f"{options.encoder}, {options.batch_size} rows of {options.length}, {options.threads} threads",
        title_justify="left",
    )
    for heading in ("", "pieces/s, best round", "all rounds", "ours to it", "compiled to it"):
        table.add_column(heading)
    for way, each in rates.items():
        ratios = [f"{max(rates[one]) / max(each):.2f}" for one in OURS]
        table.add_row(way, f"{max(each):.0f}", " ".join(f"{rate:.0f}" for rate in each), *ratios)
    Console(width=140).print(table)


def curve(options: argparse.Namespace) -> None:
    """Strict development F1 of encoders fine-tuned before, during and after a run."""
    from musamma.training.cards import format_mean_std
    from musamma.training.config import load_config
    from musamma.training.finetune import finetune

    run = Path(options.run)
    record = json.loads((run / "pretraining.json").read_text(encoding="utf-8"))
    begun = yaml.safe_load((run / "run.yaml").read_text(encoding="utf-8"))["encoder"]
    encoders = {_BEFORE: options.before} if options.before else {}
    encoders |= {0: begun} | {one["tokens_seen"]: str(run / one["folder"]) for one in record["milestones"]}
    encoders[record["tokens"]] = str(run)
    if options.points:
        encoders = dict(point for number, point in enumerate(encoders.items()) if number in options.points)
    log = run / CURVE
    scores = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.is_file() else []
    for seed in range(1, options.seeds + 1):
        for tokens, encoder in encoders.items():
            key = {"tokens": tokens, "seed": seed, "recipe": options.recipe, "set": options.changes}
            if any(key.items() <= score.items() for score in scores):
                continue
            with tempfile.TemporaryDirectory() as folder:
                # Nothing is tested: figures that are chosen by belong to the development part.
                changes = [*options.changes, f"encoder={encoder}", f"seeds=[{seed}]", "data.test=[]"]
                (result,) = finetune(load_config(options.recipe, changes=changes, output=f"{folder}/run"))
                shutil.rmtree(f"{folder}/run")
            scores.append({**key, "f1": result.dev_f1})
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(scores[-1]) + "\n")
            print(f"seed {seed}, {_point(tokens)} tokens: {100 * result.dev_f1:.2f}", file=sys.stderr, flush=True)
    table = Table(title=f"strict dev F1, {options.seeds} seeds, {options.recipe}", title_justify="left")
    for heading in ("tokens", "F1", "to the first"):
        table.add_column(heading, justify="right")
    mine = [s for s in scores if (s["recipe"], s["set"]) == (options.recipe, options.changes)]
    by_tokens = {tokens: [score["f1"] for score in mine if score["tokens"] == tokens] for tokens in encoders}
    first = mean(next(iter(by_tokens.values())))
    for tokens, each in by_tokens.items():
        table.add_row(_point(tokens), format_mean_std(each), f"{100 * (mean(each) - first):+.1f}")
    Console().print(table)


def _point(tokens: int) -> str:
    return "before" if tokens == _BEFORE else f"{tokens:,}"


def plot(options: argparse.Namespace) -> None:
    """Held-out loss and development F1 against the tokens that the encoder has seen."""
    import matplotlib.pyplot as plt

    run = Path(options.run)
    record = json.loads((run / "pretraining.json").read_text(encoding="utf-8"))
    scores = [json.loads(line) for line in (run / CURVE).read_text(encoding="utf-8").splitlines()]
    plt.rcParams["svg.hashsalt"] = "musamma"  # the same figures give the same file
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    name = "rtd_loss" if record["objective"] == "rtd" else "mlm_loss"
    left.plot([p["tokens"] / 1e6 for p in record["curve"]], [p[name] for p in record["curve"]], marker="o")
    left.set(xlabel="tokens seen, millions", ylabel="held-out loss, nats")
    for recipe in dict.fromkeys(score["recipe"] for score in scores):
        by_tokens: dict[int, list[float]] = {}
        for score in scores:
            if score["recipe"] == recipe:
                by_tokens.setdefault(score["tokens"], []).append(100 * score["f1"])
        before = by_tokens.pop(_BEFORE, None)
        points = sorted(by_tokens.items())
        errors = [stdev(each) if len(each) > 1 else 0 for _, each in points]
        line = right.errorbar(
            [tokens / 1e6 for tokens, _ in points],
            [mean(each) for _, each in points],
            yerr=errors,
            marker="o",
            capsize=3,
            label=recipe,
        )
        if before:
            right.axhline(mean(before), color=line[0].get_color(), linestyle=":", label=f"{recipe}, before")
    right.set(xlabel="tokens seen, millions", ylabel="strict dev F1")
    right.legend(fontsize="small")
    figure.savefig(options.plot, metadata={"Date": None})


def main() -> None:
    """Run one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, function in (("speed", speed), ("measure", measure)):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        command.add_argument("text", nargs="+")
        command.add_argument("--encoder", default="nawah")
        command.add_argument("--length", type=int, default=256)
        command.add_argument("--batch-size", type=int, default=16)
        command.add_argument("--steps", type=int, default=10)
        command.add_argument("--threads", type=int, default=os.cpu_count() or 1)
        command.add_argument("--rounds", type=int, default=3)
        command.add_argument("--way", help=argparse.SUPPRESS)
        command.add_argument("--folder", help=argparse.SUPPRESS)
    command = commands.add_parser("curve")
    command.set_defaults(function=curve)
    command.add_argument("run", help="the output folder of a finished run")
    command.add_argument("--recipe", required=True)
    command.add_argument("--before", metavar="E", help="another encoder to compare with")
    command.add_argument("--points", type=int, nargs="*", metavar="N", help="only these of the encoders, from 0")
    command.add_argument("--seeds", type=int, default=3)
    command.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    command = commands.add_parser("plot")
    command.set_defaults(function=plot)
    command.add_argument("run", help="the output folder of a finished run, after `curve`")
    command.add_argument("plot", help="the picture; .svg or .png")
    options = parser.parse_args()
    options.function(options)


if __name__ == "__main__":
    main()
