"""From the name of a checkpoint to its files: a preset, starter weights, a folder, or a hub id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from polymodal.errors import RecipeError
from polymodal.pretrained.card import Card

#: JSON files that a card keeps, where a checkpoint has them, by the name under which it keeps them.
KEPT = {
    "config": "config.json",
    "preprocessor_config": "preprocessor_config.json",
    "tokenizer_config": "tokenizer_config.json",
    "modules": "modules.json",
    "pooling": "1_Pooling/config.json",
}


def read_card(model: str, modality: str) -> Card:
    """What the small files of the checkpoint `model` say; weights are not fetched.

    modality: `text`, `image`, `audio` or `video`; presets (`starter`, `fast`, `balanced`, `best`) differ by it

    Raises:
        RecipeError: there is no such preset, folder or hub id, or it cannot be reached.
        MissingExtraError: it needs an optional package.
    """
    folder = Path(model).expanduser()
    if not (folder / "config.json").is_file():
        raise RecipeError("", f"there is no checkpoint {model!r}")
    files: dict[str, Any] = {
        name: json.loads((folder / file).read_text(encoding="utf-8"))
        for name, file in KEPT.items()
        if (folder / file).is_file()
    }
    return Card(model, str(folder), "", "", files)


def tokenizer_file(card: Card) -> Path:
    """The `tokenizer.json` of a checkpoint.

    Raises:
        RecipeError: it has none.
    """
    return Path(card.source) / "tokenizer.json"


def weights_folder(card: Card) -> Path:
    """The folder with the weights of a checkpoint, fetched if need be, as `from_pretrained` reads it.

    Raises:
        RecipeError: they cannot be reached, or differ from what was published.
        MissingExtraError: they need an optional package.
    """
    return Path(card.source)
