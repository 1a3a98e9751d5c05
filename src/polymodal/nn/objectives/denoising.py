"""Denoising of table cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.registry import register
from polymodal.nn.layers.named_modules import NamedModules
from polymodal.nn.objectives.base import InputInfo, ObjectiveBatch, ObjectiveLoss, own_items
from polymodal.nn.objectives.masking.baseline_losses import CrossEntropyWithBaseline
from polymodal.nn.objectives.masking.mask_units import Data, sample_mask
from polymodal.nn.objectives.masking.reconstruction import Reconstruction, ReconstructionOptions


@register
class Denoising(Reconstruction):
    """Denoising: cells are swapped for the cells of other rows, column by column, and the original values are predicted
    (Vincent et al., "Extracting and Composing Robust Features with Denoising Autoencoders", 2008, with the swap noise
    of Bahri et al., "SCARF: Self-Supervised Contrastive Learning using Random Feature Corruption", 2022). The encoder
    does not know which cells were swapped: each value is plausible on its own, but not with the other values of the
    row.

        L = mean_{c swapped} d(D(E(x'), c), x_c) ,   x'_c = x_c or, with probability `swap_ratio`, that of another row

    With `predict_swapped`, a second head predicts for every cell whether it was changed (Yoon et al., "VIME: Extending
    the Success of Self- and Semi-supervised Learning to Tabular Domain", 2020): an additional cross-entropy
    `<input>.changed`.
    """

    class Options(ReconstructionOptions):
        name: Literal["denoising"] = "denoising"
        swap_ratio: float = Field(default=0.3, gt=0, lt=1)
        """Fraction of the cells of a row that are swapped."""
        predict_swapped: bool = False
        """Also predict which cells were changed."""

    options: Options
    modalities: ClassVar[tuple[str, ...]] = ("number", "category")

    def __init__(self, options: Options, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        units = dict(self.units) if options.predict_swapped else {}
        self.swap_losses = NamedModules(
            {name: CrossEntropyWithBaseline(units.num_positions, 2) for name, units in units.items()}
        )
        self.swap_heads = NamedModules({name: nn.Linear(options.hidden_size, 2) for name in units})

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        terms = []
        for name, units in self.units.items():
            data = step.batch.inputs[name].data
            valid = units.valid_units(data)
            if len(valid) < 2:  # no other item to swap with; with several processes, another may have two
                corrupted, changed, queried = data, torch.zeros_like(valid), torch.zeros_like(valid)
            else:
                corrupted, changed = swap_cells(data, sample_mask(valid, self.options.swap_ratio))
                queried = valid if self.options.predict_swapped else changed
            own = own_items(step.batch.inputs[name], step.world).unsqueeze(1)
            changed, queried = changed & own, queried & own
            if not step.world.total(changed.sum()):
                continue
            decoded, item, position = self.decode_masked(step, name, corrupted, queried, valid)
            is_changed = changed[item, position]
            predicted, of, at = self.heads[name](decoded[is_changed]), item[is_changed], position[is_changed]
            terms.append(ObjectiveLoss(name, *units.loss(predicted, data, of, at, step.world)))
            if self.options.predict_swapped:
                swapped_logits = self.swap_heads[name](decoded).float()
                loss = self.swap_losses[name](swapped_logits, is_changed.long(), position, step.world)
                terms.append(ObjectiveLoss(f"{name}.changed", *loss))
        return terms


def swap_cells(data: Data, cells: Tensor) -> tuple[Data, Tensor]:
    """Swap `cells [items, columns]` for those of other rows, drawn for each cell. Returns the data, and which cells
    have a new value."""
    items = len(cells)
    steps = torch.randint(1, items, cells.shape).to(cells.device)
    other = (torch.arange(items, device=cells.device).unsqueeze(1) + steps) % items
    corrupted = {name: torch.where(cells, tensor.gather(0, other), tensor) for name, tensor in data.items()}
    differs = [corrupted[name] != tensor for name, tensor in data.items()]
    return corrupted, torch.stack(differs).any(0)
