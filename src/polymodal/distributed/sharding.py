"""A network whose parameters are divided among processes: `fully_shard` (FSDP2) of torch on a 2-D mesh."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from polymodal.core.errors import PolymodalError
from polymodal.distributed.divided import is_divided, whole_tensor
from polymodal.distributed.gradients import sum_gradients
from polymodal.distributed.mapped_tensors import machine_folder, map_tensor, write_tensor
from polymodal.distributed.world import World

N = TypeVar("N", bound=nn.Module)
T = TypeVar("T")

#: The number of processes that hold one copy of the network together; default: those of a machine.
SHARDS_VARIABLE = "POLYMODAL_SHARDS"


def mesh_shape(size: int, processes_per_machine: int) -> tuple[int, int]:
    """The numbers of copies of the network, and of the processes that hold a copy.

    The processes of a machine hold one copy, and the copies of all machines are equal. With one process on each
    machine, all processes hold one copy. The environment variable `POLYMODAL_SHARDS` sets another number of processes.

    Raises:
        PolymodalError: the number of processes is no multiple of the variable.

    Example:
        >>> mesh_shape(16, processes_per_machine=8), mesh_shape(4, processes_per_machine=1)
        ((2, 8), (1, 4))
    """
    given = os.environ.get(SHARDS_VARIABLE)
    if given is None:
        even = processes_per_machine > 1 and size % processes_per_machine == 0
        shards = processes_per_machine if even else size
    else:
        shards = int(given) if given.isdecimal() else 0
        if not shards or size % shards:
            raise PolymodalError(
                f"{SHARDS_VARIABLE} is {given!r}, and {size} processes cannot be divided into groups of this size: set "
                f"it to a divisor of {size}, or remove it"
            )
    return size // shards, shards


class ShardedNetwork(Generic[N]):
    """A network whose trainable parameters are divided among the processes, in place.

    Each process holds a part of every trainable parameter, of its gradient and of its optimizer state. `run` gathers
    the parameters while a step computes: each of `layers` for itself, all others at once. Frozen parameters and scalars
    are not divided.

    network: has the same parameters in all processes
    layers: modules whose parameters are gathered when they run; each must run equally often in all processes
    """

    def __init__(self, network: N, layers: Sequence[nn.Module], world: World) -> None:
        self.world, self.network = world, network
        self.whole_network = _without_weights(network)
        for parameter in network.parameters():
            if parameter.requires_grad:  # `fully_shard` needs it
                parameter.data = parameter.data.contiguous()
        mesh = _mesh(world, next(network.parameters()).device.type)
        kept = {one for one in network.parameters() if not one.requires_grad or not one.dim()}
        for layer in layers:
            fully_shard(layer, mesh=mesh, ignored_params=kept)
        self.root = _Scope(network)
        fully_shard(self.root, mesh=mesh, ignored_params=kept)
        for module in self.root.modules():
            if isinstance(module, FSDPModule):
                _sum_all_gradients(module)
                module.register_forward_pre_hook(self._watch)
        self._names = {id(one): name for name, one in network.named_parameters() if is_divided(one)}
        self._watched: dict[int, Any] = {}
        self._used: set[str] = set()
        self._depth = 0

    def run(self, work: Callable[[], tuple[list[Tensor], T]]) -> T:
        """The second result of `work`, which runs with gathered parameters. Its first result are the tensors from which
        the backward pass starts."""
        self._used.clear()
        with warnings.catch_warnings():  # losses can be views, which nothing changes in place
            warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
            found: T = self.root(work)[1]
        return found

    def evaluate(self, work: Callable[[], T]) -> T:
        """The result of `work` without gradients, which runs with gathered parameters as in `run`: each of `layers`
        when it runs, in all processes equally often."""
        with torch.no_grad():
            _, found = self.root(lambda: ([], work()))
        cast(FSDPModule, self.root).reshard()
        return cast(T, found)

    def finish_gradients(self, others: Sequence[nn.Parameter]) -> None:
        """Complete the gradients after the backward pass: sum those of undivided parameters, and remove those that are
        zero since no process has computed them.

        others: trainable parameters that are not divided
        """
        cast(FSDPModule, self.root).reshard()
        sum_gradients(others, self.world)
        divided = [(name, one) for name, one in self.network.named_parameters() if is_divided(one)]
        flags = torch.tensor([float(name in self._used) for name, _ in divided])
        for (_, parameter), count in zip(divided, self.world.sum(flags).tolist(), strict=True):
            if not count:
                parameter.grad = None

    @contextmanager
    def whole(self) -> Iterator[N]:
        """A network with the whole parameters, which is independent of the other processes. All must enter the block.
        The parameters are freed after it."""
        if not self._depth:
            self._gather()
        self._depth += 1
        try:
            yield self.whole_network
        finally:
            self._depth -= 1
            if not self._depth:
                for parameter in self.whole_network.parameters():
                    if parameter.requires_grad:
                        parameter.data = parameter.new_empty(0)

    def finish(self) -> N:
        """The network with the whole parameters, as it was before. They are gathered one by one. The processes of a
        machine map them from files, so that its memory holds them once; on an accelerator, each process has a copy."""
        self._depth += 1
        divided = dict(self.network.named_parameters())
        whole = {name: one for name, one in self.whole_network.named_parameters() if one.requires_grad}
        with machine_folder(self.world) as folder:
            for number, name in enumerate(whole):
                gathered = whole_tensor(divided[name]).detach()
                if self.world.local_rank == 0:
                    write_tensor(folder / str(number), gathered)
            self.world.gather(None)  # all are written
            for number, (name, parameter) in enumerate(whole.items()):
                parameter.data = map_tensor(folder / str(number), divided[name]).to(parameter.device)
        self._share_buffers()
        return self.whole_network

    def _gather(self) -> None:
        divided = dict(self.network.named_parameters())
        for name, parameter in self.whole_network.named_parameters():
            if parameter.requires_grad:
                whole = whole_tensor(divided[name]).detach()
                layout = torch.channels_last if whole.dim() == 4 else torch.contiguous_format
                parameter.data = whole.contiguous(memory_format=layout)
        self._share_buffers()

    def _share_buffers(self) -> None:
        for own, other in zip(self.whole_network.modules(), self.network.modules(), strict=True):
            own._buffers.update({name: None if one is None else one.detach() for name, one in other._buffers.items()})

    def _watch(self, module: nn.Module, arguments: object) -> None:
        """Note from now on which gathered parameters of a module get a gradient."""
        del arguments
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and not is_divided(parameter) and id(parameter) not in self._watched:
                self._watched[id(parameter)] = parameter
                full = name.removeprefix("network.") if module is self.root else f"{self._prefix(module)}{name}"
                parameter.register_post_accumulate_grad_hook(lambda _, full=full: self._used.add(full))  # type: ignore[no-untyped-call]

    def _prefix(self, layer: nn.Module) -> str:
        return next(f"{name}." for name, one in self.network.named_modules() if one is layer)


class _Scope(nn.Module):
    """The root of the sharding. A step runs in its `forward`, so it may call any method of the network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, work: Callable[[], T]) -> T:
        return work()


def _mesh(world: World, device: str) -> DeviceMesh:
    """The mesh of a world, made once: its groups stay open as long as the world."""
    meshes: dict[Any, DeviceMesh] = world.meshes  # type: ignore[attr-defined]
    shape = mesh_shape(world.size, int(os.environ.get("LOCAL_WORLD_SIZE", world.size)))
    if (device, shape) not in meshes:
        meshes[device, shape] = init_device_mesh(device, shape, mesh_dim_names=("replicate", "shard"))
    return meshes[device, shape]


def _sum_all_gradients(module: FSDPModule) -> None:
    """Sum the gradients in place of averaging them, also those that only some processes have computed.

    Raises:
        PolymodalError: this version of torch cannot.
    """
    if not hasattr(module, "set_reduce_scatter_unused_params"):
        raise PolymodalError(
            f"torch {torch.__version__} cannot train a sharded network in which a process may lack an input: install a "
            "newer version (2.13 works), or set training.sharding to none"
        )
    module.set_gradient_divide_factor(1.0)
    module.set_force_sum_reduction_for_comms(True)
    module.set_reduce_scatter_unused_params(True, recurse=False)


def _without_weights(network: N) -> N:
    """A copy of a network that shares its frozen parameters, and whose other parameters are empty."""
    memo: dict[int, Any] = {
        id(one): nn.Parameter(one.new_empty(0)) if one.requires_grad else one for one in network.parameters()
    }
    return copy.deepcopy(network, memo)
