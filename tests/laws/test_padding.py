"""Law 1: the outputs of a row do not depend on the rows it is batched with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from laws.samples import TEXT_DECODERS, VALUE_DECODERS, light, network_of, prepare, sample, sample_table, small
from polymodal.core.registry import components
from polymodal.core.types import Tokens
from polymodal.generation.config import GenerationConfig
from polymodal.generation.output import GenerationOutput
from polymodal.inference.text_generation import generate_texts
from polymodal.nn.network import Network
from polymodal.preparation.preparation import Preparation, PreparedTable

WITHIN = 1e-5
ENCODERS = [(encoder.modality, name) for name, encoder in components("encoder").items()]


def assert_rows_stand_alone(preparation: Preparation, prepared: PreparedTable, network: Network) -> None:
    """Every row, alone and with one other row, is predicted as in the whole batch."""
    network.eval()
    rows = np.arange(prepared.rows)
    with torch.no_grad():
        together = network(preparation.batch(prepared, rows))
        for row in rows:
            for mates in ([row], [row, (row + 7) % prepared.rows]):
                alone = network(preparation.batch(prepared, np.array(mates)))
                for name, decided in together.items():
                    assert torch.isfinite(decided.values).all()
                    rounding = 1e-6 if preparation.tasks[name].is_generative else 0  # of a sum over many tokens
                    torch.testing.assert_close(alone[name].values[0], decided.values[row], atol=WITHIN, rtol=rounding)


@pytest.mark.parametrize(("modality", "encoder"), ENCODERS)
def test_of_every_encoder(modality: str, encoder: str) -> None:
    columns = sample("modality", modality, rows=8) | sample("task", "regression", rows=8)
    spec = {"modality": small(modality), "columns": list(sample("modality", modality, rows=8))}
    preparation, prepared = prepare(
        columns, inputs={"x": {**spec, "encoder": light({"name": encoder})}}, outputs={"target": "regression"}
    )
    assert_rows_stand_alone(preparation, prepared, network_of(preparation))


@pytest.mark.parametrize("fusion", components("fusion"))
def test_of_every_fusion(fusion: str) -> None:
    columns, recipe = sample_table(
        ["text", "number", "category"],
        ["classification", "multilabel_classification", "regression", "metric_learning", "text_generation"],
        rows=8,
    )
    for place, name in enumerate(("text", "plain", "skewed", "often", "some")):
        columns[name][place :: 3 + place] = [None] * len(columns[name][place :: 3 + place])
    preparation, prepared = prepare(columns, **recipe, fusion=fusion)
    assert_rows_stand_alone(preparation, prepared, network_of(preparation))


@pytest.mark.parametrize("fusion", ["concat", "late"])
@pytest.mark.parametrize("decoder", VALUE_DECODERS)
def test_of_every_decoder(decoder: str, fusion: str) -> None:
    """Over a timeline too, of inputs that are long, short or missing."""
    columns, recipe = sample_table(["text", "time_series"], ["event_detection", "classification"], rows=8)
    columns["text"][1], columns["time_series"][2] = None, None
    for output in recipe["outputs"].values():
        output["decoder"] = decoder
    preparation, prepared = prepare(columns, **recipe, fusion=fusion)
    assert_rows_stand_alone(preparation, prepared, network_of(preparation))


@pytest.mark.parametrize("fusion", ["attention", "concat", "late"])
@pytest.mark.parametrize("decoder", TEXT_DECODERS)
def test_of_every_text_decoder(decoder: str, fusion: str) -> None:
    """Of inputs and targets that are long, short or missing. Generated texts do not depend on the batch either."""
    columns, recipe = sample_table(["text", "time_series"], ["text_generation"], rows=8)
    columns["text"][1], columns["time_series"][2], columns["y_text_generation"][3] = None, None, None
    recipe["outputs"]["y_text_generation"]["decoder"] = light({"name": decoder})
    preparation, prepared = prepare(columns, **recipe, fusion=fusion)
    network = network_of(preparation)
    assert_rows_stand_alone(preparation, prepared, network)
    together = texts_of(preparation, prepared, network, np.arange(8))
    for row in range(8):
        (alone,) = texts_of(preparation, prepared, network, np.array([row]))
        assert alone.tokens == together[row].tokens
        assert alone.log_probability == pytest.approx(together[row].log_probability, abs=1e-3)


def texts_of(
    preparation: Preparation, prepared: PreparedTable, network: Network, rows: np.ndarray
) -> list[GenerationOutput]:
    """The texts generated for these rows, as one batch."""
    batch, task = preparation.batch(prepared, rows), preparation.tasks["y_text_generation"]
    with torch.inference_mode():
        branches = network.encode_and_fuse(batch)
        texts = generate_texts(
            network, "y_text_generation", task, branches, batch, GenerationConfig(max_new_tokens=4), batch.rows.numpy()
        )
    return [one[0] for one in texts]


@pytest.mark.parametrize("fusion", components("fusion"))
def test_values_in_padding_have_no_effect(fusion: str) -> None:
    """Positions outside the mask may hold any values."""
    torch.manual_seed(0)
    component = components("fusion")[fusion]
    method = component(component.Options(), inputs=["a", "b"], width=16).eval()
    mask = torch.tensor([[True, True, False], [True, False, False]])
    present = torch.tensor([True, True])
    quiet = {name: Tokens(torch.randn(2, 3, 16), mask, present) for name in ("a", "b")}
    loud = {
        name: tokens.with_features(tokens.features.masked_fill(~mask.unsqueeze(-1), 1e4))
        for name, tokens in quiet.items()
    }
    with torch.no_grad():
        for one, other in zip(method(quiet), method(loud), strict=True):
            torch.testing.assert_close(one.pooled, other.pooled, atol=WITHIN, rtol=0)
            torch.testing.assert_close(one.weight, other.weight, atol=WITHIN, rtol=0)


def test_of_a_whole_model() -> None:
    columns, recipe = sample_table(
        list(components("modality")), ["classification", "regression", "text_generation"], rows=8
    )
    preparation, prepared = prepare(columns, **recipe, fusion="attention")
    assert_rows_stand_alone(preparation, prepared, network_of(preparation))
