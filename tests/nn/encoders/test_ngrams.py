"""The encoder `ngrams` in a model: it learns from what other encoders of texts do not see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from laws.samples import Columns, table_of, trained
from polymodal.core.errors import RecipeError
from polymodal.experiments.plan import make_plan
from polymodal.model.model import Model
from polymodal.recipe.recipe import Recipe

MAX_LENGTH = 16


def late_word(rows: int, seed: int) -> Columns:
    """A word at the end of a long text decides, far behind the last token that is kept."""
    draw = np.random.default_rng(seed)
    label = draw.choice(["up", "down"], rows)
    filler = [" ".join(draw.choice(["alpha", "beta", "gamma", "delta"], 60)) for _ in range(rows)]
    marks = {"up": "Risen,", "down": "Fallen,"}
    return {
        "t": [f"{text} {marks[one]} {draw.integers(9)}" for text, one in zip(filler, label, strict=True)],
        "y": label.tolist(),
    }


def chinese_order(rows: int, seed: int) -> Columns:
    """The order of two characters decides, in texts of one character set without spaces."""
    draw = np.random.default_rng(seed)
    label = draw.choice(["up", "down"], rows)
    texts = []
    for one in label:
        filler = draw.choice(list("天地人山水火木金"), 12).tolist()
        place = int(draw.integers(12))
        texts.append("".join([*filler[:place], "喜欢" if one == "up" else "欢喜", *filler[place:]]))
    return {"t": texts, "y": label.tolist()}


def accuracy(make: object, encoder: str, folder: Path) -> tuple[float, Model]:
    assert callable(make)
    model = trained(
        {"train": make(320, seed=1), "validation": make(80, seed=2)},
        folder,
        inputs={"t": {"modality": {"name": "text", "max_length": MAX_LENGTH, "vocab_size": 300}, "encoder": encoder}},
        outputs={"y": "classification"},
        training={"epochs": 6, "learning_rate": 0.01, "batch_size": 32},
    )
    test = make(200, seed=3)
    predicted = model.predict(test)
    return float(np.mean([one == other for one, other in zip(predicted, test["y"], strict=True)])), model


def test_it_reads_the_whole_text_where_a_bag_of_the_kept_tokens_is_at_chance(tmp_path: Path) -> None:
    found, model = accuracy(late_word, "ngrams", tmp_path / "a")
    assert found >= 0.97
    assert accuracy(late_word, "embedding_bag", tmp_path / "b")[0] <= 0.62
    model.save(tmp_path / "saved")
    test = late_word(20, seed=4)
    assert Model.load(tmp_path / "saved").predict(test) == model.predict(test)


def test_it_sees_the_order_of_characters_of_a_script_without_spaces(tmp_path: Path) -> None:
    assert accuracy(chinese_order, "ngrams", tmp_path)[0] >= 0.97


def test_the_encoder_sets_the_option_of_the_modality_and_refuses_another(tmp_path: Path) -> None:
    table = table_of(late_word(40, seed=1))
    outputs = {"y": "classification"}
    encoder = {"name": "ngrams", "ngrams": {"words": 1}}
    planned = make_plan(table, Recipe(inputs={"t": {"modality": "text", "encoder": encoder}}, outputs=outputs)).recipe
    assert planned.inputs["t"].modality.ngrams.model_dump() == {
        "words": 1,
        "characters": (4, 4),
        "buckets": 1 << 18,
        "min_df": 2,
        "max_features": 65_536,
    }
    assert Recipe(**planned.model_dump()) == planned
    other = {"name": "text", "ngrams": {"words": 3}}
    with pytest.raises(RecipeError, match="the encoder ngrams requires"):
        make_plan(table, Recipe(inputs={"t": {"modality": other, "encoder": encoder}}, outputs=outputs))
    with pytest.raises(RecipeError, match="cannot be masked"):
        trained(
            {"train": late_word(20, 1), "validation": late_word(20, 2)},
            tmp_path,
            inputs={"t": {"modality": "text", "encoder": "ngrams"}},
            outputs={},
            objectives=["masked_modeling"],
        )
