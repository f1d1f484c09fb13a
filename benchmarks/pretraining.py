"""Pre-training: its speed against a plain loop, as in transformers' run_mlm example, and its effect on a recogniser.

    python benchmarks/pretraining.py speed TEXT [--encoder E] [--length N] [--batch-size N] [--steps N] [--rounds N]
    [--threads N]
    python benchmarks/pretraining.py curve RUN --recipe CONFIG [--before E] [--seeds N] [--set KEY=VALUE] [--points N...]
    python benchmarks/pretraining.py plot RUN PLOT.svg

``speed`` trains the same encoder for a few steps with each method, each measurement in a separate process, in alternating
order, and prints pieces of text per second in the best round and in all rounds. The plain loop is `Trainer` with
`DataCollatorForLanguageModeling` on concatenated rows or on padded lines; it computes in bfloat16 if the processor
supports it (its best setting), and in float32 (its default). ``curve`` fine-tunes the original encoder, each milestone and
the final encoder with a recipe of `musamma train` and scores the development part; each score is appended to
RUN/curve.jsonl, so a stopped measurement can be resumed. ``--before`` names another encoder to compare with, such as the
source of the original one. ``plot`` draws the run's held-out loss and these scores.
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

#: Methods of Musamma: whether the encoder is compiled.
MUSAMMA_METHODS = {"musamma encoder pretrain": False, "musamma encoder pretrain, compiled: true": True}
#: Methods of the plain loop: kind of rows, bfloat16.
PLAIN_METHODS = {
    "plain, concatenated, bfloat16": ("concatenated", True),
    "plain, padded lines, bfloat16": ("lines", True),
    "plain, concatenated, float32 (default)": ("concatenated", False),
}
_SHARE = 0.15
CURVE = "curve.jsonl"
#: In place of the tokens, for an encoder that is not part of the run.
_BEFORE = -1


def measure_musamma(options: argparse.Namespace, compiled: bool) -> float:
    """Return pieces per second of a run, without its first two steps."""
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


def measure_plain(options: argparse.Namespace, rows: str, bfloat16: bool) -> float:
    """Return pieces per second of the run_mlm loop, without its first two steps."""
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
    from musamma.models.checkpoint import load_tokenizer
    from musamma.models.model_names import resolve_model

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
            # The loader is one batch ahead, so these are the pieces of the next step; only the mean matters.
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
        model=AutoModelForMaskedLM.from_pretrained(name, dtype=torch.float32, trust_remote_code=False),
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
    """Measure one method and print the result as the last line."""
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    if options.method in MUSAMMA_METHODS:
        rate = measure_musamma(options, MUSAMMA_METHODS[options.method])
    else:
        rate = measure_plain(options, *PLAIN_METHODS[options.method])
    print(json.dumps(rate))


def speed(options: argparse.Namespace) -> None:
    """Measure all methods in alternating order, and print speeds and ratios."""
    rates: dict[str, list[float]] = {method: [] for method in (*MUSAMMA_METHODS, *PLAIN_METHODS)}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.rounds):
            for method in sorted(rates, reverse=turn % 2 == 1):
                arguments = [
                    "--method",
                    method,
                    "--folder",
                    folder,
                    "--encoder",
                    options.encoder,
                    "--length",
                    options.length,
                ]
                arguments += [
                    "--batch-size",
                    options.batch_size,
                    "--steps",
                    options.steps,
                    "--threads",
                    options.threads,
                ]
                done = subprocess.run(
                    [sys.executable, __file__, "measure", *options.text, *map(str, arguments)],
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                    env={**os.environ, "OMP_NUM_THREADS": str(options.threads)},
                )
                rates[method].append(json.loads(done.stdout.splitlines()[-1]))
                print(f"round {turn + 1}: {method}: {rates[method][-1]:.0f} pieces/s", file=sys.stderr, flush=True)
    table = Table(
        title=f"{options.encoder}, {options.batch_size} rows of {options.length}, {options.threads} threads",
        title_justify="left",
    )
    for heading in ("", "pieces/s, best round", "all rounds", "Musamma relative to it", "compiled relative to it"):
        table.add_column(heading)
    for method, rounds in rates.items():
        ratios = [f"{max(rates[ours]) / max(rounds):.2f}" for ours in MUSAMMA_METHODS]
        table.add_row(method, f"{max(rounds):.0f}", " ".join(f"{rate:.0f}" for rate in rounds), *ratios)
    Console(width=140).print(table)


def curve(options: argparse.Namespace) -> None:
    """Compute the strict development F1 of encoders fine-tuned before, during and after a run."""
    from musamma.training.cards import format_mean_std
    from musamma.training.config import load_config
    from musamma.training.finetune import finetune

    run = Path(options.run)
    record = json.loads((run / "pretraining.json").read_text(encoding="utf-8"))
    original = yaml.safe_load((run / "run.yaml").read_text(encoding="utf-8"))["encoder"]
    encoders = {_BEFORE: options.before} if options.before else {}
    encoders |= {0: original}
    encoders |= {milestone["tokens_seen"]: str(run / milestone["folder"]) for milestone in record["milestones"]}
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
                # Without the test part: results that choices depend on must come from the development part.
                changes = [*options.changes, f"encoder={encoder}", f"seeds=[{seed}]", "data.test=[]"]
                (result,) = finetune(load_config(options.recipe, changes=changes, output=f"{folder}/run"))
                shutil.rmtree(f"{folder}/run")
            scores.append({**key, "f1": result.dev_f1})
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(scores[-1]) + "\n")
            print(
                f"seed {seed}, {_format_tokens(tokens)} tokens: {100 * result.dev_f1:.2f}", file=sys.stderr, flush=True
            )
    table = Table(title=f"strict dev F1, {options.seeds} seeds, {options.recipe}", title_justify="left")
    for heading in ("tokens", "F1", "difference to the first"):
        table.add_column(heading, justify="right")
    selected = [s for s in scores if (s["recipe"], s["set"]) == (options.recipe, options.changes)]
    by_tokens = {tokens: [score["f1"] for score in selected if score["tokens"] == tokens] for tokens in encoders}
    first = mean(next(iter(by_tokens.values())))
    for tokens, values in by_tokens.items():
        table.add_row(_format_tokens(tokens), format_mean_std(values), f"{100 * (mean(values) - first):+.1f}")
    Console().print(table)


def _format_tokens(tokens: int) -> str:
    return "before" if tokens == _BEFORE else f"{tokens:,}"


def plot(options: argparse.Namespace) -> None:
    """Plot held-out loss and development F1 against the number of tokens seen."""
    import matplotlib.pyplot as plt

    run = Path(options.run)
    record = json.loads((run / "pretraining.json").read_text(encoding="utf-8"))
    scores = [json.loads(line) for line in (run / CURVE).read_text(encoding="utf-8").splitlines()]
    plt.rcParams["svg.hashsalt"] = "musamma"  # the same values give the same file
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
        errors = [stdev(values) if len(values) > 1 else 0 for _, values in points]
        line = right.errorbar(
            [tokens / 1e6 for tokens, _ in points],
            [mean(values) for _, values in points],
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
    """Run a command."""
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
        command.add_argument("--method", help=argparse.SUPPRESS)
        command.add_argument("--folder", help=argparse.SUPPRESS)
    command = commands.add_parser("curve")
    command.set_defaults(function=curve)
    command.add_argument("run", help="the output folder of a finished run")
    command.add_argument("--recipe", required=True)
    command.add_argument("--before", metavar="E", help="another encoder to compare with")
    command.add_argument(
        "--points", type=int, nargs="*", metavar="N", help="only the encoders with these numbers, from 0"
    )
    command.add_argument("--seeds", type=int, default=3)
    command.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    command = commands.add_parser("plot")
    command.set_defaults(function=plot)
    command.add_argument("run", help="the output folder of a finished run, after `curve`")
    command.add_argument("plot", help="the plot: .svg or .png")
    options = parser.parse_args()
    options.function(options)


if __name__ == "__main__":
    main()
