"""Writing with a pretrained causal language model that reads the inputs as a prefix or by cross-attention."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.errors import DataError, RecipeError
from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import OutputShape, FusionOutput
from polymodal.nn.decoders.causal_lm_state import CausalLMState
from polymodal.nn.decoders.gated_cross_attention import KeyValueMemory, CrossAttentionAdapters
from polymodal.nn.decoders.text_decoder import DecodingState, TextDecoder, TextDecoderOptions, memory
from polymodal.nn.layers.resampler import Resampler
from polymodal.pretrained import fine_tuning
from polymodal.pretrained.checkpoint_config import Card
from polymodal.pretrained.language_model import LanguageModel

EVERY, WIDTH_OF_HEAD = 4, 64


class AllTokens(nn.Module):
    """Every token, mapped linearly to another width."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, out)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`features [batch, length, width]` and their mask -> `[batch, length, out]` and the mask."""
        return self.out(self.norm(features)), mask


@register
class CausalLanguageModel(TextDecoder):
    """A pretrained causal language model writes the answer, after what the inputs say.

    With `read: prefix`, tokens of the memory (see `writer.memory`) are mapped to the width of the model and stand
    between the begin token and the prompt as words would (Liu et al., "Visual Instruction Tuning", 2023):

        p(y_t | begin, W m_1, .., W m_n, prompt, y_1, .., y_(t-1))

    With `read: cross`, they are read by gated cross-attention before every fourth layer (Alayrac et al., "Flamingo: a
    Visual Language Model for Few-Shot Learning", 2022), and the model begins as it was without them. The loss falls on
    the answer alone, and logits are computed only where it is decided.

    Raises:
        RecipeError: an option has no effect beside the others; the checkpoint writes no text from left to right, or
            not the tokens of this task; prefix, prompt and answer are longer than it has positions.
    """

    class Options(TextDecoderOptions, fine_tuning.TuningOptions):
        name: Literal["causal_lm"] = "causal_lm"
        model: str = "starter/gemma3-270m"
        """The checkpoint: `starter/gemma3-270m`, a hub id (`owner/name`, `owner/name@revision`), or a folder."""
        read: Literal["prefix", "cross"] = "prefix"
        """How it reads the inputs: as words before the prompt, or by cross-attention between its layers."""
        tokens: int | None = sized_field(4, 16, 64, ge=1, le=4096)
        """Tokens that the inputs become, whatever their length; null: as many as there are, each mapped by itself."""
        every: int | None = Field(default=None, ge=1)
        """With `read: cross`, there is cross-attention before every n-th layer; silent: 4."""

    options: Options

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        fine_tuning.check(options)
        if options.every is not None and options.read == "prefix":
            raise RecipeError("every", "it has no effect with read: prefix, only with cross")
        if self.text.checkpoint is None:
            raise RecipeError("", "the task writes tokens of its own; leave its checkpoint to this decoder")
        self.options = options
        self.language = LanguageModel(Card.of(self.text.checkpoint))
        if problem := self.too_long(options.tokens or 0, 0, self.text.answer):
            raise RecipeError("", problem)
        fine_tuning.apply(self.language, options)
        wide = self.language.width
        cross = options.read == "cross"
        between = width if cross else wide
        self.reduce = Resampler(options.tokens, width, between) if options.tokens else AllTokens(width, between)
        self.readers: CrossAttentionAdapters | None = None
        if cross:
            heads = next(one for one in range(max(1, wide // WIDTH_OF_HEAD), 0, -1) if wide % one == 0)
            self.readers = CrossAttentionAdapters(self.language.listed(), options.every or EVERY, wide, between, heads)
        else:
            self.scale = nn.Parameter(torch.ones(()))

    @classmethod
    def prescribe(cls, options: Any) -> dict[str, Any]:
        return {"checkpoint": options.model}

    def initialise(self) -> None:
        """Take over the checkpoint's weights; tokens of a prefix begin as long as those of words."""
        self.language.load()
        if self.readers is None:
            table = self.language.model.get_input_embeddings().weight
            some = torch.linspace(0, len(table) - 1, min(len(table), 1024), device=table.device).long()
            with torch.no_grad():
                words = self.language.embed(some).float()
                self.scale.fill_(float(words.square().mean().sqrt()))

    def rates(self) -> dict[nn.Parameter, float]:
        return fine_tuning.rates(self.language, self.options)

    def losses(self, view: FusionOutput, prompt: Tensor, answer: Tensor) -> Tensor:
        memories, context, mask = self.context(view, prompt)
        if problem := self.too_long(context.shape[1] - prompt.shape[1] - 1, prompt.shape[1], answer.shape[1]):
            raise DataError(problem)
        asked = answer >= 0
        # the last token of an answer is decided, and decides nothing
        read = torch.cat([mask, asked[:, 1:]], dim=1)
        whole = torch.cat([context, self.language.embed(answer[:, :-1].clamp_min(0))], dim=1)
        whole, read = compact(whole, read, behind=True)
        with self.reading(memories):
            hidden = self.language(whole, read)
        row, place = asked.nonzero(as_tuple=True)
        states = hidden[row, mask.sum(1)[row] - 1 + place]
        found = self.language.losses(states, answer[asked], self.smoothing if self.training else 0.0)
        spread = torch.zeros(answer.shape, dtype=torch.float32, device=answer.device).masked_scatter(asked, found)
        return torch.stack([spread.sum(1), asked.sum(1).float()], dim=1)

    def begin(self, view: FusionOutput, prompt: Tensor, steps: int) -> DecodingState:
        memories, context, mask = self.context(view, prompt)
        if problem := self.too_long(context.shape[1] - prompt.shape[1] - 1, prompt.shape[1], steps):
            raise DataError(problem)
        context, mask = compact(context, mask, behind=False)
        return CausalLMState(self.language, context, mask, steps, self.readers, memories)

    def context(self, view: FusionOutput, prompt: Tensor) -> tuple[list[KeyValueMemory], Tensor, Tensor]:
        """What stands before the answer: what cross-attention reads, embeddings `[batch, length, width]` of begin
        token, prefix and prompt, and their mask `[batch, length]`."""
        features, real = self.reduce(*memory(view))
        first = torch.full_like(real[:, :1], self.text.begin, dtype=torch.int64)
        words = self.language.embed(torch.cat([first, prompt.clamp_min(0)], dim=1))
        known = torch.cat([torch.ones_like(first, dtype=torch.bool), prompt >= 0], dim=1)
        if self.readers is not None:
            return self.readers.keep(features, real), words, known
        size = features.float().square().mean(-1, keepdim=True).add(1e-6).sqrt()
        prefix = (self.scale * features / size).to(words.dtype)
        whole = torch.cat([words[:, :1], prefix, words[:, 1:]], dim=1)
        return [], whole, torch.cat([known[:, :1], real, known[:, 1:]], dim=1)

    def reading(self, memories: list[KeyValueMemory]) -> Any:
        """Within, the language model reads these memories between its layers."""
        if self.readers is None:
            return nullcontext()
        return self.readers.reading(self.language.listed(), memories)

    def too_long(self, prefix: int, prompt: int, answer: int) -> str:
        """What is wrong where so many tokens are more than the language model has positions for; else nothing."""
        prefix = 0 if self.options.read == "cross" else prefix
        whole, limit = 1 + prefix + prompt + answer, self.language.limit
        if limit is None or whole <= limit:
            return ""
        parts = f"begin 1 + inputs {prefix} + prompt {prompt} + answer {answer} = {whole} tokens"
        advice = "fewer tokens of the inputs, or a shorter prompt or answer (prompt_tokens, max_tokens) would fit"
        return f"{parts}, and {self.language.card.model} has {limit} positions: {advice}"


def compact(embedded: Tensor, mask: Tensor, *, behind: bool) -> tuple[Tensor, Tensor]:
    """The real tokens of each row side by side, padding behind or before them: embeddings `[batch, length, width]` and
    mask `[batch, length]`, as long as the longest row."""
    longest = max(1, int(mask.sum(1).max())) if len(mask) else 1
    order = torch.argsort((mask != behind).to(torch.int8), dim=1, stable=True)
    order = order[:, :longest] if behind else order[:, -longest:]
    taken = embedded.gather(1, order.unsqueeze(-1).expand(-1, -1, embedded.shape[2]))
    return taken, mask.gather(1, order)
