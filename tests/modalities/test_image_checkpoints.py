"""Images with a checkpoint: its own preprocessing, stored once at its size, saved with the model."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from polymodal.core.errors import RecipeError
from polymodal.data.media.image_preprocessing import ImagePreprocessing
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import open_table
from polymodal.experiments.plan import make_plan
from polymodal.modalities.image import Image
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.recipe import Recipe

PROCESSOR = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 48},
    "crop_size": {"height": 40, "width": 40},
    "resample": 3,
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    return made(tmp_path / "checkpoint", PROCESSOR)


def made(folder: Path, processor: dict[str, Any]) -> str:
    """A checkpoint's small files, which are all that the modality reads."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "dinov2", "hidden_size": 16}))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return str(folder)


def jpeg(width: int = 500, height: int = 400) -> bytes:
    coarse = np.random.default_rng(0).integers(0, 256, (height // 3, width // 3, 3), dtype=np.uint8)
    file = io.BytesIO()
    Pillow.fromarray(coarse).resize((width, height), Pillow.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def block(cells: list[Any], cache: Path | None = None) -> RowBlock:
    return RowBlock({"i": cells}, np.arange(len(cells)), None, "table", CellErrors(), LimitOptions(), cache)


def fitted(**options: Any) -> Image:
    modality = Image(Image.Options(**options), columns=["i"])
    modality.fit([])
    return modality


def pixels(modality: Image, cells: list[Any], cache: Path | None = None) -> np.ndarray:
    given = block(cells, cache)
    items = modality.prepare(given).items
    assert not given.errors.errors
    return items.take(np.arange(len(items)))["pixels"]


def test_files_and_images_in_memory_are_prepared_as_the_checkpoint_does(checkpoint: str, tmp_path: Path) -> None:
    """No scaled decoding of JPEG, no resizing in two steps: both change pixels."""
    image = Pillow.open(io.BytesIO(jpeg()))
    wanted = ImagePreprocessing.from_config(PROCESSOR, {}).apply(image.convert("RGB"))
    modality = fitted(checkpoint=checkpoint)
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        found = pixels(modality, [jpeg(), image, np.asarray(image)], cache)
        assert found.shape[1:] == (40, 40, 3)
        assert all(np.array_equal(one, wanted) for one in found)
    plain = pixels(fitted(image_size=40), [jpeg()])
    assert not np.array_equal(plain[0], wanted)


def test_checkpoints_that_differ_in_numbers_only_share_what_is_stored(checkpoint: str, tmp_path: Path) -> None:
    limits = LimitOptions()
    first = fitted(checkpoint=checkpoint)
    other = fitted(checkpoint=made(tmp_path / "numbers", {**PROCESSOR, "image_mean": [0.1, 0.2, 0.3]}))
    larger = fitted(checkpoint=made(tmp_path / "larger", {**PROCESSOR, "size": {"shortest_edge": 50}}))
    assert first.fingerprint(limits) == other.fingerprint(limits)
    assert len({one.fingerprint(limits) for one in (first, larger, fitted(image_size=40))}) == 3


def test_the_card_is_kept_with_the_model(checkpoint: str, tmp_path: Path) -> None:
    before = fitted(checkpoint=checkpoint)
    state = json.loads(json.dumps(before.save(tmp_path)))
    for file in Path(checkpoint).iterdir():
        file.unlink()
    after = Image(before.options, columns=["i"])
    after.load(tmp_path, state)
    assert after.shape() == before.shape()
    assert after.shape()["checkpoint"]["files"]["preprocessor_config"] == PROCESSOR
    assert (after.shape()["height"], after.shape()["width"]) == (40, 40)
    assert np.array_equal(pixels(after, [jpeg()]), pixels(before, [jpeg()]))
    assert after.describe() == before.describe()


def test_the_size_is_filled_and_nothing_is_changed_at_random(checkpoint: str, tmp_path: Path) -> None:
    found = Image.resolve(Image.Options(checkpoint=checkpoint), [])
    assert (found.image_size, found.resize_mode, found.translate) == (40, "crop", 0)
    assert Image.resolve(Image.Options.model_validate(found.model_dump()), []) == found
    data = {"pixels": torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8)}
    plain = Image(found, columns=["i"])
    assert not plain.has_augmentation
    assert torch.equal(plain.augment(data)["pixels"], data["pixels"])
    stretching = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 64, "width": 64}}
    folder = made(tmp_path / "stretching", stretching)
    assert Image.resolve(Image.Options(checkpoint=folder), []).resize_mode == "stretch"


@pytest.mark.parametrize(
    ("option", "value"), [("translate", 0.06), ("horizontal_flip", True), ("brightness", 0.5), ("contrast", 0.5)]
)
def test_changes_that_are_asked_for_stay(checkpoint: str, option: str, value: Any) -> None:
    asked = Image.resolve(Image.Options(checkpoint=checkpoint, **{option: value}), [])
    assert getattr(asked, option) == value
    assert Image(asked, columns=["i"]).has_augmentation


def test_images_without_a_checkpoint_are_moved_by_default() -> None:
    assert Image(Image.Options(), columns=["i"]).has_augmentation
    assert not Image(Image.Options(translate=0), columns=["i"]).has_augmentation


def test_a_size_that_the_checkpoint_does_not_take_is_refused(checkpoint: str) -> None:
    with pytest.raises(RecipeError, match="checkpoint") as found:
        Image.resolve(Image.Options(checkpoint=checkpoint, image_size=64), [])
    assert found.value.path == "image_size"


@pytest.mark.parametrize("processor", [PROCESSOR, {"image_processor_type": "ViTImageProcessor", "size": 40}])
def test_an_oblong_image_may_be_fitted_otherwise_than_the_checkpoint_does(
    processor: dict[str, Any], tmp_path: Path
) -> None:
    """The size, the filter and the arithmetic stay the checkpoint's."""
    folder = made(tmp_path / "fits", processor)
    wide = Pillow.new("RGB", (120, 60), (200, 10, 10))
    wide.paste((10, 200, 10), (0, 0, 30, 60))  # green at the left end
    found = {fit: fitted(checkpoint=folder, resize_mode=fit) for fit in ("crop", "stretch", "pad")}
    seen = {fit: pixels(modality, [wide])[0] for fit, modality in found.items()}
    assert all(one.shape == (40, 40, 3) for one in seen.values())
    assert not (seen["crop"][..., 1] > 100).any()
    assert (seen["stretch"][:, :9, 1] > 150).all()
    assert (seen["stretch"][:, 12:, 1] < 50).all()
    assert not seen["pad"][:9].any()
    assert not seen["pad"][-9:].any()
    assert (seen["pad"][11:29, :9, 1] > 150).all()
    own = Image.resolve(Image.Options(checkpoint=folder), [])
    assert np.array_equal(
        pixels(fitted(checkpoint=folder, resize_mode=own.resize_mode), [wide])[0], seen[own.resize_mode]
    )
    limits = Recipe().data.limits
    assert len({modality.fingerprint(limits) for modality in found.values()}) == 3
    again = Image(found["pad"].options, columns=["i"])
    again.load(tmp_path, found["pad"].save(tmp_path))
    assert np.array_equal(pixels(again, [wide])[0], seen["pad"])


@pytest.mark.parametrize(
    ("processor", "problem"),
    [
        ({**PROCESSOR, "do_pad": True}, "do_pad"),
        ({**PROCESSOR, "crop_size": {"height": 40, "width": 48}}, "48 x 40"),
        ({**PROCESSOR, "image_processor_type": "OtherImageProcessor"}, "OtherImageProcessor"),
    ],
)
def test_a_checkpoint_that_cannot_be_prepared_for_is_refused(
    processor: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    folder = made(tmp_path / "other", processor)
    with pytest.raises(RecipeError, match=problem) as found:
        Image.resolve(Image.Options(checkpoint=folder), [])
    assert found.value.path == "checkpoint"


def test_an_encoder_says_which_checkpoint_a_plan_prepares_for(checkpoint: str, tmp_path: Path) -> None:
    images = [Pillow.new("RGB", (90, 60), (shade * 9, 0, 0)) for shade in range(12)]
    table = open_table({"i": images, "y": ["a", "b"] * 6}, cache=tmp_path)
    inputs = {"i": {"columns": ["i"], "encoder": {"name": "pretrained_image", "checkpoint": checkpoint}}}
    modality = make_plan(table, Recipe(inputs=inputs), ["y"]).recipe.inputs["i"].modality
    assert modality is not None
    assert (modality.name, modality.checkpoint, modality.image_size) == ("image", checkpoint, 40)
    inputs["i"]["modality"] = {"name": "image", "image_size": 64}
    with pytest.raises(RecipeError) as found:
        make_plan(table, Recipe(inputs=inputs), ["y"])
    assert found.value.path == "inputs.i.modality.image_size"
