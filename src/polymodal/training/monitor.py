"""The monitor: says when training is silently broken, and stops it when numbers are no longer finite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from polymodal.core.errors import TrainingError
from polymodal.core.types import Batch
from polymodal.nn.decoders.text_decoder import TextDecoder
from polymodal.nn.network import Network

#: Objectives that one notice names.
MAX_LISTED = 4


@dataclass
class Monitor:
    """Watches a run. `notices` are sentences for the user; each is said once."""

    network: Network
    chance: dict[str, float]
    notices: list[str] = field(default_factory=list)
    zero_grad_steps: dict[str, int] = field(default_factory=dict)

    def gradient_norms(self) -> dict[str, float]:
        """The gradient norm of each trainable input tower and of the rest, after `backward`."""
        norms = {}
        for name, tower in self.network.towers.items():
            gradients = [p.grad for p in tower.parameters() if p.grad is not None]
            if any(p.requires_grad for p in tower.parameters()):
                norms[name] = float(nn.utils.get_total_norm(gradients)) if gradients else 0.0
        return norms

    def check_gradients(self, norms: dict[str, float]) -> None:
        """Notice an input whose gradient has been zero five times in a row: its encoder learns nothing."""
        for name, norm in norms.items():
            self.zero_grad_steps[name] = self.zero_grad_steps.get(name, 0) + 1 if norm == 0 else 0
            if self.zero_grad_steps[name] == 5:
                self._say(f"input {name!r} gets no gradient: nothing it encodes reaches the loss")

    def check_objectives(self, losses: Mapping[str, tuple[float, float]], epochs: int) -> None:
        """Notice objectives whose loss on validation rows is not below chance after all epochs, though the best was
        chosen, and those that no validation row can judge. losses: by name, the loss and the loss of knowing nothing"""
        found = {name: pair for name, pair in losses.items() if pair[0] > 0.98 * pair[1]}
        told = [f"{name!r} (loss {loss:.4g}, knowing nothing {chance:.4g})" for name, (loss, chance) in found.items()]
        if told:
            one = len(told) == 1
            told = told if len(told) <= MAX_LISTED else [*told[:MAX_LISTED], f"and {len(told) - MAX_LISTED} more"]
            pairs = any(
                objective.min_inputs > 1 and key.startswith(f"{name}.")
                for name, objective in self.network.objectives.items()
                for key in found
            )
            self._say(
                f"{'objective' if one else 'objectives'} {', '.join(told)} {'is' if one else 'are'} at chance on "
                f"validation rows after {epochs} epochs: what is looked for may not be there"
                f"{' (do the inputs of a row really belong together?)' if pairs else ''}, the rows or the epochs may "
                "be too few, or the learning rate too high"
            )
        for name in self._absent(losses):
            self._say(
                f"objective {name!r} is not judged: no batch of validation rows has what it learns from; give more "
                "such rows, or a larger data.split.valid"
            )

    def check_first_epoch(self, losses: Mapping[str, float]) -> None:
        """Notice an objective that had no loss in the whole first epoch.

        Raises:
            TrainingError: there was no loss at all.
        """
        why = "no batch of training rows has what it learns from, as two rows that both have its inputs"
        for name in self._absent(losses):
            if not losses:
                raise TrainingError(
                    f"objective {name!r} has nothing to learn: {why}. Look for missing cells and unusable files"
                )
            self._say(f"objective {name!r} learned nothing in the first epoch: {why}")

    def _absent(self, losses: Mapping[str, object]) -> list[str]:
        """The objectives without a loss."""
        return [
            name
            for name in self.network.objectives
            if not any(key == name or key.startswith(f"{name}.") for key in losses)
        ]

    def check_epoch(self, epoch: int, losses: dict[str, float]) -> None:
        """Notice an output whose training loss is still that of the best constant answer after three epochs, and after
        the first what writers have to say of their answers."""
        if epoch == 1:
            for decoder in self.network.all_decoders():
                notice = decoder.notice() if isinstance(decoder, TextDecoder) else None
                if notice is not None:
                    self._say(notice)
        for name, chance in self.baselines.items():
            if epoch == 3 and losses.get(name, 0.0) > 0.98 * chance:
                self._say(
                    f"output {name!r} is at chance after {epoch} epochs (loss {losses[name]:.4g}, best constant "
                    f"{chance:.4g}): the inputs may not tell it, or the learning rate may be too high"
                )

    def check_finite(self, loss: Tensor, batch: Batch) -> None:
        """Stop when the loss is not finite.

        Raises:
            TrainingError: names the first tensor that is not finite, in the order of computation.
        """
        if bool(torch.isfinite(loss)):
            return
        raise TrainingError(
            f"the loss is {float(loss.detach())}: {find_non_finite(self.network, batch)}. Lower "
            "training.learning_rate or training.clip, or set training.precision=fp32"
        )

    def _say(self, notice: str) -> None:
        if notice not in self.notices:
            self.notices.append(notice)


def find_non_finite(network: Network, batch: Batch) -> str:
    """Where numbers stop being finite: an input tensor, a parameter, or the output of a module, by name."""
    for name, one in batch.inputs.items():
        for key, tensor in one.data.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                return f"the prepared input {name!r} ({key}) is not finite"
    for name, parameter in network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return f"the parameter {name} is not finite"
    found: list[str] = []

    def watch(name: str) -> torch.utils.hooks.RemovableHandle:
        def hook(module: nn.Module, arguments: object, output: object) -> None:
            tensors = output if isinstance(output, tuple | list) else [output]
            if any(
                isinstance(t, Tensor) and t.is_floating_point() and not bool(torch.isfinite(t).all()) for t in tensors
            ):
                found.append(f"the output of {name} ({type(module).__name__}) is the first that is not finite")

        return network.get_submodule(name).register_forward_hook(hook)

    hooks = [watch(name) for name, _ in network.named_modules() if name]
    with torch.no_grad():
        network(batch)
    for handle in hooks:
        handle.remove()
    return found[0] if found else "every module's output is finite, so the loss itself overflowed"
