"""Pooling of token features into one vector per text, as the checkpoint was trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from polymodal.core.errors import RecipeError
from polymodal.pretrained.checkpoint_config import CheckpointConfig


@dataclass(frozen=True)
class TextPooling:
    """Pooling of sentence encoders.

    modes: pooling modes; the outputs of several modes are concatenated
    normalize: scale the result to unit length
    """

    modes: tuple[str, ...]
    normalize: bool = False

    @classmethod
    def from_checkpoint(cls, checkpoint: CheckpointConfig) -> TextPooling:
        """The pooling that the files of a checkpoint define. Default: the last token for decoder language models, the
        mean for others.

        Raises:
            RecipeError: the files name an unsupported pooling mode.
        """
        config: dict[str, Any] = checkpoint.files.get("pooling", {})
        modes = [name for key, name in _FLAGS.items() if config.get(key)]
        if "pooling_mode" in config:
            named_modes = config["pooling_mode"]
            modes = [named_modes] if isinstance(named_modes, str) else list(named_modes)
        modes = modes or ["lasttoken" if is_decoder(checkpoint) else "mean"]
        unknown = [mode for mode in modes if mode not in _MODES]
        if unknown:
            raise RecipeError("checkpoint", f"{checkpoint.name} uses the unsupported pooling mode {unknown[0]!r}")
        modules: list[dict[str, Any]] = checkpoint.files.get("modules", [])
        normalize = any(module.get("type", "").endswith("Normalize") for module in modules)
        return cls(tuple(modes), normalize)

    def __call__(self, features: Tensor, mask: Tensor) -> Tensor:
        """`features [items, length, n]`, `mask [items, length]`, real tokens first -> `[items, modes * n]`."""
        pooled = torch.cat([_MODES[mode](features, mask) for mode in self.modes], dim=1)
        return functional.normalize(pooled, dim=1) if self.normalize else pooled


def is_decoder(checkpoint: CheckpointConfig) -> bool:
    """Whether the network of a checkpoint is a causal language model."""
    from transformers.models.auto import modeling_auto as auto_models

    config = checkpoint.config
    model_type = config["model_type"]
    masked = model_type in auto_models.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return (
        model_type in auto_models.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and not masked
        and not config.get("is_encoder_decoder")
    )


def _mean(features: Tensor, mask: Tensor) -> Tensor:
    return features.masked_fill(~mask[:, :, None], 0).sum(1) / mask.sum(1, keepdim=True)


def _mean_sqrt_len(features: Tensor, mask: Tensor) -> Tensor:
    return features.masked_fill(~mask[:, :, None], 0).sum(1) / mask.sum(1, keepdim=True).sqrt()


def _weighted(features: Tensor, mask: Tensor) -> Tensor:
    """Position-weighted mean: token `i`, from 1, has weight `i`."""
    weights = torch.arange(1, mask.shape[1] + 1, device=mask.device) * mask
    return (features.masked_fill(~mask[:, :, None], 0) * weights[:, :, None]).sum(1) / weights.sum(1, keepdim=True)


def _max(features: Tensor, mask: Tensor) -> Tensor:
    return features.masked_fill(~mask[:, :, None], -torch.inf).amax(1)


def _first(features: Tensor, mask: Tensor) -> Tensor:
    return features[:, 0]


def _last(features: Tensor, mask: Tensor) -> Tensor:
    return features[torch.arange(features.shape[0], device=mask.device), mask.sum(1) - 1]


#: Names of pooling modes in sentence-transformers: values of `pooling_mode`, and flags in older files.
_MODES = {
    "cls": _first,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted,
    "lasttoken": _last,
}
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
