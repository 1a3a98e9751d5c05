"""Scores of self-supervised objectives, in the format of `metrics.json`."""

from __future__ import annotations

from polymodal.data.partition import Split
from polymodal.evaluation.evaluate import Scores
from polymodal.evaluation.retrieval import score_retrieval
from polymodal.evaluation.scores import Score
from polymodal.inference.embedding import alignment_of
from polymodal.inference.predictor import Predictor
from polymodal.preparation.preparation import PreparedTable
from polymodal.recipe.recipe import Recipe


def score_objectives(predictor: Predictor, split: Split[PreparedTable], recipe: Recipe) -> Scores:
    """The loss of each objective on the rows of a split with its baseline, and retrieval scores of aligned inputs.

    Retrieval is scored in both directions (`image -> caption`). If the table has groups, the intervals of retrieval use
    the cluster bootstrap.
    """
    options, prepared, rows = recipe.training, split.table, split.rows
    scores: Scores = {}
    for key, (loss, baseline) in predictor.losses(
        split, rows=options.batch_size or 64, group_by_item=options.group_by_item
    ).items():
        one = Score(value=loss, low=None, high=None, baseline=baseline, greater_is_better=False, rows=len(rows))
        scores[key] = {"loss": one.model_dump()}
    alignment = alignment_of(predictor.network)
    if alignment is None:
        return scores
    embeddings = predictor.embed(split, alignment.inputs)
    items = {name: prepared.inputs[name].index[rows] for name in alignment.inputs}
    groups = None if prepared.groups is None else prepared.groups[rows]
    found = score_retrieval(
        embeddings, items, alignment.input_pairs, recipe.evaluation, seed=recipe.seed, groups=groups
    )
    return scores | found
