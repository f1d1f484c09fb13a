"""The run configuration: typed, all mistakes reported at once, and saved resolved with the run."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import yaml
from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from transformers import TrainingArguments

from musamma.data.errors import InputError, not_readable, one_line
from musamma.data.records import file_stem
from musamma.data.tags import OUTSIDE
from musamma.data.text_noise import NOISE
from musamma.training.config_mistakes import describe_mistakes

#: Trainer arguments that the run sets itself, each with the configuration key to use instead, if there is one.
RESERVED_ARGUMENTS: dict[str, str | None] = {
    "output_dir": "output",
    "seed": "seeds",
    "data_seed": "seeds",
    "logging_dir": "output",
    "remove_unused_columns": None,
    "metric_for_best_model": None,
    "greater_is_better": None,
    "load_best_model_at_end": None,
    "bf16": "precision",
    "fp16": "precision",
    "use_cpu": "device",
    "disable_tqdm": None,
    "resume_from_checkpoint": "resume",
}


#: Values of `trainer.report_to`, each also the name of the package it needs.
TRACKERS = ("tensorboard", "wandb", "mlflow")

# Trainer arguments that are numbers, with the values they may have. transformers checks few of them: it trains on a batch
# size of 0 as well as on a learning rate of infinity, and calls the result a success.
_POSITIVE = {"gt": 0}
_COUNT = {"ge": 1}
_NOT_NEGATIVE = {"ge": 0}
_SHARE = {"ge": 0, "lt": 1}
_BOUNDS: dict[str, dict[str, Any]] = {
    "adam_beta1": _SHARE,
    "adam_beta2": _SHARE,
    "adam_epsilon": _POSITIVE,
    "dataloader_num_workers": _NOT_NEGATIVE,
    "dataloader_prefetch_factor": _COUNT,
    "ddp_bucket_cap_mb": _COUNT,
    "ddp_timeout": _COUNT,
    "eval_accumulation_steps": _COUNT,
    "eval_delay": _NOT_NEGATIVE,
    "eval_steps": _POSITIVE,
    "gradient_accumulation_steps": _COUNT,
    "label_smoothing_factor": _SHARE,
    "learning_rate": _POSITIVE,
    "logging_steps": _POSITIVE,
    "max_grad_norm": _NOT_NEGATIVE,
    "max_steps": {"ge": -1},
    "neftune_noise_alpha": _NOT_NEGATIVE,
    "num_train_epochs": _POSITIVE,
    "per_device_eval_batch_size": _COUNT,
    "per_device_train_batch_size": _COUNT,
    "save_steps": _POSITIVE,
    "save_total_limit": _NOT_NEGATIVE,
    "torch_empty_cache_steps": _COUNT,
    "warmup_steps": _NOT_NEGATIVE,
    "weight_decay": _NOT_NEGATIVE,
}


_LAYER_COUNTS = ("num_hidden_layers", "num_layers", "n_layers")


def _refuse_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(_not_a_number(value))
    return value


def _not_a_number(value: bool) -> str:
    return f"Input should be a number, not {str(value).lower()}, as YAML also reads {'yes and on' if value else 'no and off'}"


#: A number of a configuration. Strings are read as numbers (YAML reads 1e-4 as a string), booleans are not.
Integer = Annotated[int, BeforeValidator(_refuse_boolean)]
Number = Annotated[float, BeforeValidator(_refuse_boolean), AllowInfNan(False)]
#: A seed, in the range of NumPy's.
Seed = Annotated[Integer, Field(ge=0, lt=2**32)]


def _check_distinct(value: list[int]) -> list[int]:
    if len(set(value)) != len(value):
        raise ValueError("duplicate seed")
    return value


def _parse_tagger_arguments(value: dict[str, Any]) -> dict[str, Any]:
    return parse_trainer_section(value, reserved=RESERVED_ARGUMENTS)


#: The seeds of a recipe, each for a run of its own.
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(_check_distinct)]
#: Arguments for `transformers.TrainingArguments` in the training of a tagger.
TaggerArguments = Annotated[dict[str, Any], AfterValidator(_parse_tagger_arguments)]


class ConfigSection(BaseModel):
    """A section of a configuration; immutable, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseConfig(ConfigSection):
    """A whole configuration, as in a YAML file."""

    def to_yaml(self) -> str:
        """Return the resolved configuration as YAML, as it is saved with the run."""
        return yaml.safe_dump(self.model_dump(mode="json"), allow_unicode=True, sort_keys=False)


def _wrap_single(value: Any) -> Any:
    return [value] if isinstance(value, str | dict | ConfigSection) else value


_Share = Annotated[Number, Field(gt=0, lt=1)]
# An empty name would be that of the working folder.
_File = Annotated[str, Field(min_length=1)]
#: Files by name; a single one may stand without a list.
Files = Annotated[list[_File], BeforeValidator(_wrap_single)]
_SomeFiles = Annotated[list[_File], Field(min_length=1), BeforeValidator(_wrap_single)]
_SomeLabels = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1), BeforeValidator(_wrap_single)]


class SourceConfig(ConfigSection):
    """One of several corpora of a run.

    Args:
        name: its name in logs and scores; by default that of its first file, without folder and suffix, and with ``_`` in place of
            characters that a name may not have.
        files: files, or the name of a packaged corpus.
        format: format of the files; guessed by default.
        labels: label map, by name or file.
        rejoin_clitics: CoNLL: join clitics that are tokens to their word (WikiFANE).
        group: number of consecutive documents to join into one.
        sampling_factor: number of passes over the training windows of this source in an epoch: 0.5 takes half of them in one epoch
            and the other half in the next, 2 takes each twice.
        dev: development files; ``[]`` for none. A packaged corpus has its own development part.
        dev_share: share of the training documents, from the end, that becomes the development part.
        whole_words: names include the proclitics before them; where a name begins in its word is then not learnt from it.
        allows: the labels of the model that each label allows; see `musamma.data.allowed_labels.AllowedLabels`.
        nested: whether names inside names are annotated; by default if a document has any.
    """

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    files: _SomeFiles
    format: str | None = None
    labels: str | None = None
    rejoin_clitics: bool = False
    group: Annotated[Integer, Field(ge=1)] = 1
    # What an epoch draws is held in memory.
    sampling_factor: Annotated[Number, Field(gt=0, le=1000)] = 1.0
    dev: Files | None = None
    dev_share: _Share | None = None
    whole_words: bool = False
    allows: dict[str, _SomeLabels] = {}
    nested: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_after_file(cls, value: Any) -> Any:
        # Without a file, the missing file is the mistake to report, not the name.
        if not isinstance(value, dict):
            return value
        name = cls.default_name(value)
        return {**value, "name": "source" if name is None else name}

    @staticmethod
    def default_name(section: dict[str, Any]) -> Any:
        """Return the name that a section has, or by default that of its first file; ``None`` without a file."""
        files = _wrap_single(section.get("files"))
        named = isinstance(files, list) and files and isinstance(files[0], str)
        if section.get("name") is not None or not named:
            return section.get("name")
        return re.sub(r"[^\w.-]", "_", Path(files[0]).name and Path(file_stem(Path(files[0]))).name)

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if value == "nested":
            raise ValueError("'nested' stands for the score of nested names; give the source another `name`")
        return value

    @field_validator("allows")
    @classmethod
    def _check_allows(cls, value: dict[str, list[str]]) -> dict[str, list[str]]:
        for label, allowed in value.items():
            if len(set(allowed)) != len(allowed):
                raise ValueError(f"{label} allows a label twice: {', '.join(allowed)}")
        return value

    @model_validator(mode="after")
    def _check_dev(self) -> SourceConfig:
        if self.dev and self.dev_share is not None:
            raise ValueError("give dev or dev_share, not both")
        return self


def _kind_of_source(value: Any) -> str:
    return "file" if isinstance(value, str) else "source"


#: An entry of `data.train`: a file, or a source with options of its own.
_FileOrSource = Annotated[
    Annotated[_File, Tag("file")] | Annotated[SourceConfig, Tag("source")], Discriminator(_kind_of_source)
]
_FilesOrSources = Annotated[list[_FileOrSource], BeforeValidator(_wrap_single)]


class DataConfig(ConfigSection):
    """The annotated articles of a run.

    Args:
        train: training files, or the name of a packaged corpus (``khabar``); or sources, each with options of its own.
        dev: files on which the best epoch is chosen, or sources; without them, the last ``dev_share`` of ``train``, or the
            development parts of its sources.
        dev_share: share of the training documents, by position, that becomes the development part.
        test: files that are scored once, at the end.
        format: format of the files; guessed by default.
        labels: label map, by name or file, applied to all documents.
        group: number of consecutive documents to join into one, for corpora that are split into sentences; the model
            then reads each sentence with the text around it, in all parts.

    ``dev_share``, ``format``, ``labels`` and ``group`` apply to files, not to sources. If any entry of ``train`` or ``dev`` is a
    source, a file beside it is a source, too, with these options.
    """

    train: Annotated[list[_FileOrSource], Field(min_length=1), BeforeValidator(_wrap_single)]
    dev: _FilesOrSources = []
    dev_share: _Share = 0.1
    test: Files = []
    format: str | None = None
    labels: str | None = None
    group: Annotated[Integer, Field(ge=1)] = 1

    @property
    def has_sources(self) -> bool:
        """True if an entry of ``train`` or ``dev`` is a source and not a file."""
        return any(isinstance(entry, SourceConfig) for entry in (*self.train, *self.dev))

    @property
    def train_sources(self) -> list[SourceConfig]:
        """The entries of ``train`` as sources."""
        return [self._as_source(entry) for entry in self.train]

    @property
    def dev_sources(self) -> list[SourceConfig]:
        """The entries of ``dev`` as sources."""
        return [self._as_source(entry) for entry in self.dev]

    @property
    def train_names(self) -> list[str]:
        """The files of ``train``, and the names of its sources."""
        return [entry if isinstance(entry, str) else entry.name for entry in self.train]

    @property
    def file_names(self) -> list[str]:
        """All files, as given."""
        sources = [entry for entry in (*self.train, *self.dev) if not isinstance(entry, str)]
        files = [entry for entry in (*self.train, *self.dev, *self.test) if isinstance(entry, str)]
        return list(dict.fromkeys([*(f for source in sources for f in (*source.files, *(source.dev or ()))), *files]))

    def _as_source(self, entry: str | SourceConfig) -> SourceConfig:
        if isinstance(entry, SourceConfig):
            return entry
        options = {"format": self.format, "labels": self.labels, "group": self.group}
        return SourceConfig.model_validate({"files": [entry], **options})

    @model_validator(mode="after")
    def _check_sources(self) -> DataConfig:
        if not self.has_sources:
            return self
        if self.dev_share != DataConfig.model_fields["dev_share"].default:
            raise ValueError("dev_share is for plain files; give each source its own dev_share")
        names = [source.name for source in (*self.train_sources, *self.dev_sources)]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sources have the name {repeated[0]!r}; give one of them another with `name`")
        for source in self.dev:
            if isinstance(source, SourceConfig):
                misplaced = [
                    name
                    for name in ("dev", "dev_share", "sampling_factor")
                    if getattr(source, name) != SourceConfig.model_fields[name].default
                ]
                if misplaced:
                    raise ValueError(
                        f"source {source.name!r} of dev has {', '.join(misplaced)}: only a source of train may"
                    )
        return self


class EncodingConfig(ConfigSection):
    """The windows into which documents are cut; see `musamma.data.windows.DocumentTokenizer`."""

    max_length: Annotated[Integer, Field(ge=16)] = 256
    overlap: Annotated[Integer, Field(ge=0)] = 64


class LoraSection(ConfigSection):
    """Low-rank adapters; see `musamma.training.lora`.

    Args:
        r: rank of the adapters: the number of rows of their smaller side.
        alpha: the adapters are multiplied by ``alpha / r``.
        dropout: dropout before each adapter.
        target_modules: names of the linear layers that get one, such as ``query``; by default those that peft names for
            the kind of encoder.
    """

    r: Annotated[Integer, Field(ge=1)] = 8
    alpha: Annotated[Number, Field(gt=0)] = 16
    dropout: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    target_modules: Annotated[list[str], Field(min_length=1)] | None = None


#: Share of the noisy copies to which each kind of noise applies by default: the kinds that a tokenizer's normaliser does not remove.
DEFAULT_NOISE = {"no_hamza": 0.5, "alef_maqsura": 0.3, "ta_marbuta": 0.3, "no_punctuation": 0.2}


class NoiseSection(ConfigSection):
    """Noisy copies of the training documents; see `musamma.data.text_noise`.

    Args:
        copies: number of noisy copies of each training document, beside the document itself.
        kinds: the share of the copies to which each kind of noise applies, in (0, 1].
    """

    copies: Annotated[Integer, Field(ge=1, le=100)] = 1
    kinds: Annotated[dict[str, Annotated[Number, Field(gt=0, le=1)]], Field(min_length=1)] = DEFAULT_NOISE

    @field_validator("kinds")
    @classmethod
    def _check_kinds(cls, value: dict[str, float]) -> dict[str, float]:
        if unknown := [kind for kind in value if kind not in NOISE]:
            raise ValueError(f"unknown kind {unknown[0]!r}; expected {', '.join(NOISE)}")
        return value


class RunConfig(BaseConfig):
    """A fine-tuning run.

    Args:
        encoder: a folder, a hub id, or the name of a packaged model (``nawah``; ``nawah-ner`` for the encoder of the packaged tagger).
        data: the articles.
        output: folder for the checkpoint, its card and its scores.
        encoding: the windows.
        labels: the entity types; by default those of the training documents, or those that the sources allow.
        proclitics: learn where a name starts after proclitics; set to false for data labelled by whole words.
        nested: learn names inside names; ``auto`` does so if training documents have any.
        encoder_config: changes to the encoder's ``config.json``, such as its dropout.
        precision: ``auto`` computes in bfloat16 if the hardware supports it.
        device: ``auto`` uses the GPU if there is one.
        noise: also train on noisy copies of the documents.
        lora: train low-rank adapters instead of the whole encoder.
        layerwise_decay: factor on the learning rate from each layer to the one below (1.0: none).
        head_learning_rate: learning rate of the new heads; by default the encoder's.
        early_stopping_patience: number of evaluations without a better development F1 after which training stops.
        seeds: the seeds; one run each.
        trainer: arguments for `transformers.TrainingArguments`, under its names.
    """

    encoder: Annotated[str, Field(min_length=1)]
    data: DataConfig
    output: Annotated[str, Field(min_length=1)]
    encoding: EncodingConfig = EncodingConfig()
    labels: list[str] | None = None
    proclitics: bool = True
    nested: bool | Literal["auto"] = False
    encoder_config: dict[str, Any] = {}
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu"] = "auto"
    noise: NoiseSection | None = None
    lora: LoraSection | None = None
    layerwise_decay: Annotated[Number, Field(gt=0, le=1)] = 1.0
    head_learning_rate: Annotated[Number, Field(gt=0)] | None = None
    early_stopping_patience: Annotated[Integer, Field(ge=1)] | None = None
    seeds: Seeds = [1]
    trainer: TaggerArguments = {}

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, value: list[str] | None) -> list[str] | None:
        for label in value or ():
            if label == OUTSIDE or label.split() != [label]:
                raise ValueError(f"label {label!r}: expected a word, and not O, which stands for no name")
        if value and len(set(value)) != len(value):
            raise ValueError("duplicate label")
        return value

    @field_validator("encoder_config")
    @classmethod
    def _check_encoder_config(cls, value: dict[str, Any]) -> dict[str, Any]:
        problems = [f"{key!r} is {number}: {_FINITE}" for key, number in _non_finite_values(value)]
        # transformers builds an encoder without layers. All else it checks itself.
        for key in _LAYER_COUNTS:
            if isinstance(number := value.get(key, 1), int) and (isinstance(number, bool) or number < 1):
                problems.append(f"{key!r} is {number}: Input should be greater than or equal to 1")
        if problems:
            raise ValueError(", ".join(problems))
        return value

    @model_validator(mode="after")
    def _check_overlap(self) -> RunConfig:
        if self.encoding.overlap * 2 > self.encoding.max_length:
            raise ValueError(
                f"encoding.overlap {self.encoding.overlap} is more than half of encoding.max_length {self.encoding.max_length}"
            )
        return self


def parse_trainer_section(section: dict[str, Any], *, reserved: Mapping[str, str | None]) -> dict[str, Any]:
    """Check a section for `transformers.TrainingArguments` and convert its values to the declared types.

    Args:
        section: names and values.
        reserved: names that the run sets itself, each with the key to use instead.

    Raises:
        ValueError: names are unknown or reserved, or values have the wrong type or are out of range; the message lists
            all of them.
    """
    known = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    problems = [f"unknown key {key!r}" for key in section if key not in known]
    for key, instead in reserved.items():
        if key in section:
            problems.append(f"{key!r} is set by the run" + (f", use {instead!r}" if instead else ""))
    hints = get_type_hints(TrainingArguments)
    parsed = dict(section)
    for key in section:
        if key not in known or key in reserved:
            continue
        # YAML reads 1e-4 as a string and no as false; transformers checks neither.
        try:
            typed = _parse_argument(key, section[key], hints[key])
            if typed != section[key] or isinstance(typed, int):
                parsed[key] = typed
        except ValidationError as error:
            problems.append(f"{key!r} is {section[key]!r}: {error.errors()[0]['msg'].removeprefix('Value error, ')}")
        except ValueError as error:
            problems.append(f"{key!r} is {section[key]!r}: {error}")
    if problems:
        raise ValueError(", ".join(problems) + " (see transformers.TrainingArguments)")
    return parsed


def _parse_argument(key: str, value: Any, hint: Any) -> Any:
    """Convert a trainer argument to its type.

    Raises:
        ValueError: it has another type, or is out of range.
    """
    types = get_args(hint) or (hint,)
    if isinstance(value, bool) and bool not in types and (int in types or float in types):
        raise ValueError(_not_a_number(value))
    bounded = value is not None and key in _BOUNDS
    typed = TypeAdapter(Annotated[hint, Field(**_BOUNDS[key])] if bounded else hint).validate_python(value)
    if next(_non_finite_values(typed), None) is not None:
        raise ValueError(_FINITE)
    if key == "report_to" and typed != "none":
        names = [typed] if isinstance(typed, str) else typed
        if not names or not {*TRACKERS}.issuperset(names):
            raise ValueError(f"Input should be 'none', or one or more of {', '.join(map(repr, TRACKERS))}")
    if key == "max_steps" and typed == 0:
        raise ValueError("Input should be at least 1, or -1 for num_train_epochs")
    return typed


_FINITE = "Input should be a finite number"


def _non_finite_values(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers in a value that are infinite or not a number, each with its dotted key."""
    if isinstance(value, float) and not math.isfinite(value):
        yield key, value
    elif isinstance(value, (dict, list)):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _non_finite_values(item, f"{key}.{name}" if key else str(name))


def packaged_configs() -> dict[str, Path]:
    """Return the packaged recipes as names and files."""
    root = Path(str(resources.files("musamma.configs")))
    return {path.stem: path for path in sorted(root.glob("*.yaml"))}


def load_config(path: str | Path, *, changes: Sequence[str] = (), output: str | None = None) -> RunConfig:
    """Read the configuration of a fine-tuning run; see :func:`read_config`."""
    return read_config(path, RunConfig, changes=changes, output=output)


_AnyConfig = TypeVar("_AnyConfig", bound=BaseConfig)

#: The keys by which the configuration of a command is recognised. The first set that a file has decides.
_COMMAND_BY_KEYS = {
    ("teacher",): "musamma distill",
    ("encoder", "data"): "musamma train",
    ("encoder", "text"): "musamma encoder pretrain",
}


def read_config(
    path: str | Path, kind: type[_AnyConfig], *, changes: Sequence[str] = (), output: str | None = None
) -> _AnyConfig:
    """Read a configuration.

    Args:
        path: a YAML file, or the name of a packaged recipe.
        kind: the type of configuration to read.
        changes: changes as ``key.key=value``; the value is read as YAML.
        output: replaces the file's ``output``.

    Raises:
        InputError: the file is missing, is not YAML, or does not describe a run; the message lists all mistakes.
    """
    content = _read_yaml(path)
    for change in changes:
        _apply_change(content, change)
    if output is not None:
        content["output"] = output
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        mistakes, known_keys = describe_mistakes(error, content, kind)
        command = _recognise_command(content)
        is_other = command not in (None, _recognise_command(kind.model_fields))
        remedy = f"this looks like a configuration of `{command}`" if is_other else known_keys
        raise InputError(mistakes, where=str(path), remedy=remedy) from error


def _recognise_command(keys: Collection[str]) -> str | None:
    """Return the command whose configuration has these keys; ``None`` if they are not enough to tell."""
    return next((command for own, command in _COMMAND_BY_KEYS.items() if set(own).issubset(keys)), None)


def _read_yaml(path: str | Path) -> dict[str, Any]:
    file = Path(path)
    if not file.exists():
        recipes = packaged_configs()
        file = recipes.get(str(path), recipes.get(file.stem, file))
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise not_readable(path, error) from error
    except OSError as error:
        raise InputError(
            str(error.strerror),
            where=str(path),
            expected=f"a YAML file, or one of {', '.join(packaged_configs())}",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"not YAML: {one_line(error)}", where=str(path)) from error
    if not isinstance(content, dict):
        raise InputError(f"a YAML {type(content).__name__}", where=str(path), expected="keys and values")
    return content


def _apply_change(content: dict[str, Any], change: str) -> None:
    key, separator, value = change.partition("=")
    if not separator or not key:
        raise InputError(f"`changes` {change!r}", expected="key.key=value, e.g. trainer.num_train_epochs=3")
    *parents, last = key.split(".")
    section: Any = content
    while parents:
        entries: dict[str, Any] = {}
        if isinstance(section, list):
            entries = _named_entries(section)
            # The name of an entry may have dots.
            names = [".".join(parents[:count]) for count in range(len(parents), 0, -1)]
            parent = next((name for name in names if name in entries), parents[0])
            section, parents = entries.get(parent), parents[1 + parent.count(".") :]
        else:
            parent = parents.pop(0)
            section = section.setdefault(parent, {})
        if not isinstance(section, dict | list):
            expected = f"one of {', '.join(entries)}" if entries else "the name of a section"
            raise InputError(f"`changes` {change!r}: {parent!r} is not a section", expected=expected)
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(
            f"`changes` {change!r}: the value is not YAML", expected="e.g. trainer.learning_rate=1.0e-4"
        ) from error
    if isinstance(section, list):
        raise InputError(f"`changes` {change!r}: {last!r} is an entry of a list", expected="a key of the entry")
    section[last] = parsed


def _named_entries(entries: list[Any]) -> dict[str, Any]:
    """Return the sections of a list by their names, given or by their first file; of two with the same name, the first."""
    named: dict[str, Any] = {}
    for entry in entries:
        if isinstance(entry, dict) and (name := SourceConfig.default_name(entry)) is not None:
            named.setdefault(str(name), entry)
    return named
