"""Tensors that the processes of a machine map from files, so that the memory of the machine holds them once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from polymodal.distributed.world import World


@contextmanager
def machine_folder(world: World) -> Iterator[Path]:
    """A temporary folder of the first process of this machine, which is deleted after the block of all processes."""
    with TemporaryDirectory(prefix="polymodal-") as own:
        yield Path(world.gather(own)[world.rank - world.local_rank])
        world.gather(None)


def write_tensor(file: Path, tensor: Tensor) -> None:
    """Write the values of a tensor on any device."""
    flat = _in_storage_order(tensor)
    if len(flat):
        torch.from_file(str(file), shared=True, size=len(flat), dtype=flat.dtype).copy_(flat)


def map_tensor(file: Path, like: Tensor) -> Tensor:
    """The tensor in a file that `write_tensor` has written. Changes of its values stay in this process.

    like: a tensor with its shape, dtype and number of dimensions, which may be on the meta device

    Example:
        >>> write_tensor(Path("values"), torch.arange(6.0).view(2, 3))
        >>> map_tensor(Path("values"), torch.empty(2, 3, device="meta")).tolist()
        [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    """
    if not like.numel():
        return torch.empty(like.shape, dtype=like.dtype)
    flat = torch.from_file(str(file), shared=False, size=like.numel(), dtype=like.dtype)
    if like.dim() != 4:
        return flat.view(like.shape)
    out, channels, height, width = like.shape
    return flat.view(out, height, width, channels).permute(0, 3, 1, 2)


def share_parameters(network: nn.Module, folder: Path, world: World) -> None:
    """Give all processes of a machine the parameters of its first process, which the others map.

    network: in the other processes, with parameters on the meta device
    folder: a folder of the first process of the machine
    """
    parameters = dict(network.named_parameters())
    files = {name: folder / f"{number}.bin" for number, name in enumerate(parameters)}
    if world.local_rank == 0:
        for name, parameter in parameters.items():
            write_tensor(files[name], parameter.detach())
        return
    mapped: dict[int, nn.Parameter] = {}
    for name, parameter in parameters.items():
        mapped[id(parameter)] = nn.Parameter(map_tensor(files[name], parameter), parameter.requires_grad)
    for module in network.modules():
        for name, held in module._parameters.items():
            if held is not None:
                module._parameters[name] = mapped[id(held)]


def _in_storage_order(tensor: Tensor) -> Tensor:
    """The values in one dimension; those of images and their filters in channels-last order."""
    return (tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor).reshape(-1)
