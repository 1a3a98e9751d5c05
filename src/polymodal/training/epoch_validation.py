"""The validation of a training run: each process computes a part of it, and all get the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from polymodal.data.partition import Split
from polymodal.distributed.world import World
from polymodal.inference.objective_losses import ObjectiveLosses, objective_score
from polymodal.inference.predictions import Predictions
from polymodal.inference.predictor import Predictor
from polymodal.nn.network import Network
from polymodal.preparation.preparation import PreparedTable
from polymodal.recipe.training import TrainingOptions
from polymodal.training.validation import Validation, validate

if TYPE_CHECKING:
    from polymodal.distributed.sharding import ShardedNetwork


@dataclass(frozen=True)
class EpochValidation:
    """Predictions, losses and scores of the validation rows with the current weights.

    weights: the weight of each output and objective
    selects_best_epoch: whether the losses of the objectives can select the best epoch
    run: runs predictions by the processes that divide the network, in a sharded run
    whole: in a sharded run, a block with a predictor of the whole network. Texts are generated with it, since processes
        generate different numbers of tokens
    """

    predictor: Predictor
    split: Split[PreparedTable]
    options: TrainingOptions
    weights: dict[str, float]
    selects_best_epoch: bool
    world: World
    run: Callable[[Callable[[], Any]], Any] = lambda work: work()
    whole: Callable[[], AbstractContextManager[Predictor]] | None = None

    def with_shards(self, shards: ShardedNetwork[Network]) -> EpochValidation:
        """The validation of a run whose processes divide the network."""

        @contextmanager
        def whole() -> Iterator[Predictor]:
            with shards.whole() as network:
                yield replace(self.predictor, network=network)

        return replace(self, predictor=replace(self.predictor, together=self.world), run=shards.evaluate, whole=whole)

    def objective_losses(self) -> ObjectiveLosses:
        """The loss of each objective, with the batch size of training."""
        rows, group_by_item = self.options.batch_size or 64, self.options.group_by_item
        compute = partial(self.predictor.losses, self.split, rows=rows, group_by_item=group_by_item, world=self.world)
        found: ObjectiveLosses = self.run(compute)
        return found

    def predictions(self) -> dict[str, Predictions]:
        """The predictions for the validation rows, with texts if they select the best epoch."""
        with_texts = any(task.generates_for_selection for task in self.predictor.preparation.tasks.values())
        if with_texts and self.whole is not None:
            with self.whole() as predictor:
                return predictor.predict_shared(self.split, self.world)
        compute = partial(self.predictor.predict_shared, self.split, self.world, with_texts=with_texts)
        found: dict[str, Predictions] = self.run(compute)
        return found

    def score(self, epoch: int) -> Validation:
        """The scores; without a score, the number of the epoch, so that the last is the best."""
        return Validation(**self.world.agree(asdict(self._score(epoch))))

    def _score(self, epoch: int) -> Validation:
        found = self.objective_losses()
        losses = {name: loss for name, (loss, _) in found.items()}
        if not self.predictor.preparation.tasks:
            has_score = self.selects_best_epoch and found
            score = objective_score(self.predictor.network, self.weights, found) if has_score else float(epoch)
            return Validation(score, {}, losses)
        result = validate(self.predictor.preparation.tasks, self.predictions(), self.split)
        return replace(result, losses=result.losses | losses)
