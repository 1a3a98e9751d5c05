"""Alignments: contrastive losses by hand, positives and candidates, and planted pairs."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch

import polymodal
from laws.samples import network_of, prepare, sample_table, whole_batch
from nn.objectives.pairs import INPUTS, chance_notices, pretrained, recall
from nn.objectives.steps import bare, reads, step
from polymodal.core.errors import RecipeError
from polymodal.datasets.pairs import make_planted_pairs
from polymodal.nn.layers.embedding_head import l2_normalize
from polymodal.nn.objectives.base import ObjectiveBatch
from polymodal.nn.objectives.contrastive import Contrastive


def contrastive(*names: str, **options: Any) -> Contrastive:
    made = Contrastive(Contrastive.Options(**{"embedding_dim": 2, **options}), inputs=reads(*names), width=2)
    found: Contrastive = bare(made)
    return found


ONE = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
OTHER = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])


def test_the_loss_by_hand() -> None:
    """Cosines are 1 or 0; at temperature 1 the log-sum-exp of each row is log(e + 2) or log(2e + 1)."""
    (term,) = contrastive("a", "b", temperature=1)(step({"a": ONE, "b": OTHER}))
    towards_b = [math.log(math.e + 2) - 1, math.log(2 * math.e + 1) - 1, math.log(math.e + 2)]
    towards_a = [math.log(2 * math.e + 1) - 1, math.log(math.e + 2) - 1, math.log(math.e + 2)]
    assert float(term.loss.detach()) == pytest.approx((sum(towards_a) + sum(towards_b)) / 6, abs=1e-6)
    assert term.baseline == pytest.approx(math.log(3))
    assert term.num_values == 3


def test_rows_that_share_an_item_are_all_positives() -> None:
    """Rows 0 and 2 share an item of `a`: the loss of each is the mean over both positives."""
    (term,) = contrastive("a", "b", temperature=1)(step({"a": ONE, "b": OTHER}, index={"a": [0, 1, 0]}))
    whole = math.log(math.e + 2)
    towards_b = [whole - 0.5, math.log(2 * math.e + 1) - 1, whole - 0.5]
    towards_a = [math.log(2 * math.e + 1) - 1, whole - 1, whole]
    assert float(term.loss.detach()) == pytest.approx((sum(towards_a) + sum(towards_b)) / 6, abs=1e-6)


def test_rows_without_an_input_are_ignored() -> None:
    given = {"a": ONE, "b": OTHER}
    objective = contrastive("a", "b")
    (term,) = objective(step(given, present={"b": [True, True, False]}))
    (wanted,) = objective(step({name: one[:2] for name, one in given.items()}))
    assert float(term.loss.detach()) == float(wanted.loss.detach())
    assert term.baseline == wanted.baseline
    assert objective(step(given, present={"a": [True, False, False]})) == []


def test_shorter_embeddings_have_a_loss_of_their_own() -> None:
    """The loss is the mean over both dimensions. An embedding of one number keeps only the sign."""
    objective = contrastive("a", "b", matryoshka_dims=[1], temperature=1)
    (term,) = objective(step({"a": ONE, "b": OTHER}))
    (long,) = contrastive("a", "b", temperature=1)(step({"a": ONE, "b": OTHER}))
    cut = {"a": ONE * torch.tensor([1.0, 0.0]), "b": OTHER * torch.tensor([1.0, 0.0])}
    (short,) = contrastive("a", "b", temperature=1)(step(cut))
    assert float(term.loss.detach()) == pytest.approx(
        (float(long.loss.detach()) + float(short.loss.detach())) / 2, abs=1e-6
    )
    assert objective.embedding_dims == [1, 2]


@pytest.mark.parametrize("options", [{"matryoshka_dims": [2]}, {"matryoshka_dims": [0]}, {"anchor": "c"}])
def test_invalid_options_are_rejected(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=next(iter(options))):
        contrastive("a", "b", **options)


def test_an_anchor_is_paired_with_every_other_input() -> None:
    assert contrastive("a", "b", "c").input_pairs == [("a", "b"), ("a", "c"), ("b", "c")]
    assert contrastive("a", "b", "c", anchor="b").input_pairs == [("b", "a"), ("b", "c")]


def test_the_memory_bank_provides_the_latest_rows_as_candidates() -> None:
    objective = contrastive("a", "b", memory_bank_size=4, temperature=1)
    objective(step({"a": ONE, "b": OTHER}, rows=[0, 1, 2]))
    objective.after_step(None)
    assert objective.memory_rows.tolist() == [[0, 1, 2, -1]] * 2
    assert torch.equal(objective.memory_bank[1][:3], OTHER)
    later = {"a": ONE[:2], "b": OTHER[:2]}
    (term,) = objective(step(later, rows=[5, 1]))
    # to b: row 5 against b5, b1 and the rows 0, 1, 2 of the bank; row 1 ignores its own embedding in the bank
    towards_b = [math.log(2 * math.e + 3) - 1, math.log(2 * math.e + 2) - 1]
    # to a: the bank holds (1,0), (0,1), (1,0)
    towards_a = [math.log(3 * math.e + 2) - 1, math.log(math.e + 3) - 1]
    assert float(term.loss.detach()) == pytest.approx((sum(towards_a) + sum(towards_b)) / 4, abs=1e-6)
    assert term.baseline == pytest.approx((math.log(5) + math.log(4)) / 2)
    objective.after_step(None)
    assert objective.memory_rows.tolist() == [[5, 1, 0, 1]] * 2
    objective.eval()
    (term,) = objective(step(later, rows=[5, 1]))
    assert term.baseline == pytest.approx(math.log(2)), "the memory bank is used only in training"


def test_rows_of_the_memory_bank_that_share_an_item_are_no_negatives() -> None:
    objective = contrastive("a", "b", memory_bank_size=2, temperature=1)
    objective(step({"a": ONE[:2], "b": OTHER[:2]}, rows=[3, 4]))
    objective.after_step(None)
    (term,) = objective(step({"a": ONE, "b": OTHER}, rows=[7, 3, 8], index={"a": [0, 0, 1]}))
    # rows 7 and 3 share an item: row 3 of the bank is a negative of neither, row 4 is one of both
    assert term.baseline == pytest.approx((2 * math.log(4) + math.log(5)) / 3)


def test_the_learned_temperature_is_clamped_and_still_trained() -> None:
    objective = contrastive("a", "b")
    with torch.no_grad():
        objective.log_scale.fill_(6)
    objective.after_step(None)
    assert float(objective.logit_scale.detach()) == pytest.approx(100)
    (term,) = objective(step({"a": ONE, "b": OTHER}))
    term.loss.backward()
    assert objective.log_scale.grad is not None
    assert float(objective.log_scale.grad) != 0


def test_chunks_keep_every_negative_and_the_gradient() -> None:
    """`training.grad_cache_chunk_size`: loss and gradient of a batch encoded in chunks are those of the whole."""
    columns, recipe = sample_table(["text", "image"], [], rows=12)
    for name, encoder in (("in_text", "transformer"), ("in_image", "vit")):
        recipe["inputs"][name]["encoder"] = {"name": encoder, "num_layers": 1, "dropout": 0}
    gradients = []
    for chunk in (None, 5):
        preparation, prepared = prepare(
            columns,
            **recipe,
            objectives=[{"name": "contrastive"}],
            training={"grad_cache_chunk_size": chunk, "precision": "fp32"},
        )
        network = network_of(preparation).double()
        batch = whole_batch(preparation, prepared)
        ((term,),) = network.objective_losses(
            ObjectiveBatch(network, batch, network.encode(batch).tokens, partial(whole_batch, preparation, prepared))
        ).values()
        term.loss.backward()  # type: ignore[no-untyped-call]
        assert term.baseline == pytest.approx(math.log(12))
        gradients.append({name: one.grad for name, one in network.named_parameters() if one.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-5, msg=name)


def test_planted_pairs_are_found() -> None:
    model = pretrained({"name": "contrastive"})
    assert recall(model) > 0.5
    assert recall(model, 1) > 0.05
    assert recall(model, by="numbers", wanted="text") > 0.5
    assert chance_notices(model) == []


def test_shuffled_pairs_stay_at_the_baseline_and_the_monitor_reports_it() -> None:
    model = pretrained({"name": "contrastive"}, shuffled=True, training={"epochs": 6})
    assert recall(model) < 0.2
    assert len(chance_notices(model)) == 1


def test_pairs_are_found_with_a_memory_bank() -> None:
    model = pretrained({"name": "contrastive", "memory_bank_size": 64}, training={"learning_rate": 2e-3})
    assert recall(model) > 0.3
    assert chance_notices(model) == []


def test_an_anchor_aligns_inputs_that_never_occur_together() -> None:
    """Rows have numbers and text, or numbers and the factors; text and factors are compared on rows that have both."""
    rows = 768
    train, valid = (make_planted_pairs(count, seed, ("text", "numbers")) for seed, count in enumerate((rows, 128)))
    train["text"][::2] = [None] * (rows // 2)
    factors = [f"factor{place}" for place in range(3)]
    for column in factors:
        train[column][1::2] = [None] * (rows // 2)
    inputs = {**INPUTS, "factors": {"modality": "number", "columns": factors, "encoder": "periodic"}}
    schedule = {"epochs": 12, "batch_size": 64, "learning_rate": 5e-3, "precision": "fp32", "num_threads": 1}
    model = polymodal.pretrain(
        train,
        validation=valid,
        recipe={
            "inputs": inputs,
            "objectives": [{"name": "contrastive", "anchor": "numbers"}],
            "hidden_size": 32,
            "training": schedule,
            "evaluation": {"bootstrap_samples": 20},
        },
    )
    text, other = (model.embed(valid, input=name) for name in ("text", "factors"))
    ranks = ((text @ other.T) >= (text * other).sum(1)[:, None]).sum(1)
    assert (ranks <= 10).mean() > 0.35, "chance is 0.08"
    assert recall(model) > 0.35


def test_embeddings_have_unit_length() -> None:
    given = step({"a": 3 * ONE, "b": OTHER})
    objective = contrastive("a", "b")
    assert torch.equal(objective.embed("a", given.tokens["a"]), l2_normalize(ONE))
