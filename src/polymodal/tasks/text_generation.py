"""Texts that are written: captions, answers, transcripts, translations, summaries, code."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from polymodal.core.errors import DataError, RecipeError, did_you_mean
from polymodal.core.options import SizedModel, sized_field
from polymodal.core.registry import register
from polymodal.core.types import TextShape
from polymodal.data.table.block import RowBlock
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.generation.chat_template import ChatTemplate
from polymodal.generation.config import GenerationConfig
from polymodal.generation.constraints.factory import build_constraint
from polymodal.generation.tokenizer import MIN_VOCAB_SIZE, TextTokenizer
from polymodal.metrics.base import Metric
from polymodal.metrics.text.catalog import TEXT_METRICS, text_metrics
from polymodal.modalities.checkpoint_tokenizer import position_limit
from polymodal.tasks.text_targets import TextTarget, object_array, read_references
from polymodal.tasks.base import TaskOptions
from polymodal.tasks.conversation import Conversation
from polymodal.tasks.generative import GenerativeTask
from polymodal.tasks.prompt import Overflow, Prompt

#: Most tokens of an answer where the recipe does not say: longer ones are cut.
LONGEST = 512
#: Letters of scripts without blanks between words.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]")


@register
class TextGenerationTask(GenerativeTask):
    """A text, written token by token.

    The loss of a row is the mean over its answer's tokens, the end included, of -log p(token | those before it, the
    prompt, the inputs); a batch's loss is the mean over all its tokens. A cell is a text, or a list of texts that are
    all right: the first is learned, scores read all. A cell that is no text is a fault and a gap, a blank one is a gap.

    What the answer follows on is a `prompt`, or a conversation: `system`, `history` and `instruction`. No cell is ever
    read as a control token. A row whose prompt cannot be used is a fault: it is not learned, and its answer is None,
    which scores read as an empty text.

    After `prepare`, `cut` counts the answers that were longer than `max_tokens`: their beginning is learned, and no end
    after it. One of which nothing is left is a fault, and is not learned.
    """

    class Options(TaskOptions, SizedModel):
        name: Literal["text"] = "text"
        checkpoint: str | None = None
        """Write the tokens of this pretrained checkpoint; decoders that are pretrained set it. Silent: tokens are
        learned from the training rows."""
        tokenizer: str | None = None
        """Write the tokens of the text output of a saved model: its directory."""
        tokens: Literal["pieces", "bytes"] = "pieces"
        """Pieces of words that are frequent in the training rows, or single bytes."""
        vocabulary: int = sized_field(4_000, 8_000, 16_000, ge=MIN_VOCAB_SIZE, le=200_000)
        """Most different pieces; fewer are learned from little text."""
        max_tokens: int | None = Field(default=None, ge=1, le=65_536)
        """Most tokens of an answer, its end included. Silent: as many as the longest training answer, at most 512."""
        answers: Literal["open", "closed"] = "open"
        """Closed: only the answers of training rows may be written."""
        prompt: str | None = None
        """What the answer goes on from: a text with the names of columns in braces, as `Question: {question}`."""
        instruction: str | None = None
        """What the user of a conversation says last: a text with the names of columns in braces."""
        history: str | None = None
        """The column with what was said before in the conversation: a list of `{role, content}`, or of texts that user
        and assistant say in turn; or either as JSON text."""
        system: str | None = None
        """What the conversation begins with: a text, perhaps with the names of columns in braces."""
        prompt_tokens: int = Field(default=512, ge=1, le=65_536)
        """Most tokens of a prompt or conversation; fewer where a checkpoint has too few positions for it and the
        longest answer."""
        overflow: Overflow = "refuse"
        """A longer one is a fault, and its row has no answer; or it is cut: a prompt at its beginning, a conversation
        by its oldest turns."""
        epochs_by: Literal["likelihood", "score"] = "likelihood"
        """How epochs are compared on the validation rows: by how likely their texts are, or by the first of `metrics`
        of texts written for them. The second takes longer, and is better where texts are few and never the same twice:
        likelihood falls there as soon as the training texts are known."""
        metrics: list[str] = Field(default=["token_f1", "exact_match"], min_length=1)
        """The scores, by name; the first leads."""
        writing: GenerationConfig = GenerationConfig()
        """How the text is chosen from what the decoder says of each next token."""

        @field_validator("metrics")
        @classmethod
        def _known(cls, names: list[str]) -> list[str]:
            for name in names:
                if name not in TEXT_METRICS:
                    raise ValueError(f"there is no metric {name!r} of texts; {did_you_mean(name, TEXT_METRICS)}")
                if name == "fact_f1":
                    raise ValueError("fact_f1 needs a function that reads the facts of a text; compute it in Python with `fact_f1`")
            return names

        @model_validator(mode="after")
        def _consistent(self) -> Self:
            if self.prompt is not None and (self.instruction or self.history or self.system):
                raise ValueError("a prompt stands alone; in a conversation write it as the instruction")
            if self.checkpoint is not None and self.tokenizer is not None:
                raise ValueError("checkpoint and tokenizer both say which tokens are written; drop one")
            held = next((key for key in ("choices", "regex", "json_schema") if getattr(self.writing, key)), None)
            if self.answers == "closed" and held is not None:
                raise ValueError(f"closed answers are held to those of training rows; drop writing.{held}")
            return self

    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        if len(columns) != 1:
            raise RecipeError("columns", f"a text output reads one column, not {len(columns)}: {columns}")
        self._metrics = text_metrics(options.metrics)
        self.prompt = _prompt_of(options)
        self.choices: list[str] = []
        self.cut = 0

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        firsts = [_first_text(value) for value in sample.values]
        texts = [text for text in firsts if text]
        if not texts or len(texts) < 0.9 * len(sample.values):
            return None
        words = sum(len(text[:1_000].split()) for text in texts) / len(texts)
        unwritten = sum(len(_UNSPACED.findall(text[:1_000])) for text in texts) / len(texts)
        repeated = 1 - len(set(texts)) / len(texts)
        if max(words, unwritten / 2) >= 3 and repeated < 0.5:
            lists = not all(isinstance(value, str) for value in sample.values)  # labels in a list are shorter
            reason = f"texts of {max(words, unwritten / 2):.1f} words on average, most of them different"
            return Match(0.93 if lists else 0.85, reason)
        return Match(0.15, "texts that could be written")

    def fit(self, blocks: Iterable[RowBlock]) -> None:
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
                prompts |= self.prompt.learned(block)
        if not texts:
            raise DataError("no training row has a text to learn", column=self.columns[0])
        learned = [*texts.elements(), *sorted(prompts)]
        if self.options.checkpoint is not None:
            self.codec = TextTokenizer.from_checkpoint(self.options.checkpoint)
            if isinstance(self.prompt, Conversation):
                self.codec.eos_id = ChatTemplate(self.codec).end_of_turn_id()
        elif self.options.tokenizer is not None:
            self.codec = TextTokenizer.from_model(self.options.tokenizer)
        else:
            self.codec = TextTokenizer.train(learned, self.options.vocabulary, merge=self.options.tokens == "pieces")
        encoded = dict(zip(texts, self.codec.encode(list(texts)), strict=True))
        longest = max(len(ids) for ids in encoded.values()) + 1
        self.most = self.options.max_tokens or min(LONGEST, longest)
        if self.options.answers == "closed" and longest > self.most:
            raise RecipeError("max_tokens", f"the longest of the closed answers has {longest} tokens, its end included")
        counts = np.zeros(self.codec.vocab_size, np.int64)
        for text, rows in texts.items():
            np.add.at(counts, [*encoded[text], self.codec.eos_id][: self.most], rows)
        share = counts[counts > 0] / counts.sum()
        self._chance = float(-(share * np.log(share)).sum())
        self._constant = texts.most_common(1)[0][0]
        self.choices = sorted(texts) if self.options.answers == "closed" else []
        self._check_constraint()

    def _check_constraint(self) -> None:
        """Raises RecipeError where no text meets what `writing` holds texts to: better now than after training."""
        try:
            constraint = build_constraint(self.writing, self.codec)
            if constraint is not None:
                constraint.start(self.writing.max_new_tokens or self.most)
        except RecipeError as error:
            raise error.with_prefix("writing") from None

    def prepare(self, block: RowBlock) -> tuple[np.ndarray, np.ndarray]:
        value: list[TextTarget] = []
        present = np.zeros(len(block), dtype=bool)
        for position, cell in enumerate(block.cells(self.columns[0])):
            try:
                references = read_references(cell)
            except ValueError as error:
                block.add_error(position, self.columns[0], str(error))
                references = ()
            present[position] = bool(references)
            value.append(TextTarget(np.zeros(0, np.int32), references))
        known = np.flatnonzero(present).tolist()
        for position, ids in zip(known, self.codec.encode([value[at].references[0] for at in known]), strict=True):
            ids = [*ids, self.codec.eos_id]
            if len(ids) > self.most:
                self.cut += 1
                ids = ids[: self.most]
                if not self.codec.decode([ids])[0]:
                    reason = f"nothing of the answer is left in {self.most} tokens, so it is not learned"
                    block.add_error(position, self.columns[0], f"{reason}; give max_tokens more")
                    ids = []
            value[position] = value[position]._replace(ids=np.asarray(ids, np.int32))
        return object_array(value), present

    @property
    def notes(self) -> list[str]:
        """What the report tells of the answers."""
        if not self.cut:
            return []
        return [f"answers of more than {self.most} tokens, of which only the beginning is learned: {self.cut}"]

    @property
    def generates_for_selection(self) -> bool:
        return self.options.epochs_by == "score"

    @property
    def writing(self) -> GenerationConfig:
        """How texts are written, with closed answers as the choices."""
        writing = self.options.writing
        return writing.model_copy(update={"choices": self.choices}) if self.choices else writing

    @property
    def prompt_columns(self) -> list[str]:
        return [] if self.prompt is None else self.prompt.columns

    def prompts(self, block: RowBlock) -> np.ndarray | None:
        if self.prompt is None:
            return None
        return self.prompt.prepare(block, self.codec, self.prompt_tokens, self.options.overflow)

    @property
    def prompt_tokens(self) -> int:
        """Most tokens of a prompt: as the options say, and so that the longest answer has room behind it among the
        positions of a checkpoint."""
        limit = None if self.codec.card is None else position_limit(self.codec.card)
        room = self.options.prompt_tokens if limit is None else limit - 1 - self.most
        return min(self.options.prompt_tokens, room) if room > 0 else self.options.prompt_tokens

    @property
    def text_shape(self) -> TextShape:
        codec = self.codec
        prompt = 0 if self.prompt is None else self.prompt_tokens
        card = None if codec.card is None else codec.card.to_dict()
        return TextShape(codec.vocab_size, codec.bos_id, codec.eos_id, prompt, self.most, card)

    def baseline_loss(self) -> float:
        """The entropy of the tokens of training answers, in nats a token: the loss of their shares."""
        return self._chance

    def baseline_prediction(self) -> np.ndarray:
        """The most frequent training answer."""
        return object_array([self._constant])

    def baseline_predictions(self, rows: int) -> np.ndarray:
        return object_array([self._constant] * rows)

    @property
    def metrics(self) -> list[Metric]:
        return self._metrics

    def save(self) -> dict[str, Any]:
        return {
            "codec": self.codec.save(),
            "end": self.codec.eos_id,
            "most": self.most,
            "chance": self._chance,
            "constant": self._constant,
            "choices": self.choices,
            "cut": self.cut,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.codec = TextTokenizer.load(self._tokenizer, state["codec"])
        self.codec.eos_id = state["end"]
        self.most, self._chance, self._constant = state["most"], state["chance"], state["constant"]
        self.choices, self.cut = state["choices"], state["cut"]


def _prompt_of(options: TextGenerationTask.Options) -> Prompt | Conversation | None:
    """What an answer follows on; None where it follows on nothing."""
    if options.prompt is not None:
        return Prompt(options.prompt)
    if options.system is None and options.history is None and options.instruction is None:
        return None
    return Conversation(options.system, options.history, options.instruction)


def _first_text(cell: Any) -> str:
    """The text that is learned from a cell of a sample, "" where there is none."""
    try:
        return next(iter(read_references(cell)), "") if isinstance(cell, str | list | tuple | np.ndarray) else ""
    except ValueError:
        return ""
