"""Law 8: cached items are found again only for the same content, and only training rows change the fitted state."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from laws.alternatives import alternatives
from laws.samples import Columns, network_of, prepare, sample, table_of
from laws.signature import digest
from polymodal.core.progress import Progress
from polymodal.core.registry import components, find
from polymodal.data.partition import Split
from polymodal.data.store.store import content_key
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import open_table
from polymodal.datasets.planted import make_planted_images
from polymodal.experiments.experiment import prepare_experiment
from polymodal.experiments.plan import complete_schedule, make_plan
from polymodal.modalities.media import MediaModality
from polymodal.preparation.preparation import Preparation
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.recipe import Recipe
from polymodal.runtime.autotune import autotune
from polymodal.runtime.compute import ComputeConfig

ROWS = 12
FEW = 3


def png(image: Image.Image) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    return encoded.getvalue()


def pixels(cells: list[Any], cache: Path, **options: Any) -> np.ndarray:
    """Prepared through the store, `[rows, side, side, 3]`."""
    component = find("modality", "image")
    modality = component(component.Options(**{"image_size": 32, **options}), columns=["image"])
    block = table_of({"image": cells}).block(
        np.arange(len(cells)), ["image"], errors=CellErrors(strict=True), limits=Recipe().data.limits, cache=cache
    )
    prepared = modality.prepare(block)
    return prepared.items.take(prepared.index)["pixels"]


def packs(cache: Path) -> int:
    return len(list(cache.rglob("*.keys")))


def test_media_are_decoded_once_and_one_changed_byte_is_another_image(tmp_path: Path) -> None:
    image = make_planted_images(1, 0, size=48)["image"][0]
    first = png(image)
    image.putpixel((24, 24), (1, 2, 3))
    second = png(image)
    one = pixels([first], tmp_path)
    again = pixels([first], tmp_path)
    assert packs(tmp_path) == 1
    np.testing.assert_array_equal(one, again)
    other = pixels([second], tmp_path)
    assert packs(tmp_path) == 2
    assert (one != other).any()
    assert content_key(first) != content_key(first[:-1] + bytes([first[-1] ^ 1]))


def test_a_file_that_was_overwritten_is_decoded_again(tmp_path: Path) -> None:
    found = []
    for image in make_planted_images(2, 0, size=48)["image"]:
        (tmp_path / "x.png").write_bytes(png(image))
        table = open_table({"image": ["x.png"], "y": [1.0]}, root=tmp_path, cache=tmp_path / "tables")
        recipe = Recipe(inputs={"image": "image"}, outputs={"y": "regression"})
        preparation = Preparation(make_plan(table, recipe).recipe)
        block = next(iter(preparation.blocks(table, CellErrors(True), cache=tmp_path / "media")))
        prepared = preparation.modalities["image"].prepare(block)
        found.append(prepared.items.take(prepared.index)["pixels"])
    assert (found[0] != found[1]).any()


def made(name: str, **options: Any) -> Any:
    """A modality with options that are complete for its sample cells."""
    component = find("modality", name)
    columns = sample("modality", name, FEW)
    table = table_of(columns)
    given = component.Options(**{**complete(name), **options})
    return component(component.resolve(given, [table.sample(column) for column in columns]), columns=list(columns))


def prepared_rows(name: str, cache: Path | None, **options: Any) -> list[Any]:
    """What each row of a few sample cells is prepared to; None where there is nothing."""
    columns = sample("modality", name, FEW)
    block = table_of(columns).block(
        np.arange(FEW), list(columns), errors=CellErrors(), limits=LimitOptions(), cache=cache
    )
    prepared = made(name, **options).prepare(block)
    found = prepared.items.take(np.arange(len(prepared.items)))
    items = [{key: array[item].tobytes() for key, array in found.items()} for item in range(len(prepared.items))]
    return [items[item] if item >= 0 else None for item in prepared.index]


MEDIA = [name for name, component in components("modality").items() if issubclass(component, MediaModality)]
OPTIONS = [(name, option) for name in MEDIA for option in find("modality", name).Options.model_fields]
OPTIONS = [(name, option) for name, option in OPTIONS if option != "name"]


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_every_option_that_changes_decoded_items_is_a_store_of_its_own(name: str, option: str, tmp_path: Path) -> None:
    """With a warm store, each option gives what it gives without any store."""
    prepared_rows(name, tmp_path)
    for value in list(alternatives(find("modality", name).Options, option, complete(name)))[:2]:
        assert prepared_rows(name, tmp_path, **{option: value}) == prepared_rows(name, None, **{option: value})


@pytest.mark.parametrize("name", MEDIA)
def test_every_limit_on_what_is_decoded_is_a_store_of_its_own(name: str, tmp_path: Path) -> None:
    """What was decoded under looser limits is never taken unseen; how it is decoded makes no difference."""
    columns = list(sample("modality", name, FEW))

    def stores(**changed: Any) -> int:
        block = table_of({column: [None] for column in columns}).block(
            np.arange(1), columns, errors=CellErrors(), limits=LimitOptions(**changed), cache=tmp_path
        )
        made(name).prepare(block)
        return len(list(tmp_path.iterdir()))

    assert stores() == stores(timeout_seconds=1.0, memory_mib=512, num_workers=1, megabytes=1.0) == 1
    for number, limit in enumerate(("megapixels", "seconds", "frames", "channels", "sampling_rate", "values"), 2):
        assert stores(**{limit: 7}) == number


def fitted(kind: str, name: str, change: dict[int, Any] | None, folder: Path) -> tuple[Any, Any]:
    """What preparation learned, and the prepared training rows, of a table whose last third is not trained on."""
    columns: Columns = sample("modality", name if kind == "modality" else "number", ROWS)
    read = list(columns)
    targets = sample("task", name if kind == "task" else "regression", ROWS)
    columns = columns | targets
    changed = read if kind == "modality" else ["target"]
    for column in changed:
        columns[column] = [(change or {}).get(row, cell) for row, cell in enumerate(columns[column])]
    recipe = Recipe(
        inputs={"x": {"modality": complete(name if kind == "modality" else "number"), "columns": read}},
        outputs={"target": {"task": complete(name) if kind == "task" else "regression"}},
    )
    table = table_of(columns)
    plan = complete_schedule(make_plan(table, recipe).recipe, 8)
    parts = {part: Split(table, np.arange(at, at + 4)) for part, at in (("validation", 8), ("test", 8))}
    parts["train"] = Split(table, np.arange(8))
    found = prepare_experiment(plan, parts, folder=folder, cache=None, progress=Progress(False))
    state = found.preparation.save(folder / "state")
    files = [path.read_bytes() for path in sorted((folder / "state").rglob("*")) if path.is_file()]
    batch = found.preparation.batch(found.splits["train"].table, np.arange(8))
    return (state, files, found.preparation.shapes()), digest(batch)


def complete(name: str) -> dict[str, Any]:
    """Options of a modality or task that leave nothing to be told from a sample of the whole table (plans may look at
    all rows), and by which nothing is cut, which is counted over all rows."""
    said: dict[str, dict[str, Any]] = {
        "text": {"max_length": 64},
        "image": {"image_size": 32},
        "audio": {"seconds": 0.5},
        "time_series": {"layout": "steps_first", "channels": 2, "num_steps": 32},
    }
    return {"name": name, **said.get(name, {})}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in ("modality", "task") for name in components(kind)])
def test_rows_outside_training_teach_preparation_nothing(kind: str, name: str, tmp_path: Path) -> None:
    """Other cells in rows of validation and test leave the fitted preparation and the training rows as they were."""
    first = {column: cells[0] for column, cells in sample(kind, name, ROWS).items()}
    replaced = {row: next(iter(first.values())) for row in range(8, ROWS)}
    before, batch = fitted(kind, name, None, tmp_path / "before")
    after, other = fitted(kind, name, replaced, tmp_path / "after")
    assert before == after
    assert batch == other


def test_the_measured_compute_config_is_kept_for_the_same_network_only(tmp_path: Path, quiet_machine: None) -> None:
    calls: list[int] = []

    def choice(width: int) -> ComputeConfig:
        preparation, _ = prepare(
            sample("modality", "number") | sample("task", "regression"),
            hidden_size=width,
            outputs={"target": "regression"},
        )
        options = preparation.recipe.training.model_copy(update={"precision": "fp32", "num_threads": "auto"})
        return autotune(options, network_of(preparation), lambda network: calls.append(1), tmp_path)

    first = choice(16)
    measured = len(calls)
    assert measured > 0
    assert choice(16) == first
    assert len(calls) == measured
    choice(24)
    assert len(calls) == 2 * measured


def test_two_tables_of_other_content_are_converted_apart(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    found = []
    for text in ("a,b\n1,x\n", "a,b\n2,x\n"):
        path.write_text(text)
        table = open_table(path, cache=tmp_path / "cache")
        found.append((table.values("a", np.array([0])).to_pylist(), table.fingerprint()))
    assert found[0][0] == [1]
    assert found[1][0] == [2]
    assert found[0][1] != found[1][1]
