"""Late fusion: each input decides alone, then the decisions are combined."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from torch import Tensor

from polymodal.core.registry import register
from polymodal.core.types import LossTerm, Outputs, Space, Tokens, View
from polymodal.nn.fusion.base import Fusion, FusionOptions
from polymodal.nn.fusion.combiner import Combine, Combiner


class DecisionFusion(Fusion):
    """Base of the methods that decide in several views and combine the decisions by a `Combiner`.

    Every view has its own loss, over the rows in which it is present; no gradient of the combined decision
    reaches it.
    """

    level: ClassVar[str] = "decision"
    combiner: Combiner

    def prepare_outputs(self, outputs: dict[str, int]) -> None:
        self.combiner.prepare(outputs)

    def combine(self, decoded: list[Tensor], views: list[View], space: Space, output: str) -> Outputs:
        values = self.combiner(decoded, [view.weight for view in views], space, output)
        terms = [LossTerm(view.name, own, view.weight) for view, own in zip(views, decoded, strict=True)]
        return Outputs(values, terms, self.penalties(), {term.name: term.values for term in terms})

    def calibrate(
        self,
        decoded: dict[str, Tensor],
        weight: dict[str, Tensor],
        target_loss: Callable[[Tensor], Tensor],
        space: Space,
        output: str,
    ) -> None:
        self.combiner.calibrate(decoded, weight, target_loss, space, output)


@register
class Late(DecisionFusion):
    """A decoder for each input; their decisions are combined (formulas in `nn.fusion.decision`).

    Missing inputs are left out: a row is decided by the inputs that it has, and trains only their decoders. A
    row without any input is undecided (equal classes, logit 0, the mean number). Since each input decides
    alone, an interaction between inputs cannot be learned. Kittler et al., "On Combining Classifiers", 1998.
    """

    class Options(FusionOptions):
        name: Literal["late"] = "late"
        combine: Combine = "average"
        """`average`: mean probability (number). `weighted`: with learned weights. `vote`: share of votes,
        the median of numbers. `product`: log-linear pool with learned temperatures. `stack`: a linear
        layer over all decisions. What is learned here is fitted on validation rows after training."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.combiner = Combiner(options.combine, self.view_names())

    @property
    def interacts(self) -> bool:
        return False

    def view_names(self) -> list[str]:
        return list(self.inputs)

    def forward(self, tokens: dict[str, Tokens]) -> list[View]:
        return [input_view(name, tokens[name]) for name in self.inputs]


def input_view(name: str, tokens: Tokens) -> View:
    """The view of one input by itself; it counts where the input is present."""
    return View(name, tokens, tokens.pooled(), tokens.present.to(tokens.features.dtype))
