"""Linear CCA: by hand, comparison with the definition, three inputs, and planted pairs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nn.objectives.pairs import chance_notices, pretrained, recall
from nn.objectives.steps import reads, step
from polymodal.nn.objectives.linear_cca import LinearCCA


def linear_cca(width: int, names: str = "ab", **options: Any) -> LinearCCA:
    return LinearCCA(LinearCCA.Options(**options), inputs=reads(*names), width=width)


def trained_on(objective: LinearCCA, *batches: dict[str, Tensor], **given: Any) -> LinearCCA:
    for batch in batches:
        objective(step(batch, **given))
        objective.after_step(None)
    objective.eval()
    return objective


def correlated(rows: int) -> dict[str, Tensor]:
    hidden = torch.randn(rows, 2)
    return {
        name: torch.cat([hidden + 0.5 * torch.randn(rows, 2), torch.randn(rows, 1)], 1) @ torch.randn(3, 3) + 3
        for name in "ab"
    }


def test_the_heads_are_the_canonical_directions() -> None:
    """Without a ridge: numbers of one input are uncorrelated, and correlate with those of the other by the singular
    values of S_a^-1/2 S_ab S_b^-1/2, in their order."""
    torch.manual_seed(0)
    rows = correlated(400)
    objective = trained_on(linear_cca(3, embedding_dim=3, regularization=1e-6, power=0), rows)
    found = [objective.heads[name](rows[name]) for name in "ab"]
    together = torch.corrcoef(torch.cat(found, 1).T)
    roots = [torch.linalg.cholesky(torch.cov(rows[name].T)) for name in "ab"]
    across = torch.cov(torch.cat([rows["a"], rows["b"]], 1).T)[:3, 3:]
    expected = torch.linalg.svdvals(torch.linalg.solve(roots[0], across) @ torch.linalg.inv(roots[1]).T)
    torch.testing.assert_close(together[:3, :3], torch.eye(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(together[:3, 3:], torch.diag(expected), atol=1e-3, rtol=0)
    torch.testing.assert_close(found[0].mean(0), torch.zeros(3), atol=1e-4, rtol=0)


def test_the_power_weights_directions_by_their_correlation() -> None:
    torch.manual_seed(0)
    rows = correlated(400)
    plain, weighted = (
        trained_on(linear_cca(3, embedding_dim=3, regularization=1e-6, power=power), rows) for power in (0, 2)
    )
    ratio = weighted.heads["a"](rows["a"]).std(0) / plain.heads["a"](rows["a"]).std(0)
    together = torch.corrcoef(torch.cat([plain.heads[name](rows[name]) for name in "ab"], 1).T)
    torch.testing.assert_close(ratio, together[:3, 3:].diagonal() ** 2, atol=1e-3, rtol=1e-2)


def test_a_ridge_shrinks_directions_of_small_variance() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(500, 2)
    rows = {"a": hidden * torch.tensor([1.0, 0.01]), "b": hidden}
    shares = []
    for ridge in (1e-6, 1.0):
        vectors = trained_on(linear_cca(2, embedding_dim=2, regularization=ridge, power=0), rows).heads["a"](rows["a"])
        small = torch.corrcoef(torch.cat([vectors, hidden], 1).T)[:2, 3].square() @ vectors.var(0)
        shares.append(float(small / vectors.var(0).sum()))
    assert shares[0] == pytest.approx(0.5, abs=0.05)
    assert shares[1] < 0.01


@pytest.mark.parametrize("batches", [1, 4])
def test_batches_give_the_solution_of_one_pass_over_all_rows(batches: int) -> None:
    """With momentum 1, also if rows have missing inputs."""
    torch.manual_seed(0)
    rows = correlated(200)
    there = torch.rand(200) > 0.3
    both, own = {name: one[there] for name, one in rows.items()}, rows["a"]
    objective: Any = linear_cca(3, embedding_dim=2, momentum=1)
    for part in torch.arange(200).chunk(batches):
        present = {"b": there[part].tolist()}
        trained_on(objective, {name: one[part] for name, one in rows.items()}, present=present).train()
    torch.testing.assert_close(
        objective.input_moments["a"].covariance().float(), torch.cov(own.T, correction=0), atol=1e-3, rtol=1e-3
    )
    expected = torch.cov(torch.cat([both["a"], both["b"]], 1).T, correction=0)[:3, 3:]
    torch.testing.assert_close(objective.pair_moments["a"]["b"].covariance().float(), expected, atol=1e-3, rtol=1e-3)


def test_three_inputs_share_one_space() -> None:
    """Retrieval works between each pair; with an anchor, also between inputs that only the anchor connects."""
    torch.manual_seed(0)
    hidden = torch.randn(600, 4)
    rows = {name: hidden @ torch.randn(4, 6) + 0.1 * torch.randn(600, 6) for name in "abc"}
    for anchor in (None, "a"):
        objective = trained_on(linear_cca(6, "abc", embedding_dim=4, anchor=anchor, regularization=1e-3), rows)
        given = step(rows)
        b, c = (objective.embed(name, given.tokens[name]) for name in "bc")
        assert float((b @ c.T).argmax(1).eq(torch.arange(600)).float().mean()) > 0.5


def test_unrelated_inputs_have_the_baseline_loss_and_related_inputs_less() -> None:
    torch.manual_seed(0)
    noise = trained_on(linear_cca(8, embedding_dim=8), {name: torch.randn(400, 8) for name in "ab"})
    (term,) = noise(step({name: torch.randn(2000, 8) for name in "ab"}))
    assert float(term.loss) == pytest.approx(1, abs=0.05)
    rows = correlated(400)
    (term,) = trained_on(linear_cca(3, embedding_dim=2), rows)(step(rows))
    assert float(term.loss) < 0.5


def test_a_common_shift_of_all_rows_does_not_lower_the_loss() -> None:
    torch.manual_seed(0)
    rows = correlated(400)
    objective = trained_on(linear_cca(3, embedding_dim=2), rows)
    (before,) = objective(step(rows))
    (after,) = objective(step({name: one + torch.randn(3) for name, one in rows.items()}))
    torch.testing.assert_close(after.loss, before.loss)


def test_moments_and_heads_are_fp32_in_mixed_precision() -> None:
    torch.manual_seed(0)
    rows = correlated(100)
    exact = trained_on(linear_cca(3, embedding_dim=2), rows)
    with torch.autocast("cpu", torch.bfloat16):
        found = trained_on(linear_cca(3, embedding_dim=2), rows)
        torch.testing.assert_close(found.heads["a"](rows["a"]), exact.heads["a"](rows["a"]))


def test_encoders_learn_from_solved_heads() -> None:
    torch.manual_seed(0)
    rows = correlated(50)
    objective = trained_on(linear_cca(3, embedding_dim=2), rows).train()
    learned = rows["a"].clone().requires_grad_()
    (term,) = objective(step({"a": learned, "b": rows["b"]}))
    (gradient,) = torch.autograd.grad(term.loss, learned)
    (after,) = objective(step({"a": rows["a"] - gradient, "b": rows["b"]}))
    assert float(after.loss.detach()) < float(term.loss.detach())


def test_planted_pairs_are_found() -> None:
    model = pretrained({"name": "linear_cca", "embedding_dim": 16}, training={"epochs": 5})
    assert recall(model) > 0.25
    assert recall(model, by="numbers", wanted="text") > 0.25
    assert chance_notices(model) == []


def test_shuffled_pairs_stay_at_the_baseline_and_the_monitor_reports_it() -> None:
    model = pretrained({"name": "linear_cca", "embedding_dim": 16}, shuffled=True, valid=3000, training={"epochs": 4})
    assert recall(model) < 0.1
    assert len(chance_notices(model)) == 1


def test_dimensions_beyond_the_rank_are_zero() -> None:
    torch.manual_seed(0)
    rows = {name: torch.randn(3, 8) for name in "ab"}
    objective = trained_on(linear_cca(8, embedding_dim=8), rows)
    vectors = objective.embed("a", step(rows).tokens["a"])
    assert vectors[:, 2:].abs().max() < 1e-3
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
