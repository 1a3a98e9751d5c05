"""Cost estimate of a run: parameters, memory and time per epoch, measured on a sample of rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from polymodal.core.formatting import count_noun
from polymodal.data.partition import Split
from polymodal.data.table.cell_error_summary import summarize_reasons
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import Table
from polymodal.experiments.estimate_members import MemberEstimate, estimate_members
from polymodal.experiments.plan import Plan
from polymodal.model.make_encoders import make_encoders
from polymodal.model.make_network import make_network
from polymodal.model.run_record import ParameterCounts
from polymodal.model.run_summary import count_encoders, count_parameters, parameters_sentence, training_state_mib
from polymodal.nn.network import Network
from polymodal.preparation.feature_cache import FeatureSettings, encode_frozen_input
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.autotune import autotune
from polymodal.runtime.compute import ComputeConfig, network_device, resolve_device
from polymodal.runtime.random_state import isolated_random_state
from polymodal.training.loss import Loss
from polymodal.training.optimizer import freeze_parts

MAX_SAMPLE_ROWS = 2048


@dataclass(frozen=True)
class NetworkEstimate:
    """The estimated cost of the network of a plan.

    parameters: number of parameters, with vocabularies learned from the sample (the full data may have more)
    trainable: number of trainable parameters
    encoders: the same two numbers for the encoder of each input
    training_mib: memory in MiB for weights, gradients, optimizer state, and the tensors saved for one backward pass
    epoch_seconds: one pass over the training rows, with the fastest measured configuration
    encoding_seconds: encoding all items with the frozen layers once, without cached results
    trainings: how often it is trained, once in each fold
    is_alternative: whether it is trained beside the members, without their checkpoints
    """

    parameters: int
    trainable: int
    encoders: dict[str, ParameterCounts]
    training_mib: float
    epoch_seconds: float
    encoding_seconds: float
    epochs: int
    trainings: int
    compute: str
    is_alternative: bool = False

    def text(self) -> str:
        """Lines for the terminal."""
        heading = "\nbeside them, a network without checkpoints" if self.is_alternative else ""
        counts = ParameterCounts(self.parameters, self.trainable)
        seconds = _duration(self.trainings * self.epochs * self.epoch_seconds)
        folds = f" in each of {self.trainings} folds" if self.trainings > 1 else ""
        return (
            f"{heading}\n{parameters_sentence(counts, self.encoders)}\n"
            f"training memory {self.training_mib:,.0f} MiB\n"
            f"one epoch {_duration(self.epoch_seconds)}, at most {self.epochs} epochs{folds}: {seconds}"
        )


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a plan.

    network: None: the plan has none
    members: None: a network alone
    preparation_seconds: reading and decoding all rows once, without cached results
    cell_errors: number of unusable cells in the sample
    bad_cells: a sentence about the unusable cells of each column in the sample
    """

    network: NetworkEstimate | None
    members: MemberEstimate | None
    preparation_seconds: float
    rows: dict[str, int]
    cell_errors: int
    bad_cells: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    def text(self) -> str:
        """A summary for the terminal."""
        encoding = self.network.encoding_seconds if self.network is not None else 0
        if self.members is not None:
            encoding = self.members.feature_seconds
        encoded = f"   encoding {_duration(encoding)}" if encoding else ""
        return (
            f"\nrows {', '.join(f'{name} {count:,}' for name, count in self.rows.items())}"
            f"\none-time cost (cached): preparation {_duration(self.preparation_seconds)}{encoded}"
            + ("" if self.members is None else f"\n{_members_text(self.members)}")
            + ("" if self.network is None else self.network.text())
            + "".join(f"\n{sentence}" for sentence in self.bad_cells.values())
        )


def _members_text(members: MemberEstimate) -> str:
    where = f"in {members.folds} folds" if members.folds > 1 else "on the validation rows"
    return f"members compared {where}: {', '.join(members.names)}\nfitting them: up to {_duration(members.fit_seconds)}"


def estimate(plan: Plan, splits: dict[str, Split[Table]]) -> Estimate:
    """Measure the cost of a plan on up to 2,048 training rows."""
    recipe, train = plan.recipe, splits["train"]
    sample = np.sort(np.random.default_rng(0).permutation(train.rows)[:MAX_SAMPLE_ROWS])
    preparation = Preparation(recipe)
    preparation.fit(train.table, sample)
    cell_errors = CellErrors()
    begun = time.perf_counter()
    columns = preparation.input_columns + preparation.target_columns
    block = train.table.block(sample, columns, errors=cell_errors, limits=recipe.data.limits)
    prepared = preparation.prepare_block(block, targets=True)
    preparation_seconds = (time.perf_counter() - begun) / len(sample) * _rows_of_tables(splits)
    members = None
    if recipe.members:
        encoders = make_encoders(recipe, preparation, recipe.inputs, pretrained=True)
        members = estimate_members(recipe, preparation, encoders, prepared, _rows_of_tables(splits))
    network, rows = None, Split(train.table, sample)
    if recipe.network:
        network = _estimate_network(recipe, splits, preparation, rows, prepared)
    elif plan.alternative is not None:
        network = _estimate_alternative(plan.alternative, splits, rows)
    return Estimate(
        network=network,
        members=members,
        preparation_seconds=round(preparation_seconds, 3),
        rows={name: len(part.rows) for name, part in splits.items()},
        cell_errors=len(cell_errors.errors),
        bad_cells=_bad_cells(cell_errors, len(sample)),
    )


def _estimate_alternative(recipe: Recipe, splits: dict[str, Split[Table]], sample: Split[Table]) -> NetworkEstimate:
    """Measure the network without checkpoints, on rows that are prepared for it."""
    preparation = Preparation(recipe)
    preparation.fit(sample.table, sample.rows)
    columns = preparation.input_columns + preparation.target_columns
    block = sample.table.block(sample.rows, columns, errors=CellErrors(), limits=recipe.data.limits)
    prepared = preparation.prepare_block(block, targets=True)
    found = _estimate_network(recipe, splits, preparation, sample, prepared)
    return replace(found, is_alternative=True)


def _estimate_network(
    recipe: Recipe,
    splits: dict[str, Split[Table]],
    preparation: Preparation,
    sample: Split[Table],
    prepared: PreparedTable,
) -> NetworkEstimate:
    """Measure some steps on the first rows of the sample."""
    batch_rows = recipe.training.batch_size or 1
    with isolated_random_state(recipe.seed):
        network = make_network(recipe, preparation).to(resolve_device(recipe.training.device))
        loss = Loss(preparation.tasks, dict.fromkeys(preparation.tasks, 1.0), recipe.training.loss_balancing)
        freeze_parts(network, recipe.training)
        rows = np.arange(min(batch_rows, len(sample)))
        prepared, encoding = _with_features(
            recipe, Split(sample.table, sample.rows[rows]), preparation, network, prepared
        )

        def step(trial: Any) -> None:
            batch = preparation.batch(prepared, rows, augment=True).to(network_device(network))
            total = loss(trial(batch), batch).total
            if total.requires_grad:
                total.backward()
            trial.zero_grad()

        compute = autotune(recipe.training, network, step, None)
        memory = measure_training_mib(network, compute, step)
        with compute.active():
            spent = []
            for _ in range(3):
                begun = time.perf_counter()
                step(network)
                spent.append(time.perf_counter() - begun)
    counts = count_parameters(network)
    steps = math.ceil(len(splits["train"].rows) / batch_rows)
    return NetworkEstimate(
        parameters=counts.total,
        trainable=counts.trainable,
        encoders=count_encoders(network),
        training_mib=memory,
        epoch_seconds=round(float(np.median(spent)) * steps, 3),
        encoding_seconds=round(encoding * _rows_of_tables(splits) / len(rows), 3),
        epochs=recipe.training.epochs or 1,
        trainings=(recipe.ensemble.folds or 1) if recipe.members else 1,
        compute=compute.reason,
    )


def measure_training_mib(network: Network, compute: ComputeConfig, step: Callable[[Any], None]) -> float:
    """Training memory in MiB: weights, gradients and optimizer state of trainable parameters, and the tensors that one
    `step(network)` saves for its backward pass."""
    network.train()
    saved = _SavedTensorBytes()
    with compute.active(), torch.autograd.graph.saved_tensors_hooks(saved.count, lambda tensor: tensor):
        step(network)
    return round(training_state_mib(count_parameters(network)) + saved.bytes / 2**20, 1)


def _with_features(
    recipe: Recipe, first: Split[Table], preparation: Preparation, network: Network, prepared: PreparedTable
) -> tuple[PreparedTable, float]:
    """The rows of `first` with cached features instead of items, as in training, and the seconds to compute these.

    If no encoder has frozen layers or the feature cache is off: the unchanged rows and 0.
    """
    frozen = [name for name, encoder in network.encoders().items() if encoder.frozen_prefix() is not None]
    if not frozen or not recipe.training.feature_cache.enabled:
        return prepared, 0.0
    block = first.table.block(
        first.rows,
        preparation.input_columns + preparation.target_columns,
        errors=CellErrors(),
        limits=recipe.data.limits,
    )
    some = preparation.prepare_block(block, targets=True)
    inputs = dict(some.inputs)
    begun = time.perf_counter()
    for name in frozen:
        encoder, modality = network.encoders()[name], preparation.modalities[name]
        settings = FeatureSettings(recipe.training.feature_cache, recipe.data.limits)
        inputs[name] = encode_frozen_input(encoder, modality, inputs[name], settings, folder=None) or inputs[name]
    return replace(some, inputs=inputs), time.perf_counter() - begun


def _bad_cells(cell_errors: CellErrors, rows: int) -> dict[str, str]:
    """A sentence for each column with unusable cells in the sample of `rows` rows."""
    sentences = {}
    for column, count in cell_errors.counts().items():
        reasons = summarize_reasons([error for error in cell_errors.errors if error.column == column])
        consequence = "fit refuses an input without a usable cell. " if count == rows else ""
        head = f"column {column!r}: {count_noun(count, 'cell')} of {count_noun(rows, 'sampled row')} cannot be used. "
        sentences[column] = head + consequence + reasons
    return sentences


class _SavedTensorBytes:
    """Sums the bytes of the tensors that autograd saves, each storage once."""

    def __init__(self) -> None:
        self.bytes, self._seen = 0, set[int]()

    def count(self, tensor: torch.Tensor) -> torch.Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in self._seen:
            self._seen.add(pointer)
            self.bytes += tensor.untyped_storage().nbytes()
        return tensor


def _rows_of_tables(parts: dict[str, Split[Table]]) -> int:
    tables: dict[int, Table] = {id(part.table): part.table for part in parts.values()}
    return sum(len(table) for table in tables.values())


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
