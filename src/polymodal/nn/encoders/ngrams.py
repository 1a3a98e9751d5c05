"""An encoder of word and character n-grams with TF-IDF weights."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.options import sized_field
from polymodal.core.registry import register
from polymodal.modalities.text_ngrams import NgramOptions
from polymodal.nn.encoders.base import Encoder, EncoderOptions
from polymodal.runtime.host_reads import can_read

#: The default maximum number of rows of the embedding: the cost of a training step grows with them.
MAX_FEATURES = 65_536


@register
class Ngrams(Encoder):
    """The sum of the embeddings of all n-grams of the whole text, each with its TF-IDF weight. It gives one token per
    text.

        e = sum_t w_t E[t] ;  token = W e + MLP(e)

    The n-grams t are hashed (`NgramOptions`), and E has a row for each bucket that at least `ngrams.min_df` training
    texts have, up to `ngrams.max_features` rows. The weights w are those of TF-IDF, fitted on the training rows. So the
    linear part is a factorized linear model on TF-IDF features, similar to fastText (Joulin et al., "Bag of Tricks for
    Efficient Text Classification", 2017). It suits topics and sentiment with few training rows, in any script. It sees
    the order of words only within an n-gram. A text without a known n-gram is encoded as MLP(0), or 0.
    """

    class Options(EncoderOptions):
        name: Literal["ngrams"] = "ngrams"
        ngrams: NgramOptions = Field(default_factory=lambda: NgramOptions(min_df=2, max_features=MAX_FEATURES))
        """The n-grams that are counted: `words`, `characters`, `buckets`, `min_df` (the minimum number of training
        texts with an n-gram) and `max_features` (the maximum number of n-grams). Default: 1 and 2 words, 4 characters,
        262,144 buckets, 2 texts, 65,536 n-grams; with these, a training step stays cheap on a CPU."""
        embedding_dim: int = sized_field(64, 96, 128, ge=1)
        """Dimension of the embeddings of n-grams."""
        num_layers: int = Field(default=0, ge=0, le=4)
        """Number of hidden layers of the MLP beside the linear part; 0: only the linear part."""
        ngram_dropout: float = Field(default=0.1, ge=0, lt=1)
        """Fraction of the n-grams of a text that is dropped in training."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Dropout rate on the summed embeddings and in the MLP."""

        @field_validator("ngrams")
        @classmethod
        def _with_weights(cls, ngrams: NgramOptions) -> NgramOptions:
            """Batches need weights: unset keys get the values of the default."""
            update: dict[str, Any] = {}
            if ngrams.min_df is None:
                update["min_df"] = 2
            if "max_features" not in ngrams.model_fields_set:
                update["max_features"] = MAX_FEATURES
            return ngrams.model_copy(update=update)

    modality: ClassVar[str] = "text"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.width, self.ngram_dropout = width, options.ngram_dropout
        self.embedding = nn.Parameter(torch.empty(shape["ngrams"] + 1, options.embedding_dim))
        nn.init.normal_(self.embedding, std=0.02)
        self.dropout = nn.Dropout(options.dropout)
        # Without a bias, which would be larger than the embeddings of a new network: the tower normalizes their sum.
        self.linear = nn.Linear(options.embedding_dim, width, bias=False)
        hidden_layers: list[nn.Module] = []
        in_features = options.embedding_dim
        for _ in range(options.num_layers):
            hidden_layers += [nn.Linear(in_features, width), nn.ReLU(), nn.Dropout(options.dropout)]
            in_features = width
        self.layers = nn.Sequential(*hidden_layers, nn.Linear(in_features, width)) if hidden_layers else None

    @classmethod
    def required_options(cls, options: Any) -> dict[str, Any]:
        return {"ngrams": options.ngrams}

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`ngram_ids` and `ngram_weights [items, longest]` -> `[items, 1, width]`."""
        weights = data["ngram_weights"].to(self.embedding.dtype)
        real = data["ngram_ids"] > 0
        if self.training and self.ngram_dropout:
            kept = torch.rand(real.shape, device=real.device) >= self.ngram_dropout
            weights = weights * kept / (1 - self.ngram_dropout)
        counts = real.sum(1)
        if can_read(real):
            summed = functional.embedding_bag(  # without the padding
                data["ngram_ids"][real],
                self.embedding,
                counts.cumsum(0) - counts,
                mode="sum",
                per_sample_weights=weights[real],
            )
        else:
            summed = functional.embedding_bag(
                data["ngram_ids"], self.embedding, mode="sum", per_sample_weights=weights, padding_idx=0
            )
        summed = self.dropout(summed)
        features = self.linear(summed)
        if self.layers is not None:
            features = features + self.layers(summed)
        return features.unsqueeze(1), real.new_ones(real.shape[0], 1)
