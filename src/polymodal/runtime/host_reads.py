"""Values that the processor needs from a device, and values that a device needs from the processor.

Reading a value of a tensor on an accelerator waits until all earlier work of the device is done. Code that reads a
value only to take a shorter path asks `can_read` first and takes the general path on an accelerator.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from polymodal.runtime.compute import CPU


def can_read(tensor: Tensor) -> bool:
    """Whether reading a value of this tensor does not wait for a device.

    Example:
        >>> import torch
        >>> can_read(torch.zeros(3)), can_read(torch.zeros(3, device="meta"))
        (True, False)
    """
    return tensor.device.type == CPU and not torch.compiler.is_exporting()


def device_constant(values: Sequence[float] | np.ndarray, device: torch.device) -> Tensor:
    """The fp32 vector of these numbers on a device, copied there once; it must not be changed in place.

    Example:
        >>> import torch
        >>> device_constant([0.5, 2.0], torch.device("cpu"))
        tensor([0.5000, 2.0000])
    """
    if device.type == CPU:
        return torch.as_tensor(values, dtype=torch.float32)
    return _copied(tuple(map(float, values)), device)


@lru_cache(maxsize=256)
def _copied(values: tuple[float, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=torch.float32, device=device)


_COPIES: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def copy_on(constant: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device, copied to an accelerator once; neither may be changed in place.

    Example:
        >>> import torch
        >>> copy_on(torch.ones(2), torch.device("meta")).device.type
        'meta'
    """
    if constant.device == device:
        return constant
    found: dict[torch.device, Tensor] = _COPIES.setdefault(constant, {})  # type: ignore[no-untyped-call]
    if device not in found:
        with torch.inference_mode(False):
            found[device] = constant.to(device)
    return found[device]
