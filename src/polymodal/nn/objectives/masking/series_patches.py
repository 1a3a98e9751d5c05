"""Mask units of time series: segments of time."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from polymodal.nn.objectives.masking.mask_units import Data, NumericUnits


class SeriesPatches(NumericUnits):
    """Segments of consecutive steps in all channels, in the scale of the modality (Nie et al., "A Time Series is Worth
    64 Words: Long-term Forecasting with Transformers", 2023, section 3.2). Masked segments are missing values to the
    encoder. Values that are missing in the data are not predicted."""

    default_mask_ratio = 0.4

    def __init__(self, shape: dict[str, Any], patch: int | None) -> None:
        steps = shape["steps"]
        chosen = patch or max(1, min(8, steps // 8))
        super().__init__(-(-steps // chosen), chosen * shape["channels"])
        self.patch = chosen

    def valid_units(self, data: Data) -> Tensor:
        return self._cut(data["observed"]).any(2)

    def apply_mask(self, data: Data, mask: Tensor) -> Data:
        steps = data["values"].shape[1]
        area = mask.repeat_interleave(self.patch, 1)[:, :steps, None]
        return {
            **data,
            "values": data["values"].masked_fill(area, 0),
            "observed": data["observed"].masked_fill(area, 0),
        }

    def targets(self, data: Data) -> tuple[Tensor, Tensor]:
        return self._cut(data["values"]).float(), self._cut(data["observed"]).float()

    def _cut(self, x: Tensor) -> Tensor:
        """`[items, steps, channels]` -> `[items, patches, patch * channels]`."""
        padded: Tensor = functional.pad(x, (0, 0, 0, -x.shape[1] % self.patch))
        return padded.view(len(x), padded.shape[1] // self.patch, self.patch * x.shape[2])
