"""Masked multimodal modeling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.registry import register
from polymodal.nn.objectives.base import InputInfo
from polymodal.nn.objectives.masked_modeling import MaskedModeling, MaskedModelingOptions


@register
class MaskedMultimodalModeling(MaskedModeling):
    """A fraction of the parts of one input is masked and predicted from the rest and from the other inputs of the row
    (Chen et al., "UNITER: UNiversal Image-TExt Representation Learning", 2020, masks one modality at a time; Bachmann
    et al., "MultiMAE: Multi-modal Multi-task Masked Autoencoders", 2022).

        L = mean_{p masked} d(D([E(x without masked parts); E'(x'); ..], p), x_p)

    With `mask_ratio: 1` the whole input is masked: each input is predicted only from the others. A missing input
    contributes no tokens.
    """

    class Options(MaskedModelingOptions):
        name: Literal["masked_multimodal_modeling"] = "masked_multimodal_modeling"
        predicted_inputs: list[str] = []
        """Inputs that are masked and predicted. Default: all. The other inputs are only read."""

        @property
        def referenced_inputs(self) -> list[tuple[str, str]]:
            return [("predicted_inputs", name) for name in self.predicted_inputs]

    options: Options
    min_inputs: ClassVar[int] = 2
    reads_other_inputs = True

    def _reconstructed_inputs(self, inputs: Mapping[str, InputInfo]) -> list[str]:
        for name in self.options.predicted_inputs:
            if name not in self.inputs:
                raise RecipeError(
                    "predicted_inputs", f"{name!r} is not an input of this objective; {did_you_mean(name, self.inputs)}"
                )
        return [
            name
            for name in super()._reconstructed_inputs(inputs)
            if not self.options.predicted_inputs or name in self.options.predicted_inputs
        ]
