"""The section of a configuration that names the annotated articles."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from musamma.data.records import file_stem
from musamma.training.config_fields import ConfigSection, File, Files, Integer, Number, Share, wrap_single

_SomeFiles = Annotated[list[File], Field(min_length=1), BeforeValidator(wrap_single)]
_SomeLabels = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1), BeforeValidator(wrap_single)]


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
    dev_share: Share | None = None
    whole_words: bool = False
    allows: dict[str, _SomeLabels] = Field(default_factory=dict)
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
        files = wrap_single(section.get("files"))
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
    Annotated[File, Tag("file")] | Annotated[SourceConfig, Tag("source")], Discriminator(_kind_of_source)
]
_FilesOrSources = Annotated[list[_FileOrSource], BeforeValidator(wrap_single)]


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

    train: Annotated[list[_FileOrSource], Field(min_length=1), BeforeValidator(wrap_single)]
    dev: _FilesOrSources = Field(default_factory=list)
    dev_share: Share = 0.1
    test: Files = Field(default_factory=list)
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
