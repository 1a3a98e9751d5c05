"""Quality-aware late fusion."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, LossTerm, Space, TaskOutput, Tokens
from polymodal.nn.fusion.base import Fusion, FusionOptions
from polymodal.nn.fusion.weighted import present_softmax


@register
class Quality(Fusion):
    """One prediction per input; the predictions are averaged with weights from their confidence in each row.

        y = sum_m w_m f_m,   w = softmax over present m of (c_m / temperature + d_m)
        c_m = logsumexp_k f_mk           categorical: the negative free energy of the logits
        c_m = mean_k softplus(|f_mk|)    binary: large if the labels are confidently positive or negative
        c_m = 0                          real numbers: they carry no confidence
        d_m = q_m . h_m + r_m if `learned_confidence`, else 0
        loss = L(y) + sum_m L(f_m)

    Zhang et al., "Provable Dynamic Fusion for Low-Quality Multimodal Data" (QMF, 2023). No gradient flows through the
    c_m, so that no branch is trained to be overconfident. Differences from the paper: the confidences pass through a
    softmax, so that the scale of y does not depend on the number of present inputs; a confidence learned from the
    input's pooled vector can be added. The ranking regularizer of the paper is left out: it orders confidences by how
    often each training row was predicted correctly in earlier epochs, and a fusion has no access to row numbers or
    targets.

    Real-valued outputs are weighted only by `learned_confidence`; without it they are the mean of the present branches.

    Missing inputs are left out of the prediction and of their loss. A row without any input averages the decoded
    learned "missing" embeddings. Cost: one decoder per input, and M (width + 1) parameters with `learned_confidence`.
    With linear decoders the method stays at chance on an exclusive-or of two inputs; learned confidences fit at most
    three of its four cases (about 70 % accuracy, where chance is 50 %).
    """

    level: ClassVar[str] = "decision"

    class Options(FusionOptions):
        name: Literal["quality"] = "quality"
        temperature: float = Field(default=1.0, gt=0)
        """Divides the confidences of categorical and binary predictions: small values select the most confident input,
        large values average."""
        learned_confidence: bool = False
        """Add a confidence learned from each input. Real-valued outputs have no other confidence."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.temperature = options.temperature
        self.learned = nn.ModuleList(_zero_linear(width) for _ in inputs) if options.learned_confidence else None

    @property
    def models_interactions(self) -> bool:
        return False

    def branch_names(self) -> list[str]:
        return list(self.inputs)

    def forward(self, tokens: dict[str, Tokens]) -> list[FusionOutput]:
        branches = []
        for name in self.inputs:
            pooled = tokens[name].pooled()
            branches.append(FusionOutput(name, tokens[name], pooled, tokens[name].present.to(pooled.dtype)))
        return branches

    def combine(self, decoded: list[Tensor], branches: list[FusionOutput], space: Space, output: str) -> TaskOutput:
        values = torch.stack(decoded, dim=1)  # [batch, inputs, k]
        present = torch.stack([branch.tokens.present for branch in branches], dim=1)
        scores = confidence(values.detach(), space) / self.temperature
        if self.learned is not None:
            own = [score(branch.pooled) for score, branch in zip(self.learned, branches, strict=True)]
            scores = scores + torch.cat(own, dim=1)
        joint = (present_softmax(scores, present).unsqueeze(-1) * values).sum(1)
        terms = [LossTerm("joint", joint, torch.ones_like(branches[0].weight))]
        terms += [LossTerm(branch.name, own, branch.weight) for branch, own in zip(branches, decoded, strict=True)]
        return TaskOutput(joint, terms, per_branch={term.name: term.values for term in terms[1:]})


def confidence(values: Tensor, space: Space) -> Tensor:
    """Confidence of the decoded `values [..., k]`, `[...]`; zero for real numbers."""
    if space == "categorical":
        return values.logsumexp(-1)
    if space == "binary":
        return functional.softplus(values.abs()).mean(-1)
    return torch.zeros_like(values[..., 0])


def _zero_linear(width: int) -> nn.Linear:
    """A linear layer with one output, initialized to zero."""
    linear = nn.Linear(width, 1)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
