"""Text generation: captions, answers, transcripts, translations, summaries, code."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, FiniteFloat, NonNegativeInt, PositiveInt, field_validator, model_validator
from typing_extensions import TypedDict

from polymodal.core.errors import DataError, RecipeError, did_you_mean
from polymodal.core.needs import Needs, needs_any, needs_value
from polymodal.core.options import SizedModel, sized_field
from polymodal.core.registry import register
from polymodal.core.types import TextShape
from polymodal.data.table.block import RowBlock
from polymodal.data.table.date_format import are_dates
from polymodal.data.table.number_format import share_of_numbers
from polymodal.data.table.sample import ColumnSample, Match
from polymodal.generation.chat_template import ChatTemplate
from polymodal.generation.config import GenerationConfig
from polymodal.generation.constraints.factory import build_constraint
from polymodal.generation.tokenizer import MIN_VOCAB_SIZE, TextTokenizer
from polymodal.metrics.base import Metric
from polymodal.metrics.text.catalog import TEXT_METRICS, text_metrics
from polymodal.modalities.checkpoint_tokenizer import max_positions_of
from polymodal.modalities.text import looks_like_identifiers
from polymodal.pretrained.multimodal import image_slot
from polymodal.tasks.base import TaskOptions
from polymodal.tasks.conversation import Conversation
from polymodal.tasks.generative import GenerativeTask
from polymodal.tasks.prompt import Overflow, Prompt
from polymodal.tasks.text_targets import TextTarget, object_array, read_references

#: Upper bound of the default maximum target length in tokens.
DEFAULT_MAX_LENGTH = 512
#: Characters of scripts without spaces between words.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]")


_TRAINED_TOKENIZER = Needs(
    "a tokenizer that is trained here: neither checkpoint nor tokenizer",
    lambda own, _: own.checkpoint is None and own.tokenizer is None,
)


_PROMPT = needs_any("prompt", "instruction", "history")


_CONVERSATION = needs_any("instruction", "history")


_SUBWORDS = needs_value("token_type", "subword")


class GeneratedTextState(TypedDict):
    """The saved state, without the backend of the tokenizer."""

    tokenizer: dict[str, Any]
    end: NonNegativeInt
    max_new_tokens: PositiveInt
    baseline_loss: FiniteFloat
    most_frequent: str
    choices: list[str]
    num_truncated: NonNegativeInt


@register
class TextGenerationTask(GenerativeTask):
    """Text generation, token by token.

    The loss of a row is the mean over its target tokens, including the end token, of -log p(token | previous tokens,
    prompt, inputs). The loss of a batch is the mean over all its tokens. A cell is a text, or a list of references: the
    first is the training target, metrics use all. A cell that is not a text is a cell error and a missing target; a
    blank cell is a missing target.

    The context of generation is a `prompt`, or a conversation of `system`, `history` and `instruction`. Cells are never
    parsed as control tokens. A row with an unusable prompt is a cell error: it is not trained on and its prediction is
    None, which metrics score as an empty text.

    `num_truncated` counts the targets of `prepare` that were longer than `max_target_length`. They are truncated and
    have no end token. A target without any text after truncation is a cell error and is not trained on.
    """

    class Options(TaskOptions, SizedModel):
        name: Literal["text_generation"] = "text_generation"
        checkpoint: str | None = None
        """Use the tokenizer of this pretrained checkpoint; set by pretrained decoders. Default: train a tokenizer on
        the training rows."""
        tokenizer: str | None = None
        """Use the tokenizer of the text output of this saved model (a directory)."""
        token_type: Annotated[Literal["subword", "byte"], _TRAINED_TOKENIZER] = "subword"
        """Tokens of a trained tokenizer: subwords or single bytes."""
        vocab_size: Annotated[int, _TRAINED_TOKENIZER, _SUBWORDS] = sized_field(
            4_000, 8_000, 16_000, ge=MIN_VOCAB_SIZE, le=200_000
        )
        """Maximum vocabulary size of a trained tokenizer. Small data yields fewer tokens."""
        max_target_length: int | None = Field(default=None, ge=1, le=65_536)
        """Maximum target length in tokens, including the end token. Default: length of the longest training target, at
        most 512."""
        answers: Literal["open", "closed"] = "open"
        """`closed`: only targets of the training rows can be generated."""
        prompt: str | None = None
        """Prompt that the generated text continues: a text with column names in braces, such as `Question: {question}`.
        """
        instruction: str | None = None
        """Last user message of a conversation: a text with column names in braces."""
        history: str | None = None
        """Column with the conversation history: a list of `{role, content}`, or of texts with alternating roles user
        and assistant; or either as JSON text."""
        system: str | None = None
        """System message of a conversation: a text, optionally with column names in braces."""
        images: Annotated[list[str], _CONVERSATION] = []
        """Image inputs with a slot before the last user message, for a multimodal language model; set by its
        decoder."""
        max_prompt_length: Annotated[int, _PROMPT] = Field(default=512, ge=1, le=65_536)
        """Maximum length of a prompt or conversation in tokens, without those of images. Lower if the positions of a
        checkpoint do not suffice for the prompt and the longest target."""
        prompt_overflow: Annotated[Overflow, _PROMPT] = "error"
        """Prompts that are too long: `error` records a cell error, and the row has no prediction; `truncate` removes
        the beginning of a prompt, or the oldest messages of a conversation."""
        select_best_by: Literal["loss", "metric"] = "loss"
        """Selection of the best epoch on the validation rows: by the loss, or by the first of `metrics` of generated
        texts. The second is slower. It is better for few and diverse texts, where the validation loss rises as soon as
        the training texts are memorized."""
        metrics: list[str] = Field(default=["token_f1", "exact_match"], min_length=1)
        """Names of the metrics; the first is the main metric."""
        generation: GenerationConfig = GenerationConfig()
        """Configuration of text generation: sampling, beam search, constraints."""

        @field_validator("metrics")
        @classmethod
        def _check_metrics(cls, names: list[str]) -> list[str]:
            for name in names:
                if name not in TEXT_METRICS:
                    raise ValueError(f"there is no text metric {name!r}; {did_you_mean(name, TEXT_METRICS)}")
                if name == "fact_f1":
                    raise ValueError("fact_f1 needs a Python function that parses facts; see `metrics.text.fact_f1`")
            return names

        @model_validator(mode="after")
        def _check_combination(self) -> Self:
            if self.prompt is not None and (self.instruction or self.history or self.system):
                raise ValueError(
                    "prompt cannot be combined with system, history or instruction; move the prompt to instruction"
                )
            if self.images and self.checkpoint is None:
                raise ValueError(
                    "images need a checkpoint; set the decoder causal_lm with conditioning: template, which sets both"
                )
            if self.checkpoint is not None and self.tokenizer is not None:
                raise ValueError("checkpoint and tokenizer both define the tokens; remove one of them")
            constraint = next(
                (key for key in ("choices", "regex", "json_schema") if getattr(self.generation, key)), None
            )
            if self.answers == "closed" and constraint is not None:
                raise ValueError(f"answers: closed cannot be combined with generation.{constraint}; remove one of them")
            return self

    options: Options

    def __init__(self, options: Options, *, columns: list[str]) -> None:
        super().__init__(options, columns=columns)
        self._metrics = text_metrics(options.metrics)
        self.prompt = _build_prompt(options)
        self.choices: list[str] = []
        self.num_truncated = 0

    @classmethod
    def match_column(cls, sample: ColumnSample) -> Match | None:
        firsts = [_first_text(value) for value in sample.values]
        texts = [text for text in firsts if text]
        if not texts or len(texts) < 0.9 * len(sample.values) or are_dates(texts):
            return None
        words = sum(len(text[:1_000].split()) for text in texts) / len(texts)
        unspaced = sum(len(_UNSPACED.findall(text[:1_000])) for text in texts) / len(texts)
        repeated = 1 - len(set(texts)) / len(texts)
        if max(words, unspaced / 2) >= 3 and repeated < 0.5:
            lists = not all(isinstance(value, str) for value in sample.values)  # labels in a list are shorter
            reason = f"texts of {max(words, unspaced / 2):.1f} words on average, mostly unique"
            return Match(0.93 if lists else 0.85, reason)
        if share_of_numbers(texts) > 0.5 or looks_like_identifiers(texts):  # the user must say what they are
            return None
        return Match(0.15, "texts")

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
                prompts |= self.prompt.tokenizer_texts(block)
        if not texts:
            raise DataError("the training rows have no texts", column=self.columns[0])
        learned = [*texts.elements(), *sorted(prompts)]
        if self.options.checkpoint is not None:
            self.tokenizer = TextTokenizer.from_checkpoint(self.options.checkpoint)
            if isinstance(self.prompt, Conversation):
                template = ChatTemplate(self.tokenizer, self.prompt.num_images)
                self.tokenizer.eos_id = template.end_of_turn_id()
        elif self.options.tokenizer is not None:
            self.tokenizer = TextTokenizer.from_model(self.options.tokenizer)
        else:
            self.tokenizer = TextTokenizer.train(
                learned, self.options.vocab_size, merge=self.options.token_type == "subword"
            )
        encoded = dict(zip(texts, self.tokenizer.encode(list(texts)), strict=True))
        longest = max(len(ids) for ids in encoded.values()) + 1
        self.max_new_tokens = self.options.max_target_length or min(DEFAULT_MAX_LENGTH, longest)
        if self.options.answers == "closed" and longest > self.max_new_tokens:
            raise RecipeError(
                "max_target_length", f"the longest of the closed answers has {longest} tokens, including the end token"
            )
        counts = np.zeros(self.tokenizer.vocab_size, np.int64)
        for text, rows in texts.items():
            np.add.at(counts, [*encoded[text], self.tokenizer.eos_id][: self.max_new_tokens], rows)
        frequencies = counts[counts > 0] / counts.sum()
        self._baseline_loss = float(-(frequencies * np.log(frequencies)).sum())
        self._most_frequent = texts.most_common(1)[0][0]
        self.choices = sorted(texts) if self.options.answers == "closed" else []
        self._check_constraint()

    def _check_constraint(self) -> None:
        """Raise RecipeError before training if no text can satisfy the constraints of `generation`."""
        try:
            constraint = build_constraint(self.generation_config, self.tokenizer)
            if constraint is not None:
                constraint.start(self.generation_config.max_new_tokens or self.max_new_tokens)
        except RecipeError as error:
            raise error.with_prefix("generation") from None

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
        for position, ids in zip(
            known, self.tokenizer.encode([value[index].references[0] for index in known]), strict=True
        ):
            ids = [*ids, self.tokenizer.eos_id]
            if len(ids) > self.max_new_tokens:
                self.num_truncated += 1
                ids = ids[: self.max_new_tokens]
                if not self.tokenizer.decode([ids])[0]:
                    reason = f"the text is empty after truncation to {self.max_new_tokens} tokens"
                    block.add_error(position, self.columns[0], f"{reason}; increase max_target_length")
                    ids = []
            value[position] = value[position]._replace(ids=np.asarray(ids, np.int32))
        return object_array(value), present

    @property
    def notes(self) -> list[str]:
        """Notes on the targets for the report."""
        if not self.num_truncated:
            return []
        return [f"targets of more than {self.max_new_tokens} tokens, which are truncated: {self.num_truncated}"]

    @property
    def generates_for_selection(self) -> bool:
        return self.options.select_best_by == "metric"

    @property
    def generation_config(self) -> GenerationConfig:
        """Configuration of text generation, with closed answers as choices."""
        config = self.options.generation
        return config.model_copy(update={"choices": self.choices}) if self.choices else config

    @property
    def prompt_columns(self) -> list[str]:
        return [] if self.prompt is None else self.prompt.columns

    def prompts(self, block: RowBlock) -> np.ndarray | None:
        if self.prompt is None:
            return None
        return self.prompt.prepare(block, self.tokenizer, self.max_prompt_length, self.options.prompt_overflow)

    @property
    def max_prompt_length(self) -> int:
        """Maximum prompt length in tokens: at most the option, and at most the positions that the longest target
        leaves in a checkpoint."""
        checkpoint = self.tokenizer.checkpoint
        limit = None if checkpoint is None else max_positions_of(checkpoint)
        wanted = self.options.max_prompt_length
        if checkpoint is not None and self.options.images:
            wanted += len(self.options.images) * image_slot(checkpoint).length
        room = wanted if limit is None else limit - 1 - self.max_new_tokens
        return min(wanted, room) if room > 0 else wanted

    @property
    def text_shape(self) -> TextShape:
        tokenizer = self.tokenizer
        prompt = 0 if self.prompt is None else self.max_prompt_length
        card = None if tokenizer.checkpoint is None else tokenizer.checkpoint.to_dict()
        return TextShape(tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id, prompt, self.max_new_tokens, card)

    def baseline_loss(self) -> float:
        """Entropy of the token frequencies of the training targets, in nats per token: the loss of a unigram model."""
        return self._baseline_loss

    def baseline_prediction(self) -> np.ndarray:
        """The most frequent training target."""
        return object_array([self._most_frequent])

    def baseline_predictions(self, rows: int) -> np.ndarray:
        return object_array([self._most_frequent] * rows)

    @property
    def metrics(self) -> list[Metric]:
        return self._metrics

    state_type = GeneratedTextState

    def save(self) -> dict[str, Any]:
        return {
            "tokenizer": self.tokenizer.save(),
            "end": self.tokenizer.eos_id,
            "max_new_tokens": self.max_new_tokens,
            "baseline_loss": self._baseline_loss,
            "most_frequent": self._most_frequent,
            "choices": self.choices,
            "num_truncated": self.num_truncated,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.tokenizer = TextTokenizer.load(self._tokenizer, state["tokenizer"])
        self.tokenizer.eos_id = state["end"]
        self.max_new_tokens, self._baseline_loss, self._most_frequent = (
            state["max_new_tokens"],
            state["baseline_loss"],
            state["most_frequent"],
        )
        self.choices, self.num_truncated = state["choices"], state["num_truncated"]


def _build_prompt(options: TextGenerationTask.Options) -> Prompt | Conversation | None:
    """Prompt or conversation of the options; None without one."""
    if options.prompt is not None:
        return Prompt(options.prompt)
    if options.system is None and options.history is None and options.instruction is None:
        return None
    return Conversation(options.system, options.history, options.instruction, num_images=len(options.images))


def _first_text(cell: Any) -> str:
    """First text of a sampled cell; "" without one."""
    try:
        return next(iter(read_references(cell)), "") if isinstance(cell, str | list | tuple | np.ndarray) else ""
    except ValueError:
        return ""
