"""Low-rank adapters (LoRA, DoRA) in the layers of a network, with peft."""

from __future__ import annotations

from typing import Any

from torch import nn

from polymodal.core.errors import MissingExtraError, RecipeError

ADAPTER_NAME = "default"


def add_adapters(model: nn.Module, layers: list[nn.Module], rank: int, *, dora: bool) -> None:
    """Add a low-rank adapter to every weight matrix in `layers`; only the adapters are trainable.

    LoRA (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021): `y = W x + (alpha / r) B A x` with
    `A [r, in]` random and `B [out, r]` zero, so that the output is unchanged before the first step. `alpha / r` is
    always 2, so that the learning rate does not depend on the rank. DoRA (Liu et al., "DoRA: Weight-Decomposed Low-Rank
    Adaptation", 2024) learns the magnitude of each row of the matrix separately from its direction:
    `y = m (W + 2 B A) / |W + 2 B A| x`.

    Raises:
        MissingExtraError: peft is not installed.
        RecipeError: these layers contain no weight matrix.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError:
        raise MissingExtraError("peft", "pretrained", "fine-tuning with adapters") from None
    inside = {module for layer in layers for module in layer.modules()}
    names = [name for name, module in model.named_modules() if module in inside and _is_adaptable(module)]
    if not names:
        raise RecipeError("fine_tuning", "these layers have no matrices to which adapters could be added")
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=names,
        use_dora=dora,
        fan_in_fan_out=any(_is_transposed(model.get_submodule(name)) for name in names),
    )
    inject_adapter_in_model(config, model, ADAPTER_NAME)


def reset_dora_magnitudes(model: nn.Module) -> None:
    """Recompute the DoRA magnitudes from the current weights, which were loaded after the adapters were added."""
    for module in model.modules():
        adapted: Any = module
        for name, magnitude in getattr(adapted, "lora_magnitude_vector", {}).items():
            trainable = magnitude.weight.requires_grad
            magnitude.update_layer(
                base_layer=adapted.get_base_layer(),
                lora_A=adapted.lora_A[name].weight,
                lora_B=adapted.lora_B[name].weight,
                scaling=adapted.scaling[name],
            )
            magnitude.weight.requires_grad_(trainable)


def with_base_layers(weights: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """Rename weights of a network without adapters to their names in the same network with adapters."""
    adapted = {name for name, module in model.named_modules() if hasattr(module, "base_layer")}

    def renamed(name: str) -> str:
        owner, _, leaf = name.rpartition(".")
        return f"{owner}.base_layer.{leaf}" if owner in adapted else name

    return {renamed(name): tensor for name, tensor in weights.items()}


def _is_adaptable(module: nn.Module) -> bool:
    """Whether it is a linear layer (including Conv1D of GPT-2 in transformers) or a convolution without groups."""
    if isinstance(module, nn.Conv2d):
        return module.groups == 1
    return isinstance(module, nn.Linear) or _is_transposed(module)


def _is_transposed(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D"
