"""Stretches of series."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from polymodal.nn.objectives.masking.mask_units import Data, NumericUnits


class SeriesPatches(NumericUnits):
    """Stretches of neighbouring steps in all channels, as the modality scaled them (Nie et al., "A Time Series is Worth
    64 Words: Long-term Forecasting with Transformers", 2023, section 3.2). A hidden stretch is a gap to the encoder;
    what was a gap before is never predicted.
    """

    share = 0.4

    def __init__(self, shape: dict[str, Any], patch: int | None) -> None:
        steps = shape["steps"]
        chosen = patch or max(1, min(8, steps // 8))
        super().__init__(-(-steps // chosen), chosen * shape["channels"])
        self.patch = chosen

    def real(self, data: Data) -> Tensor:
        return self._cut(data["observed"]).any(2)

    def hide(self, data: Data, hidden: Tensor) -> Data:
        steps = data["values"].shape[1]
        area = hidden.repeat_interleave(self.patch, 1)[:, :steps, None]
        return {
            **data,
            "values": data["values"].masked_fill(area, 0),
            "observed": data["observed"].masked_fill(area, 0),
        }

    def target(self, data: Data) -> tuple[Tensor, Tensor]:
        return self._cut(data["values"]).float(), self._cut(data["observed"]).float()

    def _cut(self, x: Tensor) -> Tensor:
        """`[items, steps, channels]` -> `[items, patches, patch * channels]`."""
        padded: Tensor = functional.pad(x, (0, 0, 0, -x.shape[1] % self.patch))
        return padded.view(len(x), -1, self.patch * x.shape[2])
