"""easy-VQA, prepared once for several benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pyarrow as pa
import torch
from torch import Tensor

from polymodal.core.progress import Progress
from polymodal.datasets import load_easy_vqa
from polymodal.experiments.experiment import Experiment, prepare_experiment
from polymodal.model.make_network import make_network
from polymodal.model.model import Model
from polymodal.nn.network import Network
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.compute import ComputeConfig, keep_freed_memory
from polymodal.runtime.random_state import isolated_random_state
from polymodal.workflows.fit import plan_fit

SplitName = Literal["train", "validation", "test"]


@dataclass
class Vqa:
    """The recipe of the demo, its prepared splits, and their tables."""

    recipe: Recipe
    experiment: Experiment
    tables: dict[str, pa.Table]
    root: Path

    def network(self, seed: int = 0) -> Network:
        """A fresh network; the same seed gives the same weights."""
        with isolated_random_state(seed):
            return make_network(self.recipe, self.experiment.preparation)

    def computed(self, compute: ComputeConfig, **training: int) -> Recipe:
        """The recipe with precision, threads and other training options set."""
        update = {"precision": compute.precision, "num_threads": compute.threads, **training}
        return self.recipe.model_copy(update={"training": self.recipe.training.model_copy(update=update)})

    def model(self, compute: ComputeConfig) -> Model:
        """A model with fresh weights, which do not affect its speed."""
        return Model(self.computed(compute), self.experiment.preparation, self.network().eval())


@dataclass
class InMemory:
    """The rows of one split as a hand-written loop would hold them.

    images: `[images, 3, 64, 64]` uint8, channels-last
    image: `[rows]`, the image of each row
    tokens, length: token ids `[rows, max_length]` padded with 0, and `[rows]`
    target: `[rows]` class indices
    """

    images: Tensor
    image: Tensor
    tokens: Tensor
    length: Tensor
    target: Tensor


@contextmanager
def prepared_vqa(smallest: bool, settings: list[str] | None = None) -> Iterator[Vqa]:
    """The whole data set, or (smallest) a few hundred rows of each split, with the recipe of the demo."""
    keep_freed_memory()
    tables, root = load_easy_vqa()
    if smallest:
        tables = {name: table.slice(0, 400) for name, table in tables.items()}
    plan, splits = plan_fit(
        tables["train"], "answer", recipe="easy_vqa", settings=settings, test=tables["test"], root=root
    )
    with TemporaryDirectory() as folder:
        work_folder = Path(folder)
        experiment = prepare_experiment(
            plan.recipe, splits, folder=work_folder / "run", cache=work_folder / "media", progress=Progress(False)
        )
        yield Vqa(plan.recipe, experiment, tables, root)


def in_memory(vqa: Vqa, part: SplitName) -> InMemory:
    """The rows of a split in memory."""
    split = vqa.experiment.splits[part]
    images, questions = (split.table.inputs[name] for name in ("image", "question"))
    used, image = torch.from_numpy(images.index[split.rows]).unique(return_inverse=True)
    pixels = torch.from_numpy(images.items.take(used.numpy())["pixels"]).permute(0, 3, 1, 2)
    texts = questions.items.take(questions.index[split.rows])
    target = torch.from_numpy(split.table.targets["answer"][0][split.rows])
    return InMemory(pixels, image, torch.from_numpy(texts["values"]), torch.from_numpy(texts["length"]), target)
