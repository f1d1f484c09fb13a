"""The memorised checkpoints of the inference tests."""

from tests.inference.conftest import checkpoint, known  # noqa: F401
