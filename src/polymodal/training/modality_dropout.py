"""Modality dropout: inputs are hidden at random in training, so that the model learns to do without."""

from __future__ import annotations

import torch
from torch import Tensor

from polymodal.core.types import Batch


def apply_modality_dropout(batch: Batch, chance: float) -> dict[str, Tensor]:
    """Modality dropout: which inputs to hide in which rows, drawn from torch's global generator.

    A row keeps at least one of the inputs that it has.
    """
    names = list(batch.inputs)
    if chance == 0 or len(names) < 2:
        return {}
    present = torch.stack([batch.inputs[name].present for name in names], dim=1)
    hidden = (torch.rand(present.shape, device=present.device) < chance) & present
    emptied = (hidden == present).all(1)
    if bool(emptied.any()):
        kept = torch.where(present, torch.rand(present.shape, device=present.device), -1.0).argmax(1)
        hidden[emptied] &= torch.arange(len(names), device=present.device) != kept[emptied].unsqueeze(1)
    return {name: hidden[:, place] for place, name in enumerate(names)}
