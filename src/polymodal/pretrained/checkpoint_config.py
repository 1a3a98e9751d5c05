"""The configuration files of a checkpoint: enough to preprocess items and to build its network without weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class CheckpointConfig:
    """The configuration of a checkpoint, as it is saved (JSON) in a model directory.

    name: the checkpoint in the recipe: a preset, a hub id, or a folder
    source: the location of the weights: a hub id, or a folder
    revision: the commit on the hub; "" for folders and starter weights
    license: the license in its model card; "" if not stated
    files: its JSON files by name without suffix: `config`, and if present `preprocessor_config`, `tokenizer_config`,
        `pooling` (of a sentence encoder: `1_Pooling/config.json`), `modules`,
        `sentence_bert_config`

    Example:
        >>> checkpoint = CheckpointConfig("fast", "owner/name", "0123abc", "mit", {"config": {"model_type": "bert"}})
        >>> checkpoint.config["model_type"]
        'bert'
        >>> CheckpointConfig.from_dict(checkpoint.to_dict()) == checkpoint
        True
    """

    name: str
    source: str
    revision: str
    license: str
    files: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of its network (`config.json`)."""
        return dict(self.files["config"])

    @property
    def preprocessor(self) -> dict[str, Any]:
        """The preprocessing of images, audio or videos (`preprocessor_config.json`); empty without such a file."""
        return dict(self.files.get("preprocessor_config", {}))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CheckpointConfig:
        """The inverse of `to_dict`."""
        return cls(**values)
