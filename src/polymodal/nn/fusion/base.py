"""What a fusion is: many `Tokens` -> `View`s, and how the decoded views become one decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from polymodal.core.options import Options, Sized
from polymodal.core.types import LossTerm, Outputs, Space, Tokens, View


class FusionOptions(Options, Sized):
    """Base of every fusion's options."""


class Fusion(nn.Module):
    """Base of every fusion method.

    A subclass is built with the names of its inputs (one or more, in recipe order) and the common width. It
    never assumes that an input is present: `tokens[name].present` says which rows have it, and `mask` always
    has a real position (the learned "missing" token), so a softmax over tokens is never empty.

    Two readings of a missing input are open to a method: leave it out of sums and softmaxes (`present`), or
    read its learned "missing" token. The docstring of each method says which.
    """

    kind: ClassVar[str] = "fusion"
    Options: ClassVar[type[FusionOptions]]

    #: "feature" methods give a joint view, "decision" methods one per input (and perhaps a joint one)
    level: ClassVar[str] = "feature"

    def __init__(self, options: FusionOptions, *, inputs: list[str], width: int) -> None:
        super().__init__()
        self.inputs, self.width = list(inputs), width

    @property
    def interacts(self) -> bool:
        """Whether the fused vector can hold an interaction (an exclusive-or) that a linear head can read."""
        return True

    def view_names(self) -> list[str]:
        """The views that `forward` returns, in order; one decoder is built for each."""
        return ["joint"]

    def prepare_outputs(self, outputs: dict[str, int]) -> None:
        """Make what the method holds for each output; the network calls this once, right after construction.

        outputs: the number of decoded values `k` of each output, by name. Feature-level methods hold nothing.
        """

    def forward(self, tokens: dict[str, Tokens]) -> list[View]:
        """Fuse the inputs of a batch; `tokens` has every input, `[batch, length_m, width]` each."""
        raise NotImplementedError(type(self).__name__)

    def combine(self, decoded: list[Tensor], views: list[View], space: Space, output: str) -> Outputs:
        """Combine the decoded views (`[batch, k]` each) of one output into one decision.

        Here: the only view is the decision. `output` names the output, for methods that combine each in its
        own way.
        """
        (values,), (view,) = decoded, views
        return Outputs(values, [LossTerm(view.name, values, torch.ones_like(view.weight))], self.penalties())

    def calibrate(
        self,
        decoded: dict[str, Tensor],
        weight: dict[str, Tensor],
        target_loss: Callable[[Tensor], Tensor],
        space: Space,
        output: str,
    ) -> None:
        """Fit what the combination of one output learns on rows that were not trained on; nothing here.

        decoded: values of each view on those rows, `[rows, k]`, by view name
        weight: the weight of each view in each row, `[rows]`, by view name
        target_loss: combined values `[rows, k]` -> mean loss over those rows, a differentiable scalar
        """

    def penalties(self) -> dict[str, Tensor]:
        """Extra losses of the last `forward`, already weighted (load balance and the like)."""
        return {}


class VectorFusion(Fusion):
    """Base of the methods that see one vector per input.

    A subclass defines `fuse(vectors, present)`: `[batch, inputs, width]` and `[batch, inputs]` bool ->
    `[batch, width]`. The vector of a missing input is its learned "missing" embedding; a row may have no
    input at all.
    """

    def forward(self, tokens: dict[str, Tokens]) -> list[View]:
        vectors = torch.stack([tokens[name].pooled() for name in self.inputs], dim=1)
        present = torch.stack([tokens[name].present for name in self.inputs], dim=1)
        return [vector_view("joint", self.fuse(vectors, present), present.any(1))]

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        raise NotImplementedError(type(self).__name__)


def vector_view(name: str, vector: Tensor, present: Tensor) -> View:
    """A view of one vector per row, `[batch, width]`, which counts where `present [batch]`."""
    tokens = Tokens(vector.unsqueeze(1), torch.ones_like(present).unsqueeze(1), present)
    return View(name, tokens, vector, present.to(vector.dtype), vector=True)


def token_view(name: str, features: Tensor, mask: Tensor, present: Tensor) -> View:
    """A view of fused tokens `[batch, length, width]`, pooled by the mean of the real ones."""
    tokens = Tokens(features, mask, present)
    return View(name, tokens, tokens.pooled(), present.to(features.dtype))
