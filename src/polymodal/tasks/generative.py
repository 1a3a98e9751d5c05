"""Base class of tasks with generated text."""

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
from polymodal.tasks.base import Task
from polymodal.tasks.text_targets import object_array, pad

TOKENIZER_FILE = "tokenizer.json"


class GenerativeTask(Task):
    """Base class of tasks with generated text. Prepared targets are `TextTarget`s. Raw predictions are the generated
    tokens; a distribution holds their texts.

    tokenizer: tokenizer of the target texts; set by `fit` or `load`
    max_new_tokens: default maximum length of a generated text in tokens, including the end token; set by `fit` or
        `load`
    """

    space: ClassVar[Space] = "text"
    is_generative: ClassVar[bool] = True
    default_decoder: ClassVar[str] = "transformer"
    default_fusion: ClassVar[str | None] = "attention"
    tokenizer: TextTokenizer
    max_new_tokens: int

    @property
    @abstractmethod
    def generation_config(self) -> GenerationConfig:
        """Default configuration of text generation."""

    @property
    @abstractmethod
    def text_shape(self) -> TextShape:
        """Token ids and lengths of the generated texts."""

    def collate(self, value: np.ndarray) -> Tensor:
        return pad([target.ids for target in value])

    @property
    def output_size(self) -> int:
        return self.tokenizer.vocab_size

    def loss(self, values: Tensor, target: Tensor) -> Tensor:
        return values[:, 0] / values[:, 1].clamp_min(1)

    def row_loss_weights(self, values: Tensor) -> Tensor:
        return values[:, 1]

    def missing_predictions(self, rows: int) -> np.ndarray:
        return object_array([None] * rows)

    def distribution(self, values: Tensor) -> np.ndarray:
        """Generated tokens `[rows, steps]`, padded with -1 -> `[rows]` texts; None for a row that begins with -2, which
        marks failed generation."""
        rows = values.tolist()
        texts = self.tokenizer.decode([[token for token in row if token >= 0] for row in rows])
        return object_array([None if row and row[0] == -2 else text for row, text in zip(rows, texts, strict=True)])

    def predict(self, distribution: np.ndarray) -> list[Any]:
        return list(distribution)

    def truth(self, value: np.ndarray) -> np.ndarray:
        return object_array([target.references for target in value])

    def write_files(self, folder: Path) -> None:
        (folder / TOKENIZER_FILE).write_text(self.tokenizer.backend.to_str(), encoding="utf-8")

    def read_files(self, folder: Path) -> None:
        file = folder / TOKENIZER_FILE
        if not file.is_file():
            raise ArtifactError(f"{file} is missing: the tokenizer of {self.columns[0]!r}")
        self._tokenizer = file.read_text(encoding="utf-8")


def generative_task(tasks: Mapping[str, Task], name: str) -> GenerativeTask:
    """The task of output `name` as a `GenerativeTask`.

    Raises:
        TypeError: it is another kind of task.
    """
    task = tasks[name]
    if not isinstance(task, GenerativeTask):
        raise TypeError(f"the output {name!r} does not generate text: its task is {task.options.name}")
    return task
