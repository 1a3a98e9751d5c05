"""Images generated from captions: a model learns planted colors and shapes, and its images are the same in every way to
ask for them."""

from __future__ import annotations

import base64
import io
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import polymodal
from polymodal.cli import main
from polymodal.core.errors import DataError, RecipeError
from polymodal.datasets import make_captioned_figures, read_figure
from polymodal.model.model import Model

RECIPE: dict[str, Any] = {
    "inputs": {"caption": "text"},
    "outputs": {"image": {"task": {"name": "image_generation", "patch_size": 8, "autoencoder_steps": 300}}},
    "fusion": {"name": "concat", "num_layers": 0},
    "hidden_size": 64,
    "seed": 0,
    "training": {
        "epochs": 24,
        "batch_size": 16,
        "learning_rate": 0.004,
        "early_stopping_patience": 24,
        "precision": "fp32",
        "num_threads": 1,
    },
    "evaluation": {"bootstrap_samples": 10, "unimodal_scores": "none"},
}
TEST = make_captioned_figures(60, seed=2)
CAPTIONS = {"caption": TEST["caption"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("images")
    columns = make_captioned_figures(360, seed=1)
    polymodal.fit({name: columns[name] for name in ("caption", "image")}, "image", recipe=RECIPE, out=place / "model")
    return place


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return polymodal.load(folder / "model")


def decoded(address: str) -> Image.Image:
    assert address.startswith("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def pixels(images: list[Any]) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images])


def right(images: list[Image.Image], columns: dict[str, list[Any]]) -> np.ndarray:
    """Whether shape and color are those of the caption, read from the pixels: `[rows]` bool."""
    figures = [read_figure(image) for image in images]
    return np.array(
        [one == true for one, true in zip(figures, zip(columns["shape"], columns["color"], strict=True), strict=True)]
    )


def test_the_figures_are_those_of_the_captions(model: Model) -> None:
    """Nine kinds are equally frequent: images that ignore the caption have the right one in a ninth of the rows."""
    images = [one for (one,) in model.generate_images(CAPTIONS, temperature=0.5)]
    assert {image.size for image in images} == {(32, 32)}
    found = right(images, TEST).mean()
    shuffled = {name: TEST[name][7:] + TEST[name][:7] for name in ("shape", "color")}
    assert found >= 0.5
    assert found >= right(images, shuffled).mean() + 0.25


def test_scores_beat_those_of_the_mean_image(model: Model) -> None:
    scores = model.metrics["test"]["image"]
    assert scores["grid_pairing_auc"]["value"] >= 0.75
    assert scores["grid_pairing_auc"]["baseline"] == pytest.approx(0.5)
    assert scores["grid_frechet_distance"]["value"] < 0.7 * scores["grid_frechet_distance"]["baseline"]
    assert scores["perplexity"]["value"] < 0.5 * scores["perplexity"]["baseline"]


def test_a_prediction_is_the_first_generated_image(model: Model) -> None:
    rows = {"caption": CAPTIONS["caption"][:6]}
    predicted = pixels([decoded(one) for one in model.predict(rows)])
    generated = model.generate_images(rows, num_return_sequences=2)
    assert (predicted == pixels([one for one, _ in generated])).all()
    assert (model.predict_proba(rows) == predicted.reshape(6, -1)).all()
    assert any((pixels([one]) != pixels([other])).any() for one, other in generated)


def test_images_depend_on_seed_and_row_and_not_on_other_rows(model: Model) -> None:
    rows = {"caption": ["a red circle"] * 4}
    images, again, other = (pixels([one for (one,) in model.generate_images(rows, seed=seed)]) for seed in (1, 1, 2))
    assert (images == again).all()
    assert (images != other).any()
    assert any((images[0] != image).any() for image in images[1:])
    fewer = pixels([one for (one,) in model.generate_images({"caption": ["a red circle", "a blue square"]}, seed=1)])
    assert (fewer[0] == images[0]).all()


def test_a_missing_caption_gives_an_image(model: Model) -> None:
    ((image,),) = model.generate_images({"caption": [None]})
    assert image.size == (32, 32)


def test_loaded_and_saved_again_it_is_the_same(model: Model, folder: Path) -> None:
    again = Model.load(model.save(folder / "again"))
    assert again.predict(CAPTIONS) == model.predict(CAPTIONS)
    assert (folder / "again" / "preparation" / "output0" / "autoencoder.safetensors").is_file()


def test_the_report_shows_images_of_test_rows(folder: Path) -> None:
    page = (folder / "model" / "report.html").read_text(encoding="utf-8")
    assert "Generated images" in page
    assert page.count('alt="generated image of row') == page.count('alt="true image of row') == 12
    assert "Largest errors" not in page


@pytest.fixture
def generate(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `polymodal generate` in the folder: what it prints."""

    def command(*arguments: str, status: int = 0) -> str:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["polymodal", "generate", "model", *arguments])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert ended.value.code == status, told
        return told.out + told.err

    return command


def test_the_command_writes_a_grid_or_lines(model: Model, folder: Path, generate: Any) -> None:
    rows = [{"caption": caption} for caption in CAPTIONS["caption"][:3]]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted = [pixels(images) for images in model.generate_images(rows, num_return_sequences=2)]
    assert "images of 3 rows in grid.png" in generate("rows.jsonl", "--samples", "2", "--out", "grid.png")
    assert Image.open(folder / "grid.png").size == (64, 96)
    assert (np.asarray(Image.open(folder / "grid.png"))[32:64, 32:] == wanted[1][1]).all()
    generate("rows.jsonl", "--samples", "2", "--out", "images.jsonl")
    found = [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]
    assert [one["row"] for one in found] == [0, 1, 2]
    for one, images in zip(found, wanted, strict=True):
        assert (pixels([decoded(image) for image in one["images"]]) == images).all()
    assert len(json.loads(generate('{"caption": "a red circle"}', "--json"))["images"]) == 1
    assert "--out grid.png" in generate("rows.jsonl", status=2)
    assert "not streamed" in generate('{"caption": "a red circle"}', "--stream", status=2)
    assert "num_return_sequences" in generate("rows.jsonl", "--set", "num_return_sequences=a", "-o", "x.png", status=2)
    assert "at most 1,000 images" in generate("rows.jsonl", "--samples", "500", "--out", "large.png", status=2)


def test_wrong_uses_are_refused_by_name(model: Model) -> None:
    with pytest.raises(RecipeError, match="no such image output"):
        model.generate_images(CAPTIONS, output="picture")
    with pytest.raises(RecipeError, match="set `output` to one of the text outputs: the model has none"):
        model.generate(CAPTIONS)
    with pytest.raises(RecipeError, match="temperature above 0"):
        model.generate_images(CAPTIONS, temperature=0.0, top_k=3)
    with pytest.raises(RecipeError, match="temperatur"):
        model.generate_images(CAPTIONS, temperatur=0.5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"outputs.image.decoder": "ctc"}, "supports only the task text_generation"),
        ({"outputs.image.decoder": {"name": "transformer", "ctc_weight": 0.3}}, "temporal order"),
        ({"outputs.image.decoder": {"name": "transformer", "init_from": "m"}}, "require `tokenizer`"),
        ({"outputs.image.decoder": "mlp"}, "does not generate texts or images"),
        ({"outputs.image.task.image_size": 36}, "patch_size 8 does not divide image_size 36"),
        ({"outputs.image.task.levels": [16, 16, 16, 16]}, "above 32,767"),
    ],
)
def test_recipes_that_cannot_generate_images(change: dict[str, Any], reason: str) -> None:
    columns = make_captioned_figures(30)
    settings = {"outputs.image.task.autoencoder_steps": 1, "training.epochs": 1, **change}
    with pytest.raises(RecipeError, match=reason):
        polymodal.fit({"caption": columns["caption"], "image": columns["image"]}, recipe=RECIPE, settings=settings)


@pytest.mark.parametrize(("fusion", "decoder"), [("late", "lstm"), ("attention", "transformer"), ("hybrid", "lstm")])
def test_any_inputs_and_any_fusion(fusion: str, decoder: str) -> None:
    """A caption, a class, a number and another image, each missing in some rows."""
    columns = make_captioned_figures(32)
    data: dict[str, list[Any]] = {
        "caption": columns["caption"],
        "kind": columns["shape"],
        "size": [float(row % 5) for row in range(32)],
        "sketch": [image.convert("L").convert("RGB") for image in columns["image"]],
        "image": columns["image"],
    }
    for start, name in enumerate(("caption", "kind", "size", "sketch")):
        data[name] = [None if row % 4 == start else cell for row, cell in enumerate(data[name])]
    recipe = {
        "inputs": {"caption": "text", "kind": "category", "size": "number", "sketch": "image"},
        "outputs": {"image": {"task": RECIPE["outputs"]["image"]["task"], "decoder": decoder}},
        "fusion": fusion,
        "hidden_size": 16,
        "training": {"epochs": 1, "precision": "fp32", "num_threads": 1},
        "evaluation": {"bootstrap_samples": 0, "unimodal_scores": "none"},
    }
    model = polymodal.fit(data, recipe=recipe, settings={"outputs.image.task.autoencoder_steps": 2})
    rows = {name: data[name][:6] for name in recipe["inputs"]}  # type: ignore[attr-defined]
    together = pixels([one for (one,) in model.generate_images(rows)])
    first = pixels([one for (one,) in model.generate_images({name: cells[:1] for name, cells in rows.items()})])
    assert together.shape == (6, 32, 32, 3)
    assert (first[0] == together[0]).all()


def test_images_that_cannot_be_read_are_listed() -> None:
    columns = make_captioned_figures(30)
    cells = [b"no image", *columns["image"][1:]]
    settings = {"outputs.image.task.autoencoder_steps": 1, "training.epochs": 1}
    data = {"caption": columns["caption"], "image": cells}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = polymodal.fit(data, recipe=RECIPE, settings=settings)
        with pytest.raises(DataError, match="not an image"):
            polymodal.fit(data, recipe=RECIPE, settings={**settings, "data.strict": True})
    assert model.run.cell_errors.by_column == {"image": 1}
