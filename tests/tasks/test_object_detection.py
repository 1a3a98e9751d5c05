"""Object detection: cells, faults, cells of boxes, decoding, the decoder, and a whole run against a floor."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

import polymodal
from polymodal.core.errors import DataError, RecipeError
from polymodal.core.registry import components
from polymodal.core.types import BoxGrid, FusionOutput, OutputShape, Tokens
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import open_table
from polymodal.datasets.boxes import make_shape_boxes
from polymodal.evaluation.class_alignment import have_same_classes, reorder_classes
from polymodal.evaluation.intervals import Resampling, bootstrap
from polymodal.experiments.plan import make_plan
from polymodal.metrics.boxes import BoxList, match_boxes, mean_average_precision
from polymodal.model.distributions import to_raw_values
from polymodal.nn.decoders.fcos import FCOS
from polymodal.recipe.data import LimitOptions
from polymodal.recipe.recipe import Recipe
from polymodal.tasks.box_grid import assign, corners, generalized_iou, suppress
from polymodal.tasks.object_detection import ObjectDetectionTask

torch.set_num_threads(1)

CELLS: list[Any] = [
    [[4, 2, 10, 8, "cat"], [30.5, 10, 8, 20, "dog"]],
    [],
    None,
    '[{"x": 0, "y": 0, "width": 40, "height": 30, "label": "dog"}]',
    [{"x": 12, "y": 3, "width": 6, "height": 6, "label": "cat", "iscrowd": 1}, [1, 1, 5, 5, "cat"]],
]
PICTURES = [Image.new("RGB", (40, 30))] * len(CELLS)


def block(cells: Any, pictures: Any = None, faults: CellErrors | None = None) -> RowBlock:
    columns = {"y": cells, "image": [PICTURES[0]] * len(cells) if pictures is None else pictures}
    return RowBlock(columns, np.arange(len(cells)), None, "t", faults or CellErrors(), LimitOptions())


def fitted(rows: Any = CELLS, **options: Any) -> ObjectDetectionTask:
    task = ObjectDetectionTask(ObjectDetectionTask.Options(image="image", **options), columns=["y"])
    task.fit(iter([block(rows)]))
    return task


def perfect(task: ObjectDetectionTask, value: np.ndarray) -> np.ndarray:
    """The distribution that predicts the boxes of prepared targets exactly."""
    true = torch.from_numpy(value[:, 2:]).reshape(len(value), -1, 6)
    grid = task.box_grid
    near, index = assign(true[..., :4], (true[..., 4] >= 0) & (true[..., 5] == 0), grid)
    own = true.gather(1, index.unsqueeze(-1).expand(-1, -1, 6)).numpy()
    cell = np.arange(grid.rows * grid.columns)
    middle, sides = (own[..., :2] + own[..., 2:4]) / 2, own[..., 2:4] - own[..., :2]
    offset = middle * task.options.cells - np.stack([cell % grid.columns, cell // grid.columns], 1) - 0.5
    numbers = np.concatenate([offset, np.log(np.maximum(sides, 1e-6) * task.options.cells)], axis=2)
    probability = np.eye(grid.labels)[np.maximum(own[..., 4], 0).astype(int)] * near.numpy()[..., None]
    cells = np.concatenate([probability, np.where(near.numpy()[..., None], numbers, 0)], axis=2)
    return np.concatenate([cells.reshape(len(value), -1), value[:, :2]], axis=1).astype(np.float64)


def test_lists_mappings_and_json_text_are_read_in_pixels() -> None:
    task, faults = fitted(), CellErrors()
    value, present = task.prepare(block(CELLS, faults=faults))
    assert not faults.errors
    assert present.tolist() == [True, True, False, True, True]
    assert task.classes == ["cat", "dog"]
    read = task.boxes(value[present])
    assert read[0] == [
        {"x": 4, "y": 2, "width": 10, "height": 8, "label": "cat"},
        {"x": 30.5, "y": 10, "width": 8, "height": 20, "label": "dog"},
    ]
    assert [len(row) for row in read] == [2, 0, 1, 2]
    assert task.predict(perfect(task, value))[0][0]["x"] == pytest.approx(4, abs=0.01)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (7, "list of boxes"),
        ("[not json", "JSON text"),
        ([[1, 2, 3, "cat"]], r"must be \[x, y, width, height, label\]"),
        ([{"x": 1, "y": 1, "width": 3, "label": "cat"}], "no height"),
        ([["1", 2, 3, 4, "cat"]], "number of pixels"),
        ([[1, 2, float("nan"), 4, "cat"]], "is nan"),
        ([[1, 2, 0, 4, "cat"]], "no area"),
        ([[35, 2, 10, 4, "cat"]], "outside its picture of 40 x 30"),
        ([[-9, 2, 10, 4, "cat"]], "outside its picture"),
        ([[1, 2, 3, 4, "fox"]], "'fox' does not occur"),
        ([[1, 2, 3, 4, "cat"]] * 2000, "2,000 boxes; the maximum is 100"),
    ],
)
def test_unusable_cells_are_cell_errors_and_missing(cell: Any, reason: str) -> None:
    import re

    task, faults = fitted(), CellErrors()
    _, present = task.prepare(block([CELLS[0], cell], faults=faults))
    assert present.tolist() == [True, False]
    assert [fault.row for fault in faults.errors] == [1]
    assert re.search(reason, faults.errors[0].reason)


def test_a_box_that_leaves_its_picture_by_less_than_a_pixel_is_clipped() -> None:
    task = fitted()
    value, _ = task.prepare(block([[[-0.4, 0, 40.9, 30.5, "cat"]]]))
    assert task.boxes(value)[0] == [{"x": 0, "y": 0, "width": 40, "height": 30, "label": "cat"}]


def test_sizes_are_those_of_the_upright_picture() -> None:
    """By EXIF, in memory and in a file; a missing picture has the median size."""
    picture, file = Image.new("RGB", (40, 30)), io.BytesIO()
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(file, "JPEG", exif=exif)
    task = fitted()
    sizes = task.prompts(block([None] * 3, [file.getvalue(), np.zeros((20, 50, 3), np.uint8), None]))
    assert sizes is not None
    assert [one.tolist() for one in sizes] == [[30, 40], [50, 20], [40, 30]]


def test_nothing_to_learn_is_an_error() -> None:
    with pytest.raises(DataError, match="no box"):
        fitted([[], None])
    with pytest.raises(DataError, match="outside its picture"):
        fitted([[[100, 0, 5, 5, "cat"]]])


def test_each_box_has_a_cell_and_the_smallest_has_its_own() -> None:
    grid = BoxGrid(8, 8, 1)
    boxes = torch.tensor([[[0.1, 0.1, 0.9, 0.9], [0.45, 0.45, 0.55, 0.55], [0.02, 0.02, 0.03, 0.03]]])
    near, index = assign(boxes, torch.tensor([[True, True, True]]), grid)
    assert set(index[near].tolist()) == {0, 1, 2}
    assert (bool(near[0, 0]), int(index[0, 0])) == (True, 2), "a box that is smaller than its cell"
    assert not assign(boxes, torch.zeros(1, 3, dtype=torch.bool), grid).found.any()


def test_generalized_iou_is_one_for_equal_boxes_and_negative_for_distant_ones() -> None:
    a = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 2, 2]])
    b = torch.tensor([[0.0, 0, 2, 2], [9, 9, 10, 10], [1, 0, 3, 2]])
    torch.testing.assert_close(generalized_iou(a, b), torch.tensor([1.0, 2 / 100 - 1, 1 / 3]))


def test_suppression_equals_a_slow_one() -> None:
    draw = np.random.default_rng(0)
    corner = draw.uniform(0, 20, (80, 2))
    box, label = np.concatenate([corner, corner + draw.uniform(4, 12, (80, 2))], 1), draw.integers(0, 2, 80)
    kept: list[int] = []
    overlap = lambda a, b: float(generalized_iou_free(box[a], box[b]))  # noqa: E731
    for one in range(80):
        if all(label[one] != label[other] or overlap(one, other) <= 0.4 for other in kept):
            kept.append(one)
    assert suppress(box, label, 0.4).tolist() == kept


def generalized_iou_free(a: np.ndarray, b: np.ndarray) -> float:
    both = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return float(both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both))


def test_the_baseline_is_a_good_constant_and_the_loss_is_by_row() -> None:
    task = fitted()
    value, present = task.prepare(block(CELLS))
    target = torch.from_numpy(value[present])
    constant = task.raw_values(np.repeat(task.baseline_prediction()[None], len(target), 0))
    assert float(task.loss(constant, target).mean()) == pytest.approx(task.baseline_loss(), rel=1e-2)
    values = torch.randn(len(target), task.output_size, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([task.loss(values[[row]], target[[row]]) for row in range(len(target))])
    torch.testing.assert_close(task.loss(values, target), alone)
    torch.testing.assert_close(task.loss(values, task.collate(value[present])), alone)
    exact = task.raw_values(perfect(task, value[present]))
    assert (task.loss(exact, target) < 1e-2).all()


def test_perfect_predictions_score_one_and_resamples_agree_with_rows() -> None:
    task = fitted()
    value, present = task.prepare(block(CELLS))
    truth = value[present]
    found = perfect(task, truth)
    for metric in task.metrics[:2]:
        assert metric.score(found, truth, np.ones(4)) == pytest.approx(1)
        weight = np.array([2.0, 0.0, 1.0, 1.0])
        rows = [0, 0, 2, 3]
        noisy = np.clip(found + 0.2 * np.random.default_rng(0).normal(size=found.shape), 0.01, None)
        noisy[:, task.num_values :] = found[:, task.num_values :]
        assert metric.weighted(noisy, truth)(weight) == pytest.approx(
            metric.score(noisy[rows], truth[rows], np.ones(4)), abs=1e-6
        )
        interval = bootstrap(metric, noisy, truth, np.ones(4), Resampling(samples=20))
        assert interval.low <= interval.value <= interval.high
    by_class = task.class_scores(found, truth, np.ones(4))
    assert by_class["f1"] == [1, 1]
    assert by_class["support"] == [2, 2]


def test_saved_and_loaded_it_answers_the_same_and_values_come_back() -> None:
    task = fitted()
    again = ObjectDetectionTask(task.options, columns=["y"])
    again.load(json.loads(json.dumps(task.save())))
    distribution = task.distribution(torch.randn(3, task.output_size, generator=torch.Generator().manual_seed(1)))
    distribution[:, task.num_values :] = 50
    assert again.predict(distribution) == task.predict(distribution)
    assert again.baseline_loss() == task.baseline_loss()
    np.testing.assert_allclose(task.distribution(to_raw_values(task, distribution)), distribution, atol=1e-5)
    other = fitted([*CELLS, [[1, 1, 9, 9, "bat"]]])
    wider = reorder_classes(distribution, task, other)
    assert wider.shape == (3, other.output_size)
    assert other.predict(wider) == task.predict(distribution)
    assert not have_same_classes(task, other)
    with pytest.raises(DataError, match="grids"):
        reorder_classes(distribution, task, fitted(cells=8))


def test_predictions_can_serve_as_targets() -> None:
    task = fitted()
    value, _ = task.prepare(block(CELLS[:1]))
    again, present = task.prepare(block([json.dumps(task.predict(perfect(task, value))[0])]))
    assert present.all()
    np.testing.assert_allclose(
        np.sort(again[:, 2:].reshape(-1, 6), 0), np.sort(value[:, 2:].reshape(-1, 6), 0), atol=1e-2
    )


def test_columns_of_boxes_are_inferred(tmp_path: Path) -> None:
    columns = [[{"x": 1, "y": 2, "width": 3, "height": 4, "label": "cat"}], []]
    for cells in (columns, [json.dumps(cell) for cell in columns]):
        sample = open_table({"y": cells}, cache=tmp_path).sample("y")
        guesses = {name: one.match_column(sample) for name, one in components("task").items()}
        assert max((guess.confidence, name) for name, guess in guesses.items() if guess)[1] == "object_detection"
    for cells in ([[], []], [["a"], ["b"]], ["text", "[1, 2]"], [1.0, 2.0]):
        assert ObjectDetectionTask.match_column(open_table({"y": cells}, cache=tmp_path).sample("y")) is None


def test_pictures_with_boxes_are_whole_and_do_not_move(tmp_path: Path) -> None:
    table = open_table(make_shape_boxes(8), cache=tmp_path)
    recipe = make_plan(table, Recipe(), ["boxes"]).recipe
    modality = recipe.inputs["image"].modality
    assert modality is not None
    assert (modality.resize_mode, modality.translate) == ("stretch", 0)  # type: ignore[attr-defined]
    assert recipe.outputs["boxes"].task.image == "image"  # type: ignore[union-attr]
    with pytest.raises(RecipeError, match=r"inputs\.image\.modality\.horizontal_flip: it moves the boxes of 'boxes'"):
        make_plan(table, Recipe(inputs={"image": {"modality": {"name": "image", "horizontal_flip": True}}}), ["boxes"])
    with pytest.raises(RecipeError, match="not an image input"):
        make_plan(table, Recipe(outputs={"boxes": {"task": {"name": "object_detection", "image": "boxes"}}}))


def fused(features: Tensor, pooled: Tensor, present: Tensor) -> FusionOutput:
    """A picture of 4 x 4 tokens, which some rows lack."""
    mask = torch.ones(features.shape[:2], dtype=torch.bool)
    whole = Tokens(pooled.unsqueeze(1), mask[:, :1], torch.ones_like(present))
    tokens = Tokens(features, mask, present, grid=(4, 4))
    return FusionOutput("joint", whole, pooled, torch.ones(len(pooled)), input_tokens={"image": tokens})


@pytest.mark.parametrize("cells", [8, 16, 24])
def test_rows_of_the_decoder_are_independent_and_places_matter(cells: int) -> None:
    draw = torch.Generator().manual_seed(0)
    grid = BoxGrid(cells, cells, 2)
    torch.manual_seed(0)
    decoder = FCOS(FCOS.Options(hidden_size=16), width=12, shape=OutputShape(cells * cells * 6, "real", boxes=grid))
    decoder.eval()
    features, pooled = torch.randn(3, 16, 12, generator=draw), torch.randn(3, 12, generator=draw)
    present = torch.tensor([True, False, True])
    together = decoder(fused(features, pooled, present))
    assert together.shape == (3, cells * cells * 6)
    for row in range(3):
        alone = decoder(fused(features[[row]], pooled[[row]], present[[row]]))
        torch.testing.assert_close(together[[row]], alone, atol=1e-5, rtol=1e-5)
    nothing = Tokens(features[1:2, :1], torch.ones(1, 1, dtype=torch.bool), present[1:2], grid=(4, 4))
    absent = FusionOutput("joint", nothing, pooled[1:2], torch.ones(1), input_tokens={"image": nothing})
    torch.testing.assert_close(decoder(absent), together[1:2], atol=1e-5, rtol=1e-5)
    changed = features.clone()
    changed[0, 0] += 3
    difference = (decoder(fused(changed, pooled, present)) - together).view(3, cells, cells, 6).abs().sum(-1)
    assert not difference[1:].any()
    assert difference[0, 0, 0] > difference[0, -1, -1]


def blob_boxes(picture: Image.Image) -> np.ndarray:
    """The floor: connected regions far from the colors of their row and column, `[n, 4]` left, top, width, height."""
    pixels = np.asarray(picture, dtype=np.float64)
    far = np.abs(pixels - np.median(pixels, axis=(0, 1))).max(2) > 60
    found = ndimage.find_objects(ndimage.label(ndimage.binary_opening(far))[0])
    return np.array([[x.start, y.start, x.stop - x.start, y.stop - y.start] for y, x in found]).reshape(-1, 4)


def test_planted_boxes_are_found_better_than_by_color_alone(tmp_path: Path) -> None:
    """The floor finds regions by color and gives them the commonest shape: it knows where, and not what."""
    test = make_shape_boxes(60, 3)
    settings = ["training.epochs=14", "training.num_threads=1", "training.precision=fp32"]
    settings += ["evaluation.bootstrap_samples=50", "evaluation.unimodal_scores=none", "training.batch_size=16"]
    settings += [
        "outputs.boxes.task.name=object_detection",
        "outputs.boxes.task.cells=8",
        "outputs.boxes.task.max_boxes=10",
    ]
    model = polymodal.fit(
        make_shape_boxes(300, 1),
        validation=make_shape_boxes(40, 2),
        test=test,
        target="boxes",
        out=tmp_path / "run",
        settings=settings,
    )
    score = model.metrics["test"]["boxes"]["map_50"]
    task = model.tasks["boxes"]
    assert isinstance(task, ObjectDetectionTask)
    regions = [blob_boxes(picture) for picture in test["image"]]
    row = np.repeat(np.arange(60), [len(one) for one in regions])
    true = [(place, box) for place, boxes in enumerate(test["boxes"]) for box in boxes]
    labels = [task.classes.index(box["label"]) for _, box in true]
    sides = np.array([[box[side] for side in ("x", "y", "width", "height")] for _, box in true], dtype=np.float64)
    truth = BoxList(
        np.array([place for place, _ in true]), np.array(labels), sides, np.ones(len(true)), np.zeros(len(true), bool)
    )
    commonest = np.full(len(row), np.bincount(labels).argmax())
    guess = BoxList(row, commonest, np.concatenate(regions), np.ones(len(row)), np.zeros(len(row), bool))
    floor = mean_average_precision(match_boxes(truth, guess, 60, 3), np.ones(60), 0.5)
    assert 0.05 < floor < 0.34
    assert score["value"] > 1.5 * floor
    assert score["low"] > floor

    loaded = polymodal.load(tmp_path / "run")
    rows = {"image": [*test["image"][:4], None]}
    answers = loaded.predict(rows)
    assert answers == model.predict(rows)
    for picture, boxes in zip(rows["image"], answers, strict=True):
        for box in boxes:
            assert set(box) == {"x", "y", "width", "height", "label", "score"}
            if picture is not None:
                assert box["x"] + box["width"] <= picture.width + 0.02
                assert box["y"] + box["height"] <= picture.height + 0.02
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "mAP at overlap 0.5" in report
    assert "true white, predicted red" in report

    from polymodal.checkpoint.output_file import OutputFile
    from polymodal.model.prediction_files import write_predictions

    for suffix in (".csv", ".parquet", ".jsonl"):
        path = tmp_path / f"answers{suffix}"
        assert write_predictions(loaded, loaded.open(rows), CellErrors(), OutputFile(path), probabilities=True) == 5
        cells = open_table(path, cache=tmp_path).sample("boxes").values
        assert [cell if isinstance(cell, list) else json.loads(cell) for cell in cells] == answers


def test_corners_are_those_of_the_numbers() -> None:
    grid = BoxGrid(2, 4, 1)
    numbers = torch.zeros(8, 4)
    numbers[5] = torch.tensor([0.5, -0.5, np.log(2), 0.0])
    np.testing.assert_allclose(corners(numbers, grid)[5].numpy(), [0.25, 0.25, 0.75, 0.75], atol=1e-6)
