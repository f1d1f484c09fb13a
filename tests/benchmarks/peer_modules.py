"""The modules of benchmarks/peers, which import one another by name as the neighbours of a script do."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[2] / "benchmarks" / "peers"


def import_peer_module(name: str) -> ModuleType:
    """Import a module of benchmarks/peers without leaving the folder on the path."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


predicted_names = import_peer_module("predicted_names")
text_passages = import_peer_module("text_passages")
score_rows = import_peer_module("score_rows")
compare_systems = import_peer_module("compare_systems")
ours, pipeline, camel, stanza, spacy, gliner, crf, flair = (
    import_peer_module(f"peer_{kind}")
    for kind in ("ours", "pipeline", "camel", "stanza", "spacy", "gliner", "crf", "flair")
)
train_peer = import_peer_module("train_peer")
PredictedName = predicted_names.PredictedName
TextPrediction = predicted_names.TextPrediction
