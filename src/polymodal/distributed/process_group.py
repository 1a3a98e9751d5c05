"""A process of several: `World` on a process group of `torch.distributed`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from polymodal.core.errors import PolymodalError
from polymodal.distributed.launch import num_restarts
from polymodal.distributed.world import World
from polymodal.runtime.compute import CPU

T = TypeVar("T")

#: Seconds after which a process gives up on a collective operation that another process does not take part in.
TIMEOUT_SECONDS, TIMEOUT_VARIABLE = 1800.0, "POLYMODAL_COLLECTIVE_TIMEOUT"
#: The number of process groups that this process has joined: each has its own keys in the store.
_STARTS = count()
#: Seconds between two checks whether the work of another process is done.
WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class ProcessGroupWorld(World):
    """A process of several; see `World`.

    device: the device of collective operations on JSON values and counts
    store: the key-value store of the launch, over which processes wait for long work without a timeout
    meshes: the meshes of sharded networks, by device and shape
    """

    device: str = CPU
    store: Any = None
    _turns: Any = None
    meshes: dict[Any, Any] = field(default_factory=dict, compare=False)

    def sum(self, value: Tensor) -> Tensor:
        total = value.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    def sum_with_gradient(self, value: Tensor) -> Tensor:
        found: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
        return found

    def total(self, value: float | Tensor) -> float:
        number = torch.as_tensor(value, dtype=torch.float64).detach().to(self.device)
        return float(self.sum(number))

    def mean(self, values: Tensor) -> Tensor:
        return values.sum() / max(1.0, self.total(values.numel()))

    def mean_row(self, rows: Tensor) -> Tensor:
        return self.sum(rows.sum(0)) / max(1.0, self.total(len(rows)))

    def share(self, value: Tensor) -> Tensor:
        return value / self.size

    def gather_rows(self, rows: Tensor) -> Tensor:
        has_gradient = torch.is_grad_enabled() and rows.requires_grad
        counts, flags = zip(*self._gather_numbers([len(rows), int(has_gradient)]), strict=True)
        if not any(flags):
            return _gather_padded(rows.detach(), counts)
        if not has_gradient:  # all processes take part in the sum of the gradients
            rows = rows.detach().requires_grad_()
        found: Tensor = _GatherRows.apply(rows, counts, self.rank)  # type: ignore[no-untyped-call]
        return found

    def first_row(self, count: int) -> int:
        return sum(one for (one,) in self._gather_numbers([count])[: self.rank])

    def gather(self, value: Any) -> list[Any]:
        encoded = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        return [json.loads(bytes(one.tolist())) for one in self.gather_tensors(encoded)]

    def gather_tensors(self, tensor: Tensor) -> list[Tensor]:
        shapes = self._gather_numbers(list(tensor.shape))
        tensor = tensor.detach().to(self.device).contiguous().reshape(-1)
        flat = _gather_padded(tensor, [_product(shape) for shape in shapes])
        parts = torch.split(flat, [_product(shape) for shape in shapes])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def agree(self, value: T) -> T:
        text = json.dumps(value).encode() if self.is_first else b""
        encoded = self._from_first(torch.frombuffer(bytearray(text or b" "), dtype=torch.uint8))
        found: T = json.loads(bytes(encoded.tolist()))
        return found

    def agree_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        kinds = {name: (str(one.dtype).removeprefix("torch."), list(one.shape)) for name, one in tensors.items()}
        found = {}
        for name, (dtype, shape) in self.agree(kinds).items():
            if 0 in shape:
                found[name] = torch.empty(shape, dtype=_dtype(dtype))
                continue
            own = torch.empty(shape, dtype=_dtype(dtype))
            if self.is_first:  # the result shares no memory with the tensor, to which it may be copied
                own.copy_(tensors[name].detach())
            sent = own.to(self.device).reshape(-1).view(torch.uint8)
            dist.broadcast(sent, 0)
            found[name] = sent.view(_dtype(dtype)).reshape(shape).cpu()
        return found

    def check_same(self, what: str, value: str) -> None:
        differing = [rank for rank, own in enumerate(self.gather(value)) if own != self.agree(value)]
        if differing:
            raise PolymodalError(
                f"processes {', '.join(map(str, differing))} have another {what} than process 0: give all processes "
                "the same arguments and the same data, and install the same versions on all machines"
            )

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.agree(int(torch.randint(2**62, ()))))

    def first(self, work: Callable[[], T]) -> T:
        key = f"first/{next(self._turns)}"
        if not self.is_first:
            found: T = self._wait_for(key)
            return found
        with self._publishing(key) as results:
            results.append(result := work())
        return result

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        key = f"turn/{next(self._turns)}/{os.environ.get('GROUP_RANK', '0')}"
        if self.local_rank:
            self._wait_for(key)
            yield
            return
        with self._publishing(key):
            yield

    @contextmanager
    def _publishing(self, key: str) -> Iterator[list[Any]]:
        """Publish that the block is done, with what it adds to the list, or that it failed."""
        results: list[Any] = []
        try:
            yield results
        except BaseException as error:
            self.store.set(key, json.dumps({"error": f"{error}" or type(error).__name__}))
            raise
        self.store.set(key, json.dumps({"results": results}))

    def _wait_for(self, key: str) -> Any:
        """The result that another process publishes; None without one."""
        while True:
            try:
                self.store.wait([key], timedelta(seconds=WAIT_SECONDS))
                break
            except dist.DistStoreError:  # the time is over, and the process still works
                continue
            except dist.DistNetworkError as error:
                raise PolymodalError("the process that works for the others has ended") from error
        found = json.loads(self.store.get(key))
        if "error" in found:
            raise PolymodalError(f"the process that works for the others failed: {found['error']}")
        return next(iter(found["results"]), None)

    def _gather_numbers(self, numbers: list[int]) -> list[list[int]]:
        """The integers of all processes."""
        own = torch.tensor(numbers, dtype=torch.int64, device=self.device)
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own)
        return [part.tolist() for part in parts]

    def _from_first(self, tensor: Tensor) -> Tensor:
        """The one-dimensional tensor of process 0."""
        length = torch.tensor(len(tensor), dtype=torch.int64, device=self.device)
        dist.broadcast(length, 0)
        sent = tensor.to(self.device) if self.is_first else tensor.new_empty(int(length)).to(self.device)
        dist.broadcast(sent, 0)
        return sent.cpu()


class _Sum(torch.autograd.Function):
    """The sum over the processes; the gradient is summed over the processes."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class _GatherRows(torch.autograd.Function):
    """The rows of all processes; the gradient of each row is summed over the processes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: tuple[int, ...], rank: int) -> Tensor:
        ctx.part = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
        return _gather_padded(rows, counts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.part], None, None


def _gather_padded(rows: Tensor, counts: tuple[int, ...] | list[int]) -> Tensor:
    """The rows of all processes, which have `counts` rows: padded to the most for the exchange, and cut."""
    most = max(counts)
    if most == 0:
        return rows
    kind = rows.dtype
    padded = rows.new_zeros(most, *rows.shape[1:])
    padded[: len(rows)] = rows
    sent = padded.to(torch.uint8) if kind == torch.bool else padded
    parts = [torch.empty_like(sent) for _ in counts]
    dist.all_gather(parts, sent)
    return torch.cat([part[:own] for part, own in zip(parts, counts, strict=True)]).to(kind)


def _product(shape: list[int]) -> int:
    return int(torch.tensor(shape, dtype=torch.int64).prod()) if shape else 1


def _dtype(name: str) -> torch.dtype:
    found: torch.dtype = getattr(torch, name)
    return found


@contextmanager
def process_group() -> Iterator[ProcessGroupWorld]:
    """Join the process group of the launch (`torchrun`), and leave it after the block.

    The backend is `nccl` for tensors on CUDA and `gloo` for tensors on the CPU. Each process uses the accelerator with
    its local number.

    Raises:
        PolymodalError: the processes do not find each other, or a first sum over them is wrong.
    """
    rank, size, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    seconds = float(os.environ.get(TIMEOUT_VARIABLE, TIMEOUT_SECONDS))
    has_cuda = torch.cuda.is_available() and torch.cuda.device_count() > 0
    if has_cuda:
        torch.cuda.set_device(local % torch.cuda.device_count())
    try:
        # the launcher keeps its store when it starts the processes again
        store = PrefixStore(f"polymodal{num_restarts()}.{next(_STARTS)}", _launch_store(seconds))
        with _output_to_errors():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if has_cuda else "gloo",
                store=PrefixStore("group", store),
                rank=rank,
                world_size=size,
                timeout=timedelta(seconds=seconds),
            )
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise PolymodalError(
            f"process {rank} of {size} does not reach the others at {os.environ.get('MASTER_ADDR')}:"
            f"{os.environ.get('MASTER_PORT')}: {error}"
        ) from error
    try:
        world = ProcessGroupWorld(rank, size, local, CPU, store, count())
        _test(world)
        yield world
    finally:
        dist.destroy_process_group()


@contextmanager
def _output_to_errors() -> Iterator[None]:
    """Standard output goes to standard error in the block: gloo prints there, where commands print their results."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@cache
def _launch_store(seconds: float) -> Any:
    """The key-value store of the launch, which a process joins once."""
    return next(rendezvous("env://", timeout=timedelta(seconds=seconds)))[0]


def _test(world: ProcessGroupWorld) -> None:
    """Check that sums are sums, and that rows come in the order of the processes.

    Raises:
        PolymodalError: a result is wrong.
    """
    ones = torch.ones(2, requires_grad=True)
    numbers = world.gather_rows(torch.full((world.rank % 2 + 1, 1), float(world.rank)))
    expected = [float(rank) for rank in range(world.size) for _ in range(rank % 2 + 1)]
    summed = world.sum_with_gradient(ones)
    (gradient,) = torch.autograd.grad(summed.sum(), ones)
    wanted = torch.full((2,), float(world.size))
    if numbers[:, 0].tolist() != expected or not (torch.equal(summed, wanted) and torch.equal(gradient, wanted)):
        raise PolymodalError(
            f"the process group computes wrong sums: {summed.tolist()} with the gradient {gradient.tolist()} in place "
            f"of {wanted.tolist()}, or rows {numbers[:, 0].tolist()} in place of {expected}; use another version of "
            "torch or another network"
        )
