"""The interface of a fusion: the `Tokens` of all inputs -> `FusionOutput`s, and the combination of decoded branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from polymodal.core.options import Options, SizedModel
from polymodal.core.types import FusionOutput, LossTerm, Space, TaskOutput, Tokens


class FusionOptions(Options, SizedModel):
    """Base of the options of every fusion."""


class Fusion(nn.Module):
    """Base of every fusion method.

    A subclass is built with the names of its inputs (at least one, in recipe order) and the common width. An input may
    be missing in any row: `tokens[name].present` gives the rows that have it. `mask` always has a real position (the
    learned "missing" token), so a softmax over tokens is never empty.

    A method can handle a missing input in two ways: leave it out of sums and softmaxes (`present`), or read its learned
    "missing" token. The docstring of each method states which.

    Example:
        >>> import torch
        >>> from polymodal.core.types import Tokens
        >>> from polymodal.nn.fusion.mean import Mean
        >>> fusion = Mean(Mean.Options(), inputs=["image", "text"], width=4)
        >>> both = torch.ones(2, dtype=torch.bool)
        >>> image = Tokens(torch.zeros(2, 1, 4), torch.ones(2, 1, dtype=torch.bool), both)
        >>> text = Tokens(torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool), torch.tensor([True, False]))
        >>> (fused,) = fusion({"image": image, "text": text})
        >>> fused.name, fused.pooled[:, 0].tolist()  # the second row has no text
        ('joint', [0.5, 0.0])
    """

    kind: ClassVar[str] = "fusion"
    Options: ClassVar[type[FusionOptions]]

    #: "feature": one joint branch; "decision": one branch per input (and possibly a joint one).
    level: ClassVar[str] = "feature"

    def __init__(self, options: FusionOptions, *, inputs: list[str], width: int) -> None:
        super().__init__()
        self.inputs, self.width = list(inputs), width

    @property
    def models_interactions(self) -> bool:
        """Whether a linear decoder on the fused vector can model an interaction between inputs (an exclusive-or)."""
        return True

    def branch_names(self) -> list[str]:
        """Names of the branches that `forward` returns, in order; each output has one decoder per branch."""
        return ["joint"]

    def prepare_outputs(self, outputs: dict[str, int]) -> None:
        """Create the parameters that the method has per output; the network calls this once, right after construction.

        outputs: the number of decoded values `k` of each output, by name. Feature-level methods have no such
            parameters.
        """

    def forward(self, tokens: dict[str, Tokens]) -> list[FusionOutput]:
        """Fuse the inputs of a batch.

        tokens: every input by name, `[batch, length_m, width]` each
        """
        raise NotImplementedError(type(self).__name__)

    def combine(self, decoded: list[Tensor], branches: list[FusionOutput], space: Space, output: str) -> TaskOutput:
        """Combine the decoded branches (`[batch, k]` each) of one output into one prediction.

        The default has one branch, whose values are the prediction. `output` is the name of the output, for methods
        with parameters per output.
        """
        (values,), (branch,) = decoded, branches
        return TaskOutput(values, [LossTerm(branch.name, values, torch.ones_like(branch.weight))], self.penalties())

    def calibrate(
        self,
        decoded: dict[str, Tensor],
        weight: dict[str, Tensor],
        target_loss: Callable[[Tensor], Tensor],
        space: Space,
        output: str,
    ) -> None:
        """Fit the parameters of the combination of one output on held-out rows. The default does nothing.

        decoded: values of each branch on those rows, `[rows, k]`, by branch name
        weight: weight of each branch in each row, `[rows]`, by branch name
        target_loss: combined values `[rows, k]` -> mean loss over those rows, a differentiable scalar
        """

    def penalties(self) -> dict[str, Tensor]:
        """Auxiliary losses of the last `forward`, already weighted (e.g. load balancing)."""
        return {}


class VectorFusion(Fusion):
    """Base of the methods that fuse one vector per input.

    A subclass implements `fuse(vectors, present)`. The vector of a missing input is its learned "missing" embedding. A
    row may lack every input.

    Example:
        >>> import torch
        >>> class Median(VectorFusion):
        ...     def fuse(self, vectors, present):
        ...         return vectors.median(dim=1).values
        >>> fusion = Median(FusionOptions(name="median"), inputs=["a", "b", "c"], width=2)
        >>> vectors = torch.tensor([[[1.0, 9.0], [2.0, 8.0], [3.0, 7.0]]])  # [batch, inputs, width]
        >>> fusion.fuse(vectors, torch.ones(1, 3, dtype=torch.bool))
        tensor([[2., 8.]])
    """

    def forward(self, tokens: dict[str, Tokens]) -> list[FusionOutput]:
        vectors = torch.stack([tokens[name].pooled() for name in self.inputs], dim=1)  # [batch, inputs, width]
        present = torch.stack([tokens[name].present for name in self.inputs], dim=1)  # [batch, inputs]
        return [vector_output("joint", self.fuse(vectors, present), present.any(1))]

    def fuse(self, vectors: Tensor, present: Tensor) -> Tensor:
        """Fuse `vectors [batch, inputs, width]` with `present [batch, inputs]` bool -> `[batch, width]`."""
        raise NotImplementedError(type(self).__name__)


def vector_output(name: str, vector: Tensor, present: Tensor) -> FusionOutput:
    """A `FusionOutput` of one vector per row, `[batch, width]`, with weight 1 where `present [batch]` is True."""
    tokens = Tokens(vector.unsqueeze(1), torch.ones_like(present).unsqueeze(1), present)
    return FusionOutput(name, tokens, vector, present.to(vector.dtype), is_vector=True)


def token_output(name: str, features: Tensor, mask: Tensor, present: Tensor) -> FusionOutput:
    """A `FusionOutput` of fused tokens `[batch, length, width]`, pooled by the mean of the real tokens."""
    tokens = Tokens(features, mask, present)
    return FusionOutput(name, tokens, tokens.pooled(), present.to(features.dtype))
