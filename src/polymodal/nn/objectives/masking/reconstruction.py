"""Base class of objectives that corrupt an input and reconstruct it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.options import sized_field
from polymodal.core.types import InputBatch, Tokens
from polymodal.nn.layers.named_modules import NamedModules
from polymodal.nn.objectives.base import InputInfo, Objective, ObjectiveBatch, ObjectiveOptions
from polymodal.nn.objectives.masking.audio_patches import AudioPatches
from polymodal.nn.objectives.masking.decoder import PositionQueryDecoder
from polymodal.nn.objectives.masking.image_patches import ImagePatches, VideoTubes
from polymodal.nn.objectives.masking.mask_units import Data, MaskUnits
from polymodal.nn.objectives.masking.series_patches import SeriesPatches
from polymodal.nn.objectives.masking.table_cells import CategoryCells, DatetimeCells, NumberCells
from polymodal.nn.objectives.masking.text_tokens import TextTokens


class ReconstructionOptions(ObjectiveOptions):
    """Options of all reconstruction objectives."""

    num_layers: int = sized_field(1, 2, 4, ge=1, le=24)
    """Number of layers of the decoder. A small decoder leaves the work to the encoder."""
    hidden_size: int = sized_field(64, 128, 256, ge=4)
    """Hidden size of the decoder."""


class Reconstruction(Objective):
    """Base class of objectives that corrupt the prepared tensors of an input, encode them with its tower, and
    reconstruct the original with a light decoder (`PositionQueryDecoder`) and one linear layer.

    Frozen encoders would not be trained by such a loss. They are left out by default.

    Raises:
        RecipeError: an input with a frozen encoder is listed, or all encoders are frozen.
    """

    options: ReconstructionOptions
    #: Whether the decoder of an input also reads the tokens of the other inputs.
    reads_other_inputs: ClassVar[bool] = False

    def __init__(self, options: ReconstructionOptions, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.reconstructed_inputs = self._reconstructed_inputs(inputs)
        self.units = NamedModules(
            {
                name: build_mask_units(inputs[name], getattr(options, "patch_size", None))
                for name in self.reconstructed_inputs
            }
        )
        others = len(self.inputs) - 1 if self.reads_other_inputs else 0
        self.decoders = NamedModules(
            {
                name: PositionQueryDecoder(
                    units.coordinates, tokens=width, width=options.hidden_size, layers=options.num_layers, others=others
                )
                for name, units in self.units.items()
            }
        )
        self.heads = NamedModules(
            {name: nn.Linear(options.hidden_size, units.unit_size) for name, units in self.units.items()}
        )

    def _reconstructed_inputs(self, inputs: Mapping[str, InputInfo]) -> list[str]:
        """Inputs that are corrupted and reconstructed."""
        if self.reads_other_inputs and any(_is_trainable(inputs[name].encoder) for name in self.inputs):
            return self.inputs
        frozen = [name for name in self.inputs if not _is_trainable(inputs[name].encoder)]
        if frozen and (self.options.inputs or len(frozen) == len(self.inputs)):
            raise RecipeError(
                "inputs",
                f"the encoder of {frozen[0]!r} is frozen, so this objective would not train it; unfreeze a part of it "
                f"(inputs.{frozen[0]}.encoder.fine_tuning), or remove the input from this objective",
            )
        return [name for name in self.inputs if name not in frozen]

    @property
    def raw_inputs(self) -> list[str]:
        return self.reconstructed_inputs

    def encode_corrupted(self, step: ObjectiveBatch, name: str, corrupted: Data, rows: Tensor | None) -> Tokens:
        """Tokens of the corrupted items of an input: of each item, or of the `rows` of the batch.

        Raises:
            RecipeError: every encoder that this loss would train is frozen.
        """
        sources = self.inputs if self.reads_other_inputs else [name]
        if self.training and not any(_is_trainable(step.network.towers[source].encoder) for source in sources):
            raise RecipeError(
                "training.param_groups",
                f"inputs.{name} is frozen, but it is the only encoder that this objective would train",
            )
        first = next(iter(corrupted.values()))
        index = torch.arange(len(first), device=first.device) if rows is None else step.batch.inputs[name].index[rows]
        present = torch.ones(len(index), dtype=torch.bool, device=index.device)
        tokens: Tokens
        tokens, _ = step.network.towers[name](InputBatch(corrupted, index, present))
        return tokens

    def decode_masked(
        self, step: ObjectiveBatch, name: str, corrupted: Data, queried: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode the parts `queried [items, positions]`. Returns `[n, width]` with the item `[n]` and the position
        `[n]` of each. If other inputs are read, an item is decoded once for each row that has it.

        With several processes, one may have nothing to decode. It encodes nevertheless, as the others do."""
        units, decoder = self.units[name], self.decoders[name]
        rows = step.batch.inputs[name].present.nonzero()[:, 0] if self.reads_other_inputs else None
        own = self.encode_corrupted(step, name, corrupted, rows)
        others = []
        if rows is not None:
            queried, valid = (each[step.batch.inputs[name].index[rows]] for each in (queried, valid))
            others = [_select_rows(step.tokens[other], rows) for other in self.inputs if other != name]
        if not bool(queried.any()):
            none = queried.nonzero()[:, 0]
            width = self.options.hidden_size
            return own.features.new_zeros(0, width) + 0 * own.features.sum(), none, none
        longest = int(queried.sum(1).max())
        position = queried.int().argsort(dim=1, descending=True, stable=True)[:, :longest]
        is_queried = queried.gather(1, position)
        decoded = decoder(units.coordinates[position], own, units.token_coordinates(own.mask, valid), others)
        row = is_queried.nonzero()[:, 0]
        item = row if rows is None else step.batch.inputs[name].index[rows][row]
        return decoded[is_queried], item, position[is_queried]


def _is_trainable(encoder: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in encoder.parameters())


def _select_rows(tokens: Tokens, rows: Tensor) -> Tokens:
    return replace(
        tokens, features=tokens.features[rows], mask=tokens.mask[rows], present=tokens.present[rows], times=None
    )


def build_mask_units(info: InputInfo, patch: int | None) -> MaskUnits:
    """Mask units of an input.

    patch: size of a part in pixels, frames of the spectrogram, or steps; None: the default of the modality
    """
    makers: dict[str, Any] = {
        "image": lambda: ImagePatches(info.shape, patch),
        "video": lambda: VideoTubes(info.shape, patch),
        "audio": lambda: AudioPatches(info.shape, patch, info.encoder),
        "time_series": lambda: SeriesPatches(info.shape, patch),
        "text": lambda: TextTokens(info.shape),
        "number": lambda: NumberCells(info.shape),
        "category": lambda: CategoryCells(info.shape),
        "datetime": lambda: DatetimeCells(info.shape),
    }
    units: MaskUnits = makers[info.modality]()
    return units
