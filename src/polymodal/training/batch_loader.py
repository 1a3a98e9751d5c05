"""The batches of a run on its device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from polymodal.core.types import Batch
from polymodal.runtime.compute import has_streams


class BatchLoader:
    """Builds each batch and copies it to the device.

    On CUDA and XPU, `prefetch` builds the next batch in pinned memory and copies it on a stream of its own, while the
    device computes the step before. Batches are built in the order of the steps, on one thread, so random
    augmentations are the same with and without prefetching.

    build: the batch of rows, on the CPU
    """

    def __init__(self, build: Callable[[np.ndarray], Batch], device: str) -> None:
        self.build, self.device = build, torch.device(device)
        self.overlaps = has_streams(device)
        self._stream = torch.Stream(device=self.device) if self.overlaps else None
        self._next: tuple[np.ndarray, Batch] | None = None

    def load(self, rows: np.ndarray) -> Batch:
        """The batch of `rows` on the device: the one that was prefetched, if it has these rows."""
        ready, self._next = self._next, None
        if ready is None or not np.array_equal(ready[0], rows):
            return self.build(rows).to(self.device)
        if self._stream is not None:
            current = torch.accelerator.current_stream(self.device)
            current.wait_stream(self._stream)
            for tensor in ready[1].tensors():
                tensor.record_stream(current)
        return ready[1]

    def prefetch(self, rows: np.ndarray) -> None:
        """Start to copy the batch of the next step; without streams, do nothing."""
        if self._stream is None:
            return
        built = self.build(rows).apply(Tensor.pin_memory)
        with self._stream:
            self._next = rows, built.to(self.device, non_blocking=True)
