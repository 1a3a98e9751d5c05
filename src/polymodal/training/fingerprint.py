"""What a checkpoint belongs to."""

from __future__ import annotations

import numpy as np
import xxhash

from polymodal.data.partition import Split
from polymodal.preparation.preparation import PreparedTable
from polymodal.recipe.recipe import Recipe
from polymodal.training.source_model import source_fingerprint


def run_fingerprint(recipe: Recipe, train: Split[PreparedTable]) -> str:
    """What a checkpoint belongs to: a recipe, training rows, and their targets."""
    digest = xxhash.xxh3_128((recipe.to_yaml() + source_fingerprint(recipe)).encode())
    digest.update(np.ascontiguousarray(train.rows).tobytes())
    for value, present in train.table.targets.values():
        digest.update(_content(value[train.rows]))
        digest.update(np.ascontiguousarray(present[train.rows]).tobytes())
    for prompts in train.table.prompts.values():
        digest.update(_content(prompts[train.rows]))
    return digest.hexdigest()


def _content(value: np.ndarray) -> bytes:
    """The bytes of targets, or of the texts that a text output's targets and prompts are."""
    return repr(value.tolist()).encode() if value.dtype == object else np.ascontiguousarray(value).tobytes()
