"""Low-rank adapters inside the layers of a network (peft)."""

from __future__ import annotations

from typing import Any

from torch import nn

from polymodal.core.errors import MissingExtraError, RecipeError

NAME = "default"


def add_adapters(model: nn.Module, layers: list[nn.Module], rank: int, *, dora: bool) -> None:
    """Put an adapter beside every matrix in `layers`; only adapters learn.

    LoRA (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021): `y = W x + (alpha / r) B A x` with
    `A [r, in]` random and `B [out, r]` zero, so that nothing changes before the first step. `alpha / r` is 2, whatever
    the rank, so that the learning rate need not follow the rank. DoRA (Liu et al., "DoRA: Weight-Decomposed Low-Rank
    Adaptation", 2024) learns the length of each row of the matrix apart from its direction:
    `y = m (W + 2 B A) / |W + 2 B A| x`.

    Raises:
        MissingExtraError: peft is not installed.
        RecipeError: there is no matrix in these layers.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError:
        raise MissingExtraError("peft", "pretrained", "tuning with adapters") from None
    inside = {module for layer in layers for module in layer.modules()}
    names = [name for name, module in model.named_modules() if module in inside and _adaptable(module)]
    if not names:
        raise RecipeError("tune", "these layers have no matrices to which adapters could be added")
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=names,
        use_dora=dora,
        fan_in_fan_out=any(_transposed(model.get_submodule(name)) for name in names),
    )
    inject_adapter_in_model(config, model, NAME)


def renew_magnitudes(model: nn.Module) -> None:
    """Begin again with the row lengths of the weights as they are now: they were taken over after the adapters."""
    for module in model.modules():
        adapted: Any = module
        for name, magnitude in getattr(adapted, "lora_magnitude_vector", {}).items():
            learns = magnitude.weight.requires_grad
            magnitude.update_layer(
                base_layer=adapted.get_base_layer(),
                lora_A=adapted.lora_A[name].weight,
                lora_B=adapted.lora_B[name].weight,
                scaling=adapted.scaling[name],
            )
            magnitude.weight.requires_grad_(learns)


def with_base_layers(weights: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """Weights named as in the network without adapters, by their names in the network with them."""
    adapted = {name for name, module in model.named_modules() if hasattr(module, "base_layer")}

    def renamed(name: str) -> str:
        owner, _, leaf = name.rpartition(".")
        return f"{owner}.base_layer.{leaf}" if owner in adapted else name

    return {renamed(name): tensor for name, tensor in weights.items()}


def _adaptable(module: nn.Module) -> bool:
    """Linear maps (also GPT-2's, which transformers calls Conv1D) and convolutions over all channels."""
    if isinstance(module, nn.Conv2d):
        return module.groups == 1
    return isinstance(module, nn.Linear) or _transposed(module)


def _transposed(module: nn.Module) -> bool:
    return type(module).__name__ == "Conv1D"
