"""What the small files of a checkpoint say: enough to prepare items for it and to build its network without weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Card:
    """A checkpoint as a model directory keeps it, JSON-ready.

    model: as the recipe names it: a preset, a hub id, or a folder
    source: where the weights are found: a hub id, or a folder
    revision: the commit of the hub; "" for folders and starter weights
    licence: as its maker states it; "" where nothing does
    files: its JSON files by name without suffix: `config`, and where there are any `preprocessor_config`,
        `tokenizer_config`, `pooling` (of a sentence encoder: `1_Pooling/config.json`), `modules`
    """

    model: str
    source: str
    revision: str
    licence: str
    files: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of its network (`config.json`)."""
        return dict(self.files["config"])

    @property
    def preprocessor(self) -> dict[str, Any]:
        """How its makers prepare images, sounds or clips (`preprocessor_config.json`); empty where it says nothing."""
        return dict(self.files.get("preprocessor_config", {}))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a model directory keeps them."""
        return asdict(self)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Card:
        """The card that `to_dict` wrote."""
        return cls(**values)
