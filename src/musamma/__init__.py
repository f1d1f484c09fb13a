"""Arabic named-entity recognition: fine-tune a token classifier, score it, and tag articles with character-exact names."""

import importlib
import typing

if typing.TYPE_CHECKING:
    from musamma.data.corpus_files import read_documents, write_documents
    from musamma.data.document import Document, Span
    from musamma.data.errors import InputError
    from musamma.evaluation.conll_tags import score_tags
    from musamma.evaluation.metrics import score_documents
    from musamma.inference.tagger import Tagger
    from musamma.models.export.pipeline import export_model
    from musamma.training.config import load_config
    from musamma.training.finetune import finetune

    __version__: str

__all__ = [
    "Document",
    "InputError",
    "Span",
    "Tagger",
    "__version__",
    "export_model",
    "finetune",
    "load_config",
    "read_documents",
    "score_documents",
    "score_tags",
    "write_documents",
]

# torch and transformers take seconds to load, so a name is imported when it is first used.
_MODULES = {
    "Document": "musamma.data.document",
    "InputError": "musamma.data.errors",
    "Span": "musamma.data.document",
    "Tagger": "musamma.inference.tagger",
    "export_model": "musamma.models.export.pipeline",
    "finetune": "musamma.training.finetune",
    "load_config": "musamma.training.config",
    "read_documents": "musamma.data.corpus_files",
    "score_documents": "musamma.evaluation.metrics",
    "score_tags": "musamma.evaluation.conll_tags",
    "write_documents": "musamma.data.corpus_files",
}


def __getattr__(name: str) -> typing.Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("musamma")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
