"""An autoencoder of images with a discrete code: finite scalar quantization."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

#: Factor of the initial weights before the quantizer, so that different images begin with different tokens.
CODE_GAIN = 4.0


class FiniteScalarQuantizer(nn.Module):
    """Rounds each of d numbers to one of `levels[i]` values (Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made
    Simple", 2023, section 3):

        z_i -> round(h_i tanh(z_i + s_i) - o_i) / floor(L_i / 2),   h_i = (L_i - 1) (1 + 1e-3) / 2

    where o_i is 1/2 for even L_i and otherwise 0, and s_i = atanh(o_i / h_i). The gradient passes the rounding
    unchanged. A token is the index of a combination of values, so there are `prod(levels)` tokens, all of which can
    occur, and no codebook is learned.

    Example:
        >>> quantizer = FiniteScalarQuantizer([3, 5])
        >>> quantizer.tokens(quantizer(torch.zeros(1, 2))).tolist()
        [7]
        >>> quantizer.codes(torch.tensor([7])).tolist()
        [[0.0, 0.0]]
    """

    levels: Tensor
    place_values: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.vocab_size = math.prod(levels)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        places = [math.prod(levels[:index]) for index in range(len(levels))]
        self.register_buffer("place_values", torch.tensor(places), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """The codes `[..., d]` in [-1, 1] of `z [..., d]`."""
        half = (self.levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        bounded = torch.tanh(z + torch.atanh(offset / half)) * half - offset
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / (self.levels // 2)

    def tokens(self, codes: Tensor) -> Tensor:
        """The tokens `[...]` int64 of codes `[..., d]`."""
        half = self.levels // 2
        return ((codes * half + half).round().long() * self.place_values).sum(-1)

    def codes(self, tokens: Tensor) -> Tensor:
        """The codes `[..., d]` of tokens `[...]`."""
        half = self.levels // 2
        digits = tokens.unsqueeze(-1) // self.place_values % self.levels
        return (digits - half) / half


class ImageAutoencoder(nn.Module):
    """A convolutional encoder, `FiniteScalarQuantizer`, and a convolutional decoder.

    The encoder reads overlapping patches of twice the `patch_size` in one convolution, and the decoder gives the pixels
    of a patch as the channels of one position (Shi et al., "Real-Time Single Image and Video Super-Resolution Using an
    Efficient Sub-Pixel Convolutional Neural Network", 2016), so that all other layers work on the grid of tokens:
    residual blocks of two 3x3 convolutions. There is no normalization.

    channels: channels on the grid of tokens
    patch_size: pixels per token in height and width, an even number

    Example:
        >>> autoencoder = ImageAutoencoder(8, 4, [8, 6, 5])
        >>> tokens = autoencoder.encode(torch.zeros(2, 3, 32, 32))
        >>> tokens.shape, autoencoder.decode(tokens).shape
        (torch.Size([2, 8, 8]), torch.Size([2, 3, 32, 32]))
    """

    def __init__(self, channels: int, patch_size: int, levels: Sequence[int]) -> None:
        super().__init__()
        code = nn.Conv2d(channels, len(levels), 1)
        with torch.no_grad():
            code.weight *= CODE_GAIN
        self.encoder = nn.Sequential(
            nn.Conv2d(3, channels, 2 * patch_size, stride=patch_size, padding=patch_size // 2),
            _ResidualBlock(channels),
            nn.SiLU(),
            code,
        )
        self.quantizer = FiniteScalarQuantizer(levels)
        self.decoder = nn.Sequential(
            nn.Conv2d(len(levels), channels, 3, padding=1),
            _ResidualBlock(channels),
            _ResidualBlock(channels),
            nn.SiLU(),
            nn.Conv2d(channels, 3 * patch_size**2, 3, padding=1),
            nn.PixelShuffle(patch_size),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """The reconstruction of `pixels [batch, 3, height, width]`, whose values are in [-1, 1]."""
        codes = self.quantizer(self.encoder(pixels).movedim(1, -1))
        reconstruction: Tensor = self.decoder(codes.movedim(-1, 1))
        return reconstruction

    def encode(self, pixels: Tensor) -> Tensor:
        """The tokens `[batch, height / patch_size, width / patch_size]` of `pixels [batch, 3, height, width]`."""
        return self.quantizer.tokens(self.quantizer(self.encoder(pixels).movedim(1, -1)))

    def decode(self, tokens: Tensor) -> Tensor:
        """The pixels `[batch, 3, height, width]` of tokens `[batch, rows, columns]`, in about [-1, 1]."""
        pixels: Tensor = self.decoder(self.quantizer.codes(tokens).movedim(-1, 1))
        return pixels


class _ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.layers(x)
        return x + added
