"""Modality dropout: hides inputs at random during training, so that the model handles missing inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from polymodal.core.types import Batch
from polymodal.runtime.host_reads import can_read


def apply_modality_dropout(batch: Batch, probability: float) -> dict[str, Tensor]:
    """A mask `[batch]` of hidden rows by input, drawn from torch's global generator.

    Each row keeps at least one of its present inputs.
    """
    names = list(batch.inputs)
    if probability == 0 or len(names) < 2:
        return {}
    present = torch.stack([batch.inputs[name].present for name in names], dim=1)
    hidden = (torch.rand(present.shape, device=present.device) < probability) & present
    emptied = (hidden == present).all(1)
    if not can_read(emptied) or bool(emptied.any()):
        kept = torch.where(present, torch.rand(present.shape, device=present.device), -1.0).argmax(1)
        others = torch.arange(len(names), device=present.device) != kept.unsqueeze(1)
        hidden &= others | ~emptied.unsqueeze(1)
    return {name: hidden[:, index] for index, name in enumerate(names)}
