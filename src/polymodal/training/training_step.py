"""The forward pass, the backward pass and the update of one batch, in the memory of the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from polymodal.core.errors import RecipeError, TrainingError
from polymodal.core.types import Batch
from polymodal.distributed.divided import is_divided
from polymodal.distributed.world import SINGLE, World
from polymodal.nn.network import Network
from polymodal.nn.objectives.base import ObjectiveBatch
from polymodal.nn.towers import EncodedInputs, LazyInputTokens, mark_items
from polymodal.recipe.training import TrainingOptions
from polymodal.runtime.compute import ComputeConfig
from polymodal.runtime.device_memory import free_memory, is_out_of_memory, release_memory
from polymodal.runtime.host_reads import can_read
from polymodal.tasks.base import Task
from polymodal.training.loss import Loss, Losses
from polymodal.training.memory_plan import plan_memory, row_bytes
from polymodal.training.micro_batches import StepParts, predict_in_parts
from polymodal.training.modality_balancing import balance_modalities, compares_inputs
from polymodal.training.modality_dropout import apply_modality_dropout
from polymodal.training.monitor import Monitor
from polymodal.training.optimizer import clip_gradient, make_optimizer, make_scaler, parameter_names, shared_parameters
from polymodal.training.replicas import whole_losses
from polymodal.training.sharded_training import shard

if TYPE_CHECKING:
    from polymodal.distributed.sharding import ShardedNetwork


class StepLosses(NamedTuple):
    """The losses of the whole batch, without a gradient.

    total: the scalar that is minimized
    parts: all single terms by name
    has_loss: whether a row of the batch has a loss
    """

    total: Tensor
    parts: dict[str, Tensor]
    has_loss: bool


class TrainingStep:
    """The steps of a run. If the memory of the device is full, a batch is computed in more parts.

    monitor: gets notices, and stops training at a loss that is not finite
    """

    def __init__(
        self, network: Network, tasks: Mapping[str, Task], options: TrainingOptions, loss: Loss, monitor: Monitor
    ) -> None:
        self.network, self.tasks, self.options, self.loss, self.monitor = network, tasks, options, loss, monitor
        self.optimizer = make_optimizer(network, loss, options)
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.shared_parameters = shared_parameters(network)
        self.parts = StepParts(
            network, splits_rows=not network.objectives and not compares_inputs(options.modality_balancing)
        )
        self.scaler = make_scaler(ComputeConfig())
        self.shards: ShardedNetwork[Network] | None = None

    def names(self) -> dict[Tensor, str]:
        """The name of each parameter."""
        return parameter_names(self.network, self.loss)

    def divide(self, world: World) -> ShardedNetwork[Network]:
        """Divide the network, its gradients and the state of its optimizer among the processes, before the first
        step."""
        self.shards = shard(self.network, world)
        self.optimizer = make_optimizer(self.network, self.loss, self.options)
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.shared_parameters = shared_parameters(self.network)
        self.monitor.gathered = self.shards.whole
        return self.shards

    def plan_memory(self, rows: int, build: Callable[[], Batch], device: str) -> None:
        """On an accelerator, compute batches of `rows` rows in as many parts as the free memory needs.

        build: a batch of a few rows, from which the memory of a row is measured

        Raises:
            TrainingError: not even one row fits.
        """
        free = free_memory(device)
        if free is None:
            return
        some = build()
        per_row = row_bytes(self.network, lambda trial: self.losses(trial, some, lambda: some, 0.0, 0.0), len(some))
        plan = plan_memory(self.network, rows, per_row, free)
        if plan.parts > 1:
            self.parts.set_count(plan.parts, rows)
            self.monitor.add_notice(plan.sentence())

    def gathered(
        self, compute: Callable[[], tuple[Losses, EncodedInputs]], batch: Batch, world: World
    ) -> tuple[Losses, EncodedInputs]:
        """The result of `compute`, which is called with the parameters that the processes divide."""
        assert self.shards is not None
        mark_items(self.network.towers, batch, world)
        return self.shards.run(lambda: (list((found := compute())[0].named.values()), found))

    def losses(
        self,
        network: Network,
        batch: Batch,
        again: Callable[[], Batch],
        progress: float,
        dropout: float,
        world: World = SINGLE,
    ) -> tuple[Losses, EncodedInputs]:
        """The losses and the encoded inputs of a batch. Each input is encoded once for all outputs and objectives.

        Without outputs, an input is only encoded if an objective needs it.

        again: the same rows with other augmentations
        progress: the fraction of the steps of the run before this one
        """
        encoded, predicted = EncodedInputs(LazyInputTokens(network.towers, batch), {}), {}
        if self.parts.splits_rows and self.parts.count > 1:
            hidden = apply_modality_dropout(batch, dropout)
            predicted = predict_in_parts(network, batch, hidden, self.parts.count)
        elif self.tasks or self.shards is not None:  # processes that share layers encode in the same order
            encoded = network.encode(batch)
            if self.tasks:
                hidden = apply_modality_dropout(batch, dropout)
                predicted = network.decode(network.fuse(encoded, len(batch), hidden), batch)
        terms = network.objective_losses(ObjectiveBatch(network, batch, encoded.tokens, again, progress, world))
        return self.loss(predicted, batch, terms, world), encoded

    def backward(
        self, losses: Losses, encoded: EncodedInputs, batch: Batch, world: World, *, reads: bool
    ) -> StepLosses:
        """Replace the gradients of the parameters by those of the losses.

        reads: whether the step may wait for the device to check the loss

        Raises:
            RecipeError: no parameter is trainable.
            TrainingError: the loss is not finite.
        """
        total, parts = whole_losses(losses, world)
        if reads or can_read(total):
            self.monitor.check_finite(total, batch)
        if losses.named and not losses.total.requires_grad:
            raise RecipeError(
                "training.epochs",
                "the model has no trainable parameters: set training.epochs to 0, or unfreeze a part",
            )
        self.optimizer.zero_grad()
        if losses.named:  # else no row of the batch has the inputs of an objective
            summed = self.parameters if self.shards is None else []
            self.loss.backward(losses, summed, self.shared_parameters, world, self.scaler)
            if self.shards is not None:
                self.shards.finish_gradients([one for one in self.parameters if not is_divided(one)])
            self.scaler.unscale_(self.optimizer)
            balance_modalities(self.network, encoded, batch, self.tasks, self.options.modality_balancing, world)
        return StepLosses(total, parts, bool(losses.named))

    def trial(self, network: Network, batch: Batch, again: Callable[[], Batch], progress: float) -> None:
        """One forward and backward pass of a copy of the network, for timing."""
        network.train()
        total: Tensor = self.losses(network, batch, again, progress, 0.0)[0].total
        if total.requires_grad:  # else all parameters are frozen
            total.backward()  # type: ignore[no-untyped-call]
        network.zero_grad()

    def check_error(self, error: RuntimeError, world: World) -> None:
        """Raise an error again, unless the memory of the device was full and the step can be repeated.

        Raises:
            TrainingError: with several processes, of which the others cannot repeat the step.
        """
        if not is_out_of_memory(error):
            raise error
        if world.size > 1:
            raise TrainingError(
                f"the memory of the device of process {world.rank} is full, and the other processes cannot repeat the "
                "step: reduce training.batch_size, or use more processes"
            ) from error

    def split(self, batch: Batch) -> None:
        """Compute batches in twice as many parts, after the memory of the device was full.

        Raises:
            TrainingError: the memory is full with one row.
        """
        self.optimizer.zero_grad()
        release_memory(str(batch.rows.device))
        self.monitor.add_notice(self.parts.increase(len(batch)))

    def update(self, losses: StepLosses) -> Tensor:
        """Change the parameters by their gradients; returns the norm of the gradients before clipping."""
        norm = clip_gradient(self.parameters, self.options.gradient_clip)
        if self.scaler.is_enabled() and losses.has_loss:
            self.scaler.step(self.optimizer)  # only if all gradients are finite
            self.scaler.update()
        else:
            self.optimizer.step()
        return norm
