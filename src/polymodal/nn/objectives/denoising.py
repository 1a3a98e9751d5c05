"""Denoising of tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.nn.layers.named_modules import NamedModules
from polymodal.nn.objectives.base import InputInfo, ObjectiveBatch, ObjectiveLoss
from polymodal.nn.objectives.masking.baseline_losses import CrossEntropyWithBaseline
from polymodal.nn.objectives.masking.mask_units import Data, draw
from polymodal.nn.objectives.masking.reconstruction import Reconstruction, ReconstructionOptions


@register
class Denoising(Reconstruction):
    """Cells are swapped for those of other rows, column by column, and what they held before is told (Vincent et al.,
    "Extracting and Composing Robust Features with Denoising Autoencoders", 2008, with the swap noise of Bahri et al.,
    "SCARF: Self-Supervised Contrastive Learning using Random Feature Corruption", 2022). Nothing tells which cells were
    swapped: each value is a usual one, and only beside the others of its row it is not.

        L = mean_{c swapped} d(D(E(x'), c), x_c) ,   x'_c = x_c or, with probability `share`, that of another row

    With `spot`, a second head tells which cells were changed, from all cells (Yoon et al., "VIME: Extending the Success
    of Self- and Semi-supervised Learning to Tabular Domain", 2020): the term `<input>.changed`, a cross-entropy.
    """

    class Options(ReconstructionOptions):
        name: Literal["denoise"] = "denoise"
        share: float = Field(default=0.3, gt=0, lt=1)
        """Share of a row's cells that are swapped."""
        spot: bool = False
        """Also tell which cells were changed."""

    options: Options
    modalities: ClassVar[tuple[str, ...]] = ("number", "category")

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        spotted = dict(self.parts) if options.spot else {}
        self.spots = NamedModules({name: CrossEntropyWithBaseline(parts.places, 2) for name, parts in spotted.items()})
        self.spot_heads = NamedModules({name: nn.Linear(options.hidden_size, 2) for name in spotted})

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        terms = []
        for name, parts in self.parts.items():
            data = step.batch.inputs[name].data
            real = parts.real(data)
            if len(real) < 2:
                continue
            damaged, changed = swap(data, draw(real, self.options.share))
            asked = real if self.options.spot else changed
            if not bool(changed.any()):
                continue
            told, item, place = self.tell(step, name, damaged, asked, real)
            was = changed[item, place]
            found = parts.compare(self.heads[name](told[was]), data, item[was], place[was])
            terms.append(ObjectiveLoss(name, *found))
            if self.options.spot:
                spotted = self.spot_heads[name](told).float()
                terms.append(ObjectiveLoss(f"{name}.changed", *self.spots[name](spotted, was.long(), place)))
        return terms


def swap(data: Data, cells: Tensor) -> tuple[Data, Tensor]:
    """The rows with these `cells [items, columns]` swapped for those of other rows, drawn at random for each cell, and
    the cells in which there now is something else than before."""
    items = len(cells)
    steps = torch.randint(1, items, cells.shape).to(cells.device)
    other = (torch.arange(items, device=cells.device).unsqueeze(1) + steps) % items
    damaged = {name: torch.where(cells, tensor.gather(0, other), tensor) for name, tensor in data.items()}
    differs = [damaged[name] != tensor for name, tensor in data.items()]
    return damaged, torch.stack(differs).any(0)
