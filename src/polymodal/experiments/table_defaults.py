"""Defaults of a network for a small table of numbers, categories and dates."""

from __future__ import annotations

import math
from typing import Any

from polymodal.core.registry import find
from polymodal.recipe.recipe import Recipe

#: Modalities of which every column is one value.
COLUMNS = frozenset({"number", "category", "datetime"})
#: Largest number of rows of a small table.
MAX_ROWS = 2_000
#: Training of a small table: larger batches, a stronger weight decay and fewer steps than usual limit overfitting.
TRAINING: dict[str, Any] = {"batch_size": 64, "learning_rate": 4e-3, "weight_decay": 0.3}
#: Modality dropout if numbers stand beside categories or dates: such columns interact, and are rarely all missing.
MODALITY_DROPOUT = 0.05
MAX_EPOCHS, STEPS = 60, 1_500


def with_table_defaults(recipe: Recipe, given: Recipe, rows: int) -> Recipe:
    """The recipe with the defaults of small tables, if the table is small, every input has columns of one value, and
    there are numbers.

    These defaults are the encoder `realmlp` for numbers and the training above. They were compared with the general
    ones as a whole, by the loss on new rows of small public tables. Therefore they apply as a whole: not if the recipe
    sets a part of them, and not to recipes with other needs, which have objectives, generated texts or events, a fusion
    of their own, a size above `small`, or a start from a saved model.

    given: the recipe as the user wrote it
    rows: rows of the training table
    """
    kinds = {name: spec.modality.name for name, spec in recipe.inputs.items() if spec.modality is not None}
    numbers = [name for name, kind in kinds.items() if kind == "number"]
    is_small = rows <= MAX_ROWS and numbers and COLUMNS.issuperset(kinds.values())
    if not is_small or _sets_a_part(given, numbers) or _has_other_needs(recipe, given):
        return recipe
    inputs = {
        name: spec.model_copy(update={"encoder": find("encoder", "realmlp").Options()}) if name in numbers else spec
        for name, spec in recipe.inputs.items()
    }
    training = dict(TRAINING)
    if recipe.training.epochs is None:
        training["epochs"] = min(MAX_EPOCHS, math.ceil(STEPS / math.ceil(rows / TRAINING["batch_size"])))
    if len(inputs) > 1 and "modality_dropout" not in given.training.model_fields_set:
        training["modality_dropout"] = MODALITY_DROPOUT
    return recipe.model_copy(update={"inputs": inputs, "training": recipe.training.model_copy(update=training)})


def _sets_a_part(given: Recipe, numbers: list[str]) -> bool:
    encoders = [given.inputs[name].encoder for name in numbers if name in given.inputs]
    return bool(TRAINING.keys() & given.training.model_fields_set) or any(one is not None for one in encoders)


def _has_other_needs(recipe: Recipe, given: Recipe) -> bool:
    tasks = [find("task", spec.task.name) for spec in recipe.outputs.values() if spec.task is not None]
    if not tasks or any(task.is_network_only() for task in tasks):
        return True
    own = given.fusion is not None or given.training.init_from is not None
    return own or bool(recipe.objectives) or recipe.size == "base"
