"""Texts that are written: captions, answers, transcripts, translations, summaries, code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from polymodal.data.block import Block
from polymodal.data.sample import ColumnSample, Guess
from polymodal.errors import ArtefactError, DataError, RecipeError
from polymodal.generation.codec import Codec
from polymodal.generation.options import Writing
from polymodal.metrics.base import Metric
from polymodal.metrics.text.catalogue import text_metrics
from polymodal.modalities.bpe import SMALLEST
from polymodal.recipe.options import Sized, sized
from polymodal.registry import register
from polymodal.tasks.answers import Answer, objects, padded, read_references
from polymodal.tasks.base import Task, TaskOptions
from polymodal.tasks.prompt import Prompt
from polymodal.tokens import Space, TextShape

#: Most tokens of an answer where the recipe does not say: longer ones are cut.
LONGEST = 512
TOKENIZER = "tokenizer.json"


@register
class Text(Task):
    """A text, written token by token.

    The loss of a row is the mean over its answer's tokens, the end included, of -log p(token | those before it, the
    prompt, the inputs); a batch's loss is the mean over all its tokens. A cell is a text, or a list of texts that are
    all right: the first is learned, scores read all. A cell that is no text is a fault and a gap, a blank one is a gap.

    After `prepare`, `cut` counts the answers that were longer than `max_tokens`, whose end is not learned.
    """

    class Options(TaskOptions, Sized):
        name: Literal["text"] = "text"
        checkpoint: str | None = None
        """Write the tokens of this pretrained checkpoint; decoders that are pretrained set it. Silent: tokens are
        learned from the training rows."""
        tokens: Literal["pieces", "bytes"] = "pieces"
        """Pieces of words that are frequent in the training rows, or single bytes."""
        vocabulary: int = sized(4_000, 8_000, 16_000, ge=SMALLEST + 2, le=200_000)
        """Most different pieces; fewer are learned from little text."""
        max_tokens: int | None = Field(default=None, ge=1, le=65_536)
        """Most tokens of an answer, its end included. Silent: as many as the longest training answer, at most 512."""
        prompt: str | None = None
        """What the answer follows on: a text with the names of columns in braces, as `Question: {question}`."""
        prompt_tokens: int = Field(default=512, ge=1, le=65_536)
        """Most tokens of a prompt; a longer one is a fault, and its row has no answer."""
        metrics: list[str] = ["chrf", "exact_match"]
        """The scores, by name; the first leads."""
        writing: Writing = Writing()
        """How the text is chosen from what the decoder says of each next token."""

    space: ClassVar[Space] = "text"
    writes: ClassVar[bool] = True
    default_decoder: ClassVar[str] = "transformer"
    default_fusion: ClassVar[str | None] = "attention"
    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        if len(columns) != 1:
            raise RecipeError("columns", f"a text output reads one column, not {len(columns)}: {columns}")
        self._metrics = text_metrics(options.metrics)
        self.prompt = Prompt(options.prompt) if options.prompt is not None else None
        self.cut = 0
        self.notes: list[str] = []

    @classmethod
    def recognise(cls, sample: ColumnSample) -> Guess | None:
        texts = [value for value in sample.values if isinstance(value, str) and value.strip()]
        if not texts or len(texts) < 0.9 * len(sample.values):
            return None
        words = sum(len(text[:1_000].split()) for text in texts) / len(texts)
        repeated = 1 - sample.distinct / len(texts)
        if words >= 3 and repeated < 0.5:
            return Guess(0.85, f"texts of {words:.1f} words on average, most of them different")
        return Guess(0.15, "texts that could be written")

    def fit(self, blocks: Iterable[Block]) -> None:
        texts: Counter[str] = Counter()
        prompts: set[str] = set()
        for block in blocks:
            for cell in block.cells(self.columns[0]):
                try:
                    references = read_references(cell)
                except ValueError:
                    continue
                texts.update(references[:1])
            if self.prompt is not None:
                prompts.update(text for text in self.prompt.texts(block) if text)
        if not texts:
            raise DataError("no training row has a text to learn", column=self.columns[0])
        learned = [*texts.elements(), *sorted(prompts)]
        if self.options.checkpoint is not None:
            self.codec = Codec.of_checkpoint(self.options.checkpoint)
        else:
            self.codec = Codec.learned(learned, self.options.vocabulary, merge=self.options.tokens == "pieces")
        encoded = dict(zip(texts, self.codec.encode(list(texts)), strict=True))
        longest = max(len(ids) for ids in encoded.values()) + 1
        self.most = self.options.max_tokens or min(LONGEST, longest)
        counts = np.zeros(self.codec.vocabulary, np.int64)
        for text, rows in texts.items():
            np.add.at(counts, [*encoded[text], self.codec.end][: self.most], rows)
        share = counts[counts > 0] / counts.sum()
        self._chance = float(-(share * np.log(share)).sum())
        self._constant = texts.most_common(1)[0][0]

    def prepare(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        value: list[Answer] = []
        present = np.zeros(len(block), dtype=bool)
        for position, cell in enumerate(block.cells(self.columns[0])):
            try:
                references = read_references(cell)
            except ValueError as error:
                block.fault(position, self.columns[0], str(error))
                references = ()
            present[position] = bool(references)
            value.append(Answer(np.zeros(0, np.int32), references))
        known = np.flatnonzero(present).tolist()
        for position, ids in zip(known, self.codec.encode([value[at].references[0] for at in known]), strict=True):
            ids = [*ids, self.codec.end]
            self.cut += len(ids) > self.most
            value[position] = value[position]._replace(ids=np.asarray(ids[: self.most], np.int32))
        return objects(value), present

    @property
    def prompt_columns(self) -> list[str]:
        return [] if self.prompt is None else self.prompt.columns

    def prompts(self, block: Block) -> np.ndarray | None:
        if self.prompt is None:
            return None
        return self.prompt.prepare(block, self.codec, self.options.prompt_tokens)

    def collate(self, value: np.ndarray) -> Tensor:
        return padded([answer.ids for answer in value])

    @property
    def outputs(self) -> int:
        return self.codec.vocabulary

    @property
    def text_shape(self) -> TextShape:
        codec = self.codec
        prompt = 0 if self.prompt is None else self.options.prompt_tokens
        card = None if codec.card is None else codec.card.to_dict()
        return TextShape(codec.vocabulary, codec.begin, codec.end, prompt, self.most, card)

    def loss(self, values: Tensor, target: Tensor) -> Tensor:
        return values[:, 0] / values[:, 1].clamp_min(1)

    def counts(self, values: Tensor) -> Tensor:
        return values[:, 1]

    def chance(self) -> float:
        """The entropy of the tokens of training answers, in nats a token: the loss of their shares."""
        return self._chance

    def constant(self) -> np.ndarray:
        """The most frequent training answer."""
        return objects([self._constant])

    def constants(self, rows: int) -> np.ndarray:
        return objects([self._constant] * rows)

    def undecided(self, rows: int) -> np.ndarray:
        return objects([None] * rows)

    def distribution(self, values: Tensor) -> np.ndarray:
        """Written tokens `[rows, steps]`, padded with -1 -> `[rows]` texts; None in a row that begins with -2, in
        which nothing could be written."""
        rows = values.tolist()
        texts = self.codec.decode([[token for token in row if token >= 0] for row in rows])
        return objects([None if row and row[0] == -2 else text for row, text in zip(rows, texts, strict=True)])

    def predict(self, distribution: np.ndarray) -> list[Any]:
        return list(distribution)

    def truth(self, value: np.ndarray) -> np.ndarray:
        return objects([answer.references for answer in value])

    @property
    def metrics(self) -> list[Metric]:
        return self._metrics

    def write_files(self, folder: Path) -> None:
        (folder / TOKENIZER).write_text(self.codec.tokenizer.to_str(), encoding="utf-8")

    def read_files(self, folder: Path) -> None:
        file = folder / TOKENIZER
        if not file.is_file():
            raise ArtefactError(f"{file} is missing: the tokenizer of {self.columns[0]!r}")
        self._tokenizer = file.read_text(encoding="utf-8")

    def save(self) -> dict[str, Any]:
        return {"codec": self.codec.save(), "most": self.most, "chance": self._chance, "constant": self._constant}

    def load(self, state: dict[str, Any]) -> None:
        self.codec = Codec.load(self._tokenizer, state["codec"])
        self.most, self._chance, self._constant = state["most"], state["chance"], state["constant"]
