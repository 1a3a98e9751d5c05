"""Audio preprocessed for a checkpoint: its sampling rate and duration, no default augmentation, saved configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laws.checkpoints import checkpoint
from polymodal.core.errors import RecipeError
from polymodal.core.paths import cache_folder
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import open_table
from polymodal.experiments.plan import make_plan
from polymodal.modalities.audio import Audio
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.recipe import Recipe

RATE = 16_000


def saved(folder: Path, config: dict[str, Any], preprocessor: dict[str, Any]) -> str:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return str(folder)


def clap(folder: Path) -> str:
    preprocessor = {"feature_extractor_type": "ClapFeatureExtractor", "sampling_rate": 48_000, "max_length_s": 10}
    return saved(folder, {"model_type": "clap"}, preprocessor)


def sounds(*seconds: float) -> dict[str, list[Any]]:
    draw = np.random.default_rng(0)
    return {
        "sound": [{"array": draw.normal(0, 0.1, int(RATE * one)), "sampling_rate": RATE} for one in seconds],
        "target": [float(row) for row in range(len(seconds))],
    }


def resolved(columns: dict[str, list[Any]], **modality: Any) -> Audio.Options:
    table = open_table(columns, cache=cache_folder() / "tables")
    inputs = {"sound": {"modality": {"name": "audio", **modality}, "encoder": "audio_cnn"}}
    plan = make_plan(table, Recipe(inputs=inputs, outputs={"target": "regression"}))
    options = plan.recipe.inputs["sound"].modality
    assert isinstance(options, Audio.Options)
    return options


def test_it_decides_rate_and_length(tmp_path: Path) -> None:
    options = resolved(sounds(1.0, 12.0, 12.0), checkpoint=clap(tmp_path), max_seconds=30)
    assert (options.sampling_rate, options.channels, options.seconds) == (48_000, 1, 10.0)
    options = resolved(sounds(0.25, 0.5, 0.5), checkpoint=clap(tmp_path))
    assert options.seconds == 0.5


def test_no_random_changes_but_those_asked_for(tmp_path: Path) -> None:
    columns, folder = sounds(0.5, 0.5), clap(tmp_path)
    plain = resolved(columns, checkpoint=folder)
    assert (plain.gain_db, plain.time_shift, plain.noise_snr_db) == (0, 0, None)
    assert not Audio(plain, columns=["sound"]).has_augmentation
    for asked in ({"gain_db": 3.0}, {"time_shift": 0.1}, {"noise_snr_db": 20.0}):
        assert Audio(resolved(columns, checkpoint=folder, **asked), columns=["sound"]).has_augmentation
    assert Audio(resolved(columns), columns=["sound"]).has_augmentation


@pytest.mark.parametrize(
    ("asked", "key"),
    [({"sampling_rate": 16_000}, "sampling_rate"), ({"channels": 2}, "channels"), ({"seconds": 11.0}, "seconds")],
)
def test_what_the_checkpoint_cannot_take_names_its_key(asked: dict[str, Any], key: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as raised:
        resolved(sounds(0.5, 0.5), checkpoint=clap(tmp_path), **asked)
    assert raised.value.path == f"inputs.sound.modality.{key}"


def test_what_agrees_with_the_checkpoint_may_be_said(tmp_path: Path) -> None:
    options = resolved(sounds(0.5, 0.5), checkpoint=clap(tmp_path), sampling_rate=48_000, channels=1, seconds=10.0)
    assert (options.sampling_rate, options.seconds) == (48_000, 10.0)


def test_a_complete_recipe_is_left_as_it_is(tmp_path: Path) -> None:
    columns = sounds(0.5, 0.5)
    options = resolved(columns, checkpoint=clap(tmp_path))
    assert resolved(columns, **options.model_dump()) == options


@pytest.mark.parametrize("named", ["text", "image"])
def test_a_checkpoint_for_something_else(named: str) -> None:
    with pytest.raises(RecipeError, match="has no audio feature extractor") as raised:
        resolved(sounds(0.5, 0.5), checkpoint=checkpoint(named))
    assert raised.value.path == "inputs.sound.modality.checkpoint"


def test_no_checkpoint_of_that_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as raised:
        resolved(sounds(0.5, 0.5), checkpoint=str(tmp_path / "nowhere"))
    assert raised.value.path == "inputs.sound.modality.checkpoint"


def test_the_card_is_saved_and_needs_the_checkpoint_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    options = resolved(sounds(0.5, 0.5), checkpoint=clap(folder))
    modality = Audio(options, columns=["sound"])
    modality.fit([])
    state, shape = json.loads(json.dumps(modality.save(tmp_path))), modality.shape()
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    again = Audio(options, columns=["sound"])
    again.load(tmp_path, state)
    assert again.shape() == shape
    assert CheckpointConfig.from_dict(shape["checkpoint"]).preprocessor["sampling_rate"] == 48_000


def test_audio_are_brought_to_the_rate_of_the_checkpoint(tmp_path: Path) -> None:
    columns = sounds(0.5, 0.25)
    modality = Audio(resolved(columns, checkpoint=clap(tmp_path)), columns=["sound"])
    modality.fit([])
    prepared = modality.prepare(RowBlock(columns, np.arange(2), None, "table", CellErrors(), LimitOptions()))
    items = prepared.items.take(prepared.index)
    assert items["length"].tolist() == [24_000, 12_000]
