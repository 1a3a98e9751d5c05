"""Boosted trees of several folds, grown round by round together, with one number of rounds for all folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from polymodal.core.types import Space
from polymodal.estimators.lightgbm_library import load_lightgbm

#: The largest number of trees of all folds, and the bounds of the number of rounds that follow from it.
MAX_TREES, ROUNDS = 6000, (50, 1000)
_NOTHING: Mapping[str, Any] = MappingProxyType({})
OBJECTIVES = {"categorical": "multiclass", "binary": "binary", "real": "regression"}


@dataclass(frozen=True)
class BoostedRows:
    """The rows of one side of a fold: columns `[rows, columns]`, the target `[rows]`, weights `[rows]`, and the raw
    values `[k]` of the constant prediction, from which boosting starts."""

    columns: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    start: np.ndarray

    def dataset(self, reference: Any = None, categories: Sequence[int] = ()) -> Any:
        """The rows as a data set of LightGBM."""
        lightgbm = load_lightgbm()

        start = np.tile(self.start, (len(self.target), 1))
        return lightgbm.Dataset(
            self.columns,
            self.target,
            reference=reference,
            weight=self.weight,
            init_score=start if start.shape[1] > 1 else start[:, 0],
            categorical_feature=list(categories),
            params={"verbosity": -1},  # nothing on the terminal
            free_raw_data=True,
        )


def boost_together(
    folds: Sequence[tuple[BoostedRows, BoostedRows]],
    categories: Sequence[Sequence[int]],
    options: dict[str, Any],
    *,
    max_rounds: int,
    patience: int,
) -> list[str]:
    """The model of each fold in the text format of LightGBM, after the number of rounds with the smallest mean loss on
    the held-out rows of all folds; an empty text if no tree improves on the constant prediction.

    Growing ends `patience` rounds after the best one, or where no fold can grow a tree.

    folds: by fold, the training rows and the held-out rows
    categories: by fold, the positions of columns with codes
    """
    lightgbm = load_lightgbm()

    boosters = []
    for (train, held_out), some in zip(folds, categories, strict=True):
        data = train.dataset(categories=some)
        booster = lightgbm.Booster({**options}, data)
        booster.add_valid(held_out.dataset(reference=data), "held out")
        boosters.append(booster)
    shares = np.array([held_out.weight.sum() for _, held_out in folds])
    growing = [True] * len(boosters)
    losses = [_constant_losses(boosters)]
    for number in range(1, max_rounds + 1):
        current = losses[-1].copy()
        for at, booster in enumerate(boosters):
            if growing[at]:
                growing[at] = not booster.update()
                current[at] = booster.eval_valid()[0][2]
        losses.append(current)
        best = int(np.argmin(np.stack(losses) @ shares))
        if number - best >= patience or not any(growing):
            break
    best = int(np.argmin(np.stack(losses) @ shares))
    return [booster.model_to_string(num_iteration=best) if best else "" for booster in boosters]


def _constant_losses(boosters: Sequence[Any]) -> np.ndarray:
    """The held-out loss of each fold before the first tree."""
    return np.array([booster.eval_valid()[0][2] for booster in boosters])


def boosting_rounds(classes: int, folds: int) -> int:
    """The largest number of rounds: a round of many classes and folds grows many trees."""
    return int(np.clip(MAX_TREES // (classes * folds), *ROUNDS))


def boosting_options(
    space: Space, size: int, rows: int, max_rounds: int, seed: int, chosen: Mapping[str, Any] = _NOTHING
) -> dict[str, Any]:
    """The options of LightGBM (Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", 2017).

    Fewer rounds need a larger learning rate. The other values are measured on breast cancer, diabetes, digits, penguins
    and diamonds: samples of rows and of columns reduce the loss on all of them, and trees of 8 leaves suit few rows.

    chosen: options that replace these
    """
    import torch

    return {
        "objective": OBJECTIVES[space],
        **({"num_class": size} if space == "categorical" else {}),
        "boost_from_average": False,
        "seed": seed % 2**31,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": torch.get_num_threads(),
        "verbosity": -1,
        "feature_pre_filter": False,
        "min_data_in_leaf": int(np.clip(rows // 40, 2, 20)),
        "num_leaves": 8 if rows <= 500 else 15,
        "learning_rate": max(0.05 if rows <= 1000 else 0.1, min(10 / max_rounds, 0.2)),
        "feature_fraction": 0.6,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "lambda_l2": 1.0,
        "min_data_per_group": int(np.clip(rows // 20, 5, 100)),
        "max_cat_to_onehot": 4,
        "cat_smooth": 10.0,
        "cat_l2": 10.0,
        "max_bin": 255,
        **chosen,
    }
