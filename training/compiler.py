"""The compiler of PyTorch, which a run may ask for."""

from __future__ import annotations

import torch
from transformers import TrainingArguments

from musamma.data.errors import InputError, one_line


def check_compiler(device: torch.device, *, key: str) -> None:
    """Check that `torch.compile` works.

    Args:
        device: the device to compile for.
        key: the key of the configuration that asks for it, for errors.

    Raises:
        InputError: compilation fails, usually because there is no C++ compiler.
    """
    try:
        torch.compile(torch.exp)(torch.ones(8, device=device))
    except Exception as error:  # a missing tool is reported by many types of exceptions from PyTorch's internals
        raise InputError(
            f"{key}: true, and torch.compile does not work on this machine ({one_line(error, limit=160)})",
            where="the configuration",
            expected="its requirements: on a CPU a C++ compiler and Python's headers, on a GPU Triton",
            remedy=f"install them, or set {key}: false",
        ) from error


def check_trainer_compiler(arguments: TrainingArguments) -> None:
    """Check that `torch.compile` works if a fine-tuning or distillation run asks for it.

    Raises:
        InputError: compilation fails.
    """
    # Other backends, which PyTorch has for tests, need no tools.
    if arguments.torch_compile and arguments.torch_compile_backend == "inductor":
        check_compiler(arguments.device, key="trainer.torch_compile")
