"""What the processes of a `World` do together."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch

from distributed.gradient_cases import Case
from polymodal.core.errors import PolymodalError
from polymodal.distributed.gradients import sum_gradients
from polymodal.distributed.world import World


def sums(world: World) -> dict[str, float]:
    own = torch.full((3,), float(world.rank + 1), requires_grad=True)
    triangle = world.size * (world.size + 1) / 2
    (gradient,) = torch.autograd.grad((world.rank + 1) * world.sum_with_gradient(own).sum(), own)
    mean = world.mean(torch.full((world.rank,), 2.0))  # process 0 has no value
    return {
        "sum": float((world.sum(own) - triangle).abs().max()),
        "total": world.total(world.rank + 1) - triangle,
        "gradient": float((gradient - triangle).abs().max()),
        "mean": abs(float(world.sum(mean)) - 2.0),
        "mean row": float((world.mean_row(torch.ones(world.rank, 2)) - 1).abs().max()),
        "share": abs(float(world.sum(world.share(torch.tensor(4.0)))) - 4.0),
    }


def rows(world: World) -> dict[str, float]:
    """Process r has r rows, whose values are r; all processes weigh each row by its position."""
    own = torch.full((world.rank, 2), float(world.rank), requires_grad=True)
    found = world.gather_rows(own)
    expected = [float(rank) for rank in range(world.size) for _ in range(rank)]
    position = torch.arange(float(len(found)))
    (gradient,) = torch.autograd.grad((found * position.unsqueeze(1)).sum(), own)
    first = world.first_row(world.rank)
    wanted = world.size * (torch.arange(float(world.rank)) + first)
    flags = world.gather_rows(torch.arange(world.rank) % 2 == 0)
    assert flags.dtype == torch.bool
    assert world.gather_rows(torch.zeros(0, 3)).shape == (0, 3)
    return {
        "rows": float(found[:, 0].tolist() != expected),
        "first row": float(first != sum(range(world.rank))),
        "gradient": float((gradient[:, 0] - wanted).abs().max()) if world.rank else 0.0,
    }


def gradients(world: World) -> dict[str, float]:
    """A parameter that only one process uses has a gradient in all; one that none uses has none."""
    used, own, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    loss = (world.rank + 1) * used.sum() + (own.sum() if world.rank == 0 else 0.0)
    loss.backward()
    sum_gradients([used, own, unused], world)
    assert used.grad is not None
    assert own.grad is not None
    return {
        "used": float((used.grad - world.size * (world.size + 1) / 2).abs().max()),
        "own": float((own.grad - 1).abs().max()),
        "unused": float(unused.grad is not None),
    }


def agreements(world: World) -> dict[str, float]:
    drawn = torch.rand(4, generator=world.generator())
    tensors = {"a": torch.full((2, 0), world.rank), "b": torch.full((), float(world.rank)).bool(), "c": drawn}
    tensors["d"] = torch.from_numpy(np.zeros(0, np.int64))
    agreed = world.agree_tensors(tensors if world.is_first else {})
    shapes = [tuple(one.shape) for one in agreed.values()]
    values = {"rank": world.rank, "text": "é"}
    others = world.gather(values)
    texts = world.gather_tensors(torch.full((world.rank, 2 * world.rank), world.rank))
    return {
        "generator": float(any(one.tolist() != drawn.tolist() for one in world.gather_tensors(drawn))),
        "value": float(world.agree(values) != {"rank": 0, "text": "é"}),
        "tensors": float(shapes != [(2, 0), (), (4,), (0,)] or bool(agreed["b"])),
        "gathered": float([one["rank"] for one in others] != list(range(world.size))),
        "shapes": float([one.shape[1] for one in texts] != [2 * rank for rank in range(world.size)]),
    }


def waiting(world: World) -> dict[str, float]:
    """The others wait for process 0, and get its result or its error."""
    begun = time.monotonic()

    def work() -> list[str]:
        time.sleep(0.3)
        return ["done"]

    found = world.first(work)
    waited = time.monotonic() - begun

    def fail() -> None:
        raise PolymodalError("no rows")

    message = ""
    try:
        world.first(fail)
    except PolymodalError as error:
        message = str(error)
    order: list[float] = []
    with world.in_turn():
        time.sleep(0.1 if world.is_first else 0.0)
        order.append(time.monotonic())
    turns = world.gather(order[0])
    refused = ""
    try:
        world.check_same("recipe", "a" if world.is_first else "b")
    except PolymodalError as error:
        refused = str(error)
    return {
        "result": float(found != ["done"]),
        "waited": float(waited < 0.2),
        "error": float("no rows" not in message),
        "turns": float(min(turns) != turns[0]),
        "same": float("another recipe than process 0" not in refused),
    }


def world_cases() -> Iterator[tuple[str, Case]]:
    for case in (sums, rows, gradients, agreements, waiting):
        yield f"world {case.__name__}", case
