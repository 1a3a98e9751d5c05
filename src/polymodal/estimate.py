"""What a run would cost: parameters, memory and time per epoch, measured on its first rows."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from polymodal.data.faults import Faults
from polymodal.data.table import Table
from polymodal.model import make_network
from polymodal.plan import Plan
from polymodal.preparation import Preparation
from polymodal.splits import Part
from polymodal.training.loss import Loss
from polymodal.training.machine import choose

SAMPLE_ROWS = 2048


@dataclass(frozen=True)
class Estimate:
    """The cost of a plan.

    parameters: of the network with vocabularies learned from a sample (the whole data may have more)
    training_mib: weights, gradients, optimiser state and the tensors kept for one backward pass, in MiB
    epoch_seconds: one pass over the training rows, from the fastest measured way to compute a step
    preparation_seconds: reading and decoding all rows once, if nothing is cached
    faults: cells of the sample that cannot be used
    """

    parameters: int
    training_mib: float
    epoch_seconds: float
    preparation_seconds: float
    epochs: int
    rows: dict[str, int]
    faults: int
    machine: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        rows = ", ".join(f"{name} {count:,}" for name, count in self.rows.items())
        return (
            f"\nrows {rows}\nparameters {self.parameters:,}   training memory {self.training_mib:,.0f} MiB\n"
            f"preparation {_duration(self.preparation_seconds)}   one epoch {_duration(self.epoch_seconds)}   "
            f"at most {self.epochs} epochs, {_duration(self.epochs * self.epoch_seconds)}"
            + (f"\n{self.faults} cells of the first {SAMPLE_ROWS} rows cannot be used" if self.faults else "")
        )


def estimate(plan: Plan, parts: dict[str, Part]) -> Estimate:
    """Measure the cost of a plan on up to 2,048 of its training rows."""
    recipe, train = plan.recipe, parts["train"]
    batch_rows, epochs = recipe.training.batch or 1, recipe.training.epochs or 1
    sample = np.sort(np.random.default_rng(0).permutation(train.rows)[:SAMPLE_ROWS])
    preparation = Preparation(recipe)
    preparation.fit(train.table, sample)
    faults = Faults()
    begun = time.perf_counter()
    columns = preparation.input_columns + preparation.target_columns
    block = train.table.block(sample, columns, faults=faults, limits=recipe.data.limits)
    prepared = preparation.prepare_block(block, targets=True)
    preparation_seconds = (time.perf_counter() - begun) / len(sample) * _rows_of_tables(parts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = make_network(recipe, preparation)
        loss = Loss(preparation.tasks, dict.fromkeys(preparation.tasks, 1.0), recipe.training.balance)
        rows = np.arange(min(batch_rows, len(sample)))

        def step(trial: Any) -> None:
            batch = preparation.batch(prepared, rows, augment=True)
            total, _ = loss(trial(batch), batch)
            total.backward()
            trial.zero_grad()

        machine = choose(recipe.training, network, step, None)
        network.train()
        kept = _Kept()
        with machine.active(), torch.autograd.graph.saved_tensors_hooks(kept.count, lambda tensor: tensor):
            step(network)
        with machine.active():
            spent = []
            for _ in range(3):
                begun = time.perf_counter()
                step(network)
                spent.append(time.perf_counter() - begun)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    steps = math.ceil(len(train.rows) / batch_rows)
    return Estimate(
        parameters=parameters,
        training_mib=round((16 * parameters + kept.bytes) / 2**20, 1),
        epoch_seconds=round(float(np.median(spent)) * steps, 3),
        preparation_seconds=round(preparation_seconds, 3),
        epochs=epochs,
        rows={name: len(part.rows) for name, part in parts.items()},
        faults=len(faults.found),
        machine=machine.reason,
    )


class _Kept:
    """Adds up the bytes of the tensors that autograd keeps, each storage once."""

    def __init__(self) -> None:
        self.bytes, self._seen = 0, set[int]()

    def count(self, tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in self._seen:
            self._seen.add(place)
            self.bytes += tensor.untyped_storage().nbytes()
        return tensor


def _rows_of_tables(parts: dict[str, Part]) -> int:
    tables: dict[int, Table] = {id(part.table): part.table for part in parts.values()}
    return sum(len(table) for table in tables.values())


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
