"""The sums of the losses of an epoch."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from polymodal.runtime.host_reads import can_read


class LossMeter:
    """Adds up the losses of the steps of an epoch by name.

    On an accelerator the sums stay there until `read`, so that no step waits for the device.

    sums: the sums so far, of a resumed epoch

    Example:
        >>> import torch
        >>> meter = LossMeter({"label": 1.0})
        >>> meter.add({"label": torch.tensor(0.5)})
        >>> meter.read()
        {'label': 1.5}
    """

    def __init__(self, sums: Mapping[str, float] | None = None) -> None:
        self._sums: dict[str, float] = dict(sums or {})
        self._on_device: dict[str, Tensor] = {}

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of a step, each a scalar without a graph."""
        for name, value in losses.items():
            if can_read(value):
                self._sums[name] = self._sums.get(name, 0.0) + float(value)
            else:
                before = self._on_device.get(name)
                self._on_device[name] = value.float() if before is None else before + value

    def read(self) -> dict[str, float]:
        """The sums by name; waits for the device."""
        for name, value in self._on_device.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value)
        self._on_device.clear()
        return dict(self._sums)
