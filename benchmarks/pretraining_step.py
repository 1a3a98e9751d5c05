"""Contrastive pretraining: pairs per second of processor time, against a hand-written loop of the same two towers."""

from __future__ import annotations

import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from benchmarks.measure import interleaved
from benchmarks.record import Record
from benchmarks.single_steps import stepping
from polymodal.core.progress import Progress
from polymodal.data.partition import Split
from polymodal.data.table.table import open_table
from polymodal.datasets.pairs import make_planted_pairs
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.experiments.plan import complete_schedule, make_plan
from polymodal.model.make_network import make_network
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.compute import keep_freed_memory
from polymodal.training.trainer import Trainer

WIDTH, LAYERS, HEADS, SIZE, BATCH, RATE, DROPOUT = 160, 3, 4, 128, 128, 1e-3, 0.1
PIXELS, PATCH, WORDS = 64, 8, 12
#: The target in pairs per second of processor time, for a model of 1.9 million parameters.
TARGET = 170


def run(smallest: bool) -> Record:
    """Pairs per CPU second of contrastive training steps, per contestant."""
    record = Record(
        name="pretraining_step",
        title="Contrastive pretraining of images and texts",
        method=(
            f"A vision Transformer of {LAYERS} layers over {PIXELS} x {PIXELS} pixels in patches of {PATCH}, a text "
            f"Transformer of {LAYERS} layers, both of width {WIDTH} with {HEADS} heads, linear heads of dimension "
            f"{SIZE}; InfoNCE in both directions with a learned temperature among {BATCH} pairs; fused AdamW, "
            "clipping and a schedule; one thread. Polymodal: one epoch of the trainer, with all work of a step "
            "(batches from the memory-mapped store, monitor, log). The hand-written loop: towers of the same sizes "
            "from torch's own modules (norm first, GELU), decoded images and tokenized texts in memory. Processor "
            "seconds of the whole process, only in the steps."
        ),
        unit="pairs/CPU-s",
        larger_is_better=True,
    )
    rows = BATCH if smallest else 12 * BATCH
    keep_freed_memory()
    with TemporaryDirectory() as place:
        experiment = prepare(Path(place), rows)
        losses: dict[str, float] = {}

        def ours(precision: str) -> float:
            trainer = make_trainer(experiment, precision)
            record.facts["Polymodal: parameters"] = sum(one.numel() for one in trainer.network.parameters())
            with stepping(trainer):
                start = time.process_time()
                for batch in trainer.batches:
                    trainer._step(batch)
                spent = time.process_time() - start
            mean_loss = trainer.epoch_losses.read()["contrastive.image-text"] / len(trainer.batches)
            losses[f"Polymodal, {precision}"] = round(mean_loss, 3)
            return rows / spent

        def theirs(precision: str) -> float:
            torch.manual_seed(0)
            pixels, tokens = in_memory(experiment)
            model = TwoTowers(int(experiment.preparation.shapes()["text"]["vocabulary"]), tokens.shape[1])
            record.facts["hand-written: parameters"] = sum(one.numel() for one in model.parameters())
            seconds, loss = by_hand(model, pixels, tokens, precision)
            losses[f"hand-written loop, {precision}"] = round(loss, 3)
            return rows / seconds

        contestants = {}
        for precision in ("fp32", "bf16"):
            contestants[f"Polymodal, {precision}"] = lambda precision=precision: ours(precision)
            contestants[f"hand-written loop, {precision}"] = lambda precision=precision: theirs(precision)
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        interleaved(record, contestants, 1 if smallest else 3, warm=0 if smallest else 1)
        torch.set_num_threads(before)
    for precision in ("fp32", "bf16"):
        record.compare(f"Polymodal, {precision}", f"hand-written loop, {precision}")
    record.facts |= {"pairs": rows, "target, pairs/CPU-s": TARGET, "mean loss of the epoch": losses}
    return record


def prepare(folder: Path, rows: int) -> Experiment:
    """Synthetic pairs of images and texts, prepared."""
    columns = make_planted_pairs(rows, 0, ("image", "text"), pixels=PIXELS)
    draw = np.random.default_rng(0)
    filler = [
        " ".join(draw.choice(["the", "of", "near", "some", "old", "very"], WORDS - 4).tolist()) for _ in range(rows)
    ]
    columns["text"] = [f"{text} {more}" for text, more in zip(columns["text"], filler, strict=True)]
    table = open_table({name: columns[name] for name in ("image", "text")}, cache=folder / "tables")
    shape = {"num_layers": LAYERS, "num_heads": HEADS, "dropout": DROPOUT}
    recipe = Recipe(
        inputs={
            "image": {
                "modality": {
                    "name": "image",
                    "image_size": PIXELS,
                    "horizontal_flip": False,
                    "translate": 0,
                    "brightness": 0,
                    "contrast": 0,
                },
                "encoder": {"name": "vit", "patch_size": PATCH, **shape},
            },
            "text": {"modality": "text", "encoder": {"name": "transformer", **shape}},
        },
        objectives=[{"name": "contrastive", "embedding_dim": SIZE}],
        hidden_size=WIDTH,
        training={
            "epochs": 1,
            "batch_size": BATCH,
            "learning_rate": RATE,
            "num_threads": 1,
            "precision": "fp32",
            "average_top_k": 1,
        },
    )
    complete = complete_schedule(make_plan(table, recipe, pretraining=True).recipe, rows)
    splits = {"train": Split(table, np.arange(rows)), "validation": Split(table, np.arange(BATCH))}
    return prepare_experiment(complete, splits, folder=folder / "prepared", cache=None, progress=Progress(False))


def make_trainer(experiment: Experiment, precision: str) -> Trainer:
    """The trainer of a new network."""
    recipe = experiment.recipe
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"precision": precision})})
    torch.manual_seed(0)
    network = make_network(recipe, experiment.preparation)
    return Trainer(recipe, network, experiment.preparation, experiment.splits)


def in_memory(experiment: Experiment) -> tuple[Tensor, Tensor]:
    """Images `[rows, 3, height, width]` uint8 and texts `[rows, max_length]`, padded with 0."""
    split = experiment.splits["train"]
    batch = experiment.preparation.batch(split.table, split.rows)
    image, text = batch.inputs["image"], batch.inputs["text"]
    pixels = image.data["pixels"].index_select(0, image.index)
    return pixels, text.data["values"].index_select(0, text.index).long()


class TwoTowers(nn.Module):
    """Two Transformers from torch's own modules, each with a linear head on the mean of its tokens."""

    def __init__(self, vocab_size: int, max_length: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.words = nn.Embedding(vocab_size, WIDTH, padding_idx=0)
        self.image_positions = nn.Parameter(torch.randn((PIXELS // PATCH) ** 2, WIDTH) * 0.02)
        self.text_positions = nn.Parameter(torch.randn(max_length, WIDTH) * 0.02)
        self.image, self.text = self._blocks(), self._blocks()
        self.heads = nn.ModuleList(nn.Linear(WIDTH, SIZE) for _ in range(2))
        self.log_scale = nn.Parameter(torch.tensor(-math.log(0.07)))

    @staticmethod
    def _blocks() -> nn.TransformerEncoder:
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, DROPOUT, activation="gelu", batch_first=True, norm_first=True
        )
        return nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(WIDTH), enable_nested_tensor=False)

    def forward(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """InfoNCE in both directions."""
        patches = self.patches(pixels.float().div_(127.5).sub_(1)).flatten(2).transpose(1, 2)
        image = self.image(patches + self.image_positions).mean(1)
        real = tokens > 0
        words = self.text(self.words(tokens) + self.text_positions[: tokens.shape[1]], src_key_padding_mask=~real)
        text = (words * real.unsqueeze(2)).sum(1) / real.sum(1, keepdim=True)
        one, other = (
            functional.normalize(head(x).float(), dim=1) for head, x in zip(self.heads, (image, text), strict=True)
        )
        logits = self.log_scale.exp() * one @ other.T
        own = torch.arange(len(logits))
        return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def by_hand(model: TwoTowers, pixels: Tensor, tokens: Tensor, precision: str) -> tuple[float, float]:
    """Processor seconds of one epoch, and its mean loss."""
    model.train()
    order = torch.randperm(len(pixels))
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    optimizer = AdamW(model.parameters(), lr=RATE, fused=True)
    schedule = OneCycleLR(optimizer, RATE, total_steps=len(batches) + 1)
    total, start = 0.0, time.process_time()
    for rows in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(pixels[rows], tokens[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += float(loss.detach())
    return time.process_time() - start, total / len(batches)
