"""Masked multimodal modelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.registry import register
from polymodal.nn.objectives.base import InputInfo
from polymodal.nn.objectives.masked_modeling import MaskedModeling, MaskedModelingOptions


@register
class MaskedMultimodalModeling(MaskedModeling):
    """A share of the parts of an item of one input is hidden, and told from the rest and from the other inputs of the
    row (Chen et al., "UNITER: UNiversal Image-TExt Representation Learning", 2020, masks one modality at a time so;
    Bachmann et al., "MultiMAE: Multi-modal Multi-task Masked Autoencoders", 2022).

        L = mean_{p hidden} d(D([E(x without hidden parts); E'(x'); ..], p), x_p)

    With `share: 1` nothing is left of the input itself: each is predicted from the others. Another input that the row
    lacks tells nothing.
    """

    class Options(MaskedModelingOptions):
        name: Literal["masked_multimodal"] = "masked_multimodal"
        told: list[str] = []
        """Those of the inputs of which parts are hidden and told; silent: all. The others are only read."""

        @property
        def named(self) -> list[tuple[str, str]]:
            return [("told", name) for name in self.told]

    options: Options
    min_inputs: ClassVar[int] = 2
    reads_other_inputs = True

    def _told(self, inputs: Mapping[str, InputInfo]) -> list[str]:
        for name in self.options.told:
            if name not in self.inputs:
                raise RecipeError("told", f"{name!r} is none of its inputs; {did_you_mean(name, self.inputs)}")
        return [name for name in super()._told(inputs) if not self.options.told or name in self.options.told]
