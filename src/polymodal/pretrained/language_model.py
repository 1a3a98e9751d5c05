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
from polymodal.pretrained.checkpoint_config import Card
from polymodal.pretrained.hf_cache import KeyValues
from polymodal.runtime.prepacked_linear import PrepackedLinear

#: Bias on the attention score of a masked key; finite in every dtype.
NEVER = -1e30
#: Supported layer types, as named in configurations.
FULL, SLIDING = "full_attention", "sliding_attention"
#: Maximum number of logits in memory while the loss is computed.
MOST_LOGITS = 2**25


class LanguageModel(Backbone):
    """The causal language model of a checkpoint, built from its configuration files; `load` loads its weights.

    The real tokens of a row have positions 0, 1, 2 ..., regardless of padding before or between them, and padding is
    masked: the hidden states of a row do not depend on the batch.

    max_positions: maximum number of tokens; None without a limit
    vocab_size: size of the vocabulary

    Raises:
        RecipeError: the network has other layers than attention (such as recurrent layers), or takes no position ids,
            so that it does not support rows of different lengths.
    """

    def __init__(self, card: Card) -> None:
        super().__init__(card, "language")
        config = self.model.config
        self.limit: int | None = getattr(config, "max_position_embeddings", None)
        self.vocabulary: int = config.vocab_size
        kinds = set(getattr(config, "layer_types", None) or [])
        if kinds - {FULL, SLIDING}:
            other = ", ".join(sorted(kinds - {FULL, SLIDING}))
            raise RecipeError("checkpoint", f"{card.model} has layers of {other}; full and sliding attention are known")
        if "position_ids" not in inspect.signature(self.base.forward).parameters:
            raise RecipeError("checkpoint", f"{card.model}, a {config.model_type}, takes no positions of its tokens")
        self.packed = PrepackedLinear(self.model)
        self.mixed = SLIDING in kinds
        window = getattr(config, "sliding_window", None)
        self.window: int | None = window if self.mixed or not kinds else None

    @property
    def base(self) -> Any:
        """The network without the language-model head."""
        return self.model.base_model

    @property
    def cuttable(self) -> bool:
        return True

    def above(self) -> list[nn.Module]:
        """The norm after the last layer. The head stays frozen, since it is usually tied to the input embeddings."""
        return [one for name, one in self.base.named_children() if "norm" in name or name == "ln_f"]

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings `[..., width]` of token ids."""
        found: Tensor = self.model.get_input_embeddings()(tokens)
        return found

    def forward(self, embedded: Tensor, mask: Tensor, kept: KeyValues | None = None) -> Tensor:
        """Hidden states after the last layer, `[batch, length, width]`.

        embedded: `[batch, length, width]`; mask: `[batch, length]` bool, True = real
        cache: keys and values of previous tokens; those of the new tokens are added
        """
        before = None if kept is None or not kept.length else kept.mask[:, : kept.length]
        whole = mask if before is None else torch.cat([before, mask], dim=1)
        places = (whole.cumsum(1) - 1).clamp_min(0)
        own = places[:, -embedded.shape[1] :]
        if kept is not None:
            kept.extend(mask)
        output = self.base(
            inputs_embeds=embedded,
            attention_mask=self._masks(own, places, whole, embedded.dtype),
            position_ids=own,
            past_key_values=kept,
            use_cache=kept is not None,
        )
        if kept is not None:
            kept.advance(embedded.shape[1])
        found: Tensor = output.last_hidden_state
        return found

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits `[..., vocab_size]` in fp32."""
        config = self.model.config
        found = self.model.get_output_embeddings()(hidden).float()
        if (scale := getattr(config, "logit_scale", None)) is not None:
            found = found * scale
        if (scaling := getattr(config, "logits_scaling", None)) is not None:
            found = found / scaling
        if (cap := getattr(config, "final_logit_softcapping", None)) is not None:
            found = (found / cap).tanh() * cap
        return found

    def losses(self, hidden: Tensor, tokens: Tensor, smoothing: float = 0.0) -> Tensor:
        """Negative log-likelihood `[n]` of `tokens [n]` after `hidden [n, width]`, in nats.

        Vocabularies are large, so logits are computed for a few tokens at a time. If the head is frozen, the gradient
        is computed together with the loss and no logits are stored.
        """

        def some(hidden: Tensor, tokens: Tensor) -> Tensor:
            return functional.cross_entropy(self.logits(hidden), tokens, reduction="none", label_smoothing=smoothing)

        if any(parameter.requires_grad for parameter in self.model.get_output_embeddings().parameters()):
            return some(hidden, tokens)
        pieces: Any = _InPieces.apply
        found: Tensor = pieces(hidden, tokens, some, max(1, MOST_LOGITS // self.vocabulary))
        return found

    def _masks(self, own: Tensor, places: Tensor, real: Tensor, kind: torch.dtype) -> Any:
        """The attention bias `[batch, 1, queries, keys]`; a dictionary by layer type if the model has two types."""
        ahead = places.unsqueeze(1) > own.unsqueeze(2)
        hidden = ahead | ~real.unsqueeze(1)
        full = _added(hidden, kind)
        if self.window is None:
            return full
        if int(places.shape[1]) <= self.window:
            near = full
        else:
            near = _added(hidden | (own.unsqueeze(2) - places.unsqueeze(1) >= self.window), kind)
        return {FULL: full, SLIDING: near} if self.mixed else near


def _added(hidden: Tensor, kind: torch.dtype) -> Tensor:
    return torch.zeros(hidden.shape, dtype=kind, device=hidden.device).masked_fill(hidden, NEVER).unsqueeze(1)


class _InPieces(torch.autograd.Function):
    """A loss that is independent for each row, computed for a few rows at a time together with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, tokens: Tensor, loss: Callable[[Tensor, Tensor], Tensor], rows: int
    ) -> Tensor:
        ctx.needed = ctx.needs_input_grad[0]
        losses: list[Tensor] = []
        slopes: list[Tensor] = []
        for at in range(0, len(hidden), rows):
            some, their = hidden[at : at + rows], tokens[at : at + rows]
            with torch.set_grad_enabled(ctx.needed):
                piece = some.detach().requires_grad_(ctx.needed)
                found = loss(piece, their)
                if ctx.needed:
                    slopes += torch.autograd.grad(found.sum(), piece)
            losses.append(found.detach())
        if ctx.needed:
            ctx.save_for_backward(torch.cat(slopes) if slopes else torch.zeros_like(hidden))
        return torch.cat(losses) if losses else hidden.new_zeros(0, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *slope: Tensor) -> tuple[Tensor | None, None, None, None]:
        if not ctx.needed:
            return None, None, None, None
        (slopes,) = ctx.saved_tensors
        return slopes * slope[0].unsqueeze(1).to(slopes.dtype), None, None, None
