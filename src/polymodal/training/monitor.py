"""The monitor: warns about training that does not work, and stops training when a number is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from polymodal.core.errors import TrainingError
from polymodal.core.formatting import count_noun
from polymodal.core.types import Batch
from polymodal.nn.decoders.text_decoder import TextDecoder
from polymodal.nn.network import Network
from polymodal.runtime.compute import NO_BF16, NO_FP16, ComputeConfig
from polymodal.training.optimizer import gradient_norm

#: Maximum number of objectives listed in one notice.
MAX_LISTED = 4
#: An output is not compared with its baseline before this epoch, however short the warmup.
MIN_JUDGED_EPOCH = 3
#: With fewer validation rows than this, the choice of the best epoch is largely chance.
FEW_VALIDATION_ROWS = 50


def first_judged_epoch(epoch_steps: int, warmup_steps: int) -> int:
    """The first epoch, from `MIN_JUDGED_EPOCH` on, whose steps all come after the warmup. Before it, a loss at the
    baseline says nothing about the inputs.

    Example:
        >>> first_judged_epoch(epoch_steps=3, warmup_steps=30), first_judged_epoch(epoch_steps=100, warmup_steps=50)
        (11, 3)
    """
    return max(MIN_JUDGED_EPOCH, math.ceil(warmup_steps / epoch_steps) + 1)


@dataclass
class Monitor:
    """Checks a training run.

    baselines: the loss of the best constant prediction by output
    notices: warnings for the user, without repetition
    zero_grad_steps: consecutive checks with zero gradient by input
    first_judged_epoch: the epoch after which the loss of an output is first compared with its baseline
    gathered: a block with the network and its weights, in a sharded run
    """

    network: Network
    baselines: dict[str, float]
    notices: list[str] = field(default_factory=list)
    zero_grad_steps: dict[str, int] = field(default_factory=dict)
    first_judged_epoch: int = MIN_JUDGED_EPOCH
    gathered: Callable[[], AbstractContextManager[nn.Module]] | None = None

    def check_compute(self, compute: ComputeConfig) -> None:
        """Warn if the processor cannot compute in the precision of the recipe."""
        for replaced in (NO_BF16, NO_FP16):
            if compute.reason.endswith(replaced):
                self.add_notice(f"training.precision: {replaced}")

    def check_validation_rows(self, rows: Mapping[str, int]) -> None:
        """Warn about outputs with few validation rows.

        rows: validation rows with a target, by output
        """
        few = {name: count for name, count in rows.items() if count < FEW_VALIDATION_ROWS}
        for name, count in few.items():
            self.add_notice(
                f"output {name!r} has {count_noun(count, 'validation row')}. They select the best epoch, which is "
                f"unreliable with fewer than {FEW_VALIDATION_ROWS}: scores differ from seed to seed. Use more rows, "
                "increase data.split.validation_size, or cross-validate"
            )

    def gradient_norms(self) -> dict[str, float]:
        """The gradient norm of each trainable input tower, after `backward`."""
        norms = {}
        for name, tower in self.network.towers.items():
            gradients = [p.grad for p in tower.parameters() if p.grad is not None]
            if any(p.requires_grad for p in tower.parameters()):
                norms[name] = float(gradient_norm(gradients)) if gradients else 0.0
        return norms

    def check_gradients(self, norms: dict[str, float]) -> None:
        """Warn about an input whose gradient was zero in five consecutive checks: its encoder is not trained."""
        for name, norm in norms.items():
            self.zero_grad_steps[name] = self.zero_grad_steps.get(name, 0) + 1 if norm == 0 else 0
            if self.zero_grad_steps[name] == 5:
                self.add_notice(f"input {name!r} gets no gradient: its encoder output does not reach the loss")

    def check_objectives(self, losses: Mapping[str, tuple[float, float]], epochs: int) -> None:
        """Warn about objectives whose validation loss in the best epoch is not below its baseline, and about objectives
        without a validation loss.

        losses: the loss and its baseline by name
        """
        found = {name: pair for name, pair in losses.items() if pair[0] > 0.98 * pair[1]}
        listed = [f"{name!r} (loss {loss:.4g}, baseline {base:.4g})" for name, (loss, base) in found.items()]
        if listed:
            one = len(listed) == 1
            if len(listed) > MAX_LISTED:
                listed = [*listed[:MAX_LISTED], f"and {len(listed) - MAX_LISTED} more"]
            pairs = any(
                objective.min_inputs > 1 and key.startswith(f"{name}.")
                for name, objective in self.network.objectives.items()
                for key in found
            )
            self.add_notice(
                f"{'objective' if one else 'objectives'} {', '.join(listed)} {'has' if one else 'have'} not improved "
                f"on the baseline on validation rows after {epochs} epochs. "
                f"{'Check that the inputs of each row match, or use' if pairs else 'Use'} more rows, more epochs or a "
                "lower learning rate"
            )
        for name in self._without_loss(losses):
            self.add_notice(
                f"objective {name!r} has no validation loss: no batch of validation rows has the inputs that it needs. "
                "Add such rows, or increase data.split.validation_size"
            )

    def check_first_epoch(self, losses: Mapping[str, float]) -> None:
        """Warn about an objective without a loss in the first epoch.

        Raises:
            TrainingError: no output or objective had a loss.
        """
        reason = "no batch of training rows has the inputs that it needs, such as two rows that both have them"
        for name in self._without_loss(losses):
            if not losses:
                raise TrainingError(
                    f"objective {name!r} has no loss: {reason}. Check for missing cells and unusable files"
                )
            self.add_notice(f"objective {name!r} had no loss in the first epoch: {reason}")

    def _without_loss(self, losses: Mapping[str, object]) -> list[str]:
        """The objectives without a loss."""
        return [
            name
            for name in self.network.objectives
            if not any(key == name or key.startswith(f"{name}.") for key in losses)
        ]

    def check_epoch(self, epoch: int, losses: dict[str, float]) -> None:
        """Warn after the first epoch about notices of text decoders, and after `first_judged_epoch` about outputs whose
        training loss is not below the baseline. The warning is withdrawn when the loss falls below it later."""
        if epoch == 1:
            for decoder in self.network.all_decoders():
                notice = decoder.training_warning() if isinstance(decoder, TextDecoder) else None
                if notice is not None:
                    self.add_notice(notice)
        for name, baseline in self.baselines.items():
            start = f"output {name!r} has not improved on its baseline"
            if losses.get(name, 0.0) <= 0.98 * baseline:
                self.notices = [notice for notice in self.notices if not notice.startswith(start)]
            elif epoch == self.first_judged_epoch:
                self.add_notice(
                    f"{start} after {epoch} epochs (loss {losses[name]:.4g}, baseline {baseline:.4g}): the inputs may "
                    "not predict it, or the learning rate may be too high"
                )

    def check_finite(self, loss: Tensor, batch: Batch) -> None:
        """Stop training if the loss is not finite.

        Raises:
            TrainingError: names the first tensor that is not finite, in the order of computation.
        """
        if bool(torch.isfinite(loss)):
            return
        with nullcontext(self.network) if self.gathered is None else self.gathered() as network:
            found = find_non_finite(network, batch)
        raise TrainingError(
            f"the loss is {float(loss.detach())}: {found}. Lower training.learning_rate or training.gradient_clip, or "
            "set training.precision=fp32"
        )

    def add_notice(self, notice: str) -> None:
        """Add a warning for the user, unless it is there."""
        if notice not in self.notices:
            self.notices.append(notice)


def find_non_finite(network: nn.Module, batch: Batch) -> str:
    """The first tensor that is not finite: an input, a parameter, or the output of a module."""
    for name, one in batch.inputs.items():
        for key, tensor in one.data.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                return f"the prepared input {name!r} ({key}) is not finite"
    for name, parameter in network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return f"the parameter {name} is not finite"
    found: list[str] = []

    def add_hook(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, arguments: object, output: object) -> None:
            tensors = output if isinstance(output, tuple | list) else [output]
            if any(
                isinstance(t, Tensor) and t.is_floating_point() and not bool(torch.isfinite(t).all()) for t in tensors
            ):
                found.append(f"the output of {name} ({type(module).__name__}) is the first that is not finite")

        return network.get_submodule(name).register_forward_hook(hook)

    hooks = [add_hook(name) for name, _ in network.named_modules() if name]
    with torch.no_grad():
        network(batch)
    for handle in hooks:
        handle.remove()
    return found[0] if found else "every module's output is finite, so the loss itself overflowed"
