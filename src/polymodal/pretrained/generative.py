"""What networks of checkpoints that write share: built from a card alone, cut where learning begins, their caches."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from polymodal.errors import RecipeError
from polymodal.pretrained import weights
from polymodal.pretrained.card import Card
from polymodal.pretrained.parts import layers_of

#: Norms that stand behind the layers of a decoder, by the names that architectures give them.
LAST_NORMS = ("final_layer_norm", "final_layernorm", "layer_norm", "norm", "ln_f")


class Generative(nn.Module):
    """The network of a checkpoint with the head that writes, built from its card alone; `load` takes over its weights.

    part: `language` (decoder alone), `sequence` or `speech` (the decoder of an encoder-decoder), as in `parts.NETWORKS`
    depth: number of the decoder's layers; `cut`: how many of them, from the bottom, do not learn (all: nothing does)
    vocabulary: logits are of so many tokens; positions: the most tokens that it has places for, None where none limits
    """

    def __init__(self, card: Card, part: str) -> None:
        super().__init__()
        self.card, self.part = card, part
        self.model: Any = weights.build(card, part, None)
        self.model.requires_grad_(False)
        self._layers = layers_of(self._decoder())
        self.depth = len(self._layers)
        self.cut = self.depth

    @property
    def layers(self) -> list[nn.Module]:
        """The decoder's layers, from the bottom."""
        return self._layers

    @property
    def cuttable(self) -> bool:
        return bool(self._layers)

    @property
    def vocabulary(self) -> int:
        return int(self.model.get_output_embeddings().weight.shape[0])

    @property
    def positions(self) -> int | None:
        config = self.model.config
        for name in ("max_target_positions", "max_position_embeddings"):
            found = getattr(config, name, None)
            if isinstance(found, int) and found > 0:
                return found
        return None

    def load(self) -> None:
        """Take over the weights of the checkpoint.

        Raises:
            RecipeError: they cannot be reached, or do not fit its configuration.
        """
        weights.load(self.model, self.card, self.part)

    def train(self, mode: bool = True) -> Generative:
        """Only what learns is ever in training mode: below the cut there is no dropout."""
        if self.cut == 0 and self._layers:
            super().train(mode)
            return self
        super().train(False)
        for layer in self._layers[self.cut :]:
            layer.train(mode)
        self.training = mode and self.cut < self.depth
        return self

    def listed(self) -> list[nn.Module]:
        """Its layers.

        Raises:
            RecipeError: it has no list of them.
        """
        if not self._layers:
            raise RecipeError("tune", f"{self.card.model} has no list of layers to cut between; frozen or full")
        return self._layers

    def above(self) -> list[nn.Module]:
        """The modules that run only after the last layer: a final norm, and a head of its own."""
        decoder, head = self._decoder(), self.model.get_output_embeddings()
        found = [getattr(decoder, name) for name in LAST_NORMS if isinstance(getattr(decoder, name, None), nn.Module)]
        tied = any(
            isinstance(one, nn.Embedding) and one.weight is head.weight
            for one in self.model.modules()
            if one is not head
        )
        return found if tied else [*found, head]

    def checkpoint_gradients(self) -> None:
        """Compute the layers above the cut again for their gradient in place of keeping what they made.

        Raises:
            RecipeError: the architecture is not made for it.
        """
        from transformers.modeling_layers import GradientCheckpointingLayer

        if not any(isinstance(layer, GradientCheckpointingLayer) for layer in self.listed()[self.cut :]):
            raise RecipeError("checkpointing", f"the network of {self.card.model} cannot do it")
        self.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})

    def _decoder(self) -> Any:
        return self.model.get_decoder()


def select(cache: Any, rows: Tensor) -> None:
    """Go on with these rows of a transformers cache, in this order; they may be repeated or left out."""
    parts = [cache] if hasattr(cache, "layers") else [cache.self_attention_cache, cache.cross_attention_cache]
    for layer in [layer for part in parts for layer in part.layers]:
        if layer.is_initialized:
            layer.keys = layer.keys.index_select(0, rows)
            layer.values = layer.values.index_select(0, rows)
