"""One process of the benchmark `several_processes`: trains for one epoch, and process 0 prints what it measured."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from polymodal.core.paths import scratch_folder
from polymodal.core.progress import Progress, ProgressTask
from polymodal.datasets.planted import make_planted_images
from polymodal.distributed.divided import own_part
from polymodal.distributed.launch import num_processes
from polymodal.distributed.start import start_world
from polymodal.experiments.experiment import prepare_experiment
from polymodal.experiments.train_network import TrainingJob
from polymodal.training.trainer import Trainer
from polymodal.workflows.fit import plan_fit

#: Image side of the ViT, and columns of the table of numbers.
IMAGE_SIZE, COLUMNS = 64, 64
COLLECTIVES = ("all_reduce", "all_gather", "broadcast")


def table(kind: str, rows: int, layers: int = 6) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns and recipe of a workload: `vit` classifies images, `numbers` rows of numbers."""
    draw = np.random.default_rng(0)
    target = draw.choice(["a", "b"], rows).tolist()
    outputs = {"target": {"task": "classification", "columns": ["target"]}}
    if kind == "vit":
        images = make_planted_images(rows, 0, size=IMAGE_SIZE)["image"]
        modality = {"name": "image", "image_size": IMAGE_SIZE}
        encoder = {"name": "vit", "num_layers": layers, "patch_size": 8}
        inputs = {"image": {"modality": modality, "encoder": encoder, "columns": ["image"]}}
        return {"image": images, "target": target}, {"inputs": inputs, "outputs": outputs}
    names = [f"x{column}" for column in range(COLUMNS)]
    columns = {name: draw.normal(size=rows).tolist() for name in names}
    inputs = {"x": {"modality": "number", "encoder": {"name": "linear"}, "columns": names}}
    return {**columns, "target": target}, {"inputs": inputs, "outputs": outputs}


class Held(Progress):
    """Counts the bytes of weights and optimizer state that this process holds after each step."""

    def __init__(self) -> None:
        super().__init__(False)
        self.trainer: Trainer | None = None
        self.bytes, self._before = 0, -1

    @contextmanager
    def task(self, title: str, total: int | None) -> Iterator[ProgressTask]:
        advance = ProgressTask()
        advance.status = lambda done, planned, text: self._count(done)  # type: ignore[method-assign]
        yield advance

    def _count(self, steps: int) -> None:
        if self.trainer is None or steps == self._before:  # the last call comes when the weights are gathered
            return
        self._before = steps
        weights = [one for one in self.trainer.network.parameters() if one.requires_grad]
        state = [value for values in self.trainer.optimizer.state.values() for value in values.values()]
        self.bytes = sum(one.nbytes for one in map(own_part, [*weights, *state]))


@contextmanager
def timed_collectives() -> Iterator[list[float]]:
    """The seconds of each collective operation in the block, including the wait for the other processes."""
    spent: list[float] = []
    if num_processes() == 1:
        yield spent
        return
    import torch.distributed as dist

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            result = call(*arguments, **options)
            spent.append(time.perf_counter() - begun)
            return result

        return run

    originals = {name: getattr(dist, name) for name in COLLECTIVES}
    for name, call in originals.items():
        setattr(dist, name, timed(call))
    try:
        yield spent
    finally:
        for name, call in originals.items():
            setattr(dist, name, call)


def main(options: dict[str, Any]) -> None:
    columns, recipe = table(options["kind"], options["rows"], options.get("layers", 6))
    recipe |= {"hidden_size": options["width"]}
    settings = {
        "training.epochs": 1,
        "training.batch_size": options["batch"],
        "training.precision": "fp32",
        "training.num_threads": options["threads"],
        "training.device": "cpu",
        "training.sharding": options.get("sharding", "none"),
    }
    with start_world() as world, scratch_folder() as folder:
        plan, splits = plan_fit(columns, "target", recipe=recipe, settings=settings)
        quiet = Held()
        prepared = prepare_experiment(plan.recipe, splits, folder=folder, cache=None, progress=quiet)
        experiment = prepared.with_world(world)
        job = TrainingJob(experiment, None, None, False, quiet, "train", False)
        trainer = quiet.trainer = job.trainer(plan.recipe, experiment.splits["train"], None, "train")
        with timed_collectives() as spent:
            history = trainer.run()
        if world.is_first:
            result = {
                "rows per second": history.rows / history.seconds,
                "milliseconds per step": 1e3 * history.seconds / history.steps,
                "collective milliseconds per step": 1e3 * sum(spent) / history.steps,
                "held MiB": quiet.bytes / 2**20,
                "parameters": sum(one.numel() for one in trainer.network.parameters() if one.requires_grad),
            }
            sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
