"""Objectives that damage an input and have what was there told from its tokens."""

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
from polymodal.nn.objectives.base import Objective, ObjectiveOptions, InputInfo, ObjectiveBatch
from polymodal.nn.objectives.masking.table_cells import CategoryCells, NumberCells
from polymodal.nn.objectives.masking.decoder import PositionQueryDecoder
from polymodal.nn.objectives.masking.mask_units import Data, MaskUnits
from polymodal.nn.objectives.masking.image_patches import ImagePatches, VideoTubes
from polymodal.nn.objectives.masking.audio_patches import AudioPatches
from polymodal.nn.objectives.masking.series_patches import SeriesPatches
from polymodal.nn.objectives.masking.text_tokens import TextTokens


class ReconstructionOptions(ObjectiveOptions):
    """Options of every reconstruction."""

    num_layers: int = sized_field(1, 2, 4, ge=1, le=24)
    """Layers of the decoder. What it cannot do, the encoder has to: it is kept small."""
    hidden_size: int = sized_field(64, 128, 256, ge=4)
    """Width of the decoder."""


class Reconstruction(Objective):
    """Base of the objectives that damage the prepared tensors of an input, encode it with its tower, and tell what was
    there before by a light decoder (`PositionQueryDecoder`) and one linear map.

    An encoder of which nothing learns would be taught nothing: silent `inputs` leave it out.

    Raises:
        RecipeError: an input is named whose encoder is frozen, or no other is left.
    """

    options: ReconstructionOptions
    #: Whether the decoder of an input reads the tokens of the others too.
    reads_other_inputs: ClassVar[bool] = False

    def __init__(self, options: ReconstructionOptions, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__(options, inputs=inputs, width=width)
        self.told = self._told(inputs)
        self.parts = NamedModules({name: build_mask_units(inputs[name], getattr(options, "patch", None)) for name in self.told})
        others = len(self.inputs) - 1 if self.reads_other_inputs else 0
        self.decoders = NamedModules(
            {
                name: PositionQueryDecoder(parts.at, tokens=width, width=options.hidden_size, layers=options.num_layers, others=others)
                for name, parts in self.parts.items()
            }
        )
        self.heads = NamedModules({name: nn.Linear(options.hidden_size, parts.size) for name, parts in self.parts.items()})

    def _told(self, inputs: Mapping[str, InputInfo]) -> list[str]:
        """The inputs that are damaged and told."""
        if self.reads_other_inputs and any(_learns(inputs[name].encoder) for name in self.inputs):
            return self.inputs
        frozen = [name for name in self.inputs if not _learns(inputs[name].encoder)]
        if frozen and (self.options.inputs or len(frozen) == len(self.inputs)):
            raise RecipeError(
                "inputs",
                f"the encoder of {frozen[0]!r} is frozen and would be taught nothing; let some of it learn "
                f"(inputs.{frozen[0]}.encoder.tune), or leave this input out",
            )
        return [name for name in self.inputs if name not in frozen]

    @property
    def raw_inputs(self) -> list[str]:
        return self.told

    def seen(self, step: ObjectiveBatch, name: str, damaged: Data, rows: Tensor | None) -> Tokens:
        """The tokens of damaged items of an input: of each item, or of the `rows` of the batch.

        Raises:
            RecipeError: the recipe freezes every encoder that would be taught.
        """
        read = self.inputs if self.reads_other_inputs else [name]
        if self.training and not any(_learns(step.network.towers[one].encoder) for one in read):
            raise RecipeError(
                "training.parts", f"inputs.{name} is frozen, and an objective that would teach it learns from it"
            )
        first = next(iter(damaged.values()))
        index = torch.arange(len(first), device=first.device) if rows is None else step.batch.inputs[name].index[rows]
        present = torch.ones(len(index), dtype=torch.bool, device=index.device)
        tokens: Tokens
        tokens, _ = step.network.towers[name](InputBatch(damaged, index, present))
        return tokens

    def tell(self, step: ObjectiveBatch, name: str, damaged: Data, asked: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the decoder says of the parts `asked [items, places]`: `[n, width]`, of the item `[n]` and the place
        `[n]` of each. Where other inputs are read, an item counts once for each row that has it."""
        parts, decoder = self.parts[name], self.decoders[name]
        rows = step.batch.inputs[name].present.nonzero()[:, 0] if self.reads_other_inputs else None
        own = self.seen(step, name, damaged, rows)
        others = []
        if rows is not None:
            asked, real = (each[step.batch.inputs[name].index[rows]] for each in (asked, real))
            others = [_some(step.tokens[other], rows) for other in self.inputs if other != name]
        most = int(asked.sum(1).max())
        place = asked.int().argsort(dim=1, descending=True, stable=True)[:, :most]
        valid = asked.gather(1, place)
        told = decoder(parts.at[place], own, parts.token_coordinates(own.mask, real), others)
        line = valid.nonzero()[:, 0]
        item = line if rows is None else step.batch.inputs[name].index[rows][line]
        return told[valid], item, place[valid]


def _learns(encoder: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in encoder.parameters())


def _some(tokens: Tokens, rows: Tensor) -> Tokens:
    return replace(
        tokens, features=tokens.features[rows], mask=tokens.mask[rows], present=tokens.present[rows], times=None
    )


def build_mask_units(reads: InputInfo, patch: int | None) -> MaskUnits:
    """What a masked objective must know of an input.

    patch: size of a part, in pixels, frames of the spectrogram, or steps; None: as the modality has it
    """
    makers: dict[str, Any] = {
        "image": lambda: ImagePatches(reads.shape, patch),
        "video": lambda: VideoTubes(reads.shape, patch),
        "audio": lambda: AudioPatches(reads.shape, patch, reads.encoder),
        "series": lambda: SeriesPatches(reads.shape, patch),
        "text": lambda: TextTokens(reads.shape),
        "number": lambda: NumberCells(reads.shape),
        "category": lambda: CategoryCells(reads.shape),
    }
    parts: MaskUnits = makers[reads.modality]()
    return parts
