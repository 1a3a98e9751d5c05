"""Trains on easy-VQA with Ludwig. Arguments: rows.json, epochs, rows. Prints one line of JSON.

Before the clock starts, images are decoded with Pillow into tensors, and Ludwig's own preprocessing is done: Ludwig
trains from memory.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from ludwig.api import LudwigModel
from ludwig.callbacks import Callback
from PIL import Image

BATCH = 256
CONFIG: dict[str, Any] = {
    "input_features": [
        {
            "name": "image",
            "type": "image",
            "preprocessing": {"height": 64, "width": 64, "num_channels": 3},
            "encoder": {
                "type": "stacked_cnn",
                "norm": "batch",
                "conv_layers": [
                    {"out_channels": 32, "kernel_size": 7, "stride": 4, "padding": 3, "pool_kernel_size": None},
                    {"out_channels": 32, "kernel_size": 3, "padding": "same", "pool_kernel_size": None},
                    {"out_channels": 64, "kernel_size": 3, "stride": 2, "padding": 1, "pool_kernel_size": None},
                    {"out_channels": 64, "kernel_size": 3, "padding": "same", "pool_kernel_size": None},
                    {"out_channels": 128, "kernel_size": 3, "stride": 2, "padding": 1, "pool_kernel_size": None},
                    {"out_channels": 64, "kernel_size": 3, "padding": "same", "pool_kernel_size": None},
                ],
                "fc_layers": [{"output_size": 128}],
            },
        },
        {
            "name": "question",
            "type": "text",
            "preprocessing": {"tokenizer": "space_punct"},
            "encoder": {"type": "embed", "embedding_size": 64, "reduce_output": "mean"},
        },
    ],
    "combiner": {"type": "concat", "fc_layers": [{"output_size": 128}]},
    "output_features": [{"name": "answer", "type": "category"}],
    "trainer": {"batch_size": BATCH, "learning_rate": 0.002, "optimizer": {"type": "adamw"}, "early_stop": -1},
}


class Clock(Callback):
    """Seconds of each epoch's steps, from the start of its first batch to the end of its last."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.start: float | None = None

    def on_epoch_start(self, trainer: Any, progress_tracker: Any, save_path: str) -> None:
        self.start = None

    def on_batch_start(self, trainer: Any, progress_tracker: Any, save_path: str) -> None:
        if self.start is None:
            self.start = time.perf_counter()
            self.seconds.append(0.0)

    def on_batch_end(self, trainer: Any, progress_tracker: Any, save_path: str, sync_step: bool = True) -> None:
        assert self.start is not None
        self.seconds[-1] = time.perf_counter() - self.start


def frame(part: dict[str, list[str]], rows: int) -> pd.DataFrame:
    """A data frame whose images are tensors `[3, 64, 64]`."""
    chosen = {name: column[:rows] for name, column in part.items()}
    images = {path: decode(path) for path in set(chosen["image"])}
    return pd.DataFrame({**chosen, "image": [images[path] for path in chosen["image"]]})


def decode(path: str) -> torch.Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def main(file: str, epochs: int, rows: int) -> None:
    parts = json.loads(Path(file).read_text())
    train, test = frame(parts["train"], rows), frame(parts["test"], max(rows, 10))
    config = {**CONFIG, "trainer": {**CONFIG["trainer"], "epochs": epochs}}
    clock = Clock()
    model = LudwigModel(config, logging_level=40, callbacks=[clock])
    with TemporaryDirectory() as folder:
        model.train(
            training_set=train,
            validation_set=test.iloc[:512],
            test_set=test.iloc[:512],
            random_seed=0,
            output_directory=folder,
            skip_save_processed_input=True,
            skip_save_model=True,
            skip_save_log=True,
        )
        start = time.perf_counter()
        predictions, _ = model.predict(test, output_directory=folder)
        spent = time.perf_counter() - start
    predicted = predictions["answer_predictions"].to_numpy()
    result = {
        "rows_per_second": [len(train) / seconds for seconds in clock.seconds],
        "seconds": sum(clock.seconds),
        "accuracy": float((predicted == test["answer"].to_numpy()).mean()),
        "prediction_rows_per_second": len(test) / spent,
        "parameters": sum(parameter.numel() for parameter in model.model.parameters()),
        "versions": {name: version(name) for name in ("ludwig", "torch", "torchvision")},
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
