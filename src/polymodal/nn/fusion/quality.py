"""Quality-aware fusion of decisions."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from polymodal.core.registry import register
from polymodal.core.types import LossTerm, Outputs, Space, Tokens, View
from polymodal.nn.fusion.base import Fusion, FusionOptions
from polymodal.nn.fusion.weighted import present_softmax


@register
class Quality(Fusion):
    """Each input decides alone; the decisions are averaged by how sure each one is in that row.

        y = sum_m w_m f_m,   w = softmax over present m of (c_m / temperature + d_m)
        c_m = logsumexp_k f_mk           categorical: the free energy of the logits
        c_m = mean_k softplus(|f_mk|)    binary: large where the labels are decided either way
        c_m = 0                          real numbers: they carry no confidence of their own
        d_m = q_m . h_m + r_m if `learned`, else 0
        loss = L(y) + sum_m L(f_m)

    Zhang et al., "Provable Dynamic Fusion for Low-Quality Multimodal Data" (QMF, 2023). The c_m are
    constants to the gradient, so that no view is trained to look sure. Differences from the paper: the
    confidences pass through a softmax, so that the scale of y does not depend on how many inputs are there;
    a confidence learned from the input's pooled vector can be added. The paper's ranking regulariser is
    left out: it orders confidences by how often each training row was answered rightly in earlier epochs, a
    history that a fusion does not have (it sees neither row numbers nor targets).

    Real-valued outputs are weighed by `learned` alone; without it they are a plain average of the present
    views.

    Missing inputs are left out, of the decision and of their loss; a row without any input averages what the
    learned "missing" embeddings are decoded to. Cost: one decoder an input, and M (width + 1) parameters if
    `learned`. With linear decoders the method stays at chance on an exclusive-or of two inputs; learned
    confidences follow at most three of its four cases (about 70 % right where chance is 50 %).
    """

    level: ClassVar[str] = "decision"

    class Options(FusionOptions):
        name: Literal["quality"] = "quality"
        temperature: float = Field(default=1.0, gt=0)
        """Divides the confidences of categorical and binary decisions: small follows the surest input, large
        averages."""
        learned: bool = False
        """Add a confidence learned from each input; the only one that real-valued outputs can have."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.temperature = options.temperature
        self.learned = nn.ModuleList(_zero_linear(width) for _ in inputs) if options.learned else None

    @property
    def interacts(self) -> bool:
        return False

    def view_names(self) -> list[str]:
        return list(self.inputs)

    def forward(self, tokens: dict[str, Tokens]) -> list[View]:
        views = []
        for name in self.inputs:
            pooled = tokens[name].pooled()
            views.append(View(name, tokens[name], pooled, tokens[name].present.to(pooled.dtype)))
        return views

    def combine(self, decoded: list[Tensor], views: list[View], space: Space, output: str) -> Outputs:
        values = torch.stack(decoded, dim=1)
        present = torch.stack([view.tokens.present for view in views], dim=1)
        scores = confidence(values.detach(), space) / self.temperature
        if self.learned is not None:
            own = [score(view.pooled) for score, view in zip(self.learned, views, strict=True)]
            scores = scores + torch.cat(own, dim=1)
        joint = (present_softmax(scores, present).unsqueeze(-1) * values).sum(1)
        terms = [LossTerm("joint", joint, torch.ones_like(views[0].weight))]
        terms += [LossTerm(view.name, own, view.weight) for view, own in zip(views, decoded, strict=True)]
        return Outputs(joint, terms, views={term.name: term.values for term in terms[1:]})


def confidence(values: Tensor, space: Space) -> Tensor:
    """How sure decoded `values [..., k]` are, `[...]`; zero for real numbers."""
    if space == "categorical":
        return values.logsumexp(-1)
    if space == "binary":
        return functional.softplus(values.abs()).mean(-1)
    return torch.zeros_like(values[..., 0])


def _zero_linear(width: int) -> nn.Linear:
    """A linear score that starts at 0 for every row."""
    linear = nn.Linear(width, 1)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
