"""Hand-written PyTorch loops over Polymodal's own network: the code of a careful user without Polymodal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from benchmarks.vqa import InMemory
from polymodal.core.types import Batch, InputBatch
from polymodal.nn.network import Network
from polymodal.runtime.compute import ComputeConfig

Batches = Iterator[tuple[Batch, Tensor]]


def one_image_per_row(data: InMemory, batch: int) -> Batches:
    """Shuffled rows in batches, each row with its own copy of its image: the usual loop."""
    for rows in torch.randperm(len(data.target)).split(batch):
        yield _batch(data, rows, data.images.index_select(0, data.image[rows]), torch.arange(len(rows)))


def shared_images(data: InMemory, batch: int) -> Batches:
    """Shuffled images with all their rows in batches of about `batch` rows, each image once."""
    rows_of = torch.argsort(data.image).split(torch.bincount(data.image).tolist())
    per_batch = max(1, round(batch * len(rows_of) / len(data.target)))
    for images in torch.randperm(len(rows_of)).split(per_batch):
        rows = torch.cat([rows_of[image] for image in images.tolist()])
        index = torch.repeat_interleave(torch.tensor([len(rows_of[image]) for image in images.tolist()]))
        yield _batch(data, rows, data.images.index_select(0, images), index)


def _batch(data: InMemory, rows: Tensor, pixels: Tensor, index: Tensor) -> tuple[Batch, Tensor]:
    all_present = torch.ones(len(rows), dtype=torch.bool)
    text = {"values": data.tokens[rows], "length": data.length[rows]}
    inputs = {
        "image": InputBatch({"pixels": pixels}, index, all_present),
        "question": InputBatch(text, torch.arange(len(rows)), all_present),
    }
    return Batch(inputs, {}, rows), data.target[rows]


def train(network: Network, batches: Batches, steps: int, compute: ComputeConfig, *, plain: bool) -> float:
    """Rows per second of up to `steps` optimizer steps.

    plain: AdamW with its defaults; otherwise fused, with gradient clipping and a schedule, as in Polymodal
    """
    network.train()
    optimizer = AdamW(network.parameters(), lr=2e-3, fused=None if plain else True)
    schedule = None if plain else OneCycleLR(optimizer, 2e-3, total_steps=steps + 1)
    rows, start = 0, time.perf_counter()
    with compute.active():
        for _, (batch, target) in zip(range(steps), batches, strict=False):
            loss = cross_entropy(network(batch)["answer"].values, target)
            optimizer.zero_grad()
            loss.backward()
            if schedule:
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            if schedule:
                schedule.step()
            rows += len(batch)
    return rows / (time.perf_counter() - start)


def predict(network: Network, data: InMemory, batch: int, compute: ComputeConfig) -> float:
    """Rows per second of predicting all rows in order from memory, each row with its own copy of its image."""
    network.eval()
    answers: list[int] = []
    start = time.perf_counter()
    with torch.inference_mode(), compute.active():
        for rows in torch.arange(len(data.target)).split(batch):
            pixels = data.images.index_select(0, data.image[rows])
            one, _ = _batch(data, rows, pixels, torch.arange(len(rows)))
            answers += network(one)["answer"].values.argmax(1).tolist()
    return len(answers) / (time.perf_counter() - start)


def predict_files(
    network: Network, files: list[str], questions: list[str], tokenize: Callable[[list[str]], Tensor], batch: int
) -> float:
    """Rows per second of predicting from files, which are opened and decoded row by row, in fp32.

    tokenize: texts to token ids `[texts, length]`, padded with 0
    """
    network.eval()
    answers: list[int] = []
    start = time.perf_counter()
    with torch.inference_mode():
        for first in range(0, len(files), batch):
            pixels = torch.stack([read_pixels(file) for file in files[first : first + batch]])
            tokens = tokenize(questions[first : first + batch])
            answers += network(one_batch(pixels, tokens))["answer"].values.argmax(1).tolist()
    return len(answers) / (time.perf_counter() - start)


def read_pixels(file: str) -> Tensor:
    """A file's pixels `[3, height, width]` uint8."""
    with Image.open(file) as image:
        bands = image.convert("RGB")
        flat = torch.frombuffer(bytearray(bands.tobytes()), dtype=torch.uint8)
        return flat.view(bands.height, bands.width, 3).permute(2, 0, 1)


def one_batch(pixels: Tensor, tokens: Tensor) -> Batch:
    """A batch of rows that share no items."""
    rows = torch.arange(len(pixels))
    all_present = torch.ones(len(rows), dtype=torch.bool)
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    inputs = {
        "image": InputBatch({"pixels": pixels}, rows, all_present),
        "question": InputBatch({"values": tokens, "length": (tokens > 0).sum(1)}, rows, all_present),
    }
    return Batch(inputs, {}, rows)
