"""The parts of the rows of a block in one input."""

from __future__ import annotations

import numpy as np

from polymodal.core.errors import RecipeError
from polymodal.data.store.items import PreparedInput
from polymodal.data.table.block import RowBlock
from polymodal.explanation.parts.base import Parts
from polymodal.explanation.parts.cells import ColumnParts, word_parts
from polymodal.explanation.parts.media import RegionParts, SeriesParts, SoundParts
from polymodal.modalities.audio import Audio
from polymodal.modalities.base import Modality
from polymodal.modalities.category import Category
from polymodal.modalities.datetime import Datetime
from polymodal.modalities.image import Image
from polymodal.modalities.number import Number
from polymodal.modalities.text import Text
from polymodal.modalities.time_series import TimeSeries


def make_parts(name: str, modality: Modality, block: RowBlock, prepared: PreparedInput) -> list[Parts | None]:
    """The parts of each row of a block; None where the row lacks the input.

    Raises:
        RecipeError: items of this modality have no parts.
    """
    return [_parts(name, modality, block, prepared, row) for row in range(len(block))]


def _parts(name: str, modality: Modality, block: RowBlock, prepared: PreparedInput, row: int) -> Parts | None:
    if prepared.index[row] < 0:
        return None
    if isinstance(modality, Number | Category | Datetime):
        return ColumnParts(modality, {column: _cell(block, column, row) for column in modality.columns})
    if isinstance(modality, Text):
        return word_parts(modality, _cell(block, modality.column, row))
    if not isinstance(modality, Image | Audio | TimeSeries):
        raise RecipeError("input", f"{name!r} is {type(modality).__name__.lower()}, whose items have no parts yet")
    taken = prepared.items.take(prepared.index[[row]])
    length = int(taken.pop("length")[0]) if "length" in taken else None
    item = {key: array[0][:length] for key, array in taken.items()}
    found = _media_parts(modality, item)
    found.preview = modality.preview(item)
    return found


def _media_parts(modality: Image | Audio | TimeSeries, item: dict[str, np.ndarray]) -> Parts:
    if isinstance(modality, Image):
        return RegionParts(item["pixels"])
    if isinstance(modality, Audio):
        return SoundParts(item["values"], modality.options.sampling_rate)
    named = modality.options.channels
    channels = named if isinstance(named, list) else [f"channel {at}" for at in range(modality.channels)]
    return SeriesParts(item["values"], item["times"], channels)


def _cell(block: RowBlock, column: str, row: int) -> object:
    values = block.columns[column]
    return values[row].as_py() if hasattr(values[row], "as_py") else values[row]
