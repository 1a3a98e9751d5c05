"""One training step in double precision: its gradients in one process, and in several that share the batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from laws.samples import network_of
from polymodal.core.types import Batch
from polymodal.data.partition import Split
from polymodal.distributed.divided import is_divided, own_part
from polymodal.distributed.world import World
from polymodal.nn.layers.shared_batch import share_statistics
from polymodal.nn.network import Network
from polymodal.nn.objectives.base import ObjectiveBatch
from polymodal.nn.towers import mark_items
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.training.loss import Loss, Losses
from polymodal.training.optimizer import shared_parameters
from polymodal.training.process_rows import ProcessRows
from polymodal.training.replicas import mark_rows, whole_losses
from polymodal.training.sharded_training import shard

Balance = Literal["fixed", "uncertainty", "gradnorm", "pcgrad"]
#: Names of the attributes that hold a probability of dropout.
DROPOUT = ("p", "dropout", "word_dropout", "ngram_dropout", "drop_prob", "layerdrop", "attention_dropout")


def in_double_precision() -> None:
    """Compute in fp64 in this process, also where the code names fp32."""
    torch.set_default_dtype(torch.float64)
    torch.float32 = torch.float64  # type: ignore[misc]
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]


def doubled(batch: Batch) -> Batch:
    """The batch with numbers in fp64."""

    def convert(tensor: Tensor) -> Tensor:
        return tensor.double() if tensor.is_floating_point() else tensor

    inputs = {
        name: replace(one, data={key: convert(tensor) for key, tensor in one.data.items()})
        for name, one in batch.inputs.items()
    }
    targets = {name: replace(one, value=convert(one.value)) for name, one in batch.targets.items()}
    weight = None if batch.weight is None else batch.weight.double()
    return replace(batch, inputs=inputs, targets=targets, weight=weight)


def without_dropout(network: nn.Module) -> None:
    for module in network.modules():
        for name in DROPOUT:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


class Step:
    """A step on some rows of a prepared table.

    parts: the rows of each process; None: `rows`, as training divides them
    """

    def __init__(
        self,
        preparation: Preparation,
        prepared: PreparedTable,
        rows: Sequence[int] = (),
        *,
        parts: Sequence[Sequence[int]] | None = None,
        balance: Balance = "fixed",
    ) -> None:
        self.preparation, self.prepared, self.balance = preparation, prepared, balance
        self.parts = None if parts is None else [np.asarray(part, dtype=np.int64) for part in parts]
        self.rows = np.asarray(rows, dtype=np.int64) if self.parts is None else np.concatenate(self.parts)

    def part(self, world: World) -> np.ndarray:
        """The rows of this process."""
        if world.size > 1 and self.parts is not None:
            return self.parts[world.rank]
        return self._divided(world).own(self.rows)

    def _divided(self, world: World) -> ProcessRows:
        return ProcessRows(self.preparation, Split(self.prepared, self.rows), world)

    def run(
        self, world: World, rows: np.ndarray | None = None, steps: int = 1, sharded: bool = False
    ) -> dict[str, Any]:
        """The gradients of the last of some steps, the loss, its terms, and the state of the network after them.

        rows: the rows of this process; default: `part`
        sharded: whether the processes divide the network
        """
        own, source = self.part(world) if rows is None else rows, self._divided(world)
        network = network_of(self.preparation).double()
        without_dropout(network)
        weights = {name: spec.loss_weight for name, spec in self.preparation.recipe.outputs.items()}
        weights |= {name: one.options.weight for name, one in network.objectives.items()}
        loss = Loss(self.preparation.tasks, weights, self.balance).double()
        network.train()
        shards = shard(network, world) if sharded else None
        parameters = [one for one in [*network.parameters(), *loss.parameters()] if one.requires_grad]
        assert any(map(is_divided, parameters)) == sharded
        losses: Losses | None = None
        with share_statistics(network, world):
            for _ in range(steps):
                for one in parameters:
                    one.grad = None
                mark_rows(network, bool(len(own)))
                batch = doubled(source.batch(own, augment=False))
                compute = partial(self._losses, network, loss, batch, partial(self._again, source, own), world)
                if shards is None:
                    losses = compute()
                    loss.backward(losses, parameters, shared_parameters(network), world)
                else:
                    mark_items(network.towers, batch, world)
                    losses = shards.run(lambda: (list((own := compute()).named.values()), own))  # noqa: B023
                    loss.backward(losses, [], shared_parameters(network), world)
                    shards.finish_gradients([one for one in parameters if not is_divided(one)])
                for objective in network.objectives.values():
                    objective.after_step(network)
            assert losses is not None
            total, parts = whole_losses(losses, world)
        named = {name: one for name, one in named_parameters(network, loss) if one.requires_grad}
        gradients = whole_tensors({name: one.grad for name, one in named.items()}, world)
        found: dict[str, Any] = {
            "total": float(total),
            "parts": {name: float(value) for name, value in parts.items()},
            "baselines": losses.baselines,
            "gradients": gradients,
        }
        network = network if shards is None else shards.finish()
        found["state"] = {name: one for name, one in network.state_dict().items() if one.is_floating_point()}
        found["state"] |= {f"loss.{name}": one for name, one in loss.state_dict().items()}
        return found

    def _losses(self, network: Network, loss: Loss, batch: Batch, again: Callable[[], Batch], world: World) -> Losses:
        encoded = network.encode(batch)
        predicted = network.decode(network.fuse(encoded, len(batch)), batch)
        terms = network.objective_losses(ObjectiveBatch(network, batch, encoded.tokens, again, 0.5, world))
        return loss(predicted, batch, terms, world)

    def _again(self, source: ProcessRows, rows: np.ndarray) -> Batch:
        return doubled(source.batch(rows, augment=False))


def whole_tensors(tensors: dict[str, Tensor | None], world: World) -> dict[str, Tensor | None]:
    """Tensors that the processes divide along their rows, each as a whole. One exchange is faster than one for each."""
    divided = {name: one for name, one in tensors.items() if one is not None and is_divided(one)}
    own = [own_part(one).reshape(-1) for one in divided.values()]
    flat = world.gather_tensors(torch.cat(own)) if own else []
    found, starts = dict(tensors), [0] * world.size
    for name, one in divided.items():
        parts = torch.chunk(torch.arange(len(one)), world.size)
        rows: list[Tensor] = []
        for rank, part in enumerate(parts):
            count = len(part) * one.shape[1:].numel()
            rows.append(flat[rank][starts[rank] : starts[rank] + count])
            starts[rank] += count
        found[name] = torch.cat(rows).view(one.shape)
    return found


def named_parameters(network: Network, loss: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [*network.named_parameters(), *((f"loss.{name}", one) for name, one in loss.named_parameters())]


def difference(found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, float]:
    """How far two results are apart, each relative to the size of the wanted one."""
    for name, own in wanted["gradients"].items():
        assert has_values(own) == has_values(found["gradients"][name]), f"a gradient in one process only: {name}"
    known = [name for name, own in wanted["gradients"].items() if own is not None]
    assert found["parts"].keys() == wanted["parts"].keys()
    assert found["baselines"].keys() == wanted["baselines"].keys()
    losses = [found["total"], *(found["parts"][name] for name in wanted["parts"])]
    expected = [wanted["total"], *wanted["parts"].values()]
    return {
        "gradients": relative(
            [found["gradients"][name] for name in known], [wanted["gradients"][name] for name in known]
        ),
        "losses": relative([torch.tensor(losses)], [torch.tensor(expected)]),
        "baselines": relative(
            [torch.tensor([found["baselines"][name] for name in wanted["baselines"]])],
            [torch.tensor([*wanted["baselines"].values()])],
        ),
        "state": relative(
            *([in_any_order(name, one["state"][name]) for name in wanted["state"]] for one in (found, wanted))
        ),
    }


def fingerprint(found: dict[str, Any]) -> str:
    """A hash of the gradients and of the state."""
    tensors = [one for one in [*found["gradients"].values(), *found["state"].values()] if one is not None]
    return hashlib.sha256(b"".join(one.contiguous().numpy().tobytes() for one in tensors)).hexdigest()


def relative(found: Sequence[Tensor | None], wanted: Sequence[Tensor]) -> float:
    """|found - wanted| / |wanted|, over all tensors together."""
    pairs = [(torch.zeros_like(b) if a is None else a, b) for a, b in zip(found, wanted, strict=True)]
    apart = sum(float((a.double() - b.double()).square().sum()) for a, b in pairs)
    size = sum(float(b.double().square().sum()) for _, b in pairs)
    return (apart / max(size, 1e-30)) ** 0.5


def in_any_order(name: str, tensor: Tensor) -> Tensor:
    """A memory bank holds the rows of a batch in the order of the processes."""
    return tensor.flatten().sort().values if "memory_" in name else tensor


def has_values(gradient: Tensor | None) -> bool:
    return gradient is not None and bool(gradient.any())
