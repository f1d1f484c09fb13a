"""A simulation of annotation: F1 by the number of annotated articles, for several ways to choose the next ones.

    python benchmarks/active_learning.py run FOLDER [--strategies S...] [--sizes N...] [--seeds N] [--first-seed N]
        [--epochs N...] [--without-all] [--recipe R] [--set KEY=VALUE] [--pool FILE --dev FILE] [--first-model MODEL]
    python benchmarks/active_learning.py table FOLDER
    python benchmarks/active_learning.py plot FOLDER PLOT.png

``run`` starts with some articles of Khabar's training part, drawn at random for every seed, trains a recipe on them, chooses more articles
of the rest by a strategy, and trains again from the encoder, up to the largest size. With ``--pool``, the articles are those of a file, and
with ``--first-model`` a strategy also chooses the first ones, by what that model says about them. A strategy is ``random``, a measure of `musamma
suggest` (``confidence``: the texts with the highest values), a measure with a weight of diversity (``confidence+0.3``), or ``vectors``
(the least similar texts). ``disagreement`` trains three models at every size; the F1 is that of the first.

Scores are character-exact micro F1 on the development part or the file ``--dev``, which also chooses the epoch: Khabar's test part stays
out of the choice of a strategy. A last training of every seed uses all articles, except with ``--without-all``. Every finished training is kept in
FOLDER/trainings.jsonl, and what its model says about all articles, where a strategy needs it, in FOLDER/texts: a stopped run continues,
and strategies that choose the same articles share trainings. Two processes may share a folder if their seeds differ (``--first-seed``);
``table`` and ``plot`` then show all.

``run FOLDER --smallest`` tries everything in a minute or two, on twelve articles and with a tiny encoder that it makes itself.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from musamma.data.arabic import word_offsets
from musamma.data.corpora import load_khabar
from musamma.data.document import Document, Span, read_jsonl, write_jsonl
from musamma.data.labels import KHABAR
from musamma.data.tags import TagSet
from musamma.inference.diverse_selection import select_diverse
from musamma.inference.uncertainty import MEASURES, measure_words, tag_probabilities

STRATEGIES = (
    "random",
    "confidence",
    "margin",
    "entropy",
    "names",
    "disagreement",
    "confidence+0.3",
    "confidence+0.6",
    "vectors",
)
SIZES = (20, 40, 60, 80, 120)
#: Epochs by size: the fewer articles, the more, because a few hundred steps are needed before the first name is found.
EPOCHS = (14, 8, 6, 5, 4)
#: Added to the seed of a trajectory for the further models of a committee.
COMMITTEE = (0, 1000, 2000)
TRAININGS = "trainings.jsonl"


class Simulation:
    """The trainings of a folder.

    Args:
        folder: where finished trainings are kept.
        recipe: the recipe.
        changes: changes to the recipe, ``key.key=value``.
        pool: the articles to choose from.
        dev: the development part.
        first_model: the model that chooses the first articles; by default they are drawn at random.
    """

    def __init__(
        self,
        folder: Path,
        *,
        recipe: str,
        changes: Sequence[str],
        pool: Sequence[Document],
        dev: Sequence[Document],
        first_model: str | None = None,
    ) -> None:
        self.folder, self.recipe, self.changes, self.first_model = folder, recipe, list(changes), first_model
        (folder / "texts").mkdir(parents=True, exist_ok=True)
        self.pool = {document.id: document for document in pool}
        self.dev = list(dev)
        self.ids = list(self.pool)
        self.records = read_trainings(folder)

    def train(self, articles: Sequence[str], *, seed: int, epochs: int, texts: bool = True) -> str:
        """Train on articles unless that was done before, and return the key of the training.

        Args:
            articles: ids of the articles.
            seed: seed of the training.
            epochs: number of epochs. The last two are evaluated, and the better one is kept.
            texts: also keep what the model says about all articles, from which `choose` ranks them.
        """
        changes = [*self.changes, f"trainer.num_train_epochs={epochs}", f"trainer.eval_delay={epochs - 2}"]
        settings = json.dumps([self.recipe, changes, seed, sorted(articles)])
        key = blake2b(settings.encode(), digest_size=8).hexdigest()
        if key not in self.records or (texts and not self._texts(key).is_file()):
            start = time.perf_counter()
            f1 = self._train(articles, key=key, seed=seed, changes=changes, texts=texts)
            record = {
                "key": key,
                "recipe": self.recipe,
                "set": changes,
                "seed": seed,
                "articles": sorted(articles),
                "words": sum(len(word_offsets(self.pool[id].text)) for id in articles),
                "f1": f1,
                "seconds": round(time.perf_counter() - start, 1),
            }
            self.records[key] = record
            with (self.folder / TRAININGS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            print(f"seed {seed}, {len(articles)} articles: F1 {100 * f1:.2f}, {record['seconds']} s", flush=True)
        return key

    def _train(self, articles: Sequence[str], *, key: str, seed: int, changes: Sequence[str], texts: bool) -> float:
        """Train, keep what the model says about all articles if that is asked for, and return the development F1."""
        from musamma.training.config import load_config
        from musamma.training.finetune import finetune

        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_jsonl([self.pool[id] for id in sorted(articles)], folder / "train.jsonl")
            write_jsonl(self.dev, folder / "dev.jsonl")
            changes = [
                *changes,
                f"data.train={folder}/train.jsonl",
                f"data.dev={folder}/dev.jsonl",
                "data.test=[]",
                f"labels={json.dumps(KHABAR)}",  # a small set may lack some
                f"seeds=[{seed}]",
            ]
            (result,) = finetune(load_config(self.recipe, changes=changes, output=f"{folder}/run"))
            if texts:
                self._write_texts(f"{folder}/run", key)
            return result.dev_f1

    def _write_texts(self, model: str, key: str) -> None:
        """Write what a model says about all articles: the tags' probabilities, the names and the vectors."""
        from musamma.models.loading import load_predictor

        predictor = load_predictor(model)
        arrays: dict[str, Any] = {"vectors": []}
        bare = [document.with_spans(()) for document in self.pool.values()]
        for classified in predictor.classify_groups([bare], vectors=True):
            for tokenized, logits, vector in classified:
                document = predictor.decode(tokenized, logits, predictor.calibration)
                arrays[f"words {document.id}"] = tokenized.words.astype(np.int32)
                arrays[f"probabilities {document.id}"] = tag_probabilities(logits.tags).astype(np.float32)
                arrays[f"names {document.id}"] = np.array(
                    [[span.start, span.end, span.score] for span in document.spans]
                ).reshape(-1, 3)
                arrays["vectors"].append(vector)
        # Two processes may write what the first model says.
        partial = self._texts(f"{key}-{os.getpid()}").with_suffix(".part.npz")
        np.savez_compressed(partial, **arrays)
        partial.replace(self._texts(key))

    def score(self, keys: Sequence[str], measure: str) -> np.ndarray:
        """Return a measure of every article by the models of some trainings; (articles,)."""
        tag_set = TagSet.from_labels(KHABAR)
        stored = [np.load(self._texts(key)) for key in keys]
        scores = []
        for id, document in self.pool.items():
            names = [Span(int(start), int(end), "PER", score) for start, end, score in stored[0][f"names {id}"]]
            probabilities = np.stack([item[f"probabilities {id}"] for item in stored]).astype(np.float64)
            words = stored[0][f"words {id}"]
            values = measure_words(probabilities, document.with_spans(names), words, tag_set, measure=measure)
            scores.append(values.mean())
        return np.array(scores)

    def choose(self, strategy: str, articles: Sequence[str], count: int, *, seed: int, epochs: int) -> list[str]:
        """Return the articles that a strategy adds to some, after training on these for some epochs."""
        if strategy == "random":
            order = random.Random(f"order {seed}").sample(self.ids, len(self.ids))
            return [id for id in order if id not in articles][:count]
        measure, _, weight = strategy.partition("+")
        keys = self._choosing_models(articles, measure, seed=seed, epochs=epochs)
        rest = [index for index, id in enumerate(self.ids) if id not in articles]
        taken = [index for index, id in enumerate(self.ids) if id in articles]
        vectors = np.load(self._texts(keys[0]))["vectors"]
        scores = np.zeros(len(self.ids)) if measure == "vectors" else self.score(keys, measure)
        choices = select_diverse(
            scores[rest],
            vectors[rest],
            count,
            diversity=1.0 if measure == "vectors" else float(weight or 0),
            annotated=vectors[taken],
        )
        return [self.ids[rest[choice.index]] for choice in choices]

    def _choosing_models(self, articles: Sequence[str], measure: str, *, seed: int, epochs: int) -> list[str]:
        """Return the keys of the models that choose: those trained on the articles, or without articles the first model."""
        if articles:
            committee = COMMITTEE if measure == "disagreement" else COMMITTEE[:1]
            return [self.train(articles, seed=seed + further, epochs=epochs) for further in committee]
        assert self.first_model is not None
        if not self._texts("first").is_file():
            self._write_texts(self.first_model, "first")
        return ["first"]

    def _texts(self, key: str) -> Path:
        return self.folder / "texts" / f"{key}.npz"


def read_trainings(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the finished trainings of a folder by their keys."""
    file = folder / TRAININGS
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return {record["key"]: record for record in map(json.loads, lines)}


def run(options: argparse.Namespace) -> None:
    """Simulate every strategy with every seed, and print the table."""
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    changes = list(options.changes)
    if options.smallest:
        write_tiny_encoder(folder / "encoder")
        changes, options.epochs = ["trainer.learning_rate=1.0e-3", f"encoder={folder}/encoder"], [2]
        options.sizes, options.seeds, options.without_all = [4, 8], 1, True
        options.strategies = ["random", "confidence", "disagreement", "names+0.3", "vectors"]
    for strategy in options.strategies:
        if strategy not in ("random", "vectors") and strategy.partition("+")[0] not in MEASURES:
            raise SystemExit(f"strategy {strategy!r}; expected random, vectors, or one of {', '.join(MEASURES)}")
    if len(options.epochs) == 1:
        options.epochs = options.epochs * len(options.sizes)
    if len(options.epochs) < len(options.sizes) or min(options.epochs) < 2:
        raise SystemExit(f"--epochs {options.epochs}; expected one number, or one for each size, of at least 2")
    if (options.pool is None) != (options.dev is None):
        raise SystemExit("--pool and --dev belong together")
    articles = 12 if options.smallest else None
    simulation = Simulation(
        folder,
        recipe=options.recipe,
        changes=changes,
        pool=load_khabar("train")[:articles] if options.pool is None else list(read_jsonl(options.pool)),
        dev=load_khabar("dev")[:articles] if options.dev is None else list(read_jsonl(options.dev)),
        first_model=options.first_model,
    )
    # Strategies within seeds, so that a run that is stopped early can compare them.
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        simulate_seed(simulation, options, seed)
    table(options)


def simulate_seed(simulation: Simulation, options: argparse.Namespace, seed: int) -> None:
    """Simulate every strategy with a seed."""
    trajectories = []
    sizes = options.sizes
    start = random.Random(f"order {seed}").sample(simulation.ids, len(simulation.ids))[: sizes[0]]
    for strategy in options.strategies:
        chooses_first = simulation.first_model is not None and strategy != "random"
        articles, keys, before = [] if chooses_first else list(start), [], 0
        for size, epochs in zip(sizes, options.epochs, strict=False):
            if size > len(articles):
                articles += simulation.choose(strategy, articles, size - len(articles), seed=seed, epochs=before)
            before = epochs
            # Without a first model, all strategies choose by the models of the first size; random choice needs no further ones.
            texts = size < sizes[-1] and (strategy != "random" or (size == sizes[0] and simulation.first_model is None))
            keys.append(simulation.train(articles, seed=seed, epochs=epochs, texts=texts))
        trajectories.append({"strategy": strategy, "keys": keys})
        write_trajectories(simulation.folder, seed, trajectories)
    if not options.without_all:
        key = simulation.train(simulation.ids, seed=seed, epochs=options.epochs[len(sizes) - 1], texts=False)
        trajectories.append({"strategy": "all", "keys": [key]})
        write_trajectories(simulation.folder, seed, trajectories)


def write_trajectories(folder: Path, seed: int, trajectories: list[dict[str, Any]]) -> None:
    """Write which trainings of a seed belong to which strategy."""
    (folder / f"trajectories-{seed}.json").write_text(json.dumps(trajectories, indent=1) + "\n", encoding="utf-8")


def read_curves(folder: Path) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """Read the trainings by strategy and number of articles, in the order of the seeds."""
    records = read_trainings(folder)
    curves: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for file in sorted(folder.glob("trajectories-*.json")):
        for trajectory in json.loads(file.read_text(encoding="utf-8")):
            for key in trajectory["keys"]:
                record = records[key]
                curve = curves.setdefault(trajectory["strategy"], {})
                curve.setdefault(len(record["articles"]), []).append(record)
    return curves


def table(options: argparse.Namespace) -> None:
    """Print F1 by strategy and size, and the difference to random choice."""
    curves = read_curves(Path(options.folder))
    sizes = sorted({size for curve in curves.values() for size in curve})
    for title, with_words in (("strict dev F1, mean and standard deviation of the seeds", False), ("words", True)):
        shown = Table(title=title, title_justify="left")
        for heading in ("articles", *map(str, sizes), *(() if with_words else ("mean difference to random",))):
            shown.add_column(heading, justify="right")
        for strategy, curve in curves.items():
            cells = [_format_cell(curve.get(size, []), with_words=with_words) for size in sizes]
            shown.add_row(strategy, *cells, *(() if with_words else (_format_difference(curve, curves.get("random")),)))
        Console(width=140).print(shown)


def _format_cell(records: Sequence[dict[str, Any]], *, with_words: bool) -> str:
    if not records:
        return ""
    if with_words:
        return f"{mean(record['words'] for record in records):,.0f}"
    values = [100 * record["f1"] for record in records]
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def _format_difference(curve: dict[int, list[dict[str, Any]]], base: dict[int, list[dict[str, Any]]] | None) -> str:
    """Format the mean over the sizes at which the articles differ, and its spread over the seeds."""
    base = base or {}
    sizes = [
        size
        for size in sorted(set(curve) & set(base))
        if any(ours["key"] != theirs["key"] for ours, theirs in zip(curve[size], base[size], strict=False))
    ]
    if curve is base or not sizes:
        return ""
    by_seed = [
        mean(100 * (ours["f1"] - theirs["f1"]) for ours, theirs in pairs)
        for pairs in zip(*(list(zip(curve[size], base[size], strict=False)) for size in sizes), strict=False)
    ]
    return f"{mean(by_seed):+.1f}" + (f" ± {stdev(by_seed):.1f}" if len(by_seed) > 1 else "")


def plot(options: argparse.Namespace) -> None:
    """Plot F1 against articles and words."""
    import matplotlib.pyplot as plt

    curves = read_curves(Path(options.folder))
    plt.rcParams["svg.hashsalt"] = "musamma"  # the same values give the same file
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    for panel, name in zip(panels, ("articles", "words"), strict=True):
        for strategy, curve in curves.items():
            points = [records for _, records in sorted(curve.items())]
            values = [[100 * record["f1"] for record in records] for records in points]
            if strategy == "all":
                panel.axhline(mean(values[0]), color="black", linestyle=":", label="all articles")
                continue
            panel.errorbar(
                [mean(r["words"] if name == "words" else len(r["articles"]) for r in records) for records in points],
                [mean(group) for group in values],
                yerr=[stdev(group) if len(group) > 1 else 0.0 for group in values],
                marker="o",
                markersize=4,
                capsize=2,
                color="black" if strategy == "random" else None,
                linestyle="--" if strategy == "random" else "-",
                label=strategy,
            )
        panel.set(xlabel=f"annotated {name}")
    panels[0].set(ylabel="strict dev F1")
    panels[0].legend(fontsize="small")
    figure.savefig(options.plot, metadata={"Date": None} if str(options.plot).endswith(".svg") else None, dpi=110)


def write_tiny_encoder(folder: Path) -> None:
    """Write a BERT of two narrow layers with random weights, whose pieces are letters."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    letters = sorted({letter for document in load_khabar("train") for letter in document.text if letter.isprintable()})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=False).save_pretrained(folder)
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(pieces), max_position_embeddings=256, **sizes)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)


def main() -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name, function in (("run", run), ("table", table), ("plot", plot)):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        command.add_argument("folder", help="where finished trainings are kept")
        if name == "plot":
            command.add_argument("plot", help="the plot: .svg or .png")
        if name == "run":
            command.add_argument("--strategies", nargs="+", default=list(STRATEGIES), metavar="S")
            command.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), metavar="N")
            command.add_argument("--seeds", type=int, default=3, help="number of seeds")
            command.add_argument("--first-seed", type=int, default=1, help="the lowest seed")
            command.add_argument("--without-all", action="store_true", help="no training on all articles")
            command.add_argument("--recipe", default="quickstart")
            command.add_argument(
                "--epochs",
                nargs="+",
                type=int,
                default=list(EPOCHS),
                metavar="N",
                help="one number, or one for each size",
            )
            command.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
            command.add_argument(
                "--pool", type=Path, help="JSON lines of annotated articles; by default Khabar's training part"
            )
            command.add_argument("--dev", type=Path, help="JSON lines of a development part; by default Khabar's")
            command.add_argument("--first-model", metavar="MODEL", help="the model that chooses the first articles")
            command.add_argument("--smallest", action="store_true", help="try everything with a tiny encoder")
    options = parser.parse_args()
    options.function(options)


if __name__ == "__main__":
    main()
