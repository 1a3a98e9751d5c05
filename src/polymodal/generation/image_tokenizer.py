"""The tokenizer of images: a discrete autoencoder that is trained on the training images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from polymodal.nn.layers.image_autoencoder import ImageAutoencoder
from polymodal.runtime.random_state import isolated_random_state

#: Images that are encoded or decoded at once.
CHUNK_IMAGES = 256


class AutoencoderConfig(NamedTuple):
    """The shape of an autoencoder, as in `ImageAutoencoder`, for square images of `image_size` pixels."""

    image_size: int
    patch_size: int
    channels: int
    levels: tuple[int, ...]


class ImageTokenizer:
    """Images `[n, size, size, 3]` uint8 as tokens `[n, num_tokens]`, row by row from the upper left.

    vocab_size: number of different tokens
    num_tokens: number of tokens of an image

    Example:
        >>> images = np.zeros((4, 32, 32, 3), np.uint8)
        >>> tokenizer = ImageTokenizer.train(images, AutoencoderConfig(32, 8, 8, (5, 5)), steps=1)
        >>> tokens = tokenizer.encode(images)
        >>> tokens.shape, tokenizer.decode(tokens).shape
        ((4, 16), (4, 32, 32, 3))
    """

    def __init__(self, autoencoder: ImageAutoencoder, config: AutoencoderConfig) -> None:
        self.autoencoder, self.config = autoencoder.eval().requires_grad_(False), config
        self.vocab_size = autoencoder.quantizer.vocab_size
        self.side = config.image_size // config.patch_size
        self.num_tokens = self.side**2

    @classmethod
    def train(
        cls,
        images: np.ndarray,
        config: AutoencoderConfig,
        *,
        steps: int,
        batch_size: int = 32,
        learning_rate: float = 6e-3,
    ) -> ImageTokenizer:
        """Train an autoencoder on `images [n, size, size, 3]` uint8, for the sum of the mean absolute and the mean
        squared error of the pixels: the second learns the colors of small figures sooner, the first keeps edges sharp.

        The optimizer is Adam, with a learning rate that warms up over the first tenth of the steps and falls to 0 by a
        cosine. The same images give the same tokenizer.
        """
        with isolated_random_state(0):
            autoencoder = ImageAutoencoder(config.channels, config.patch_size, config.levels)
        optimizer = torch.optim.Adam(autoencoder.parameters(), learning_rate)
        warmup = max(1, steps // 10)
        draw = np.random.default_rng(0)
        for step in range(steps):
            batch = _to_pixels(images[draw.integers(len(images), size=min(batch_size, len(images)))])
            rate = min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * rate
            optimizer.zero_grad()
            reconstruction = autoencoder(batch)
            loss = functional.l1_loss(reconstruction, batch) + functional.mse_loss(reconstruction, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return cls(autoencoder, config)

    def encode(self, images: np.ndarray) -> np.ndarray:
        """The tokens `[n, num_tokens]` int64 of images `[n, size, size, 3]` uint8."""
        with torch.no_grad():
            parts = [
                self.autoencoder.encode(_to_pixels(images[start : start + CHUNK_IMAGES])).flatten(1)
                for start in range(0, len(images), CHUNK_IMAGES)
            ]
        return torch.cat(parts).numpy() if parts else np.zeros((0, self.num_tokens), np.int64)

    def decode(self, tokens: np.ndarray) -> np.ndarray:
        """The images `[n, size, size, 3]` uint8 of tokens `[n, num_tokens]`."""
        size = self.config.image_size
        grids = torch.from_numpy(np.ascontiguousarray(tokens)).view(-1, self.side, self.side)
        with torch.no_grad():
            parts = [
                ((self.autoencoder.decode(chunk).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(1, -1)
                for chunk in (grids[start : start + CHUNK_IMAGES] for start in range(0, len(grids), CHUNK_IMAGES))
            ]
        return torch.cat(parts).numpy() if len(tokens) else np.zeros((0, size, size, 3), np.uint8)

    def state_dict(self) -> dict[str, Tensor]:
        """The weights by name."""
        return self.autoencoder.state_dict()

    @classmethod
    def load(cls, weights: Mapping[str, Tensor], config: AutoencoderConfig) -> ImageTokenizer:
        """Restore a tokenizer from its weights."""
        autoencoder = ImageAutoencoder(config.channels, config.patch_size, config.levels)
        autoencoder.load_state_dict(weights)
        return cls(autoencoder, config)


def _to_pixels(images: np.ndarray) -> Tensor:
    """`[n, size, size, 3]` uint8 -> `[n, 3, size, size]` fp32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, 1).float() / 127.5 - 1
