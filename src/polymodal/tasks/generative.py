"""What a task is whose answers are texts that a decoder writes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from polymodal.core.errors import ArtifactError
from polymodal.core.types import Space, TextShape
from polymodal.generation.config import GenerationConfig
from polymodal.generation.tokenizer import TextTokenizer
from polymodal.tasks.text_targets import object_array, pad
from polymodal.tasks.base import Task

TOKENIZER = "tokenizer.json"


class GenerativeTask(Task):
    """Base of the tasks whose answers are written token by token. Prepared targets are `TextTarget`s; decided values are
    the tokens that were written, and a distribution holds their texts.

    codec: texts as tokens and back; known after `fit` or `load`, as `most` is
    most: tokens of an answer where nothing else is said, its end included
    """

    space: ClassVar[Space] = "text"
    is_generative: ClassVar[bool] = True
    default_decoder: ClassVar[str] = "transformer"
    default_fusion: ClassVar[str | None] = "attention"
    codec: TextTokenizer
    most: int

    @property
    @abstractmethod
    def writing(self) -> GenerationConfig:
        """How texts are written where nothing else is asked for."""

    @property
    @abstractmethod
    def text_shape(self) -> TextShape:
        """The tokens of the texts that are written."""

    def collate(self, value: np.ndarray) -> Tensor:
        return pad([answer.ids for answer in value])

    @property
    def output_size(self) -> int:
        return self.codec.vocab_size

    def loss(self, values: Tensor, target: Tensor) -> Tensor:
        return values[:, 0] / values[:, 1].clamp_min(1)

    def row_loss_weights(self, values: Tensor) -> Tensor:
        return values[:, 1]

    def missing_predictions(self, rows: int) -> np.ndarray:
        return object_array([None] * rows)

    def distribution(self, values: Tensor) -> np.ndarray:
        """Written tokens `[rows, steps]`, padded with -1 -> `[rows]` texts; None in a row that begins with -2, in
        which nothing could be written."""
        rows = values.tolist()
        texts = self.codec.decode([[token for token in row if token >= 0] for row in rows])
        return object_array([None if row and row[0] == -2 else text for row, text in zip(rows, texts, strict=True)])

    def predict(self, distribution: np.ndarray) -> list[Any]:
        return list(distribution)

    def truth(self, value: np.ndarray) -> np.ndarray:
        return object_array([answer.references for answer in value])

    def write_files(self, folder: Path) -> None:
        (folder / TOKENIZER).write_text(self.codec.backend.to_str(), encoding="utf-8")

    def read_files(self, folder: Path) -> None:
        file = folder / TOKENIZER
        if not file.is_file():
            raise ArtifactError(f"{file} is missing: the tokenizer of {self.columns[0]!r}")
        self._tokenizer = file.read_text(encoding="utf-8")


def generative_task(tasks: Mapping[str, Task], name: str) -> GenerativeTask:
    """The task of the output `name`, of which the caller knows that it writes.

    Raises:
        TypeError: it does not.
    """
    task = tasks[name]
    if not isinstance(task, GenerativeTask):
        raise TypeError(f"the output {name!r} writes no texts: its task is {task.options.name}")
    return task
