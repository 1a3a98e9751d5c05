"""Time series inputs: column matching, layouts, normalization on training rows, augmentation and corruption."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from polymodal.core.errors import DataError
from polymodal.core.registry import components
from polymodal.data.table.cell_errors import CellErrors
from polymodal.data.table.table import open_table
from polymodal.modalities.time_series import TimeSeries
from polymodal.modalities.time_series_schema import choose_max_steps, infer_layout
from polymodal.model.model import Model
from polymodal.recipe.data import LimitOptions
from polymodal.workflows.fit import fit, plan_fit

torch.set_num_threads(1)

NAN = float("nan")


def walks(count=12, steps=range(5, 17), channels=2, seed=0):
    """Arrays [steps, channels] of several lengths; whole numbers, so that every form of them is exact."""
    draw = np.random.default_rng(seed)
    return [draw.integers(-9, 10, (steps[at % len(steps)], channels)).astype(np.float32) for at in range(count)]


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def csv(array, names=("x", "y")):
    return "\n".join([",".join(names), *(",".join(str(number) for number in step) for step in array)])


def table(columns, tmp_path, root=None):
    return open_table(columns, root=root, cache=tmp_path / "tables")


def prepared(columns, tmp_path, root=None, cache=None, faults=None, **options):
    """A fitted modality of all columns, as a plan completes it, and the prepared rows."""
    source = table(columns, tmp_path, root)
    names = list(columns)
    chosen = TimeSeries.resolve(TimeSeries.Options(**options).at_size("tiny"), [source.sample(name) for name in names])
    modality = TimeSeries(chosen, columns=names)
    faults = faults or CellErrors(strict=True)

    def blocks():
        return source.blocks(np.arange(len(source)), names, size=7, errors=faults, limits=LimitOptions(), cache=cache)

    modality.fit(blocks())
    rows = np.arange(len(source))
    block = source.block(rows, names, errors=faults, limits=LimitOptions(), cache=cache)
    return modality, modality.prepare(block)


def items(found):
    """Each row's values without padding, None where the row is missing."""
    rows = []
    for item in found.index:
        taken = found.items.take(np.array([item])) if item >= 0 else None
        rows.append(None if taken is None else taken["values"][0, : taken["length"][0]])
    return rows


def same(found, wanted):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_every_form_of_a_cell_gives_the_same_series(tmp_path):
    arrays = walks()
    for at, array in enumerate(arrays):
        (tmp_path / f"{at}.npy").write_bytes(npy(array))
        (tmp_path / f"{at}.csv").write_text(csv(array))
    forms = {
        "arrays": arrays,
        "lists": [array.tolist() for array in arrays],
        "lists in arrow": pa.array([array.tolist() for array in arrays]),
        "channels first": [array.T.tolist() for array in arrays],
        "records": [{"x": array[:, 0].tolist(), "y": array[:, 1].tolist()} for array in arrays],
        "records in another order": [{"y": array[:, 1].tolist(), "x": array[:, 0].tolist()} for array in arrays],
        "texts": ["; ".join(" ".join(map(str, step)) for step in array) for array in arrays],
        "npy": [npy(array) for array in arrays],
        "records of bytes": [{"bytes": npy(array), "path": None} for array in arrays],
        "paths": [f"{at}.npy" for at in range(len(arrays))],
        "csv paths": [f"{at}.csv" for at in range(len(arrays))],
    }
    keys = None
    for form, cells in forms.items():
        columns = {"s": pa.chunked_array([cells]) if isinstance(cells, pa.Array) else cells}
        guess = TimeSeries.match_column(table(columns, tmp_path, tmp_path).sample("s"))
        assert guess is not None, form
        assert guess.confidence == 0.9, form
        options = {"channels": ["x", "y"]} if form == "records in another order" else {}
        modality, found = prepared(columns, tmp_path, tmp_path, **options)
        same(items(found), arrays)
        assert modality.shape() == {"channels": 2, "steps": 24, "rate": 1.0}
        np.testing.assert_allclose(modality.mean, np.concatenate(arrays).mean(0), atol=1e-6)
        if form in ("arrays", "lists", "records", "texts", "channels first"):
            assert keys is None or found.content_keys == keys, form
            keys = found.content_keys


@pytest.mark.parametrize("source", ["rows", "pandas", "polars", "parquet", "jsonl"])
def test_ragged_lists_of_every_source(source, tmp_path):
    cells = [[[1, 2.5], [None, 3]], [[4, 5], None, [6, 7]], None, [[0, 1]] * 5]
    data = tmp_path / f"rows.{source}"
    if source == "rows":
        data = [{"s": cell} for cell in cells]
    elif source == "pandas":
        data = pytest.importorskip("pandas").DataFrame({"s": cells})
    elif source == "polars":
        data = pytest.importorskip("polars").DataFrame({"s": cells}, strict=False)
    elif source == "parquet":
        pq.write_table(pa.table({"s": cells}), data)
    else:
        data.write_text("".join(json.dumps({"s": cell}) + "\n" for cell in cells))
    opened = open_table(data, cache=tmp_path / "tables")
    read = {"s": opened.values("s", np.arange(4))}
    rows = items(prepared(read, tmp_path)[1])
    wanted = [[[1, 2.5], [NAN, 3]], [[4, 5], [NAN, NAN], [6, 7]], None, [[0, 1]] * 5]
    assert rows[2] is None
    same(rows[:2] + rows[3:], wanted[:2] + wanted[3:])


def test_a_saved_model_reads_files_as_it_reads_arrays(tmp_path):
    arrays = walks(24)
    for at, array in enumerate(arrays):
        (tmp_path / f"{at}.csv").write_text(csv(array))
    columns = {"s": [f"{at}.csv" for at in range(24)], "label": ["a", "b"] * 12}
    training = {"epochs": 1, "precision": "fp32", "num_threads": 1}
    recipe = {"training": training, "hidden_size": 16, "evaluation": {"bootstrap_samples": 20}}
    model = fit(columns, "label", recipe=recipe, root=tmp_path)
    assert model.recipe.inputs["s"].modality.channels == ["x", "y"]
    loaded = Model.load(model.save(tmp_path / "model"))
    one = loaded.predict_proba({"s": columns["s"]}, root=tmp_path)
    np.testing.assert_array_equal(one, model.predict_proba({"s": arrays}))


def test_the_store_gives_what_memory_gives(tmp_path):
    arrays = [*walks(), walks()[0]]
    for cells in (arrays, [npy(array) for array in arrays]):
        plain = prepared({"s": cells}, tmp_path)[1]
        first = prepared({"s": cells}, tmp_path, cache=tmp_path / "media")[1]
        again = prepared({"s": cells}, tmp_path, cache=tmp_path / "media")[1]
        assert len(plain.items) == len(first.items) == 12
        for found in (plain, first, again):
            same(items(found), arrays)
        other = prepared({"s": cells}, tmp_path, cache=tmp_path / "media", num_steps=4, long_series="truncate")[1]
        same(items(other), [array[:4] for array in arrays])


@pytest.mark.parametrize(
    ("shapes", "wanted"),
    [
        ([(5, 3), (9, 3)], "steps_first"),
        ([(3, 5), (3, 9)], "channels_first"),
        ([(100, 6), (100, 6)], "steps_first"),
        ([(6, 100), (6, 100)], "channels_first"),
        ([(5, 3), (4, 2)], "steps_first"),
        ([], "steps_first"),
    ],
)
def test_the_constant_side_is_that_of_the_channels(shapes, wanted):
    assert infer_layout(shapes) == wanted
    assert choose_max_steps(29, 256) == 40
    assert choose_max_steps(1000, 256) == 256


@pytest.mark.parametrize(
    "cells",
    [
        [[0.1, 0.2, 0.3]] * 9,
        ["12 34 56 78", "2020-01-02", "a b"],
        ["5", "6.5"],
        [1.0, 2.0],
        [["a", "b"], ["c"]],
        [np.zeros((8, 8), np.uint8)] * 3,
        [{"a": "x"}, {"a": "y"}],
        ["photo.png", "sound.wav"],
        [{"start": 0.0, "end": 1.0, "label": "a"}],
    ],
    ids=str,
)
def test_other_columns_are_not_taken_for_series(cells, tmp_path):
    found = table({"s": cells}, tmp_path)
    for column in found.columns:  # the values of objects are columns of their own
        guess = TimeSeries.match_column(found.sample(column))
        assert guess is None or guess.confidence < 0.3


def test_every_other_modality_leaves_series_alone(tmp_path):
    arrays = walks()
    for cells in (arrays, [a.tolist() for a in arrays], [a[:, 0].tolist() for a in arrays], [npy(a) for a in arrays]):
        sample = table({"s": cells}, tmp_path).sample("s")
        for name, component in components("modality").items():
            guess = component.match_column(sample)
            assert name == "time_series" or guess is None or guess.confidence < 0.9, name


def test_several_columns_make_one_input_where_their_lists_are_equally_long(tmp_path):
    arrays = walks()
    columns = {name: [array[:, at].tolist() for array in arrays] for at, name in enumerate("xy")}
    columns["x"][3][2] = None
    target = {"label": ["a", "b"] * 6}
    plan, _ = plan_fit(columns | target, "label")
    assert {name: spec.columns for name, spec in plan.recipe.inputs.items()} == {"time_series": ["x", "y"]}
    modality, found = prepared(columns, tmp_path)
    wanted = [array.copy() for array in arrays]
    wanted[3][2, 0] = NAN
    same(items(found), wanted)
    assert modality.options.channels == ["x", "y"]

    timed, found = prepared(columns, tmp_path, time_channel="y", faults=CellErrors())
    assert timed.shape()["channels"] == 1
    shorter = columns | {"y": [cells[:-1] for cells in columns["y"]]}
    plan, _ = plan_fit(shorter | target, "label")
    assert [spec.columns for spec in plan.recipe.inputs.values()] == [["x"], ["y"]]
    with pytest.raises(DataError, match="row 0, column 'x', table: channels differ in length"):
        prepared(shorter, tmp_path)
    holes = columns | {"y": [None if at in (2, 4) else cells for at, cells in enumerate(columns["y"])]}
    holes["x"] = [None if at == 4 else cells for at, cells in enumerate(columns["x"])]
    rows = items(prepared(holes, tmp_path)[1])
    assert rows[4] is None
    assert np.isnan(rows[2][:, 1]).all()
    np.testing.assert_array_equal(rows[2][:, 0], arrays[2][:, 0])


def test_missing_and_unusable_cells(tmp_path):
    arrays = walks(8)
    lists = [array.tolist() for array in arrays]
    lists[1], lists[2], lists[3] = None, [], [[None, None], [None, None]]
    lists[4] = [[1.0, 2.0, 3.0]] * 4
    faults = CellErrors()
    _, found = prepared({"s": lists}, tmp_path, faults=faults)
    assert [row is None for row in items(found)] == [False, True, True, True, True, False, False, False]
    assert {(fault.row, fault.column) for fault in faults.errors} == {(4, "s")}
    assert "expected 2 channels, not 3" in faults.errors[0].reason


def test_a_bad_cell_names_a_file_only_where_the_cell_does(tmp_path):
    faults = CellErrors()
    prepared({"s": ["1;2;3;4;5", "1 2;3 4 5;6", "gone.csv", "1;2;3;4"]}, tmp_path, faults=faults)
    assert {(fault.row, fault.file) for fault in faults.errors} == {(1, None), (2, "gone.csv")}


def test_standardized_on_training_rows_and_gaps_left_out(tmp_path):
    arrays = [1e5 + 3 * array for array in walks(40)]
    arrays[0][2, 1] = NAN
    modality, found = prepared({"s": arrays}, tmp_path)
    data = modality.collate(found.items.take(np.arange(len(found.items))))
    known = data["observed"].bool()
    assert (~known[0, 2]).tolist() == [False, True]
    for channel in range(2):
        numbers = data["values"][..., channel][known[..., channel]]
        assert abs(float(numbers.mean())) < 1e-3
        assert float(numbers.std(correction=0)) == pytest.approx(1, abs=1e-3)
    assert (data["values"][~known] == 0).all()
    assert data["length"].tolist() == [len(array) for array in arrays]
    alone, _ = prepared({"s": arrays}, tmp_path, normalization="per_item")
    data = alone.collate(found.items.take(np.arange(3)))
    for at in range(3):
        numbers = data["values"][at][data["observed"][at].bool().all(1)]
        if at:
            assert numbers.mean(0).abs().max() < 1e-4
            assert (numbers.std(0, correction=0) - 1).abs().max() < 1e-3
    plain, _ = prepared({"s": arrays}, tmp_path, normalization="none")
    data = plain.collate(found.items.take(np.array([1])))
    np.testing.assert_array_equal(data["values"][0], arrays[1])


def test_a_constant_channel_and_one_never_seen_stay_finite(tmp_path):
    arrays = [np.stack([np.full(9, 7.5), np.full(9, NAN), np.arange(9)], axis=1) for _ in range(4)]
    arrays[1][0, 2] = 5
    for scale in ("standard", "per_item", "none"):
        modality, found = prepared({"s": arrays}, tmp_path, normalization=scale)
        assert modality.collate(found.items.take(np.arange(2)))["values"].isfinite().all()


def test_what_was_fitted_is_saved(tmp_path):
    modality, found = prepared({"s": walks()}, tmp_path)
    loaded = TimeSeries(modality.options, columns=["s"])
    loaded.load(tmp_path, modality.save(tmp_path))
    taken = found.items.take(np.arange(5))
    assert torch.equal(loaded.collate(taken)["values"], modality.collate(taken)["values"])
    assert loaded.shape() == modality.shape()


def test_reports_show_a_line_for_each_channel(tmp_path):
    modality, found = prepared({"s": walks()}, tmp_path)
    drawn = np.asarray(modality.preview({"values": found.items.take(np.array([5]))["values"][0]}))
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 3


def test_times_follow_the_rate_or_a_channel(tmp_path):
    arrays = walks()
    modality, found = prepared({"s": arrays}, tmp_path, sampling_rate=20.0)
    data = modality.collate(found.items.take(np.array([3])))
    np.testing.assert_allclose(data["times"][0], np.arange(len(arrays[3])) / 20, atol=1e-6)
    records = [{"seconds": np.cumsum(np.arange(1.0, len(a) + 1)).tolist(), "x": a[:, 0].tolist()} for a in arrays]
    modality, found = prepared({"s": records}, tmp_path)
    assert modality.options.time_channel == "seconds"
    assert modality.options.channels == ["x"]
    times = modality.collate(found.items.take(np.array([3])))["times"][0]
    np.testing.assert_allclose(times, np.array(records[3]["seconds"]) - 1)


@pytest.fixture
def batch(tmp_path):
    modality, found = prepared({"s": walks(64, range(20, 40))}, tmp_path)
    return modality, found.items.take(np.arange(64))


def test_changes_in_training(batch):
    modality, taken = batch
    data = modality.collate(taken)
    before = {name: value.clone() for name, value in data.items()}

    def changed(**options):
        torch.manual_seed(0)
        chosen = modality.options.model_copy(update={"jitter": 0.0, "random_crop": 0.0, **options})
        found = TimeSeries(chosen, columns=["s"]).augment(data)
        assert all(torch.equal(before[name], data[name]) for name in data)
        padding = torch.arange(found["values"].shape[1]) >= found["length"].unsqueeze(1)
        assert (found["values"][padding] == 0).all()
        assert (found["observed"][padding] == 0).all()
        return found

    assert all(torch.equal(value, before[name]) for name, value in changed().items())
    noise = (changed(jitter=0.5)["values"] - data["values"])[data["observed"].bool()]
    assert float(noise.std()) == pytest.approx(0.5, rel=0.1)
    ratio = (changed(gain=0.2)["values"] / data["values"])[data["values"] != 0]
    assert 0.8 <= float(ratio.min()) < float(ratio.max()) <= 1.2
    masked = changed(time_mask=0.5)["observed"]
    lost = 1 - masked.sum((1, 2)) / data["observed"].sum((1, 2))
    assert 0.1 < float(lost.mean()) < 0.4
    assert float(lost.max()) <= 0.5
    cropped = changed(random_crop=0.5)
    assert (cropped["length"] >= data["length"] / 2).all()
    assert (cropped["length"] < data["length"]).any()
    for at in range(5):
        kept = int(cropped["length"][at])
        start = round(float(cropped["times"][at, 0]))
        assert torch.equal(cropped["values"][at, :kept], data["values"][at, start : start + kept])
        assert torch.equal(cropped["times"][at, :kept], data["times"][at, start : start + kept])


@pytest.mark.parametrize("kind", TimeSeries.corruptions)
def test_corruption_grows_with_its_strength(kind, batch):
    modality, taken = batch
    before = {name: array.copy() for name, array in taken.items()}

    def difference(strength):
        found = modality.corrupt(taken, kind, strength, np.random.default_rng(0))
        assert found["values"].dtype == np.float32
        one, other = modality.collate(found), modality.collate(taken)
        assert torch.equal(one["length"], other["length"])
        return float(
            (one["values"] - other["values"]).abs().mean() + (one["observed"] - other["observed"]).abs().mean()
        )

    measured = [difference(strength) for strength in (0.0, 0.3, 1.0)]
    assert measured[0] == 0
    assert measured[0] < measured[1] < measured[2]
    assert all(np.array_equal(before[name], taken[name], equal_nan=True) for name in taken)
    if kind == "delay":
        late = modality.corrupt(taken, kind, 1.0, np.random.default_rng(0))["values"][0]
        half = round(len(late) / 2) if taken["length"][0] == len(late) else round(0.5 * int(taken["length"][0]))
        assert np.isnan(late[:half]).all()
        np.testing.assert_array_equal(late[half : taken["length"][0]], taken["values"][0, : taken["length"][0] - half])


def test_what_is_shortened_is_counted_exactly(tmp_path):
    cells = [list(range(length, 2 * length)) for length in (5, 20, 21, 41, 60)]
    modality, found = prepared({"s": cells}, tmp_path, num_steps=20)
    assert modality.shortened(found) == (
        "3 of 5 series have more than 20 steps: up to 3 neighboring steps are averaged (num_steps, max_windows)"
    )
    modality, found = prepared({"s": cells}, tmp_path, num_steps=20, long_series="truncate")
    assert (
        modality.shortened(found) == "4 of 5 series have 20 steps or more: only these are used (num_steps, max_windows)"
    )
    for more in ({"num_steps": 60}, {}):
        modality, found = prepared({"s": cells}, tmp_path, **more)
        assert modality.shortened(found) == ""
