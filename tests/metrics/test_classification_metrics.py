"""Classification metrics equal scikit-learn's, with weights and with classes that do not occur."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as reference

from polymodal.metrics import classification as ours
from polymodal.metrics.ranking import roc_auc

ROWS, K = 400, 5


def draw(seed: int, absent: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noisy probabilities, class numbers (class 3 never occurs if `absent`), and weights of which some are
    0."""
    rng = np.random.default_rng(seed)
    distribution = rng.dirichlet(np.ones(K), ROWS)
    truth = rng.integers(K, size=ROWS)
    if absent:
        truth[truth == 3] = 0
        distribution[:, 4] = 0
        distribution /= distribution.sum(1, keepdims=True)
    return distribution, truth, rng.integers(0, 4, size=ROWS).astype(float)


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("average", ["macro", "micro"])
@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_averages(name: str, average: str, absent: bool) -> None:
    distribution, truth, weight = draw(1, absent)
    score = getattr(reference, f"{name}_score")
    expected = score(truth, distribution.argmax(1), average=average, sample_weight=weight, zero_division=0)
    assert getattr(ours, f"{name}_{average}")(distribution, truth, weight) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("absent", [False, True])
def test_accuracy_balanced_confusion_and_log_loss(absent: bool) -> None:
    distribution, truth, weight = draw(2, absent)
    decided = distribution.argmax(1)
    near = {"rel": 1e-12}
    assert ours.accuracy(distribution, truth, weight) == pytest.approx(
        reference.accuracy_score(truth, decided, sample_weight=weight), **near
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of predicted classes that do not occur
        balanced = reference.balanced_accuracy_score(truth, decided, sample_weight=weight)
    assert ours.balanced_accuracy(distribution, truth, weight) == pytest.approx(balanced, **near)
    matrix = reference.confusion_matrix(truth, decided, labels=range(K), sample_weight=weight)
    np.testing.assert_allclose(ours.confusion_matrix(distribution, truth, weight), matrix)
    loss = reference.log_loss(truth, distribution, labels=range(K), sample_weight=weight)
    assert ours.log_loss(distribution, truth, weight) == pytest.approx(loss, **near)


@pytest.mark.parametrize("classes", [2, 5])
def test_classes_without_a_column_have_the_probability_0(classes: int) -> None:
    """Truth indices of k and above, which are classes that training did not see, score as scikit-learn scores them."""
    rng = np.random.default_rng(7)
    distribution = rng.dirichlet(np.ones(classes), ROWS)
    truth, weight = rng.integers(classes + 2, size=ROWS), rng.random(ROWS)
    decided, wider = distribution.argmax(1), np.pad(distribution, ((0, 0), (0, 2)))
    given = {"sample_weight": weight}
    accuracy = reference.accuracy_score(truth, decided, **given)
    assert ours.accuracy(distribution, truth, weight) == pytest.approx(accuracy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        balanced = reference.balanced_accuracy_score(truth, decided, **given)
        loss = reference.log_loss(truth, wider, labels=range(classes + 2), **given)
        expected = {
            name: getattr(reference, f"{name}_score")(truth, decided, average="macro", **given)
            for name in ("precision", "recall", "f1")
        }
    assert ours.balanced_accuracy(distribution, truth, weight) == pytest.approx(balanced)
    assert ours.log_loss(distribution, truth, weight) == pytest.approx(loss)
    for name, score in expected.items():
        assert getattr(ours, f"{name}_macro")(distribution, truth, weight) == pytest.approx(score)
    auc = reference.roc_auc_score(truth, wider, multi_class="ovr", labels=range(classes + 2), **given)
    assert roc_auc(distribution, truth, weight) == pytest.approx(auc)


def test_per_class() -> None:
    distribution, truth, weight = draw(3, absent=True)
    expected = reference.precision_recall_fscore_support(
        truth, distribution.argmax(1), labels=range(K), sample_weight=weight, zero_division=np.nan
    )
    found = ours.per_class(distribution, truth, weight)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(found[name], values)
    assert math.isnan(found["precision"][4])


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_multilabel(threshold: float) -> None:
    rng = np.random.default_rng(4)
    truth = (rng.random((ROWS, K)) < 0.3).astype(np.uint8)
    distribution = np.clip(truth * 0.3 + rng.random((ROWS, K)) * 0.7, 0, 1)
    truth[:, 2], distribution[:, 2] = 0, 0.1  # neither occurs nor is predicted
    weight = rng.random(ROWS)
    decided = distribution >= threshold
    given = {"sample_weight": weight, "zero_division": np.nan}
    for average in ("macro", "micro"):
        expected = reference.f1_score(truth, decided, average=average, **given)
        found = getattr(ours, f"f1_{average}")(distribution, truth, weight, threshold)
        assert found == pytest.approx(expected, rel=1e-12)
    exact = reference.accuracy_score(truth, decided, sample_weight=weight)
    assert ours.subset_accuracy(distribution, truth, weight, threshold) == pytest.approx(exact, rel=1e-12)
    support = ours.per_class(distribution, truth, weight, threshold)["support"]
    np.testing.assert_allclose(support, weight @ truth)


def test_by_hand() -> None:
    distribution = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    truth, weight = np.array([0, 0, 1, 1]), np.array([1.0, 1.0, 1.0, 2.0])
    np.testing.assert_array_equal(ours.confusion_matrix(distribution, truth, weight), [[2, 0], [2, 1]])
    assert ours.accuracy(distribution, truth, weight) == pytest.approx(3 / 5)
    assert ours.balanced_accuracy(distribution, truth, weight) == pytest.approx((1 + 1 / 3) / 2)
    assert ours.f1_macro(distribution, truth, weight) == pytest.approx((4 / 6 + 2 / 4) / 2)
    expected = -(np.log(0.9) + np.log(0.8) + np.log(0.7) + 2 * np.log(0.4)) / 5
    assert ours.log_loss(distribution, truth, weight) == pytest.approx(expected)


@pytest.mark.parametrize(
    "name",
    ["accuracy", "balanced_accuracy", "precision_macro", "recall_macro", "f1_macro", "f1_micro", "log_loss"],
)
def test_nothing_to_score_is_nan_without_a_warning(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rows in (0, 3):
            score = getattr(ours, name)(np.full((rows, 2), 0.5), np.zeros(rows, int), np.zeros(rows))
            assert math.isnan(score)


def test_a_row_of_weight_zero_does_not_exist() -> None:
    distribution, truth, weight = draw(5, absent=True)
    real = weight > 0
    for name in ("accuracy", "balanced_accuracy", "precision_macro", "f1_macro", "f1_micro", "log_loss"):
        score = getattr(ours, name)
        assert score(distribution, truth, weight) == pytest.approx(score(distribution[real], truth[real], weight[real]))
