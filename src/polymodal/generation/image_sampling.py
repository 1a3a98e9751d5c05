"""Sampling of the tokens of images from a `DecodingState`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor

from polymodal.core.errors import TrainingError
from polymodal.core.options import MAX_SEED, StrictModel
from polymodal.generation.config import GenerationConfig
from polymodal.generation.sampling_distribution import RowSeededUniforms, probabilities, sample
from polymodal.nn.decoders.text_decoder import DecodingState


class ImageSamplingConfig(StrictModel):
    """Options of image generation. Default: sampling from the predicted probabilities.

    Example:
        >>> ImageSamplingConfig(temperature=0.8, top_k=32).top_k
        32
    """

    temperature: float = Field(default=1.0, ge=0)
    """Tokens are sampled from probabilities to the power 1 / temperature; 0 gives the most likely token."""
    top_k: int | None = Field(default=None, ge=1)
    """Sample from this many most likely tokens."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Sample from the smallest set of tokens whose total probability reaches this value."""
    num_return_sequences: int = Field(default=1, ge=1, le=1024)
    """Number of images per row. A prediction is the first of them."""
    seed: int = Field(default=0, ge=0, le=MAX_SEED)
    """Seed of the sampling; the draws of a row depend on it and on the number of the row in its table."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        sampled = [name for name in ("top_k", "top_p") if getattr(self, name) is not None]
        sampled += [name for name in ("seed",) if getattr(self, name)]
        sampled += [name for name in ("num_return_sequences",) if getattr(self, name) > 1]
        if sampled and self.temperature == 0:
            raise ValueError(f"{sampled[0]} requires sampling; set temperature above 0")
        return self


def override_sampling(config: ImageSamplingConfig, changes: dict[str, Any], path: str) -> ImageSamplingConfig:
    """A copy of `config` with some options changed.

    Raises:
        RecipeError: an option is unknown, or the options are inconsistent; `path` is the recipe key of the config.
    """
    from polymodal.recipe.validation_errors import recipe_error

    try:
        return ImageSamplingConfig(**{**config.model_dump(exclude_unset=True), **changes})
    except ValidationError as error:
        raise recipe_error(ImageSamplingConfig, error).with_prefix(path) from None


def sample_image_tokens(
    state: DecodingState, config: ImageSamplingConfig, num_tokens: int, row_numbers: Sequence[int]
) -> Tensor:
    """Sample the tokens of images, `[rows * num_return_sequences, num_tokens]` int64; those of a row are consecutive.

    row_numbers: number of each row in its table. The random draws of a row depend on it, and not on the other rows

    Raises:
        TrainingError: the logits of the decoder are not finite.
    """
    samples, rows = config.num_return_sequences, len(row_numbers)
    logits = state.step(None)
    if samples > 1:
        copies = torch.arange(rows, device=logits.device).repeat_interleave(samples)
        state.reorder(copies)
        logits = logits.index_select(0, copies)
    uniforms = RowSeededUniforms(config.seed, row_numbers, samples)
    every = torch.arange(rows * samples, device=logits.device)
    sampling = GenerationConfig(
        temperature=config.temperature,
        **{name: value for name in ("top_k", "top_p") if (value := getattr(config, name)) is not None},
    )
    tokens: list[Tensor] = []
    finite = torch.ones((), dtype=torch.bool, device=logits.device)
    for step in range(num_tokens):
        finite = finite & torch.isfinite(logits).all()
        if config.temperature == 0:
            selected = logits.argmax(-1)
        else:
            selected = sample(probabilities(logits, sampling), uniforms.uniform(every, step))
        tokens.append(selected)
        if step + 1 < num_tokens:
            logits = state.step(selected)
    if not bool(finite):
        raise TrainingError("the logits of the decoder are not finite: its weights or inputs are not finite")
    return torch.stack(tokens, dim=1)
