"""Trains on easy-VQA with the Trainer of transformers. Arguments: rows.json, `files` or `memory`, epochs, rows.

Prints one line of JSON. `files`: the data set opens and decodes an image per sample with Pillow, as is usual with
the Trainer. `memory`: all speed options of the Trainer that apply: pixels and tokens are tensors in memory, bf16, fused
AdamW, and the network is channels-last.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from small_network import SmallNetwork
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

LENGTH, BATCH = 16, 256


def decode(path: str) -> Tensor:
    """Pixels `[3, 64, 64]` from -1 to 1."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").resize((64, 64)), dtype=np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1


class Rows(Dataset):
    """The rows of one split; a sample is a dict for the default collator."""

    def __init__(self, part: dict[str, list[str]], words: dict[str, int], answers: list[str], memory: bool) -> None:
        self.paths = part["image"]
        self.labels = [answers.index(answer) for answer in part["answer"]]
        self.tokens = torch.zeros(len(self.paths), LENGTH, dtype=torch.long)
        for row, question in enumerate(part["question"]):
            ids = [words.get(word, 1) for word in split(question)][:LENGTH]
            self.tokens[row, : len(ids)] = torch.tensor(ids)
        self.pixels = {path: decode(path) for path in set(self.paths)} if memory else None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> dict[str, Any]:
        path = self.paths[row]
        pixels = self.pixels[path] if self.pixels else decode(path)
        return {"pixels": pixels, "tokens": self.tokens[row], "labels": self.labels[row]}


class Wrapped(nn.Module):
    """The network with the interface of the Trainer: labels in, loss out."""

    def __init__(self, network: SmallNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor, tokens: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.network(pixels, tokens)
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits.float(), labels), "logits": logits}


class Clock(TrainerCallback):
    """Seconds of each epoch's steps."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def split(question: str) -> list[str]:
    return re.findall(r"\w+", question.lower())


def main(file: str, variant: str, epochs: int, rows: int) -> None:
    parts = json.loads(Path(file).read_text())
    train = {name: column[:rows] for name, column in parts["train"].items()}
    words = {word: 2 + i for i, word in enumerate(sorted({w for q in train["question"] for w in split(q)}))}
    answers = sorted(set(train["answer"]))
    memory = variant == "memory"
    torch.manual_seed(0)
    network = SmallNetwork(len(words) + 2, len(answers))
    if memory:
        network.to(memory_format=torch.channels_last)
    clock = Clock()
    with TemporaryDirectory() as folder:
        options = TrainingArguments(
            output_dir=folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=1024,
            learning_rate=2e-3,
            weight_decay=0.01,
            lr_scheduler_type="cosine",
            warmup_steps=round(0.05 * epochs * len(train["image"]) / BATCH),
            use_cpu=True,
            bf16=memory,
            optim="adamw_torch_fused" if memory else "adamw_torch",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = Trainer(
            Wrapped(network), options, train_dataset=Rows(train, words, answers, memory), callbacks=[clock]
        )
        trainer.train()
        test = Rows({name: c[: max(rows, 10)] for name, c in parts["test"].items()}, words, answers, memory)
        start = time.perf_counter()
        predicted = trainer.predict(test).predictions.argmax(1)
        spent = time.perf_counter() - start
    result = {
        "rows_per_second": [len(train["image"]) / seconds for seconds in clock.seconds],
        "seconds": sum(clock.seconds),
        "accuracy": float((predicted == np.array(test.labels)).mean()),
        "prediction_rows_per_second": len(test) / spent,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
