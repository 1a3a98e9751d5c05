"""Metrics of generated images, with features of our own: no pretrained network is involved.

The features of an image are 64 numbers: on a grid of 4 x 4 equal cells, the mean red, green and blue of each cell, and
its mean gradient magnitude, all for pixel values in [0, 1]. Scores with these features are comparable with each other
and with nothing else; they are no FID or KID of Inception features.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from polymodal.metrics.base import UNIT, Metric

#: Cells of the grid of the features, in height and width.
GRID = 4
#: Rows of which the pairs are compared: the first of more rows.
MAX_ROWS = 2_000

Score = Callable[[np.ndarray], float]


def image_features(images: np.ndarray) -> np.ndarray:
    """The features `[n, 64]` float64 of images `[n, size, size, 3]`, whose values are in [0, 255].

    Example:
        >>> image_features(np.full((1, 32, 32, 3), 255.0)).sum()
        np.float64(48.0)
    """
    pixels = np.asarray(images, np.float64) / 255
    gray = pixels.mean(-1)
    vertical, horizontal = np.gradient(gray, axis=1), np.gradient(gray, axis=2)
    channels = np.concatenate([pixels, np.hypot(vertical, horizontal)[..., None]], axis=-1)
    edges = np.linspace(0, pixels.shape[1], GRID + 1).round().astype(np.int64)
    cells = [
        channels[:, top:bottom, left:right].mean((1, 2))
        for top, bottom in itertools.pairwise(edges)
        for left, right in itertools.pairwise(edges)
    ]
    return np.concatenate(cells, axis=1)


def kid(features: np.ndarray, reference: np.ndarray, weight: np.ndarray) -> float:
    """The kernel distance of Binkowski et al., "Demystifying MMD GANs" (2018), in the features given: the unbiased
    estimate of MMD^2 with the kernel k(x, y) = (x y / d + 1)^3,

        E k(x, x') + E k(y, y') - 2 E k(x, y),   without the pairs of a row with itself

    features, reference: `[n, d]` of generated and true images; row i of both has `weight[i]`
    """
    return _prepared_kid(features, reference)(weight)


def frechet_distance(features: np.ndarray, reference: np.ndarray, weight: np.ndarray) -> float:
    """|mu_1 - mu_2|^2 + Tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) of the means and covariances of two sets of features
    (Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", 2017), in the features given. NaN for less than two
    rows."""
    if (weight > 0).sum() < 2:
        return float("nan")
    (mean, covariance), (other_mean, other_covariance) = (_moments(one, weight) for one in (features, reference))
    root = _root(covariance)
    cross = np.linalg.eigvalsh(root @ other_covariance @ root)
    distance = ((mean - other_mean) ** 2).sum() + np.trace(covariance) + np.trace(other_covariance)
    return float(max(0.0, distance - 2 * np.sqrt(np.maximum(cross, 0)).sum()))


def pairing_auc(features: np.ndarray, reference: np.ndarray, weight: np.ndarray) -> float:
    """Whether a generated image belongs to its row: the fraction of pairs of rows i, j in which generated image i is
    nearer to true image i than to true image j, in the features given; equal distances count half, and pairs with equal
    true images are left out. 0.5 for images that do not depend on the inputs. NaN without such pairs."""
    return _prepared_pairing(features, reference)(weight)


def diversity(features: np.ndarray) -> float:
    """The mean distance between two images of a set, in the features `[n, d]`; NaN for less than two images."""
    n = len(features)
    return float(_distances(features, features).sum() / (n * (n - 1))) if n > 1 else float("nan")


def nearest_images(images: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of `images [n, size, size, 3]`, the index `[n]` of the nearest of `others`, and their root mean squared
    difference `[n]` in pixel values. With the training images as `others`, a distance near 0 is a copy.

    Example:
        >>> images = np.zeros((2, 32, 32, 3))
        >>> images[1] += 10
        >>> nearest_images(images, images[1:])
        (array([0, 0]), array([10.,  0.]))
    """
    flat, other = (np.asarray(one, np.float64).reshape(len(one), -1) for one in (images, others))
    distances = _distances(flat, other)
    nearest = distances.argmin(1)
    return nearest, distances[np.arange(len(flat)), nearest] / np.sqrt(flat.shape[1])


def image_metrics(size: int) -> list[Metric]:
    """The metrics of generated images `[rows, 3 size^2]` against true images `[rows, 3 size^2]`; the first is the main
    one. The names begin with `grid` where they need the features of this module."""

    def metric(name: str, prepare: Callable[[np.ndarray, np.ndarray], Score], **options: object) -> Metric:
        def prepared(distribution: np.ndarray, truth: np.ndarray) -> Score:
            features, reference = (image_features(one.reshape(-1, size, size, 3)) for one in (distribution, truth))
            return prepare(features, reference)

        def score(distribution: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> float:
            return prepared(distribution, truth)(weight)

        return Metric(name, score, prepared=prepared, **options)  # type: ignore[arg-type]

    return [
        metric("grid_pairing_auc", _prepared_pairing, bounds=UNIT),
        metric("grid_kid", _prepared_kid, greater_is_better=False),
        metric("grid_frechet_distance", _prepared_frechet, greater_is_better=False, bounds=(0.0, np.inf)),
    ]


def _prepared_kid(features: np.ndarray, reference: np.ndarray) -> Score:
    features, reference = features[:MAX_ROWS], reference[:MAX_ROWS]
    own, other, cross = (
        (left @ right.T / features.shape[1] + 1) ** 3
        for left, right in ((features, features), (reference, reference), (features, reference))
    )

    def score(weight: np.ndarray) -> float:
        weight = np.asarray(weight[:MAX_ROWS], np.float64)
        total = weight.sum()
        pairs = total**2 - (weight**2).sum()
        if pairs <= 0:
            return float("nan")
        within = sum(
            (weight @ kernel @ weight - (weight**2 * kernel.diagonal()).sum()) / pairs for kernel in (own, other)
        )
        return float(within - 2 * (weight @ cross @ weight) / total**2)

    return score


def _prepared_frechet(features: np.ndarray, reference: np.ndarray) -> Score:
    return lambda weight: frechet_distance(features, reference, weight)


def _prepared_pairing(features: np.ndarray, reference: np.ndarray) -> Score:
    features, reference = features[:MAX_ROWS], reference[:MAX_ROWS]
    distances = _distances(features, reference)
    own = distances.diagonal()[:, None]
    nearer = np.where(own < distances, 1.0, np.where(own == distances, 0.5, 0.0))
    differ = (_distances(reference, reference) > 1e-6).astype(np.float64)

    def score(weight: np.ndarray) -> float:
        weight = np.asarray(weight[:MAX_ROWS], np.float64)
        pairs = weight @ differ @ weight
        return float(weight @ (nearer * differ) @ weight / pairs) if pairs > 0 else float("nan")

    return score


def _distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Euclidean distances `[n, m]`; 0 for equal rows."""
    squared = (left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * left @ right.T
    squared[squared < 1e-12 * (1 + squared.max(initial=0.0))] = 0.0
    return np.sqrt(squared)


def _moments(features: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The weighted mean `[d]` and the unbiased covariance `[d, d]` with frequency weights."""
    total = weight.sum()
    mean = weight @ features / total
    centered = features - mean
    return mean, (centered * weight[:, None]).T @ centered / max(total - 1, 1e-12)


def _root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
