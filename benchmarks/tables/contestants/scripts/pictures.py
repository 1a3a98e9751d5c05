"""Frozen image features (EfficientNet-lite0, ImageNet) and logistic or ridge regression."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from scripts.frames import of_types
from scripts.heads import fit_head

from polymodal.pretrained.starter.efficientnet_lite import EfficientNetLiteModel
from polymodal.pretrained.starter.registry import folder

WIDTH, SIZE = 1280, 224


def read(path: Path) -> np.ndarray:
    """An image on white, 224 x 224 pixels, as the network expects it."""
    try:
        image = Image.open(path).convert("RGBA")
    except Image.DecompressionBombError:  # one picture of clip_art has 623 million pixels
        image = Image.new("RGBA", (SIZE, SIZE), "white")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return (np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BICUBIC), dtype=np.float32) - 127) / 128


def embed(root: Path, cells: list[str | None], batch: int = 32) -> np.ndarray:
    """Features `[rows, 1280]`; zeros for missing images."""
    model = EfficientNetLiteModel.from_pretrained(folder("efficientnet-lite0")).eval()
    model = model.to(memory_format=torch.channels_last)
    features = np.zeros((len(cells), WIDTH), dtype=np.float32)
    present = [row for row, cell in enumerate(cells) if cell]
    with torch.inference_mode():
        for start in range(0, len(present), batch):
            rows = present[start : start + batch]
            pixels = torch.from_numpy(np.stack([read(root / cells[row]) for row in rows])).permute(0, 3, 1, 2)
            features[rows] = model(pixels).pooler_output.flatten(1).numpy()
    return features


def run(job: SimpleNamespace):
    made = []
    for name in of_types(job, "image"):
        cells = [*job.train[name], *job.test[name]]
        made.append(embed(Path(job.root), cells))
    features, rows = np.concatenate(made, axis=1), len(job.train[job.target])
    return fit_head(job, features[:rows], features[rows:])
