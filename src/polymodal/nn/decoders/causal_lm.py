"""Text generation with a pretrained causal language model conditioned on the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.errors import DataError, RecipeError
from polymodal.core.needs import needs_value
from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, OutputShape
from polymodal.nn.decoders.causal_lm_state import CausalLMState, PromptContext
from polymodal.nn.decoders.gated_cross_attention import CrossAttentionAdapters, KeyValueMemory
from polymodal.nn.decoders.image_slots import ImageSlots
from polymodal.nn.decoders.text_decoder import (
    DecodingState,
    TextDecoder,
    TextDecoderOptions,
    encoder_memory,
    nll_of_rows,
    scored_tokens,
    target_tokens,
)
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.layers.resampler import Resampler
from polymodal.pretrained import fine_tuning
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.language_model import LanguageModel
from polymodal.runtime.host_reads import can_read

CROSS_ATTN_EVERY_N_LAYERS, HEAD_WIDTH = 4, 64


class LinearConnector(nn.Module):
    """A linear map of every token to the width of the language model."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, out_width)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`features [batch, length, width]` and their mask -> `[batch, length, out_width]` and the mask."""
        return self.out(self.norm(features)), mask


@register
class CausalLanguageModel(TextDecoder):
    """A pretrained causal language model generates the answer, conditioned on the inputs.

    With `conditioning: prefix`, the memory tokens (see `text_decoder.encoder_memory`) are mapped to the width of the
    model and placed between the begin token and the prompt, like word embeddings (Liu et al., "Visual Instruction
    Tuning", 2023):

        p(y_t | begin, W m_1, .., W m_n, prompt, y_1, .., y_(t-1))

    With `conditioning: cross_attention`, gated cross-attention before every fourth layer attends to them (Alayrac et
    al., "Flamingo: a Visual Language Model for Few-Shot Learning", 2022); at initialization the model is unchanged.
    With `conditioning: template`, the checkpoint is a whole multimodal language model, which is used as it is: its chat
    template places `images` in the prompt, and its own connector maps them (see `image_slots.ImageSlots`). The loss
    covers only the answer, and logits are computed only at its positions.

    Raises:
        RecipeError: an option has no effect in combination with the others; the checkpoint is not a causal language
            model or does not have the tokens of this task; prefix, prompt and answer exceed its number of positions.
    """

    class Options(TextDecoderOptions, fine_tuning.FineTuningOptions):
        name: Literal["causal_lm"] = "causal_lm"
        checkpoint: str = "starter/gemma3-270m"
        """The checkpoint: `starter/gemma3-270m`, a hub id (`owner/name`, `owner/name@revision`), or a folder."""
        conditioning: Literal["prefix", "cross_attention", "template"] = "prefix"
        """How the language model is conditioned on the inputs: by a prefix of embeddings before the prompt, by
        cross-attention between its layers, or, in a multimodal language model, by images in its chat template."""
        images: list[str] = []
        """With `conditioning: template`, the image inputs in the order of their slots before the instruction."""
        resampler_tokens: Annotated[int | None, needs_value("conditioning", "prefix", "cross_attention")] = sized_field(
            4, 16, 64, ge=1, le=4096
        )
        """Number of tokens to which a resampler reduces the inputs, whatever their length. null: no resampler; each
        token is mapped linearly."""
        cross_attn_every_n_layers: int | None = Field(default=None, ge=1)
        """With `conditioning: cross_attention`: cross-attention before every n-th layer. Default: 4."""

    tasks: ClassVar[tuple[str, ...]] = ("text_generation",)
    uses_encoder_outputs: ClassVar[bool] = True
    options: Options

    def __init__(self, options: Options, *, width: int, shape: OutputShape) -> None:
        super().__init__(options, width=width, shape=shape)
        fine_tuning.check_options(options)
        if options.cross_attn_every_n_layers is not None and options.conditioning != "cross_attention":
            raise RecipeError(
                "cross_attn_every_n_layers",
                f"it has no effect with conditioning: {options.conditioning}; remove it, or set conditioning: "
                "cross_attention",
            )
        if self.text.checkpoint is None:
            raise RecipeError(
                "",
                "the task has no checkpoint; remove checkpoint from the task, because this decoder sets it",
            )
        if bool(options.images) != (options.conditioning == "template"):
            raise RecipeError("images", "conditioning: template needs images, and other values do not use them")
        self.options = options
        self.language = LanguageModel(
            CheckpointConfig.from_dict(self.text.checkpoint), is_quantized=options.quantization != "none"
        )
        self.slots = ImageSlots(options.images, self.language) if options.images else None
        if problem := self.too_long(0 if self.slots else options.resampler_tokens or 0, 0, self.text.max_target_length):
            raise RecipeError("", problem)
        fine_tuning.apply_fine_tuning(self.language, options)
        self.adapters: CrossAttentionAdapters | None = None
        if self.slots is not None:
            return
        lm_width = self.language.width
        cross = options.conditioning == "cross_attention"
        memory_width = width if cross else lm_width
        self.connector = (
            Resampler(options.resampler_tokens, width, memory_width)
            if options.resampler_tokens
            else LinearConnector(width, memory_width)
        )
        if cross:
            heads = next(n for n in range(max(1, lm_width // HEAD_WIDTH), 0, -1) if lm_width % n == 0)
            self.adapters = CrossAttentionAdapters(
                self.language.layer_list(),
                options.cross_attn_every_n_layers or CROSS_ATTN_EVERY_N_LAYERS,
                lm_width,
                memory_width,
                heads,
            )
        else:
            self.scale = nn.Parameter(torch.ones(()))

    @classmethod
    def required_options(cls, options: Any) -> dict[str, Any]:
        return {"checkpoint": options.checkpoint} | ({"images": options.images} if options.images else {})

    def attach_encoders(self, encoders: Mapping[str, Encoder]) -> None:
        if self.slots is not None:
            self.slots.check_encoders(encoders)

    def load_pretrained(self) -> None:
        """Load the checkpoint's weights; the prefix embeddings get the scale of the word embeddings."""
        self.language.load()
        if self.adapters is None and self.slots is None:
            table = self.language.model.get_input_embeddings().weight
            ids = torch.linspace(0, len(table) - 1, min(len(table), 1024), device=table.device).long()
            with torch.no_grad():
                words = self.language.embed(ids).float()
                self.scale.fill_(float(words.square().mean().sqrt()))

    def lr_multipliers(self) -> dict[nn.Parameter, float]:
        return fine_tuning.lr_multipliers(self.language, self.options)

    def target_nll(self, fused: FusionOutput, prompt: Tensor, answer: Tensor) -> Tensor:
        context, mask, memories, blocks = self.context(fused, prompt)
        if problem := self.too_long(context.shape[1] - prompt.shape[1] - 1, prompt.shape[1], answer.shape[1]):
            raise DataError(problem)
        # the last token of an answer is a target, but not an input
        read = torch.cat([mask, answer[:, 1:] >= 0], dim=1)
        whole = torch.cat([context, self.language.embed(answer[:, :-1].clamp_min(0))], dim=1)
        if blocks is not None:
            blocks = torch.cat([blocks, torch.full_like(answer[:, 1:], -1)], dim=1)
        whole, read, blocks = compact(whole, read, blocks, pad_right=True)
        with self.cross_attention(memories):
            hidden = self.language(whole, read, blocks=blocks)
        row, position = scored_tokens(answer)
        states = hidden[row, mask.sum(1)[row] - 1 + position]
        losses = self.language.token_nll(states, target_tokens(answer), self.smoothing if self.training else 0.0)
        if self.training and torch.is_grad_enabled() and not losses.requires_grad:
            advice = "set another fine_tuning, such as lora, or training.epochs: 0"
            raise RecipeError("fine_tuning", f"with freeze and conditioning: template nothing is trained; {advice}")
        return nll_of_rows(losses, answer)

    def init_state(self, fused: FusionOutput, prompt: Tensor, steps: int) -> DecodingState:
        context, mask, memories, blocks = self.context(fused, prompt)
        if problem := self.too_long(context.shape[1] - prompt.shape[1] - 1, prompt.shape[1], steps):
            raise DataError(problem)
        context, mask, blocks = compact(context, mask, blocks, pad_right=False)
        return CausalLMState(self.language, PromptContext(context, mask, memories, blocks), steps, self.adapters)

    def context(self, fused: FusionOutput, prompt: Tensor) -> PromptContext:
        """Begin token, prefix and prompt, and the memories for cross-attention."""
        if self.slots is not None:
            return self.slots.context(fused, prompt, self.text.bos_id)
        features, real = self.connector(*encoder_memory(fused))  # [batch, length, width], [batch, length]
        first = torch.full_like(real[:, :1], self.text.bos_id, dtype=torch.int64)
        words = self.language.embed(torch.cat([first, prompt.clamp_min(0)], dim=1))
        word_mask = torch.cat([torch.ones_like(first, dtype=torch.bool), prompt >= 0], dim=1)
        if self.adapters is not None:
            return PromptContext(words, word_mask, self.adapters.project(features, real))
        rms = features.float().square().mean(-1, keepdim=True).add(1e-6).sqrt()
        prefix = (self.scale * features / rms).to(words.dtype)
        whole = torch.cat([words[:, :1], prefix, words[:, 1:]], dim=1)
        return PromptContext(whole, torch.cat([word_mask[:, :1], real, word_mask[:, 1:]], dim=1), [])

    def cross_attention(self, memories: list[KeyValueMemory]) -> Any:
        """A context in which the language model cross-attends to these memories; without adapters it does nothing."""
        if self.adapters is None:
            return nullcontext()
        return self.adapters.attached(self.language.layer_list(), memories)

    def too_long(self, prefix: int, prompt: int, answer: int) -> str:
        """An error message if this many tokens exceed the positions of the language model, else ""."""
        prefix = 0 if self.options.conditioning == "cross_attention" else prefix
        total, limit = 1 + prefix + prompt + answer, self.language.max_positions
        if limit is None or total <= limit:
            return ""
        parts = f"begin 1 + inputs {prefix} + prompt {prompt} + answer {answer} = {total} tokens"
        shorter = "use fewer images, or reduce" if self.slots else "reduce resampler_tokens,"
        advice = f"{shorter} max_prompt_length or max_target_length"
        return f"{parts}, but {self.language.checkpoint.name} has {limit} positions; {advice}"


def compact(
    embedded: Tensor, mask: Tensor, blocks: Tensor | None, *, pad_right: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Remove the padding between the real tokens of each row.

    The result has the length of the longest row: embeddings `[batch, length, width]`, mask and blocks `[batch,
    length]`. On an accelerator, where that length would have to be read, it has the length of the argument.

    pad_right: whether the padding is placed after the tokens, else before them
    """
    longest = max(1, int(mask.sum(1).max()) if can_read(mask) and len(mask) else mask.shape[1])
    order = torch.argsort((mask != pad_right).to(torch.int8), dim=1, stable=True)
    order = order[:, :longest] if pad_right else order[:, -longest:]
    gathered = embedded.gather(1, order.unsqueeze(-1).expand(-1, -1, embedded.shape[2]))
    return gathered, mask.gather(1, order), None if blocks is None else blocks.gather(1, order)
