"""Hybrid fusion: late fusion plus one branch that fuses all inputs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SerializeAsAny
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.core.options import Options as ComponentOptions
from polymodal.core.options import Size, SizedModel
from polymodal.core.registry import build, components, register, unusable_reason
from polymodal.core.types import FusionOutput, Tokens
from polymodal.nn.fusion.base import Fusion, FusionOptions
from polymodal.nn.fusion.combiner import Combiner, CombineRule
from polymodal.nn.fusion.late import DecisionFusion, unimodal_output
from polymodal.recipe.slots import Slot


class JointSlot(Slot):
    """Slot for feature-level fusions, which give one joint branch."""

    def _options_of(self, name: str) -> type[ComponentOptions]:
        options = super()._options_of(name)
        if options.component.level != "feature":  # type: ignore[attr-defined]
            raise RecipeError("", unusable_reason("fusion", name, self._known()))
        return options

    def _known(self) -> dict[str, type[ComponentOptions]]:
        found = components("fusion").items()
        return {name: fusion.Options for name, fusion in found if fusion.level == "feature"}


@register
class Hybrid(DecisionFusion):
    """A decoder for each input and one for their fusion; the predictions are combined as in `late`.

    The joint branch learns interactions. The unimodal branches keep each encoder useful by itself and predict rows in
    which other inputs are missing. Missing inputs are left out of the combination. The joint branch is used in each row
    with any input and handles missing inputs as its fusion does. Atrey et al., "Multimodal Fusion for Multimedia
    Analysis: A Survey", 2010.

    Raises:
        RecipeError: an input is named "joint".
    """

    class Options(FusionOptions):
        name: Literal["hybrid"] = "hybrid"
        combine: CombineRule = "average"
        """Rule for combining the branches, as in `late`."""
        joint_fusion: Annotated[SerializeAsAny[ComponentOptions], JointSlot("fusion")] = Field(
            default="attention", validate_default=True
        )
        """The feature-level fusion of the joint branch: a name, or a mapping with its options."""

        def at_size(self, size: Size) -> Self:
            sized = super().at_size(size)
            joint = sized.joint_fusion
            return sized.model_copy(
                update={"joint_fusion": joint.at_size(size)} if isinstance(joint, SizedModel) else {}
            )

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        if "joint" in inputs:
            raise RecipeError("", "the hybrid fusion reserves the name 'joint'; rename this input")
        self.joint: Fusion = build("fusion", options.joint_fusion, "joint_fusion", inputs=inputs, width=width)
        self.combiner = Combiner(options.combine, self.branch_names())

    @property
    def models_interactions(self) -> bool:
        return self.joint.models_interactions

    def branch_names(self) -> list[str]:
        return [*self.inputs, "joint"]

    def forward(self, tokens: dict[str, Tokens]) -> list[FusionOutput]:
        return [*(unimodal_output(name, tokens[name]) for name in self.inputs), *self.joint(tokens)]

    def penalties(self) -> dict[str, Tensor]:
        return self.joint.penalties()
