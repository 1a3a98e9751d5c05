"""Law 5, second half, for the recipe itself: a key that declares what it needs is refused where it has no effect.

A key of a section that has an annotation `Needs` and no context here fails.
"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from laws.alternatives import alternatives
from laws.samples import table_of
from laws.test_live_keys import BESIDE, FROZEN, KEYS, NAMED, merged, recipe_of, table
from polymodal.core.errors import RecipeError
from polymodal.core.needs import Needs
from polymodal.experiments.live_options import check_live_options
from polymodal.experiments.plan import make_plan
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.recipe import Recipe
from polymodal.recipe.run_context import RunContext

#: Contexts, beside that of the first half without its `BESIDE`, in which keys have no effect.
ONLY_OBJECTIVES = {"outputs": {}, "objectives": ["contrastive"]}
ONE_INPUT = {"inputs": {"in_text": "text"}}
BY_COLUMN = {"data": {"split": {"column": "part"}}}
OUTSIDE: dict[str, dict[str, Any]] = {
    **{f"data.limits.{key}": {} for key in LimitOptions.model_fields},
    "data.split.column": {},
    "data.split.stratify": {"outputs": {"y_regression": "regression"}},
    "data.split.validation_size": BY_COLUMN,
    "data.split.test_size": BY_COLUMN,
    "data.ignore_columns": {},
    "data.infer_other_columns": {"inputs": None},
    "data.weight_column": ONLY_OBJECTIVES,
    "data.sampling_temperature": {},
    "evaluation.bootstrap_samples": {},
    "evaluation.confidence_level": {"evaluation": {"bootstrap_samples": 0}},
    "evaluation.unimodal_scores": ONE_INPUT,
    "training.modality_dropout": ONE_INPUT,
    "training.modality_balancing.method": ONE_INPUT,
    "training.param_groups.fusion.lr_multiplier": {"training": {"param_groups": {"fusion": {"freeze": True}}}},
    "training.distillation.temperature": {"outputs": {"y_regression": "regression"}, "privileged": "in_text"},
    "training.feature_cache.augmented_copies": FROZEN,
    "task_tokens": ONLY_OBJECTIVES,
    "inputs.in_text.privileged": ONLY_OBJECTIVES,
}
#: Facts of a run, beside its recipe, under which keys have no effect.
FACTS: dict[str, dict[str, Any]] = {
    "data.split.column": {"has_validation": True},
    "evaluation.bootstrap_samples": {"workflow": "estimator"},
    **{f"training.{key}": {"writes_files": False} for key in ("save_steps", "logging_steps", "tensorboard")},
}
#: Other values than in the first half, which name what has another use there.
ELSEWHERE: dict[str, list[Any]] = {"data.ignore_columns": [["image"]]}
#: Values that any run accepts, since it does what they say.
SAYS_WHAT_HAPPENS: dict[str, list[Any]] = {
    "data.split.test_size": [0],
    "evaluation.bootstrap_samples": [0],
    "evaluation.unimodal_scores": ["none"],
    "training.modality_dropout": [0],
}
LIMITS = [(f"data.limits.{name}", LimitOptions, name) for name in LimitOptions.model_fields]
CONDITIONAL = [
    key
    for key in dict.fromkeys([*KEYS, *LIMITS])
    if any(isinstance(one, Needs) for one in key[1].model_fields[key[2]].metadata)
]


@pytest.mark.parametrize(("path", "owner", "name"), CONDITIONAL, ids=[key[0] for key in CONDITIONAL])
def test_a_key_without_effect_is_refused(path: str, owner: type[BaseModel], name: str) -> None:
    """The second half of the law: no training, only the plan."""
    assert path in {*BESIDE, *OUTSIDE, *FACTS}, "name a context in which the key has no effect"
    base, facts = recipe_of(OUTSIDE.get(path, {})), FACTS.get(path, {})
    data = table_of(table())
    values = ELSEWHERE.get(path) or [*NAMED.get(path, []), *alternatives(owner, name, {})]
    tried = 0
    for value in values:
        if value in (None, *SAYS_WHAT_HAPPENS.get(path, [])):
            continue
        change: Any = value
        for key in reversed(path.split(".")):
            change = {key: change}
        given = Recipe(**merged(base, change))
        complete = make_plan(data, given).recipe
        with pytest.raises(RecipeError, match="it has no effect in this run, because it needs") as refused:
            check_live_options(RunContext(complete, given, **facts))
        assert refused.value.path == path
        tried += 1
    assert tried
