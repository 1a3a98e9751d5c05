"""MiniRocket: fixed convolution features of time series, and a learned linear layer."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.nn.encoders.base import Encoder, EncoderOptions, FrozenPrefix
from polymodal.nn.encoders.rocket_transform import MAX_FIT_ITEMS, TRIPLES, Pooling, RocketTransform
from polymodal.nn.encoders.step_pooling import MaskedBatchNorm, window_times

ALL_POOLINGS: tuple[Pooling, ...] = ("ppv", "mpv", "mipv", "lspv")


@register
class MiniRocket(Encoder):
    """Features from fixed convolutions, and a learned linear layer (Dempster, Schmidt and Webb, "MiniRocket: A Very
    Fast (Almost) Deterministic Transform for Time Series Classification", 2021; see `RocketTransform`).

        token = W N(f) + c

    The features f are those of the paper, and the fraction of observed steps of each channel. Dilations and biases are
    fitted to training series before the first step (`fit_items`). They are then fixed and saved with the weights, so
    the features of an item are computed once and cached. `pooling: all` and `first_difference: true` together are
    MultiRocket (Tan et al., 2022), which has eight times as many features.

    The whole series gives one token, so this encoder is not suitable for event detection.
    """

    class Options(EncoderOptions):
        name: Literal["minirocket"] = "minirocket"
        num_features: int = sized_field(2_016, 5_040, 9_996, ge=len(TRIPLES), le=100_000)
        """Number of features of one pooling, rounded down to a multiple of 84. The paper uses 9,996."""
        pooling: Literal["ppv", "all"] = "ppv"
        """Pooling of the convolutions: the proportion of positive values (MiniRocket), or also their mean, their mean
        index and their longest stretch (MultiRocket)."""
        first_difference: bool = False
        """Also compute as many features of the differences of successive steps (MultiRocket)."""
        dropout: float = Field(default=0.2, ge=0, lt=1)
        """Dropout rate on the features."""

    modality: ClassVar[str] = "time_series"
    num_fit_items: ClassVar[int] = MAX_FIT_ITEMS

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.width, self.channels = width, shape["channels"]
        self.transform = RocketFeatures(
            self.channels, shape["steps"], options.num_features, options.pooling, options.first_difference
        )
        self.num_features = self.transform.num_features
        self.norm = MaskedBatchNorm(self.num_features + self.channels)
        self.dropout = nn.Dropout(options.dropout)
        self.project = nn.Linear(self.num_features + self.channels, width)

    @classmethod
    def preferred_options(cls, options: Any) -> dict[str, Any]:
        """No augmentation: features of noisy series are others than those of the series themselves."""
        return {"jitter": 0.0, "random_crop": 0.0}

    @property
    def is_fitted(self) -> bool:
        return self.transform.is_fitted

    def fit_items(self, data: dict[str, Tensor]) -> None:
        self.transform.fit(data)

    def encode_items(self, data: dict[str, Tensor]) -> Tensor:
        """The features of the papers, without the learned layer, `[items, num_features]` float32."""
        features: Tensor = self.transform(data)
        return features

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`values` and `observed [items, steps, channels]`, `length [items]` -> `[items, 1, width]`."""
        found = data if "hidden" in data else self.encode_frozen(data)
        features = torch.cat([found["features"], found["hidden"].float()], dim=2)  # [items, 1, features + channels]
        mask = torch.ones(features.shape[0], 1, 1, device=features.device)
        features = self.norm(features.transpose(1, 2), mask).transpose(1, 2)
        tokens = self.project(self.dropout(features.to(self.project.weight.dtype)))
        return tokens, torch.ones(tokens.shape[0], 1, dtype=torch.bool, device=tokens.device)

    def frozen_prefix(self) -> FrozenPrefix:
        fixed = self.transform.state_dict(keep_vars=True)
        identity = f"{self._init_args[0].model_dump_json(exclude={'dropout'})}\n{self._hash.compute(fixed)}"
        per_step = {"features": ("float32", (self.num_features,)), "times": ("float32", ())}
        return FrozenPrefix(identity, self.channels, per_step=per_step)

    def encode_frozen(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """`features [items, 1, num_features]` float32, and the observed fraction of each channel as `hidden`."""
        with torch.no_grad():
            observed = data["observed"].float().sum(1) / data["length"].unsqueeze(1)
            return {
                "features": self.encode_items(data).unsqueeze(1),
                "hidden": observed.unsqueeze(1),
                "length": torch.ones_like(data["length"]),
                "times": self.times(data, 1),
            }

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        if "hidden" in data:
            return data["times"]
        return window_times(data, length, data["values"].shape[1], 1)


class RocketFeatures(nn.Module):
    """The features of MiniRocket or MultiRocket of prepared series: of their steps, and optionally of the differences
    of successive steps.

    num_features: number of features of one pooling, rounded down to a multiple of 84
    """

    def __init__(self, channels: int, steps: int, num_features: int, pooling: str, first_difference: bool) -> None:
        super().__init__()
        per_kernel = num_features // len(TRIPLES)
        poolings = ALL_POOLINGS if pooling == "all" else ALL_POOLINGS[:1]
        self.steps = RocketTransform(channels, steps, per_kernel, poolings)
        self.differences = (
            RocketTransform(channels, max(1, steps - 1), per_kernel, poolings) if first_difference else None
        )
        self.num_features = self.steps.num_features * (1 + first_difference)

    @property
    def is_fitted(self) -> bool:
        return bool(self.steps.is_fitted)

    def fit(self, data: dict[str, Tensor]) -> None:
        """Fit dilations and biases to prepared training items. Draws from torch's global generator."""
        self.steps.fit(data["values"], data["length"])
        if self.differences is not None:
            self.differences.fit(*_differences(data))

    def forward(self, data: dict[str, Tensor]) -> Tensor:
        """The features `[items, num_features]` float32 of `values [items, steps, channels]` and `length [items]`."""
        features: Tensor = self.steps(data["values"], data["length"])
        if self.differences is None:
            return features
        return torch.cat([features, self.differences(*_differences(data))], dim=1)


def _differences(data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The differences of successive steps, 0 after the last one, and their number; one difference of 0 for a series of
    one step."""
    values, length = data["values"], data["length"]
    if values.shape[1] < 2:
        return torch.zeros_like(values), length
    real = torch.arange(1, values.shape[1], device=values.device) < length.unsqueeze(1)
    return values.diff(dim=1) * real.unsqueeze(-1), (length - 1).clamp_min(1)
