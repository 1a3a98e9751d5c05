"""Law 10 for the service: served answers are those of the library, for every modality."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import polymodal
from polymodal.model.model import Model
from service import MODALITIES, ROWS, data_address, running


def rows_with(names: list[str], model: Model, columns: dict[str, list[Any]], *, sent: bool) -> list[dict[str, Any]]:
    """The rows with the columns of some inputs; media as `data:` addresses if `sent`."""
    wanted = [column for name in names for column in model.recipe.inputs[name].columns]
    rows = [{column: columns[column][row] for column in wanted} for row in range(ROWS)]
    rows = [row for row in rows if any(cell is not None for cell in row.values())]
    if sent:
        rows = [{k: data_address(v) if isinstance(v, bytes) else v for k, v in row.items()} for row in rows]
    return rows


def assert_same(found: list[dict[str, Any]], model: Model, rows: list[dict[str, Any]]) -> None:
    whole = [{column: row.get(column) for column in model.preparation.input_columns} for row in rows]
    values, numbers = model.predict(whole), model.predict_proba(whole)
    for name, task in model.tasks.items():
        answers = [one[name] for one in found]
        if task.has_probabilities:
            shares = [[one["probability"] for one in answer["probabilities"]] for answer in answers]
            np.testing.assert_allclose(shares, numbers[name], atol=1e-5)
            assert [answer["value"] for answer in answers] == values[name]
            assert [one["value"] for one in answers[0]["probabilities"]] == list(task.class_labels)
        else:
            np.testing.assert_allclose([answer["value"] for answer in answers], values[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("modality", [*MODALITIES, "all"])
def test_predictions(modality: str, client: httpx.Client, mixed: Model, mixed_columns: dict[str, list[Any]]) -> None:
    names = [name for name, one in mixed.preparation.modalities.items() if modality in ("all", one.options.name)]
    assert names
    sent = rows_with(names, mixed, mixed_columns, sent=True)
    answer = client.post("/v1/predict", json={"model": "mixed", "rows": sent})
    assert answer.status_code == 200, answer.text
    assert_same(answer.json()["predictions"], mixed, rows_with(names, mixed, mixed_columns, sent=False))


def test_rows_of_many_requests_at_once(client: httpx.Client, mixed: Model, mixed_columns: dict[str, list[Any]]) -> None:
    """Requests that are computed together get the answers of their own rows."""
    names = list(mixed.recipe.inputs)
    sent = rows_with(names, mixed, mixed_columns, sent=True)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda row: client.post("/v1/predict", json={"model": "mixed", "rows": [row]}), sent))
    assert [one.status_code for one in answers] == [200] * len(sent)
    found = [one.json()["predictions"][0] for one in answers]
    assert_same(found, mixed, rows_with(names, mixed, mixed_columns, sent=False))


def test_a_form(client: httpx.Client, mixed: Model, mixed_columns: dict[str, list[Any]]) -> None:
    """A row as a form: files for media, whose names do not matter, and fields for the rest."""
    image, sound = mixed_columns["image"][0], mixed_columns["sound"][0]
    files = {"image": ("../../etc/passwd", image), "sound": ("a.wav", sound)}
    data = {"text": mixed_columns["text"][0], "skewed": str(mixed_columns["skewed"][0])}
    answer = client.post("/v1/predict", params={"model": "mixed"}, data=data, files=files)
    assert answer.status_code == 200, answer.text
    row = {"image": image, "sound": sound, "text": data["text"], "skewed": mixed_columns["skewed"][0]}
    assert_same(answer.json()["predictions"], mixed, [row])


@pytest.mark.parametrize("name", ["row", "in_text", "in_image"])
def test_embeddings(name: str, client: httpx.Client, mixed: Model, mixed_columns: dict[str, list[Any]]) -> None:
    names = list(mixed.recipe.inputs) if name == "row" else [name]
    sent = [{"row": row} for row in rows_with(names, mixed, mixed_columns, sent=True)]
    given = None if name == "row" else name
    answer = client.post("/v1/embeddings", json={"model": "mixed", "input": sent, "embed_input": given})
    assert answer.status_code == 200, answer.text
    found = np.array([one["embedding"] for one in answer.json()["data"]])
    wanted = mixed.embed(rows_with(names, mixed, mixed_columns, sent=False), input=given)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    short = {"model": "mixed", "input": sent[:1], "embed_input": given, "dimensions": 4, "encoding_format": "base64"}
    encoded = client.post("/v1/embeddings", json=short).json()["data"][0]["embedding"]
    wanted = mixed.embed(rows_with(names, mixed, mixed_columns, sent=False)[:1], input=given, dim=4)
    np.testing.assert_allclose(np.frombuffer(base64.b64decode(encoded), "<f4"), wanted[0], atol=1e-5)


def test_an_ensemble_and_a_model_without_a_network(
    mixed: Model, mixed_columns: dict[str, list[Any]], tmp_path: Path
) -> None:
    """They predict as in the library, and say that they do not embed."""
    table = {name: mixed_columns[name] for name in ("skewed", "often")}
    settings = ["quality=fast", "evaluation.bootstrap_samples=0", "evaluation.unimodal_scores=none"]
    trees = polymodal.fit(table | {"y": ["a", "b"] * (ROWS // 2)}, "y", settings=settings, out=tmp_path / "trees")
    both = polymodal.ensemble([mixed, mixed])
    folders = {"both": both.save(tmp_path / "both"), "trees": tmp_path / "trees"}
    rows = [{"skewed": one, "often": other} for one, other in zip(*table.values(), strict=True)]
    with running(folders) as address, httpx.Client(base_url=address, timeout=120) as client:
        for name, model in (("both", both), ("trees", trees)):
            answer = client.post("/v1/predict", json={"model": name, "rows": rows})
            assert answer.status_code == 200, answer.text
            columns = client.get(f"/v1/models/{name}").json()["columns"]
            wanted = model.predict([dict.fromkeys(columns) | row for row in rows])
            first = wanted if isinstance(wanted, list) else wanted["y_classification"]
            output = next(iter(model.tasks))
            assert [one[output]["value"] for one in answer.json()["predictions"]] == first
            asked = {"model": name, "input": [{"row": rows[0]}]}
            assert client.post("/v1/embeddings", json=asked).status_code == 400
