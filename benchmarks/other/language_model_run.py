"""Trains a language model with the Trainer of transformers for one epoch. Arguments: a JSON file, fp32 or bf16.

The file has `rows`, the tokens of each text with begin and end tokens, and the sizes of the model and its training.
Prints one line of JSON. All speed options of the Trainer that apply are on: fused AdamW, rows of similar length in a
batch, no logging. The network is a GPT-2 of the same width, layers, heads and vocabulary, with dropout in the same
positions.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments


class Rows(Dataset):
    """Texts as lists of tokens; rows are grouped by `length`."""

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"input_ids": self.rows[row], "length": len(self.rows[row])}


class Clock(TrainerCallback):
    """Seconds of the steps of the epoch."""

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self.seconds = time.perf_counter() - self.start


def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    longest = max(len(row["input_ids"]) for row in rows)
    tokens = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for row, one in enumerate(rows):
        ids = one["input_ids"]
        tokens[row, : len(ids)], mask[row, : len(ids)] = torch.tensor(ids), 1
    return {"input_ids": tokens, "attention_mask": mask, "labels": tokens.masked_fill(mask == 0, -100)}


def main(file: str, precision: str) -> None:
    job = json.loads(Path(file).read_text())
    rows = job["rows"]
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=job["vocabulary"],
        n_positions=max(map(len, rows)),
        n_embd=job["width"],
        n_layer=job["layers"],
        n_head=job["heads"],
        resid_pdrop=job["dropout"],
        embd_pdrop=job["dropout"],
        attn_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=2,
    )
    network, clock = GPT2LMHeadModel(config), Clock()
    with TemporaryDirectory() as folder:
        options = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=job["batch"],
            learning_rate=job["learning_rate"],
            weight_decay=0.01,
            lr_scheduler_type="cosine",
            warmup_steps=5,
            train_sampling_strategy="group_by_length",
            use_cpu=True,
            bf16=precision == "bf16",
            optim="adamw_torch_fused",
            remove_unused_columns=False,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        trainer = Trainer(network, options, train_dataset=Rows(rows), data_collator=collate, callbacks=[clock])
        loss = trainer.train().training_loss
    result = {
        "tokens_per_second": sum(len(row) - 1 for row in rows) / clock.seconds,
        "loss": loss,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
