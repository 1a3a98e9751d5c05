"""Whether the network of a run is divided among the processes (`training.sharding`), and the parts of a step that need
to know it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.distributed.divided import is_divided
from polymodal.distributed.world import World
from polymodal.nn.layers.causal import CausalBlock
from polymodal.nn.network import Network
from polymodal.recipe.training import TrainingOptions
from polymodal.runtime.compute import CPU
from polymodal.runtime.device_memory import free_memory, host_memory
from polymodal.training.memory_plan import STATE_BYTES, USABLE
from polymodal.training.modality_balancing import compares_inputs

if TYPE_CHECKING:
    from polymodal.distributed.sharding import ShardedNetwork

#: A layer with fewer trainable values is gathered together with the rest of the network.
MIN_LAYER_VALUES = 2**18


def is_sharded_run(options: TrainingOptions, network: Network, world: World, device: str) -> bool:
    """Whether the processes divide the network.

    Raises:
        RecipeError: they should, and the recipe computes what needs whole gradients or weights.
    """
    if world.size == 1 or options.sharding == "none" or not any(one.requires_grad for one in network.parameters()):
        return False
    if options.sharding == "auto" and not world.total(float(not fits(network, world, device))):
        return False
    check_recipe(options, network)
    return True


def fits(network: nn.Module, world: World, device: str) -> bool:
    """Whether the weights, the gradients and the optimizer state of a whole network fit into the memory of a process;
    True if the device does not tell how much is free."""
    trainable = sum(one.numel() for one in network.parameters() if one.requires_grad)
    free, needed = free_memory(device), trainable * STATE_BYTES  # the weights are on an accelerator already
    if free is None and torch.device(device).type == CPU:
        free = host_memory()
        needed *= int(os.environ.get("LOCAL_WORLD_SIZE", world.size))
    return free is None or needed <= USABLE * free


def check_recipe(options: TrainingOptions, network: Network) -> None:
    """Check that no part of the recipe compares gradients or copies weights, which no process holds as a whole.

    Raises:
        RecipeError: names the key.
    """
    remedy = "which no process of a sharded run has as a whole. Change it, or set training.sharding to none"
    if options.loss_balancing in ("gradnorm", "pcgrad"):
        raise RecipeError("training.loss_balancing", f"{options.loss_balancing} compares gradients of losses, {remedy}")
    if compares_inputs(options.modality_balancing):
        method = options.modality_balancing.method
        raise RecipeError("training.modality_balancing.method", f"{method} changes gradients of inputs, {remedy}")
    if options.precision == "fp16":
        raise RecipeError("training.precision", f"fp16 checks the gradients of all parameters, {remedy}")
    for index, (name, objective) in enumerate(network.objectives.items()):
        if objective.follows_weights:
            raise RecipeError(f"objectives.{index}", f"{name} averages the weights of the network, {remedy}")


def shard(network: Network, world: World) -> ShardedNetwork[Network]:
    """Divide the trainable parameters of a network among the processes."""
    from polymodal.distributed.sharding import ShardedNetwork  # the first use of FSDP

    layers = separate_layers(network)
    for tower in network.towers.values():
        tower.has_shared_layers = any(one in layers for one in tower.modules())
    return ShardedNetwork(network, layers, world)


def separate_layers(network: Network) -> list[nn.Module]:
    """The layers whose parameters are gathered when they run: the large layers of encoders and text decoders.

    They must run equally often in all processes. Therefore they are not separate in an encoder that an objective runs a
    second time, or that runs in chunks.
    """
    names = [id(one) for _, one in network.named_parameters(remove_duplicate=False)]
    parts = [
        tower.encoder
        for name, tower in network.towers.items()
        if tower.chunk_size is None and name not in network.raw_inputs()
    ]
    found: list[nn.Module] = []
    for part in parts:
        found += _layers(part, names, lambda layer: next(layer.children(), None) is not None)
    for decoder in network.all_decoders():
        found += _layers(decoder, names, _is_decoder_layer)
    return list(dict.fromkeys(found))


def tensor_pattern(network: nn.Module) -> Callable[[str], Tensor | None]:
    """By the name of a tensor in the state of a run, the divided parameter that it belongs to; None without one."""
    divided = {name: one for name, one in network.named_parameters(remove_duplicate=False) if is_divided(one)}

    def pattern(name: str) -> Tensor | None:
        kind, _, rest = name.partition(".")
        if kind == "best":
            rest = rest.partition(".")[2]
        elif kind == "optimizer":
            rest, _, field = rest.rpartition(".")
            rest = "" if field == "step" else rest
        return divided.get(rest) if kind in ("network", "best", "optimizer") else None

    return pattern


def _layers(part: nn.Module, names: list[int], accepts: Callable[[nn.Module], bool]) -> list[nn.Module]:
    """The outermost accepted layers in module lists, with many trainable values that no other module shares."""
    if isinstance(part, nn.ModuleList):
        return [layer for layer in part if _is_large(layer, names, accepts)]
    found: list[nn.Module] = []
    for child in part.children():
        found += _layers(child, names, accepts)
    return found


def _is_large(layer: nn.Module, names: list[int], accepts: Callable[[nn.Module], bool]) -> bool:
    trainable = [one for one in layer.parameters() if one.requires_grad]
    enough = sum(one.numel() for one in trainable) >= MIN_LAYER_VALUES
    return enough and accepts(layer) and all(names.count(id(one)) == 1 for one in trainable)


def _is_decoder_layer(layer: nn.Module) -> bool:
    """Whether a decoder calls the layer itself, and not a part of it."""
    return isinstance(layer, CausalBlock) or type(layer).__module__.startswith("transformers.")
