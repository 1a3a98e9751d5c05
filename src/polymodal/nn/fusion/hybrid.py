"""Hybrid fusion: late fusion with one more expert that sees all inputs together."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SerializeAsAny
from torch import Tensor

from polymodal.core.errors import RecipeError
from polymodal.core.options import Options as ComponentOptions
from polymodal.core.options import Size, Sized
from polymodal.core.registry import build, components, register
from polymodal.core.types import Tokens, View
from polymodal.nn.fusion.base import Fusion, FusionOptions
from polymodal.nn.fusion.combiner import Combine, Combiner
from polymodal.nn.fusion.late import DecisionFusion, input_view
from polymodal.recipe.slots import Slot


class JointSlot(Slot):
    """The feature-level fusions: those that give one joint view."""

    def _known(self) -> dict[str, type[ComponentOptions]]:
        found = components("fusion").items()
        return {name: fusion.Options for name, fusion in found if fusion.level == "feature"}


@register
class Hybrid(DecisionFusion):
    """A decoder for each input and one for their fusion; all these decisions are combined as in `late`.

    The joint view learns interactions, the single views keep each encoder useful by itself and decide rows in
    which other inputs are missing. Missing inputs are left out of the decision; the joint view counts in each
    row with any input and treats missing ones as its method does. Atrey et al., "Multimodal Fusion for
    Multimedia Analysis: A Survey", 2010.

    Raises:
        RecipeError: an input is called "joint".
    """

    class Options(FusionOptions):
        name: Literal["hybrid"] = "hybrid"
        combine: Combine = "average"
        """How the views are combined, as in `late`."""
        joint: Annotated[SerializeAsAny[ComponentOptions], JointSlot("fusion")] = Field(
            default="attention", validate_default=True
        )
        """The feature-level fusion of the joint view: a name, or a mapping with its options."""

        def at_size(self, size: Size) -> Self:
            sized = super().at_size(size)
            joint = sized.joint
            return sized.model_copy(update={"joint": joint.at_size(size)} if isinstance(joint, Sized) else {})

    def __init__(self, options: Options, *, inputs: list[str], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        if "joint" in inputs:
            raise RecipeError("", "the hybrid fusion has a view named joint; rename the input of that name")
        self.joint: Fusion = build("fusion", options.joint, "joint", inputs=inputs, width=width)
        self.combiner = Combiner(options.combine, self.view_names())

    @property
    def interacts(self) -> bool:
        return self.joint.interacts

    def view_names(self) -> list[str]:
        return [*self.inputs, "joint"]

    def forward(self, tokens: dict[str, Tokens]) -> list[View]:
        return [*(input_view(name, tokens[name]) for name in self.inputs), *self.joint(tokens)]

    def penalties(self) -> dict[str, Tensor]:
        return self.joint.penalties()
