"""A pretrained causal language model: embeddings and a mask -> hidden states and next-token logits."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.errors import RecipeError
from polymodal.pretrained.backbone import Backbone
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.hf_cache import HFCache
from polymodal.pretrained.multimodal import is_multimodal
from polymodal.runtime.prepacked_linear import PrepackedLinear

#: Bias on the attention score of a masked key; finite in every dtype.
MASKED_SCORE = -1e30
#: Supported layer types, as named in configurations.
FULL_ATTENTION, SLIDING_ATTENTION = "full_attention", "sliding_attention"
#: Maximum number of logits in memory while the loss is computed.
MAX_LOGITS = 2**25


class LanguageModel(Backbone):
    """The causal language model of a checkpoint, built from its configuration files; `load` loads its weights. Of a
    multimodal language model, it is the part that reads embeddings.

    The real tokens of a row have positions 0, 1, 2 ..., regardless of padding before or between them, and padding is
    masked: the hidden states of a row do not depend on the batch.

    max_positions: maximum number of tokens; None without a limit
    vocab_size: size of the vocabulary

    Raises:
        RecipeError: the network has other layers than attention (such as recurrent layers), or takes no position ids,
            so that it does not support rows of different lengths.
    """

    def __init__(self, checkpoint: CheckpointConfig, *, is_quantized: bool = False) -> None:
        part = "multimodal" if is_multimodal(checkpoint) else "language"
        super().__init__(checkpoint, part, is_quantized=is_quantized)
        config = self.model.config
        self.max_positions: int | None = getattr(config, "max_position_embeddings", None)
        self.vocab_size: int = config.vocab_size
        layer_types = set(getattr(config, "layer_types", None) or [])
        if layer_types - {FULL_ATTENTION, SLIDING_ATTENTION}:
            other = ", ".join(sorted(layer_types - {FULL_ATTENTION, SLIDING_ATTENTION}))
            problem = (
                f"{checkpoint.name} has layers of type {other}; only full and sliding-window attention are supported"
            )
            raise RecipeError("checkpoint", problem)
        if "position_ids" not in inspect.signature(self.base.forward).parameters:
            raise RecipeError("checkpoint", f"{checkpoint.name}, a {config.model_type}, takes no position_ids")
        self.prepacked = PrepackedLinear(self.model)
        self.has_mixed_attention = SLIDING_ATTENTION in layer_types
        window = getattr(config, "sliding_window", None)
        self.sliding_window: int | None = window if self.has_mixed_attention or not layer_types else None

    @property
    def base(self) -> Any:
        """The network without the language-model head."""
        return self.model.base_model

    @property
    def is_splittable(self) -> bool:
        return True

    def output_modules(self) -> list[nn.Module]:
        """The norm after the last layer. The head stays frozen, since it is usually tied to the input embeddings."""
        return [module for name, module in self.base.named_children() if "norm" in name or name == "ln_f"]

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings `[..., width]` of token ids."""
        embedded: Tensor = self.model.get_input_embeddings()(tokens)
        return embedded

    def forward(
        self, embedded: Tensor, mask: Tensor, cache: HFCache | None = None, blocks: Tensor | None = None
    ) -> Tensor:
        """Hidden states after the last layer, `[batch, length, width]`.

        embedded: `[batch, length, width]`; mask: `[batch, length]` bool, True = real
        cache: keys and values of previous tokens; those of the new tokens are added
        blocks: `[batch, length]`, only without previous tokens: tokens of the same block number attend to each other in
            both directions; -1 = no block
        """
        cached = None if cache is None or not cache.length else cache.mask[:, : cache.length]
        real = mask if cached is None else torch.cat([cached, mask], dim=1)  # [batch, keys]
        key_positions = (real.cumsum(1) - 1).clamp_min(0)
        positions = key_positions[:, -embedded.shape[1] :]
        if cache is not None:
            cache.append_mask(mask)
        output = self.base(
            inputs_embeds=embedded,
            attention_mask=self._attention_bias(positions, key_positions, real, embedded.dtype, blocks),
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        )
        if cache is not None:
            cache.advance(embedded.shape[1])
        hidden: Tensor = output.last_hidden_state
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits `[..., vocab_size]` in fp32."""
        config = self.model.config
        logits = self.model.get_output_embeddings()(hidden).float()
        if (scale := getattr(config, "logit_scale", None)) is not None:
            logits = logits * scale
        if (scaling := getattr(config, "logits_scaling", None)) is not None:
            logits = logits / scaling
        if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
            logits = (logits / cap).tanh() * cap
        return logits

    def token_nll(self, hidden: Tensor, tokens: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Negative log-likelihood `[n]` of `tokens [n]` after `hidden [n, width]`, in nats.

        Vocabularies are large, so logits are computed for a few tokens at a time. If the head is frozen, the gradient
        is computed together with the loss and no logits are stored.
        """

        def nll(hidden: Tensor, tokens: Tensor) -> Tensor:
            return functional.cross_entropy(
                self.logits(hidden), tokens, reduction="none", label_smoothing=label_smoothing
            )

        if any(parameter.requires_grad for parameter in self.model.get_output_embeddings().parameters()):
            return nll(hidden, tokens)
        chunked: Any = _ChunkedLoss.apply
        losses: Tensor = chunked(hidden, tokens, nll, max(1, MAX_LOGITS // self.vocab_size))
        return losses

    def _attention_bias(
        self, positions: Tensor, key_positions: Tensor, real: Tensor, dtype: torch.dtype, blocks: Tensor | None
    ) -> Any:
        """The attention bias `[batch, 1, queries, keys]`; a dictionary by layer type if the model has two types."""
        future = key_positions.unsqueeze(1) > positions.unsqueeze(2)  # [batch, queries, keys]
        if blocks is not None:
            future = future & ~((blocks.unsqueeze(1) == blocks.unsqueeze(2)) & (blocks >= 0).unsqueeze(1))
        masked = future | ~real.unsqueeze(1)
        full = _to_bias(masked, dtype)
        if self.sliding_window is None:
            return full
        if int(key_positions.shape[1]) <= self.sliding_window:
            sliding = full
        else:
            distance = positions.unsqueeze(2) - key_positions.unsqueeze(1)
            sliding = _to_bias(masked | (distance >= self.sliding_window), dtype)
        return {FULL_ATTENTION: full, SLIDING_ATTENTION: sliding} if self.has_mixed_attention else sliding


def _to_bias(masked: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(masked.shape, dtype=dtype, device=masked.device).masked_fill(masked, MASKED_SCORE).unsqueeze(1)


class _ChunkedLoss(torch.autograd.Function):
    """A loss that is independent for each row, computed for a few rows at a time together with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, tokens: Tensor, loss: Callable[[Tensor, Tensor], Tensor], rows: int
    ) -> Tensor:
        ctx.needed = ctx.needs_input_grad[0]
        losses: list[Tensor] = []
        gradients: list[Tensor] = []
        for start in range(0, len(hidden), rows):
            hidden_chunk, token_chunk = hidden[start : start + rows], tokens[start : start + rows]
            with torch.set_grad_enabled(ctx.needed):
                leaf = hidden_chunk.detach().requires_grad_(ctx.needed)
                chunk_losses = loss(leaf, token_chunk)
                if ctx.needed:
                    gradients += torch.autograd.grad(chunk_losses.sum(), leaf)
            losses.append(chunk_losses.detach())
        if ctx.needed:
            ctx.save_for_backward(torch.cat(gradients) if gradients else torch.zeros_like(hidden))
        return torch.cat(losses) if losses else hidden.new_zeros(0, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, None, None, None]:
        if not ctx.needed:
            return None, None, None, None
        (gradients,) = ctx.saved_tensors
        return gradients * grad_outputs[0].unsqueeze(1).to(gradients.dtype), None, None, None
