"""The predictor: runs a network over prepared rows and returns predictions, embeddings, texts or losses.

Models, evaluation, validation during training, search, explanations and services all use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from polymodal.core.types import Batch
from polymodal.data.partition import Split
from polymodal.distributed.world import SINGLE, World
from polymodal.inference.batching import (
    PREDICTION_BATCH_SIZE,
    drawn_batches,
    iter_batches,
    limit_batch_size,
    max_image_rows,
    max_text_rows,
)
from polymodal.inference.embedding import embed_inputs, embed_rows
from polymodal.inference.objective_losses import ObjectiveLosses, mean_losses
from polymodal.inference.predictions import Predictions
from polymodal.nn.network import Network
from polymodal.nn.objectives.base import ObjectiveBatch
from polymodal.nn.towers import EncodedInputs, LazyInputTokens, mark_items
from polymodal.preparation.preparation import ItemCorruption, Preparation, PreparedTable
from polymodal.runtime.compute import ComputeConfig
from polymodal.runtime.random_state import isolated_random_state
from polymodal.tasks.generative import GenerativeTask, generative_task
from polymodal.tasks.image_generation import ImageGenerationTask

if TYPE_CHECKING:
    from polymodal.generation.config import GenerationConfig
    from polymodal.generation.image_sampling import ImageSamplingConfig
    from polymodal.generation.output import GenerationOutput


@dataclass(frozen=True)
class Predictor:
    """Runs a network over prepared rows, in evaluation mode and without gradients.

    Rows are processed in an order with little padding and with each shared item encoded once. Results are in the order
    of `split.rows`, on the CPU.

    compute: precision, threads and device; the network must be on this device
    batch_size: maximum number of rows in a batch; smaller if the items of a batch would need too much memory
    together: processes that hold the layers of the network together. All call the same methods, with rows of their own,
        and compute the same number of batches
    """

    network: Network
    preparation: Preparation
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    batch_size: int = PREDICTION_BATCH_SIZE
    together: World = SINGLE

    def predict(
        self,
        split: Split[PreparedTable],
        *,
        hidden_inputs: frozenset[str] = frozenset(),
        corruption: ItemCorruption | None = None,
        with_texts: bool = True,
        row_numbers: np.ndarray | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> dict[str, Predictions]:
        """The predictions of every output by name.

        hidden_inputs: inputs that are treated as missing
        corruption: a corruption of the items of one input
        with_texts: whether to generate texts and images; the losses of known ones are always computed
        row_numbers: the row numbers in the whole table, `[rows]`, which seed the generation; default: `split.rows`
        advance: called with the number of rows processed since the last call
        """
        (found,) = self.predict_each(
            split,
            [hidden_inputs],
            corruption=corruption,
            with_texts=with_texts,
            row_numbers=row_numbers,
            advance=advance,
        )
        return found

    def predict_each(
        self,
        split: Split[PreparedTable],
        hidden_inputs: Sequence[frozenset[str]],
        *,
        corruption: ItemCorruption | None = None,
        with_texts: bool = True,
        row_numbers: np.ndarray | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> list[dict[str, Predictions]]:
        """The predictions of `predict` for each of several sets of hidden inputs. Each batch is encoded once for all
        of them."""
        size = min(limit_batch_size(self.batch_size, split.table, self.network), max_text_rows(self.preparation))
        row_numbers = split.rows if row_numbers is None else row_numbers
        found: list[list[dict[str, Predictions]]] = [[] for _ in hidden_inputs]
        visited: list[np.ndarray] = []
        with self.running():
            for positions in self._in_step(list(iter_batches(split, size))):
                batch = self.batch(split.table, split.rows[positions], corruption=corruption)
                mark_items(self.network.towers, batch, self.together)
                prompts, encoded = split.table.prompts if with_texts else None, self.network.encode(batch)
                for parts, names in zip(found, hidden_inputs, strict=True):
                    parts.append(self._predict_batch(batch, encoded, names, prompts, row_numbers[positions]))
                visited.append(positions)
                if advance:
                    advance(len(positions))
        order = _inverse_order(visited)
        return [
            {name: Predictions.concatenate([one[name] for one in parts], order) for name in self.network.outputs}
            for parts in found
        ]

    def predict_shared(
        self, split: Split[PreparedTable], world: World, *, with_texts: bool = True
    ) -> dict[str, Predictions]:
        """The predictions of `predict` with several processes, each of which predicts a part of the rows."""
        if len(split) < world.size or world.size == 1:
            return self.predict(split, with_texts=with_texts)
        parts = np.array_split(np.arange(len(split)), world.size)
        found = self.predict(Split(split.table, split.rows[parts[world.rank]]), with_texts=with_texts)
        return {name: one.gathered(world) for name, one in found.items()}

    def embed(self, split: Split[PreparedTable], inputs: list[str] | None = None) -> dict[str, np.ndarray]:
        """The embedding of each of `inputs`, float32 `[rows, dim]` of unit length, NaN in rows without the input.

        inputs: default: the embedding of the whole row, with the name "row"
        """
        names = ["row"] if inputs is None else inputs
        gathered: dict[str, list[Tensor]] = {name: [] for name in names}
        visited: list[np.ndarray] = []
        with self.running():
            for positions in iter_batches(split, limit_batch_size(self.batch_size, split.table, self.network)):
                batch = self.batch(split.table, split.rows[positions])
                found = {"row": embed_rows(self.network, batch)} if inputs is None else None
                for name, vectors in (found or embed_inputs(self.network, batch, names)).items():
                    gathered[name].append(vectors.cpu())
                visited.append(positions)
        if not visited:
            return {name: np.zeros((0, 0), np.float32) for name in names}
        order = _inverse_order(visited)
        return {name: torch.cat(parts).index_select(0, order).numpy() for name, parts in gathered.items()}

    def generate(
        self, prepared: PreparedTable, output: str, config: GenerationConfig, *, row_numbers: np.ndarray | None = None
    ) -> list[list[GenerationOutput]]:
        """Generate texts of an output for every row of a prepared table; an empty list for rows with an unusable
        prompt.

        row_numbers: the row numbers in the whole table, `[rows]`, which seed text generation; default: 0, 1, 2 ...
        """
        from polymodal.inference.text_generation import generate_texts

        task, prompts = generative_task(self.preparation.tasks, output), prepared.prompts.get(output)
        rows = np.arange(len(prepared))
        if prompts is not None:
            rows = rows[[prompt is not None for prompt in prompts]]
        row_numbers = np.arange(len(prepared)) if row_numbers is None else row_numbers
        found: list[list[GenerationOutput]] = [[] for _ in range(len(prepared))]
        size = min(limit_batch_size(self.batch_size, prepared, self.network), max_text_rows(self.preparation, config))
        with self.running():
            for positions in iter_batches(Split(prepared, rows), size):
                batch, own = self.batch(prepared, rows[positions]), rows[positions]
                branches = self.network.encode_and_fuse(batch)
                texts = generate_texts(self.network, output, task, branches, batch, config, row_numbers[own])
                for row, generated in zip(own.tolist(), texts, strict=True):
                    found[row] = generated
        return found

    def generate_images(
        self,
        prepared: PreparedTable,
        output: str,
        config: ImageSamplingConfig,
        *,
        row_numbers: np.ndarray | None = None,
    ) -> np.ndarray:
        """Generate images of an output for every row of a prepared table: `[rows, num_return_sequences, size, size,
        3]` uint8.

        row_numbers: the row numbers in the whole table, `[rows]`, which seed the generation; default: 0, 1, 2 ...
        """
        from polymodal.inference.image_generation import generate_image_tokens

        task, samples = self.preparation.tasks[output], config.num_return_sequences
        assert isinstance(task, ImageGenerationTask)
        numbers = np.arange(len(prepared)) if row_numbers is None else row_numbers
        side = task.image_size
        found = np.zeros((len(prepared), samples, side, side, 3), np.uint8)
        size = min(
            limit_batch_size(self.batch_size, prepared, self.network), max_image_rows(self.preparation, task, samples)
        )
        with self.running():
            for rows in iter_batches(Split.all_rows(prepared), size):
                batch = self.batch(prepared, rows)
                branches = self.network.encode_and_fuse(batch)
                tokens = generate_image_tokens(self.network, output, task, branches, batch, config, numbers[rows])
                found[rows] = task.tokenizer.decode(tokens.cpu().numpy()).reshape(len(rows), *found.shape[1:])
        return found

    def losses(
        self, split: Split[PreparedTable], *, rows: int, group_by_item: bool = True, world: World = SINGLE
    ) -> ObjectiveLosses:
        """The loss of every objective by `objective.term`, with the same batches and random draws in every call.

        Empty if the network has no objective, or no row has the inputs of an objective.

        rows: batch size; use that of training, because a contrastive loss grows with the number of candidates
        world: the processes, each of which computes some of the batches
        """
        if not len(self.network.objectives):
            return {}
        group_by_item = group_by_item and not self.network.compares_rows
        drawn = drawn_batches(split, rows, 0, group_by_item=group_by_item)
        with self.running(), isolated_random_state(0):
            own = [drawn[one] for one in range(world.rank, len(drawn), world.size)]
            return mean_losses(self.network, self._steps(split.table, own), world)

    def batch(
        self,
        prepared: PreparedTable,
        rows: np.ndarray,
        *,
        augment: bool = False,
        corruption: ItemCorruption | None = None,
    ) -> Batch:
        """The batch of `rows`, on the device of the network."""
        return self.preparation.batch(prepared, rows, augment=augment, corruption=corruption).to(self.compute.device)

    def for_inputs(self, names: list[str]) -> Predictor:
        """A predictor that needs only the inputs `names`, and no targets."""
        return replace(self, preparation=self.preparation.inputs_only(names))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Evaluation mode without gradients, with the precision and threads of `compute`."""
        training = self.network.training
        if training:
            self.network.eval()
        try:
            # the gathered parameters of training must not be inference tensors
            without_gradients = torch.inference_mode() if self.together.size == 1 else torch.no_grad()
            with without_gradients, self.compute.active():
                yield
        finally:
            if training:
                self.network.train()

    def _predict_batch(
        self,
        batch: Batch,
        encoded: EncodedInputs,
        hidden_inputs: frozenset[str],
        prompts: dict[str, np.ndarray] | None,
        row_numbers: np.ndarray,
    ) -> dict[str, Predictions]:
        """The predictions of one encoded batch.

        prompts: prompts of the whole table by output; None generates no texts and no images
        """
        hidden = {name: torch.ones_like(batch.rows, dtype=torch.bool) for name in hidden_inputs}
        branches = self.network.fuse(encoded, len(batch), hidden)
        found = {}
        for name, predicted in self.network.decode(branches, batch).items():
            task = self.preparation.tasks[name]
            if isinstance(task, GenerativeTask):
                tokens = torch.zeros(len(batch), 0, dtype=torch.int64)
                if prompts is not None:
                    from polymodal.inference.text_generation import generate_tokens, mark_unusable_prompts

                    tokens = generate_tokens(self.network, name, task, branches, batch, row_numbers)
                    tokens = mark_unusable_prompts(tokens, prompts.get(name), batch.rows.cpu().numpy())
                found[name] = Predictions(tokens, {}, {}, predicted.values).cpu()
                continue
            if isinstance(task, ImageGenerationTask):
                tokens = torch.zeros(len(batch), 0, dtype=torch.int64)
                if prompts is not None:
                    from polymodal.inference.image_generation import generate_image_tokens

                    first = task.options.generation.model_copy(update={"num_return_sequences": 1})
                    tokens = generate_image_tokens(self.network, name, task, branches, batch, first, row_numbers)
                found[name] = Predictions(tokens, {}, {}, predicted.values).cpu()
                continue
            weights = {term.name: term.weight for term in predicted.terms if term.name in predicted.per_branch}
            found[name] = Predictions(predicted.values.float(), predicted.per_branch, weights).cpu()
        return found

    def _steps(self, prepared: PreparedTable, batches: list[np.ndarray]) -> Iterator[ObjectiveBatch]:
        for rows in self._in_step(batches):
            batch, tokens = self.batch(prepared, rows), None
            if self.together.size > 1:  # all encode in the same order
                mark_items(self.network.towers, batch, self.together)
                tokens = self.network.encode(batch).tokens
            if len(rows):
                again = partial(self.batch, prepared, rows, augment=True)
                tokens = tokens or LazyInputTokens(self.network.towers, batch)
                yield ObjectiveBatch(self.network, batch, tokens, again)

    def _in_step(self, batches: list[np.ndarray]) -> list[np.ndarray]:
        """The rows of batches, followed by batches without rows if other processes have more."""
        if self.together.size == 1:
            return batches
        missing = max(self.together.gather(len(batches))) - len(batches)
        return batches + [np.zeros(0, np.int64)] * missing


def _inverse_order(visited: list[np.ndarray]) -> Tensor:
    """The permutation that restores the original order of rows."""
    return torch.from_numpy(np.argsort(np.concatenate(visited), kind="stable"))
