"""Few-shot heads: class logits from unit vectors, fitted on a few labels."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

#: The default is used if every class has a single row, so that leave-one-out is not possible.
DEFAULT_SCALE = 10.0
SCALES = np.geomspace(1, 100, 13)
#: Inverse L2 penalties; unit vectors need larger values than standardized features.
INVERSE_PENALTIES = 10.0 ** np.arange(-2, 5)
FOLDS = 5
#: Initial values in the Tip-Adapter paper, and the search grids.
ALPHA, BETA = 1.0, 5.5
ALPHAS = np.array([0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
BETAS = np.array([1.0, 2.0, 3.5, 5.5, 8.0, 12.0, 20.0])


class FewShotHead(ABC):
    """Base class of few-shot heads. `state` returns the fitted arrays and hyperparameters, `from_state` restores
    them."""

    name: ClassVar[str]

    @abstractmethod
    def logits(self, features: np.ndarray) -> np.ndarray:
        """Logits `[rows, k]` of unit vectors `[rows, dim]`; NaN for NaN rows."""

    @abstractmethod
    def state(self) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """The fitted arrays and the hyperparameters, by name."""

    @classmethod
    @abstractmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray], hyperparameters: Mapping[str, float]) -> Self:
        """Restore a head from its state."""


@dataclass(frozen=True)
class Prototypes(FewShotHead):
    """Nearest class mean (Snell, Swersky and Zemel, "Prototypical Networks for Few-shot Learning", 2017, equations 1
    and 2, with a scale s because the vectors have unit length):

        c_k = mean of x_i over the rows of class k ;  logit_k = -s |x - c_k|^2

    centers: `[k, dim]`; scale: s

    Example:
        >>> import numpy as np
        >>> features = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]])
        >>> head = Prototypes.fit(features, np.array([0, 0, 1, 1]), classes=2)
        >>> head.logits(features).argmax(axis=1).tolist()
        [0, 0, 1, 1]
    """

    centers: np.ndarray
    scale: float
    name: ClassVar[str] = "prototypes"

    @classmethod
    def fit(cls, features: np.ndarray, target: np.ndarray, classes: int) -> Prototypes:
        """Fit the class means. s maximizes the leave-one-out likelihood; classes with a single row do not count."""
        one_hot = np.eye(classes)[target]
        counts = one_hot.sum(0)
        centers = one_hot.T @ features / counts[:, None]
        has_company = counts[target] > 1
        if not has_company.any():
            return cls(centers, DEFAULT_SCALE)
        own = (counts[target, None] * centers[target] - features)[has_company] / (counts[target][has_company, None] - 1)
        distance = _squared_distances(features[has_company], centers)
        distance[np.arange(len(own)), target[has_company]] = ((features[has_company] - own) ** 2).sum(1)
        losses = [_cross_entropy(-scale * distance, target[has_company]) for scale in SCALES]
        return cls(centers, float(SCALES[int(np.argmin(losses))]))

    def logits(self, features: np.ndarray) -> np.ndarray:
        return -self.scale * _squared_distances(features, self.centers)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        return {"centers": self.centers}, {"scale": self.scale}

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray], hyperparameters: Mapping[str, float]) -> Prototypes:
        return cls(arrays["centers"], hyperparameters["scale"])


@dataclass(frozen=True)
class LinearProbe(FewShotHead):
    """Multinomial logistic regression with an L2 penalty: logit_k = w_k . x + b_k.

    weight: `[k, dim]`; bias: `[k]`; inverse_penalty: inverse weight of the penalty, scikit-learn's C
    """

    weight: np.ndarray
    bias: np.ndarray
    inverse_penalty: float
    name: ClassVar[str] = "linear"

    @classmethod
    def fit(cls, features: np.ndarray, target: np.ndarray, classes: int, *, seed: int = 0) -> LinearProbe:
        """Fit the weights. The penalty is chosen by stratified cross-validation with up to five folds; it is 1 if a
        class has a single row."""
        from sklearn.model_selection import StratifiedKFold

        smallest_class = int(np.bincount(target, minlength=classes).min())
        inverse_penalty = 1.0
        if smallest_class > 1:
            folds = list(
                StratifiedKFold(min(FOLDS, smallest_class), shuffle=True, random_state=seed).split(features, target)
            )
            losses = [
                np.mean([_validation_loss(features, target, train, test, float(one)) for train, test in folds])
                for one in INVERSE_PENALTIES
            ]
            inverse_penalty = float(INVERSE_PENALTIES[int(np.argmin(losses))])
        return cls(*_logistic(features, target, inverse_penalty), inverse_penalty)

    def logits(self, features: np.ndarray) -> np.ndarray:
        logits: np.ndarray = features @ self.weight.T + self.bias
        return logits

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        return {"weight": self.weight, "bias": self.bias}, {"inverse_penalty": self.inverse_penalty}

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray], hyperparameters: Mapping[str, float]) -> LinearProbe:
        return cls(arrays["weight"], arrays["bias"], hyperparameters["inverse_penalty"])


@dataclass(frozen=True)
class TipAdapter(FewShotHead):
    """A cache of the labeled rows combined with the zero-shot classifier (Zhang et al., "Tip-Adapter: Training-free
    Adaption of CLIP for Few-shot Classification", 2022, equations 5 and 6):

        logits = alpha exp(-beta (1 - x K^T)) V + s x W^T

    keys: K `[rows, dim]`, the embeddings of the labeled rows; values: V `[rows, k]`, their one-hot classes
    class_embeddings: W `[k, dim]`, the text embeddings of the classes; scale: s, the inverse temperature of the
        alignment
    alpha: weight of the cache (0: zero-shot classifier); beta: sharpness of the similarity to the keys
    """

    keys: np.ndarray
    values: np.ndarray
    class_embeddings: np.ndarray
    scale: float
    alpha: float
    beta: float
    name: ClassVar[str] = "tip"

    @classmethod
    def fit(
        cls, features: np.ndarray, target: np.ndarray, classes: int, *, class_embeddings: np.ndarray, scale: float
    ) -> TipAdapter:
        """alpha and beta maximize the leave-one-out likelihood; classes with a single row do not count. If every class
        has a single row, alpha is 1 and beta 5.5, as in the paper."""
        values = np.eye(classes)[target]
        has_company = values.sum(0)[target] > 1
        if not has_company.any():
            return cls(features, values, class_embeddings, scale, ALPHA, BETA)
        distance = 1 - features[has_company] @ features.T
        distance[np.arange(len(distance)), np.flatnonzero(has_company)] = np.inf
        zero_shot = scale * features[has_company] @ class_embeddings.T
        grid = [(alpha, beta) for alpha in ALPHAS for beta in BETAS]
        losses = [
            _cross_entropy(alpha * np.exp(-beta * distance) @ values + zero_shot, target[has_company])
            for alpha, beta in grid
        ]
        alpha, beta = grid[int(np.argmin(losses))]
        return cls(features, values, class_embeddings, scale, float(alpha), float(beta))

    def logits(self, features: np.ndarray) -> np.ndarray:
        affinity = np.exp(-self.beta * (1 - features @ self.keys.T))
        logits: np.ndarray = self.alpha * affinity @ self.values + self.scale * features @ self.class_embeddings.T
        return logits

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        arrays = {"keys": self.keys, "values": self.values, "class_embeddings": self.class_embeddings}
        return arrays, {"scale": self.scale, "alpha": self.alpha, "beta": self.beta}

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray], hyperparameters: Mapping[str, float]) -> TipAdapter:
        return cls(
            arrays["keys"],
            arrays["values"],
            arrays["class_embeddings"],
            hyperparameters["scale"],
            hyperparameters["alpha"],
            hyperparameters["beta"],
        )


#: The heads by name.
HEADS: dict[str, type[FewShotHead]] = {head.name: head for head in (Prototypes, LinearProbe, TipAdapter)}


def _squared_distances(features: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """`|x - c|^2` for all rows and centers, `[rows, k]`."""
    squares = (features**2).sum(1)[:, None] + (centers**2).sum(1)
    logits: np.ndarray = squares - 2 * features @ centers.T
    return logits


def _logistic(features: np.ndarray, target: np.ndarray, inverse_penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Weight `[k, dim]` and bias `[k]` for the classes 0 to k - 1 of `target`."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=inverse_penalty, max_iter=2000).fit(features, target)
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # for two classes, scikit-learn keeps only the second
        weight, bias = np.concatenate([np.zeros_like(weight), weight]), np.concatenate([np.zeros_like(bias), bias])
    return weight, bias


def _validation_loss(
    features: np.ndarray, target: np.ndarray, train: np.ndarray, test: np.ndarray, inverse_penalty: float
) -> float:
    weight, bias = _logistic(features[train], target[train], inverse_penalty)
    return _cross_entropy(features[test] @ weight.T + bias, target[test])


def _cross_entropy(logits: np.ndarray, target: np.ndarray) -> float:
    """The mean negative log-probability of the true class, in nats."""
    top = logits.max(1)
    total = top + np.log(np.exp(logits - top[:, None]).sum(1))
    return float((total - logits[np.arange(len(target)), target]).mean()) if len(target) else math.nan
