"""Low-rank adapters (LoRA): train small matrices beside frozen ones of the encoder, and add them to these at the end.

Hu et al., 2022: LoRA: Low-Rank Adaptation of Large Language Models, https://arxiv.org/abs/2106.09685.
"""

from __future__ import annotations

from torch import nn

from musamma.data.errors import InputError
from musamma.models.classifier import TokenClassifier
from musamma.models.optional_packages import require_packages
from musamma.training.config import LoraSection


def add_adapters(classifier: TokenClassifier, settings: LoraSection) -> None:
    """Freeze the encoder and add trainable adapters to it, in place; the heads are trained as usual.

    A new adapter changes no output: one of its two matrices is zero.

    Args:
        classifier: the classifier.
        settings: size and place of the adapters.

    Raises:
        InputError: peft is not installed, or the encoder has no such modules.
    """
    require_packages("peft", extra="peft", purpose="trains adapters (`lora` in the configuration)")
    from peft import LoraConfig, inject_adapter_in_model

    encoder = classifier.backbone.base_model
    try:
        inject_adapter_in_model(
            LoraConfig(
                r=settings.r,
                lora_alpha=settings.alpha,  # type: ignore[arg-type]  # peft divides it by r; a fraction is as good
                lora_dropout=settings.dropout,
                target_modules=settings.target_modules,
            ),
            encoder,
        )
    except ValueError as error:
        names = {name.rpartition(".")[2] for name, module in encoder.named_modules() if isinstance(module, nn.Linear)}
        raise InputError(
            f"{settings.target_modules}" if settings.target_modules else "not set",
            where="lora.target_modules",
            expected=f"names of linear layers of the encoder: {', '.join(sorted(names))}",
        ) from error


def merge_adapters(classifier: TokenClassifier) -> None:
    """Add the adapters to the matrices beside them and remove them, in place: the classifier is a plain one again."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    encoder = classifier.backbone.base_model
    for name, module in list(encoder.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, own_name = name.rpartition(".")
            setattr(encoder.get_submodule(parent), own_name, module.get_base_layer())
    del encoder.peft_config
    classifier.requires_grad_(True)
