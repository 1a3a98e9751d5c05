"""The state that the processes of a training have in common, and the random draws that each has of its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from polymodal.checkpoint.training_state_file import TrainingState
from polymodal.core.errors import RecipeError
from polymodal.distributed.divided import divided_like, is_divided, own_part
from polymodal.distributed.gradients import MAX_VALUES
from polymodal.distributed.world import World
from polymodal.nn.layers.shared_batch import SharesBatch, has_batch_statistics
from polymodal.nn.network import Network
from polymodal.runtime.random_state import random_state, restore_random_state
from polymodal.training.averaging import trainable_state
from polymodal.training.loss import Losses


def start_replicas(network: nn.Module, world: World, seed: int) -> None:
    """Give all processes the weights of process 0, unless they have divided them, and each its own random draws.
    Process 0 keeps its random state."""
    if world.size > 1:
        if not any(map(is_divided, network.parameters())):
            copy_from_first(network, world)
        _separate(world, seed, 0)


def copy_from_first(network: nn.Module, world: World) -> None:
    """Give all processes the trainable parameters and the buffers of process 0."""
    if world.size > 1:
        own = trainable_state(network)
        for names in _groups(own):
            agreed = world.agree_tensors({name: own[name] for name in names})
            for name in names:
                own[name].copy_(agreed[name])


def copy_parts_from_first(network: nn.Module, sources: Mapping[str, Tensor], world: World) -> None:
    """Give all processes their parts of the trainable parameters of process 0, and its buffers. No other process holds
    more than one whole tensor.

    network: divided among the processes
    sources: in process 0, the tensors before the network was divided
    """
    for name, own in trainable_state(network).items():
        whole = world.agree_tensors({name: sources[name]} if world.is_first else {})[name]
        own_part(own).copy_(own_part(divided_like(whole, own)))


def _groups(tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """The names of tensors in groups of at most `MAX_VALUES` values, or of a larger tensor."""
    found: list[list[str]] = []
    values = 0
    for name, tensor in tensors.items():
        if not found or values + tensor.numel() > MAX_VALUES:
            found.append([])
            values = 0
        found[-1].append(name)
        values += tensor.numel()
    return found


def random_states(world: World) -> dict[str, Tensor]:
    """The random states of all processes, by name: those of process 0 have the names of a single process."""
    found: dict[str, Tensor] = {}
    for name, own in random_state().items():
        found |= {_prefix(rank) + name: state for rank, state in enumerate(world.gather_tensors(own))}
    return found


def restore_random_states(tensors: Mapping[str, Tensor], world: World, seed: int, steps: int) -> None:
    """Restore the random state of this process. A process that did not exist when it was saved draws its own, a
    function of `seed`, `steps` and its number."""
    start = f"{_prefix(world.rank)}random"
    own = {f"random{name.removeprefix(start)}": one for name, one in tensors.items() if name.startswith(start)}
    if own:
        restore_random_state(own)
    else:
        _separate(world, seed, steps)


def agree_on_state(state: TrainingState | None, world: World) -> TrainingState | None:
    """The training state that process 0 has read; None if it has none."""
    if world.size == 1:
        return state
    metadata = world.agree(None if state is None else state.metadata)
    tensors = world.agree_tensors({} if state is None else state.tensors)
    return None if metadata is None else TrainingState(tensors, metadata)


def whole_losses(losses: Losses, world: World) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of the whole batch and its parts by name, without a gradient."""
    total = losses.total.detach()
    if world.size == 1:
        return total, losses.parts
    summed = world.sum(torch.stack([total.float(), *(part.float() for part in losses.parts.values())]))
    return summed[0], dict(zip(losses.parts, summed[1:], strict=True))


def mark_rows(network: nn.Module, has_rows: bool) -> None:
    """Tell the layers that compute statistics over the batch whether this process has a row in this step."""
    for module in network.modules():
        if isinstance(module, SharesBatch):
            module.has_rows = has_rows


def check_chunks(network: Network, chunk_size: int | None, world: World) -> None:
    """Check that no encoder with batch statistics is encoded in chunks by several processes.

    Raises:
        RecipeError: the processes have different numbers of chunks, and would wait for each other.
    """
    for name, encoder in network.encoders().items():
        if world.size > 1 and chunk_size is not None and has_batch_statistics(encoder):
            raise RecipeError(
                "training.grad_cache_chunk_size",
                f"the encoder of {name!r} has batch normalization, which several processes compute over all of their "
                "items at once: remove the chunks, or use an encoder without batch normalization",
            )


def _separate(world: World, seed: int, steps: int) -> None:
    """Random draws of its own for each process except process 0."""
    if not world.is_first:
        mixed = torch.Generator().manual_seed(seed * 1_000_003 + steps)
        draws = torch.randint(2**62, (world.size,), generator=mixed)
        torch.manual_seed(int(draws[world.rank]))


def _prefix(rank: int) -> str:
    return f"process{rank}." if rank else ""
