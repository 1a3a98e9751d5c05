"""Scores of what was learned without a target, as they stand in `metrics.json`."""

from __future__ import annotations

import numpy as np

from polymodal.evaluation.evaluate import Scores
from polymodal.evaluation.retrieval import score_retrieval
from polymodal.evaluation.scores import Score
from polymodal.inference.embedding import alignment_of, embed_rows
from polymodal.inference.inference import PREDICTION_BATCH
from polymodal.inference.objective_losses import objective_losses
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation, PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.compute import Machine


def score_learned(
    network: Network,
    preparation: Preparation,
    prepared: PreparedTable,
    rows: np.ndarray,
    *,
    recipe: Recipe,
    machine: Machine,
    groups: np.ndarray | None = None,
) -> Scores:
    """The loss of each objective on `rows` beside that of knowing nothing, and how well aligned inputs find each other,
    in every direction (`image -> caption`); `groups [rows]` makes the intervals of retrieval clustered."""
    losses = objective_losses(
        network,
        preparation,
        prepared,
        rows,
        machine=machine,
        batch=recipe.training.batch or 64,
        group_rows=recipe.training.group_rows,
    )
    scores: Scores = {}
    for key, (loss, chance) in losses.items():
        one = Score(value=loss, low=None, high=None, majority=chance, greater_is_better=False)
        scores[key] = {"loss": one.model_dump()}
    alignment = alignment_of(network)
    if alignment is None:
        return scores
    embeddings = embed_rows(
        network, preparation, prepared, rows, inputs=alignment.inputs, machine=machine, batch=PREDICTION_BATCH
    )
    items = {name: prepared.inputs[name].index[rows] for name in alignment.inputs}
    found = score_retrieval(embeddings, items, alignment.pairs, recipe.evaluation, seed=recipe.seed, groups=groups)
    return scores | found
