"""The network of the demo in plain PyTorch: a small residual network, a bag of words, and their product."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH, CHANNELS, EMBEDDING = 128, 32, 64


class Residual(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class SmallNetwork(nn.Module):
    """Images `[batch, 3, 64, 64]` in -1 to 1 and token ids `[batch, length]` (0: padding) -> logits `[batch,
    answers]`."""

    def __init__(self, vocabulary: int, answers: int) -> None:
        super().__init__()
        one, two, three = CHANNELS, 2 * CHANNELS, 4 * CHANNELS
        self.image = nn.Sequential(
            nn.Conv2d(3, one, 7, 4, 3, bias=False),
            nn.BatchNorm2d(one),
            nn.ReLU(inplace=True),
            Residual(one, one, 1),
            Residual(one, two, 2),
            Residual(two, three, 2),
        )
        self.project = nn.Linear(three, WIDTH)
        self.positions = nn.Parameter(0.3 * torch.randn(16, WIDTH))
        self.embedding = nn.Embedding(vocabulary, EMBEDDING, padding_idx=0)
        self.question = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(EMBEDDING, WIDTH), nn.ReLU(), nn.Dropout(0.1), nn.Linear(WIDTH, WIDTH)
        )
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.decoder = nn.Sequential(nn.Linear(WIDTH, 128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, answers))

    def forward(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        regions = self.project(self.image(pixels).flatten(2).transpose(1, 2)) + self.positions
        real = (tokens > 0).unsqueeze(-1)
        words = (self.embedding(tokens) * real).sum(1) / real.sum(1).clamp_min(1)
        image, question = self.norms[0](regions).mean(1), self.norms[1](self.question(words))
        return self.decoder(image * question)
