"""Small models, saved, and a service of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import polymodal
from laws.samples import sample_table, trained
from polymodal.data.table.table import open_table
from polymodal.datasets import make_dialogues
from polymodal.model.model import Model
from service import KEY, MODALITIES, ROWS, png, running

QUICK = ["training.epochs=1", "training.precision=fp32", "training.num_threads=1", "hidden_size=16"]
QUICK += ["evaluation.bootstrap_samples=0", "evaluation.unimodal_scores=none"]


@pytest.fixture(scope="session")
def mixed_columns() -> dict[str, list[Any]]:
    """Rows of seven modalities; images and sounds as bytes."""
    columns, _ = sample_table(MODALITIES, ["classification", "multilabel_classification", "regression"], ROWS)
    sent = [None if cell == "20260302" else cell for cell in columns["sent"]]  # a date that cannot be read
    return columns | {"sent": sent, "image": [png(picture) for picture in columns["image"]]}


@pytest.fixture(scope="session")
def mixed(mixed_columns: dict[str, list[Any]], tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model of seven modalities with three outputs."""
    folder = tmp_path_factory.mktemp("mixed")
    _, recipe = sample_table(MODALITIES, ["classification", "multilabel_classification", "regression"], ROWS)
    table: Any = open_table(mixed_columns, root=folder, cache=folder / "tables")
    parts = {"train": table, "validation": table}
    model = trained(parts, folder / "prepared", **recipe, fusion="attention", training={"epochs": 1, "batch_size": 8})
    model.save(folder / "model")
    return Model.load(folder / "model")


@pytest.fixture(scope="session")
def dialogues() -> dict[str, list[Any]]:
    columns = make_dialogues(scenes=6)
    return columns | {"image": [png(picture) for picture in columns["image"]]}


@pytest.fixture(scope="session")
def chat(dialogues: dict[str, list[Any]], tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model that answers in a conversation about an image."""
    return polymodal.fit(
        dialogues, recipe="chat_with_image", settings=QUICK, out=tmp_path_factory.mktemp("chat") / "model"
    )


@pytest.fixture(scope="session")
def folders(mixed: Model, chat: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    return {"mixed": mixed.save(place / "mixed"), "chat": chat.save(place / "chat")}


@pytest.fixture(scope="session")
def service(folders: dict[str, Path]) -> Iterator[str]:
    """The address of a service of both models, with the key `KEY`."""
    with running(folders, KEY) as address:
        yield address


@pytest.fixture(scope="session")
def client(service: str) -> Iterator[httpx.Client]:
    """A client with the key."""
    with httpx.Client(base_url=service, headers={"authorization": f"Bearer {KEY}"}, timeout=120) as found:
        yield found
