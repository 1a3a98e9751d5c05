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
from polymodal.nn.layers.causal import CausalBlock
from polymodal.nn.layers.named_modules import NamedModules
from polymodal.nn.layers.transformer import sinusoidal_positions
from polymodal.nn.objectives.base import Objective, ObjectiveOptions, InputInfo, ObjectiveBatch, ObjectiveLoss
from polymodal.nn.objectives.masking.baseline_losses import LossWithBaseline, CrossEntropyWithBaseline

#: Heads of attention where they divide the width.
HEADS = 4


@register
class NextTokenPrediction(Objective):
    """Each symbol of a text is told from those before it and from the tokens of other inputs: captioning (Yu et al.,
    "CoCa: Contrastive Captioners are Image-Text Foundation Models", 2022), and without other inputs language modelling
    (Bengio et al., "A Neural Probabilistic Language Model", 2003).

        L = -mean_t log p(x_t | x_1 .. x_{t-1}, tokens of the other inputs)
        h_0 = E x + P ;  logits = E LN(h_L)

    The text's own tower is never read, since it has seen what is to be told. But E is the embedding of its encoder
    where that has one of the common width w, so that it learns too.

    Raises:
        RecipeError: what is given is no other input; or nothing is given, and no embedding is shared, so that nothing
            of the model would learn.
    """

    class Options(ObjectiveOptions):
        name: Literal["next_token"] = "next_token"
        given: list[str] | None = None
        """Inputs whose tokens are read. Silent: all but the text itself; empty: none, which is language modelling."""
        layers: int = sized_field(2, 4, 6, ge=1, le=48)
        """Layers of the decoder."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of units dropped in training."""

        @property
        def named(self) -> list[tuple[str, str]]:
            return [("given", name) for name in self.given or []]

    options: Options
    modalities: ClassVar[tuple[str, ...]] = ("text",)

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        given = list(inputs) if options.given is None else options.given
        self.given = {text: [name for name in given if name != text] for text in self.inputs}
        self.writers = NamedModules(
            {text: CausalTextDecoder(inputs[text], width, options, len(self.given[text])) for text in self.inputs}
        )
        for text, writer in self.writers.items():
            if not self.given[text] and writer.embedding is not None:
                raise RecipeError(
                    "inputs",
                    f"{text!r} is told from itself alone, which would teach its encoder nothing; give an input",
                )

    @property
    def raw_inputs(self) -> list[str]:
        return self.inputs

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        terms = []
        for text, writer in self.writers.items():
            batch = step.batch.inputs[text]
            rows = batch.present.nonzero()[:, 0]
            if not len(rows):
                continue
            sources = [step.tokens[name] for name in self.given[text]]
            memory = [(one.features[rows], one.mask[rows]) for one in sources]
            shared = getattr(step.network.towers[text].encoder, "embedding", None)
            terms.append(ObjectiveLoss(text, *writer(batch, rows, memory, shared)))
        return terms


class CausalTextDecoder(nn.Module):
    """The decoder of one text: it tells each symbol from those before it and from a memory."""

    positions: Tensor
    special: Tensor

    def __init__(self, reads: InputInfo, width: int, options: NextTokenPrediction.Options, sources: int) -> None:
        super().__init__()
        vocabulary = reads.shape["vocabulary"]
        self.shares = CrossEntropyWithBaseline(1, vocabulary)
        own = getattr(reads.encoder, "embedding", None)
        shares = isinstance(own, nn.Embedding) and own.embedding_dim == width
        self.embedding = None if shares else nn.Embedding(vocabulary, width)
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=0.5)
        heads = next(count for count in range(min(HEADS, width), 0, -1) if width % count == 0)
        self.begin = nn.Parameter(0.5 * torch.randn(width))
        self.kinds = nn.Parameter(0.3 * torch.randn(max(1, sources), width))
        self.blocks = nn.ModuleList(CausalBlock(width, heads, options.dropout) for _ in range(options.layers))
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(options.dropout)
        nn.init.constant_(self.norm.weight, width**-0.5)  # so that logits begin small, and can grow soon
        self.register_buffer("positions", sinusoidal_positions(reads.shape["length"], width), persistent=False)
        self.register_buffer("special", torch.tensor(reads.shape.get("special", [0])), persistent=False)

    def forward(
        self, batch: InputBatch, rows: Tensor, sources: list[tuple[Tensor, Tensor]], shared: nn.Embedding | None
    ) -> LossWithBaseline:
        index = batch.index[rows]
        ids = batch.data["values"].long()[index]
        values = batch.data["values"]
        real = length_mask(batch.data["length"], values.shape[1]) & ~torch.isin(values, self.special)
        real = real[index]
        weight = (
            shared if self.embedding is None and shared is not None else cast(nn.Embedding, self.embedding)
        ).weight
        embedded = functional.embedding(ids[:, :-1], weight)
        x = torch.cat([self.begin.expand(len(rows), 1, -1), embedded], 1)
        x = self.dropout(x + self.positions[: x.shape[1]])
        memory, mask = self._memory(sources, len(rows))
        for block in self.blocks:
            x = block(x, memory, mask)
        logits = functional.linear(self.norm(x[real]), weight)
        place = real.nonzero()[:, 1]
        return cast(LossWithBaseline, self.shares(logits.float(), ids[real], place))

    def _memory(self, sources: list[tuple[Tensor, Tensor]], rows: int) -> tuple[Tensor, Tensor]:
        if not sources:
            return self.kinds.expand(rows, 1, -1), torch.ones(rows, 1, dtype=torch.bool, device=self.kinds.device)
        features = [one + kind for (one, _), kind in zip(sources, self.kinds, strict=True)]
        return torch.cat(features, 1), torch.cat([mask for _, mask in sources], 1)
