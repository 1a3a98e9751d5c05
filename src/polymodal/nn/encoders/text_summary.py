"""From the tokens of a text to one vector, as the checkpoint was trained to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from polymodal.core.errors import RecipeError
from polymodal.pretrained.card import Card


@dataclass(frozen=True)
class Pooling:
    """modes: each gives a vector of the tokens' width; several stand side by side. normalise: to length 1"""

    modes: tuple[str, ...]
    normalise: bool = False

    @classmethod
    def of(cls, card: Card) -> Pooling:
        """What the files of a checkpoint say; else the last token of decoder language models, and the mean of others.

        Raises:
            RecipeError: they name a way of pooling that is not known here.
        """
        said: dict[str, Any] = card.files.get("pooling", {})
        modes = [name for key, name in _FLAGS.items() if said.get(key)]
        if "pooling_mode" in said:
            named = said["pooling_mode"]
            modes = [named] if isinstance(named, str) else list(named)
        modes = modes or ["lasttoken" if is_decoder(card) else "mean"]
        unknown = [mode for mode in modes if mode not in _MODES]
        if unknown:
            raise RecipeError("model", f"{card.model} pools its tokens by {unknown[0]!r}, which is not known here")
        modules: list[dict[str, Any]] = card.files.get("modules", [])
        normalise = any(module.get("type", "").endswith("Normalize") for module in modules)
        return cls(tuple(modes), normalise)

    def __call__(self, features: Tensor, mask: Tensor) -> Tensor:
        """features `[items, length, n]`, mask `[items, length]`, real tokens first -> `[items, modes n]`"""
        pooled = torch.cat([_MODES[mode](features, mask) for mode in self.modes], dim=1)
        return functional.normalize(pooled, dim=1) if self.normalise else pooled


def is_decoder(card: Card) -> bool:
    """Whether the network of a checkpoint is a decoder language model, whose tokens see only those before them."""
    from transformers.models.auto import modeling_auto as known

    config = card.config
    kind = config["model_type"]
    masked = kind in known.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return kind in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not masked and not config.get("is_encoder_decoder")


def _mean(features: Tensor, mask: Tensor) -> Tensor:
    return features.masked_fill(~mask[:, :, None], 0).sum(1) / mask.sum(1, keepdim=True)


def _by_root(features: Tensor, mask: Tensor) -> Tensor:
    return features.masked_fill(~mask[:, :, None], 0).sum(1) / mask.sum(1, keepdim=True).sqrt()


def _weighted(features: Tensor, mask: Tensor) -> Tensor:
    """Later tokens count more: token `i`, from 1, counts `i` times."""
    share = torch.arange(1, mask.shape[1] + 1, device=mask.device) * mask
    return (features.masked_fill(~mask[:, :, None], 0) * share[:, :, None]).sum(1) / share.sum(1, keepdim=True)


def _largest(features: Tensor, mask: Tensor) -> Tensor:
    return features.masked_fill(~mask[:, :, None], -torch.inf).amax(1)


def _first(features: Tensor, mask: Tensor) -> Tensor:
    return features[:, 0]


def _last(features: Tensor, mask: Tensor) -> Tensor:
    return features[torch.arange(len(features), device=mask.device), mask.sum(1) - 1]


#: The names that sentence-transformers gives them, as values of `pooling_mode` and as switches of older files.
_MODES = {
    "cls": _first,
    "max": _largest,
    "mean": _mean,
    "mean_sqrt_len_tokens": _by_root,
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
