"""Next-token prediction and captioning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.errors import RecipeError
from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.core.types import InputBatch, length_mask
from polymodal.distributed.world import World
from polymodal.nn.layers.causal import CausalBlock
from polymodal.nn.layers.named_modules import NamedModules
from polymodal.nn.layers.transformer import sinusoidal_positions
from polymodal.nn.objectives.base import InputInfo, Objective, ObjectiveBatch, ObjectiveLoss, ObjectiveOptions
from polymodal.nn.objectives.masking.baseline_losses import CrossEntropyWithBaseline, LossWithBaseline

#: Maximum number of attention heads.
HEADS = 4


@register
class NextTokenPrediction(Objective):
    """Next-token prediction: each token of a text is predicted from the previous ones and from the tokens of other
    inputs. This is captioning (Yu et al., "CoCa: Contrastive Captioners are Image-Text Foundation Models", 2022), or
    language modeling without other inputs (Bengio et al., "A Neural Probabilistic Language Model", 2003).

        L = -mean_t log p(x_t | x_1 .. x_{t-1}, tokens of the other inputs)
        h_0 = E x + P ;  logits = E LN(h_L)

    The tower of the text is not read, since it has access to the tokens to predict. E is the embedding of its encoder
    if its dimension is the hidden size w; it is then trained too.

    Raises:
        RecipeError: a context input does not exist; or there is none and no shared embedding, so that nothing of the
            model would be trained.
    """

    class Options(ObjectiveOptions):
        name: Literal["next_token"] = "next_token"
        context_inputs: list[str] | None = None
        """Inputs whose tokens are read. Default: all inputs except the text. An empty list is language modeling."""
        num_layers: int = sized_field(2, 4, 6, ge=1, le=48)
        """Number of layers of the decoder."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout in training."""

        @property
        def referenced_inputs(self) -> list[tuple[str, str]]:
            return [("context_inputs", name) for name in self.context_inputs or []]

    options: Options
    modalities: ClassVar[tuple[str, ...]] = ("text",)

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        context = list(inputs) if options.context_inputs is None else options.context_inputs
        self.contexts = {text: [name for name in context if name != text] for text in self.inputs}
        self.decoders = NamedModules(
            {text: CausalTextDecoder(inputs[text], width, options, len(self.contexts[text])) for text in self.inputs}
        )
        for text, decoder in self.decoders.items():
            if not self.contexts[text] and decoder.embedding is not None:
                raise RecipeError(
                    "inputs",
                    f"{text!r} is predicted only from itself, which would not train its encoder; add a context input",
                )

    @property
    def raw_inputs(self) -> list[str]:
        return self.inputs

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        terms = []
        for text, decoder in self.decoders.items():
            batch = step.batch.inputs[text]
            rows = batch.present.nonzero()[:, 0]
            if not step.world.total(len(rows)):
                continue
            sources = [step.tokens[name] for name in self.contexts[text]]
            memory = [(tokens.features[rows], tokens.mask[rows]) for tokens in sources]
            shared = getattr(step.network.towers[text].encoder, "embedding", None)
            terms.append(ObjectiveLoss(text, *decoder(batch, rows, memory, shared, step.world)))
        return terms


class CausalTextDecoder(nn.Module):
    """Decoder of one text. Predicts each token from the previous tokens and from a memory."""

    positions: Tensor
    special: Tensor

    def __init__(self, info: InputInfo, width: int, options: NextTokenPrediction.Options, sources: int) -> None:
        super().__init__()
        vocab_size = info.shape["vocabulary"]
        self.cross_entropy = CrossEntropyWithBaseline(1, vocab_size)
        own = getattr(info.encoder, "embedding", None)
        is_shared = isinstance(own, nn.Embedding) and own.embedding_dim == width
        self.embedding = None if is_shared else nn.Embedding(vocab_size, width)
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=0.5)
        heads = next(count for count in range(min(HEADS, width), 0, -1) if width % count == 0)
        self.start_embedding = nn.Parameter(0.5 * torch.randn(width))
        self.source_embeddings = nn.Parameter(0.3 * torch.randn(max(1, sources), width))
        self.blocks = nn.ModuleList(CausalBlock(width, heads, options.dropout) for _ in range(options.num_layers))
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(options.dropout)
        nn.init.constant_(self.norm.weight, width**-0.5)  # so that logits start small
        self.register_buffer("positions", sinusoidal_positions(info.shape["length"], width), persistent=False)
        self.register_buffer("special", torch.tensor(info.shape.get("special", [0])), persistent=False)

    def forward(
        self,
        batch: InputBatch,
        rows: Tensor,
        sources: list[tuple[Tensor, Tensor]],
        shared: nn.Embedding | None,
        world: World,
    ) -> LossWithBaseline:
        index = batch.index[rows]
        ids = batch.data["values"].long()[index]
        values = batch.data["values"]
        valid = length_mask(batch.data["length"], values.shape[1]) & ~torch.isin(values, self.special)
        valid = valid[index]
        weight = (
            shared if self.embedding is None and shared is not None else cast(nn.Embedding, self.embedding)
        ).weight
        embedded = functional.embedding(ids[:, :-1], weight)
        x = torch.cat([self.start_embedding.expand(len(rows), 1, -1), embedded], 1)
        x = self.dropout(x + self.positions[: x.shape[1]])
        memory, mask = self._memory(sources, len(rows))
        for block in self.blocks:
            x = block(x, memory, mask)
        logits = functional.linear(self.norm(x[valid]), weight)
        position = valid.nonzero()[:, 1]
        return cast(LossWithBaseline, self.cross_entropy(logits.float(), ids[valid], position, world))

    def _memory(self, sources: list[tuple[Tensor, Tensor]], rows: int) -> tuple[Tensor, Tensor]:
        if not sources:
            return self.source_embeddings.expand(rows, 1, -1), torch.ones(
                rows, 1, dtype=torch.bool, device=self.source_embeddings.device
            )
        features = [tokens + embedding for (tokens, _), embedding in zip(sources, self.source_embeddings, strict=True)]
        return torch.cat(features, 1), torch.cat([mask for _, mask in sources], 1)
