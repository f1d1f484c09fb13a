"""The fine-tuning script: annotated articles and an encoder in, a token classifier with its scores out.

Run it as ``musamma train CONFIG``, or over several processes as ``torchrun --nproc-per-node N -m musamma.training.finetune CONFIG``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, PrinterCallback, TrainingArguments, set_seed

from musamma.data.document import Document
from musamma.data.encoding import Encoder, Loss
from musamma.data.errors import InputError
from musamma.data.normalization import install_normalizer
from musamma.models.prediction import Predictor, supports_bfloat16
from musamma.models.registry import load_tokenizer, resolve_model
from musamma.models.token_classifier import EncodingOptions, new_classifier
from musamma.training.card import model_card
from musamma.training.config import RunConfig
from musamma.training.corpus import Corpus, load_corpus
from musamma.training.trainer import LogWriter, SpanTrainer
from musamma.training.windows import LENGTH, Collator, joint_loss, window_dataset

RUN_FILE, SCORES_FILE = "run.yaml", "scores.json"
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
    _claim(config, output, resume=resume, overwrite=overwrite)
    corpus = load_corpus(config)
    results = [_run_seed(config, corpus, seed, output / f"seed-{seed}") for seed in config.seeds]
    if _is_main_process():
        _publish(config, corpus, results, output)
    return results


def _claim(config: RunConfig, output: Path, *, resume: bool, overwrite: bool) -> None:
    """Make the output folder this run's own, without destroying another one's."""
    record = output / RUN_FILE
    if _is_main_process():
        try:
            if overwrite and record.is_file():
                shutil.rmtree(output)
            if output.exists() and any(output.iterdir()):
                if not record.is_file():
                    raise InputError(
                        "the folder holds other files", where=str(output), remedy="choose another --output"
                    )
                if not resume:
                    raise InputError(
                        "the folder holds an earlier run",
                        where=str(output),
                        remedy="go on with --resume, start over with --overwrite, or choose another --output",
                    )
                if changed := _changed(record.read_text(encoding="utf-8"), config.to_yaml()):
                    raise InputError(
                        f"the run that is to be resumed had other settings for {', '.join(changed)}",
                        where=str(record),
                        remedy="use its settings, or start over with --overwrite",
                    )
            output.mkdir(parents=True, exist_ok=True)
            record.write_text(config.to_yaml(), encoding="utf-8")
        except OSError as error:
            raise InputError(
                str(error.strerror),
                where=str(error.filename or output),
                remedy="choose an --output that can be written",
            ) from error


def _changed(before: str, after: str) -> list[str]:
    import yaml

    old, new = yaml.safe_load(before) or {}, yaml.safe_load(after)
    return [key for key in new if key not in ("output", "seeds") and old.get(key) != new[key]]


def _run_seed(config: RunConfig, corpus: Corpus, seed: int, folder: Path) -> SeedResult:
    finished = folder / SCORES_FILE
    if finished.is_file():
        record = json.loads(finished.read_text(encoding="utf-8"))
        return SeedResult(seed, folder, record["seconds"], record["scores"])
    work = folder / "training"
    options = _arguments(config, seed, work)
    # Before any weight is drawn, so that the heads are the same in every run of this seed.
    set_seed(seed)
    name = resolve_model(config.encoder)
    tokenizer = install_normalizer(load_tokenizer(name))
    encoding = EncodingOptions(max_length=config.encoding.max_length, overlap=config.encoding.overlap)
    encoder = Encoder(tokenizer, max_length=encoding.max_length, overlap=encoding.overlap)
    classifier = new_classifier(name, corpus.tags, proclitics=config.proclitics, changes=config.encoder_config)
    limit = getattr(classifier.config, "max_position_embeddings", None)
    if limit is not None and encoding.max_length > limit:
        raise InputError(
            f"encoding.max_length {encoding.max_length}",
            where=config.encoder,
            expected=f"at most {limit}, the encoder's positions",
        )
    windows, losses = window_dataset(corpus.train, encoder, corpus.tags, proclitics=config.proclitics)
    folder.mkdir(parents=True, exist_ok=True)
    _record_losses(losses, folder)
    predictor = Predictor(
        classifier,
        encoder,
        corpus.tags,
        torch.arange(len(corpus.tags)).numpy(),
        device=options.device,
        autocast=torch.bfloat16 if options.bf16 else None,
        batch_tokens=32_768 if options.device.type == "cuda" else 4_096,
    )
    callbacks: list[Any] = [LogWriter(folder / "log.jsonl")]
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
            "data_collator": Collator(tokenizer.pad_token_id or 0),
            "compute_loss_func": joint_loss,
            "callbacks": callbacks,
        },
    )
    # Metrics go to TensorBoard and log.jsonl; standard output is for the result.
    trainer.remove_callback(PrinterCallback)
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=last_whole_checkpoint(work))
    seconds = time.perf_counter() - start
    parts = {"dev": corpus.dev} | ({"test": corpus.test} if corpus.test else {})
    scores = {part: trainer.score(documents).to_dict() for part, documents in parts.items()}
    result = SeedResult(seed, folder, round(seconds, 1), scores)
    if _is_main_process():
        classifier.save_pretrained(folder, tokenizer, encoding)
        (folder / "README.md").write_text(model_card(config, corpus, [result]), encoding="utf-8")
        shutil.copy(folder.parent / RUN_FILE, folder / RUN_FILE)
        # Last: its presence says that the seed is done.
        _write_json(finished, {"seed": seed, "seconds": result.seconds, "scores": scores})
        for checkpoint in work.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
    return result


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
    try:
        return TrainingArguments(**settings)
    except (ValueError, TypeError, ImportError) as error:
        raise InputError(
            " ".join(str(error).split()),
            where="trainer",
            expected="what transformers.TrainingArguments takes",
        ) from error


def last_whole_checkpoint(work: Path) -> str | None:
    """The newest of the Trainer's checkpoints in ``work`` that was written to its end; broken ones are removed."""
    whole = None
    found = [path for path in work.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-"))):
        # The Trainer writes this file last; a kill may leave it half written too.
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            whole = str(path)
        except (OSError, ValueError):
            if _is_main_process():
                shutil.rmtree(path)
    return whole


def _record_losses(losses: list[tuple[Document, Loss]], folder: Path) -> None:
    """Keep an account of the annotated names that tags cannot carry as they stand."""
    if _is_main_process():
        with (folder / "losses.jsonl").open("w", encoding="utf-8") as file:
            for document, loss in losses:
                kept = None if loss.kept is None else loss.kept.to_dict()
                record = {
                    "id": document.id,
                    "span": loss.span.to_dict(),
                    "surface": document.surface(loss.span),
                }
                file.write(json.dumps({**record, "reason": loss.reason, "kept": kept}, ensure_ascii=False) + "\n")


def _publish(config: RunConfig, corpus: Corpus, results: list[SeedResult], output: Path) -> None:
    """Put the best seed's checkpoint into the output folder itself, with the card and figures of all seeds."""
    best = max(results, key=lambda result: result.dev_f1)
    for file in best.folder.iterdir():
        if file.is_file() and file.name not in (SCORES_FILE, RUN_FILE, "README.md", "log.jsonl"):
            target = output / file.name
            target.unlink(missing_ok=True)
            try:
                os.link(file, target)  # the same weights twice need not take the space twice
            except OSError:
                shutil.copy(file, target)
    (output / "README.md").write_text(model_card(config, corpus, results), encoding="utf-8")
    records = [{"seed": result.seed, "seconds": result.seconds, "scores": result.scores} for result in results]
    _write_json(output / SCORES_FILE, {"best_seed": best.seed, "seeds": records})


def _write_json(path: Path, content: Any) -> None:
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _is_main_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def main(arguments: list[str] | None = None) -> None:
    """``python -m musamma.training.finetune CONFIG [KEY=VALUE...]``, for torchrun and accelerate launch."""
    from musamma.cli.main import main as command

    command(["train", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    main()
