"""Few-shot heads: from unit vectors and a few labels to logits of classes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

#: Where no class has two rows, nothing can be left out to choose by.
SCALE = 10.0
SCALES = np.geomspace(1, 100, 13)
#: Inverse strengths of the penalty; those of unit vectors are larger than those of standardised numbers.
STRENGTHS = 10.0 ** np.arange(-2, 5)
FOLDS = 5
#: The values that the paper of Tip-Adapter starts from.
ALPHA, BETA = 1.0, 5.5
ALPHAS = np.array([0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
BETAS = np.array([1.0, 2.0, 3.5, 5.5, 8.0, 12.0, 20.0])


class Head(ABC):
    """Base of every head: arrays and numbers, which `state` gives and `restored` takes back."""

    name: ClassVar[str]

    @abstractmethod
    def logits(self, features: np.ndarray) -> np.ndarray:
        """Logits `[rows, k]` of unit vectors `[rows, size]`; NaN rows stay NaN."""

    @abstractmethod
    def state(self) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Arrays by name, and chosen numbers by name."""

    @classmethod
    @abstractmethod
    def restored(cls, arrays: Mapping[str, np.ndarray], chosen: Mapping[str, float]) -> Self:
        """The head that gave this state."""


@dataclass(frozen=True)
class Prototypes(Head):
    """Each class is the mean of its rows, and near is likely (Snell, Swersky and Zemel, "Prototypical Networks for
    Few-shot Learning", 2017, equations 1 and 2, with a scale s for vectors of a fixed length):

        c_k = mean of x_i over the rows of class k ;  logit_k = -s |x - c_k|^2

    centres: `[k, size]`; scale: s
    """

    centres: np.ndarray
    scale: float
    name: ClassVar[str] = "prototypes"

    @classmethod
    def fit(cls, features: np.ndarray, target: np.ndarray, classes: int) -> Prototypes:
        """s is the one under which the rows are likeliest, each with its own class's mean taken without it; rows that
        are alone in their class cannot tell."""
        one_hot = np.eye(classes)[target]
        counts = one_hot.sum(0)
        centres = one_hot.T @ features / counts[:, None]
        company = counts[target] > 1
        if not company.any():
            return cls(centres, SCALE)
        own = (counts[target, None] * centres[target] - features)[company] / (counts[target][company, None] - 1)
        distance = _squared_distances(features[company], centres)
        distance[np.arange(len(own)), target[company]] = ((features[company] - own) ** 2).sum(1)
        losses = [_cross_entropy(-scale * distance, target[company]) for scale in SCALES]
        return cls(centres, float(SCALES[int(np.argmin(losses))]))

    def logits(self, features: np.ndarray) -> np.ndarray:
        return -self.scale * _squared_distances(features, self.centres)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        return {"centres": self.centres}, {"scale": self.scale}

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray], chosen: Mapping[str, float]) -> Prototypes:
        return cls(arrays["centres"], chosen["scale"])


@dataclass(frozen=True)
class LinearProbe(Head):
    """Multinomial logistic regression with an L2 penalty: logit_k = w_k . x + b_k.

    weight: `[k, size]`; bias: `[k]`; strength: the inverse of the penalty's weight, scikit-learn's C
    """

    weight: np.ndarray
    bias: np.ndarray
    strength: float
    name: ClassVar[str] = "linear"

    @classmethod
    def fit(cls, features: np.ndarray, target: np.ndarray, classes: int, *, seed: int = 0) -> LinearProbe:
        """The strength is the one under which rows are likeliest in up to five inner folds, each with every class in it
        as far as its rows go; 1 where a class has a single row."""
        from sklearn.model_selection import StratifiedKFold

        fewest = int(np.bincount(target, minlength=classes).min())
        strength = 1.0
        if fewest > 1:
            folds = list(StratifiedKFold(min(FOLDS, fewest), shuffle=True, random_state=seed).split(features, target))
            losses = [
                np.mean([_left_out_loss(features, target, train, test, float(one)) for train, test in folds])
                for one in STRENGTHS
            ]
            strength = float(STRENGTHS[int(np.argmin(losses))])
        return cls(*_logistic(features, target, strength), strength)

    def logits(self, features: np.ndarray) -> np.ndarray:
        found: np.ndarray = features @ self.weight.T + self.bias
        return found

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        return {"weight": self.weight, "bias": self.bias}, {"strength": self.strength}

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray], chosen: Mapping[str, float]) -> LinearProbe:
        return cls(arrays["weight"], arrays["bias"], chosen["strength"])


@dataclass(frozen=True)
class TipAdapter(Head):
    """The labelled rows as a cache beside the zero-shot classifier (Zhang et al., "Tip-Adapter: Training-free Adaption
    of CLIP for Few-shot Classification", 2022, equations 5 and 6):

        logits = alpha exp(-beta (1 - x K^T)) V + s x W^T

    keys: K `[rows, size]`, the vectors of the rows; values: V `[rows, k]`, their classes one-hot
    texts: W `[k, size]`, the vectors of the classes; scale: s, one over the temperature of the alignment
    alpha: how much the cache counts (0: nothing, the zero-shot classifier); beta: how near a key must be
    """

    keys: np.ndarray
    values: np.ndarray
    texts: np.ndarray
    scale: float
    alpha: float
    beta: float
    name: ClassVar[str] = "tip"

    @classmethod
    def fit(
        cls, features: np.ndarray, target: np.ndarray, classes: int, *, texts: np.ndarray, scale: float
    ) -> TipAdapter:
        """alpha and beta are those under which the rows are likeliest, each without its own key; rows that are alone in
        their class cannot tell, and where all are, alpha is 1 and beta 5.5, as in the paper."""
        values = np.eye(classes)[target]
        company = values.sum(0)[target] > 1
        if not company.any():
            return cls(features, values, texts, scale, ALPHA, BETA)
        distance = 1 - features[company] @ features.T
        distance[np.arange(len(distance)), np.flatnonzero(company)] = np.inf
        known = scale * features[company] @ texts.T
        tried = [(alpha, beta) for alpha in ALPHAS for beta in BETAS]
        losses = [
            _cross_entropy(alpha * np.exp(-beta * distance) @ values + known, target[company]) for alpha, beta in tried
        ]
        alpha, beta = tried[int(np.argmin(losses))]
        return cls(features, values, texts, scale, float(alpha), float(beta))

    def logits(self, features: np.ndarray) -> np.ndarray:
        near = np.exp(-self.beta * (1 - features @ self.keys.T))
        found: np.ndarray = self.alpha * near @ self.values + self.scale * features @ self.texts.T
        return found

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        arrays = {"keys": self.keys, "values": self.values, "texts": self.texts}
        return arrays, {"scale": self.scale, "alpha": self.alpha, "beta": self.beta}

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray], chosen: Mapping[str, float]) -> TipAdapter:
        return cls(arrays["keys"], arrays["values"], arrays["texts"], chosen["scale"], chosen["alpha"], chosen["beta"])


#: By name.
HEADS: dict[str, type[Head]] = {head.name: head for head in (Prototypes, LinearProbe, TipAdapter)}


def _squared_distances(features: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """`|x - c|^2` of every row and centre, `[rows, k]`."""
    squares = (features**2).sum(1)[:, None] + (centres**2).sum(1)
    found: np.ndarray = squares - 2 * features @ centres.T
    return found


def _logistic(features: np.ndarray, target: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Weight `[k, size]` and bias `[k]` of the classes of `target`, which are 0 to k - 1."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=strength, max_iter=2000).fit(features, target)
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # of two classes scikit-learn keeps the second alone
        weight, bias = np.concatenate([np.zeros_like(weight), weight]), np.concatenate([np.zeros_like(bias), bias])
    return weight, bias


def _left_out_loss(
    features: np.ndarray, target: np.ndarray, train: np.ndarray, test: np.ndarray, strength: float
) -> float:
    weight, bias = _logistic(features[train], target[train], strength)
    return _cross_entropy(features[test] @ weight.T + bias, target[test])


def _cross_entropy(logits: np.ndarray, target: np.ndarray) -> float:
    """The mean negative log-probability of the right class, in nats."""
    top = logits.max(1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(1))
    return float((total - logits[np.arange(len(target)), target]).mean()) if len(target) else math.nan
