"""The fingerprint that ties a checkpoint to its recipe and training data."""

from __future__ import annotations

import numpy as np
import xxhash

from polymodal.data.partition import Split
from polymodal.preparation.preparation import PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.training.source_model import source_fingerprint


def run_fingerprint(recipe: Recipe, train: Split[PreparedTable]) -> str:
    """A hash of the recipe without its device and its sharding, the source model, the training rows, and their targets
    and prompts."""
    machine = {"device": "auto", "sharding": "auto"}
    anywhere = recipe.model_copy(update={"training": recipe.training.model_copy(update=machine)})
    digest = xxhash.xxh3_128((anywhere.to_json() + source_fingerprint(recipe)).encode())
    digest.update(np.ascontiguousarray(train.rows).tobytes())
    for value, present in train.table.targets.values():
        digest.update(_to_bytes(value[train.rows]))
        digest.update(np.ascontiguousarray(present[train.rows]).tobytes())
    for prompts in train.table.prompts.values():
        digest.update(_to_bytes(prompts[train.rows]))
    return digest.hexdigest()


def _to_bytes(value: np.ndarray) -> bytes:
    """The bytes of numeric targets, or of the texts of targets and prompts."""
    return repr(value.tolist()).encode() if value.dtype == object else np.ascontiguousarray(value).tobytes()
