"""Late fusion: one prediction per input, and their combination."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

from torch import Tensor

from polymodal.core.registry import register
from polymodal.core.types import FusionOutput, LossTerm, Space, TaskOutput, Tokens
from polymodal.nn.fusion.base import Fusion, FusionOptions
from polymodal.nn.fusion.combiner import Combiner, CombineRule


class DecisionFusion(Fusion):
    """Base of the methods with several branches whose predictions a `Combiner` combines.

    Every branch has its own loss, over the rows in which it is present. No gradient of the combined prediction reaches
    a branch.
    """

    level: ClassVar[str] = "decision"
    combiner: Combiner

    def prepare_outputs(self, outputs: dict[str, int]) -> None:
        self.combiner.prepare(outputs)

    def combine(self, decoded: list[Tensor], branches: list[FusionOutput], space: Space, output: str) -> TaskOutput:
        values = self.combiner(decoded, [branch.weight for branch in branches], space, output)
        terms = [LossTerm(branch.name, own, branch.weight) for branch, own in zip(branches, decoded, strict=True)]
        return TaskOutput(values, terms, self.penalties(), {term.name: term.values for term in terms})

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
    """One decoder per input; their predictions are combined (equations in `nn.fusion.decision_rules`).

    Missing inputs are left out: the prediction of a row uses only its present inputs, and the row trains only their
    decoders. A row without any input gets the neutral prediction (equal classes, logit 0, the mean number). The
    branches are unimodal, so the method cannot learn an interaction between inputs. Kittler et al., "On Combining
    Classifiers", 1998.
    """

    class Options(FusionOptions):
        name: Literal["late"] = "late"
        combine: CombineRule = "average"
        """`average`: mean probability (or number). `weighted`: mean with learned weights. `vote`: fraction of votes, or
        the median of numbers. `product`: log-linear pool with learned temperatures. `stack`: a linear layer over all
        predictions. The learned parameters are fitted on validation rows after training."""

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.combiner = Combiner(options.combine, self.branch_names())

    @property
    def models_interactions(self) -> bool:
        return False

    def branch_names(self) -> list[str]:
        return list(self.inputs)

    def forward(self, tokens: dict[str, Tokens]) -> list[FusionOutput]:
        return [unimodal_output(name, tokens[name]) for name in self.inputs]


def unimodal_output(name: str, tokens: Tokens) -> FusionOutput:
    """The branch of one input; its weight is 1 where the input is present."""
    return FusionOutput(name, tokens, tokens.pooled(), tokens.present.to(tokens.features.dtype))
