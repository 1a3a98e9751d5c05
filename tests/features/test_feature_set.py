"""Sets of features: which featurizers an input has, what is refused, and that encoders do not run twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import Tensor

from laws.checkpoints import checkpoint
from laws.featurizers import MEMBERS
from laws.samples import network_of, prepare, sample_table
from polymodal.core.errors import RecipeError
from polymodal.features.feature_set import FeatureSet
from polymodal.features.input_features import has_frozen_checkpoint, input_features, required_modality_options
from polymodal.modalities.text_ngrams import NgramOptions
from polymodal.preparation.feature_cache import FeatureSettings, encode_frozen_input
from polymodal.preparation.preparation import ItemCorruption
from polymodal.recipe.recipe import InputSpec, Recipe


def spec_of(**values: Any) -> InputSpec:
    return InputSpec(columns=["a"], **values)


def names_of(spec: InputSpec) -> list[str]:
    return [options.name for options in input_features("a", spec)]


def test_a_frozen_checkpoint_decides_the_default() -> None:
    def image(**encoder: Any) -> InputSpec:
        return spec_of(modality="image", encoder={"name": "pretrained_image", "checkpoint": "starter", **encoder})

    assert names_of(image()) == ["embedding", "statistics"]
    assert names_of(image(fine_tuning="full")) == ["statistics"]
    assert names_of(spec_of(modality="image", encoder="resnet")) == ["statistics"]
    assert names_of(spec_of(modality="time_series", encoder="inception_time")) == ["minirocket", "statistics"]
    assert names_of(spec_of(modality="image", features=[])) == []
    frames = {"name": "frame_encoder", "frame_encoder": {"name": "pretrained_image", "checkpoint": "starter"}}
    assert has_frozen_checkpoint(spec_of(modality="video", encoder=frames))
    assert not has_frozen_checkpoint(spec_of(modality="video", encoder="frame_encoder"))


@pytest.mark.parametrize(
    ("features", "problem"),
    [
        (["statistics", "statistics"], r"features\.1.*named twice"),
        (["statistics", "codes"], r"features\.1.*'codes' is for category, but this input is image"),
        (["embedding"], r"features\.0.*needs a pretrained encoder with fine_tuning: freeze"),
    ],
)
def test_features_that_do_not_fit_are_refused(features: list[str], problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        input_features("a", spec_of(modality="image", encoder="resnet", features=features))


def test_an_unknown_featurizer_is_refused_with_its_recipe_key() -> None:
    with pytest.raises(RecipeError, match=r"inputs\.a\.features\.0.*statistics"):
        Recipe(inputs={"a": {"features": ["statistic"]}})


def test_numbers_need_nothing_of_the_modality() -> None:
    assert required_modality_options("a", spec_of(modality="number")) == {}


def test_texts_get_the_ngrams_that_their_features_read_unless_they_have_others() -> None:
    assert required_modality_options("a", spec_of(modality="text")) == {"ngrams": NgramOptions()}
    own = {"name": "text", "ngrams": {"words": 1}}
    assert required_modality_options("a", spec_of(modality=own)) == {}
    assert required_modality_options("a", spec_of(modality="text", features=[])) == {}


def test_rare_ngrams_are_dropped_if_the_recipe_says_so() -> None:
    columns = {"text": ["red cat", "red dog", "a red cat"], "target": ["a", "b", "a"]}
    widths = []
    for min_df in (1, 2, None):
        ngrams = {"words": 1, "characters": None}
        spec = {"modality": {"name": "text", "ngrams": ngrams}, "features": [{"name": "tfidf", "min_df": min_df}]}
        preparation, table = prepare(columns, inputs={"text": spec}, outputs={"target": "classification"}, **MEMBERS)
        features = FeatureSet(preparation.recipe, preparation, {}, None)
        features.fit(table, np.arange(3))
        widths.append(features.transform(table, np.arange(3)).blocks["text"][0].values.shape[1])
    assert widths == [4, 2, 4]


def test_features_without_a_member_that_reads_them_are_refused() -> None:
    columns, recipe = sample_table(["number"], ["classification"])
    recipe["inputs"]["in_number"]["features"] = ["numbers"]
    with pytest.raises(RecipeError, match=r"inputs\.in_number\.features.*members"):
        prepare(columns, **recipe)


def test_privileged_inputs_have_no_features() -> None:
    columns, recipe = sample_table(["number", "category"], ["classification"])
    recipe["inputs"]["in_number"]["privileged"] = True
    preparation, table = prepare(columns, **recipe)
    features = FeatureSet(preparation.recipe, preparation, {}, None)
    features.fit(table, np.arange(10))
    assert list(features.transform(table, np.arange(3)).blocks) == ["in_category"]


def test_an_encoder_does_not_run_for_cached_features() -> None:
    columns, recipe = sample_table(["image"], ["classification"], 9)
    recipe["inputs"]["in_image"] |= {
        "modality": "image",
        "encoder": {"name": "pretrained_image", "checkpoint": checkpoint("image")},
        "features": ["embedding", "statistics"],
    }
    preparation, table = prepare(columns, **recipe, **MEMBERS)
    encoder = network_of(preparation).encoders()["in_image"].eval()
    features = FeatureSet(preparation.recipe, preparation, {"in_image": encoder}, None)
    features.fit(table, np.arange(6))
    rows = np.array([8, 1, 2])
    expected = features.transform(table, rows)
    settings, modality = FeatureSettings.from_recipe(preparation.recipe), preparation.modalities["in_image"]
    cached = encode_frozen_input(encoder, modality, table.inputs["in_image"], settings, folder=None)
    assert cached is not None

    def refuse(data: dict[str, Tensor]) -> dict[str, Tensor]:
        raise AssertionError("the encoder runs again")

    encoder.encode_frozen = refuse  # type: ignore[method-assign]
    found = features.transform(table, rows, encoded={"in_image": cached})
    for mine, theirs in zip(found.blocks["in_image"], expected.blocks["in_image"], strict=True):
        np.testing.assert_allclose(mine.values, theirs.values, atol=1e-5)
    change = ItemCorruption("in_image", "noise", 1.0, np.random.default_rng(0))
    with pytest.raises(AssertionError, match="runs again"):  # corrupted items are not in the cache
        features.transform(table, rows, encoded={"in_image": cached}, corruption=change)
