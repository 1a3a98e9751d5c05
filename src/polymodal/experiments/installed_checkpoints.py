"""Frozen checkpoints that are at hand, which members read beside their own features."""

from __future__ import annotations

import re
from collections.abc import Sequence

from polymodal.core.formatting import join_words
from polymodal.core.options import Options
from polymodal.core.registry import find
from polymodal.data.table.sample import ColumnSample
from polymodal.pretrained.starter.registry import STARTERS, installed
from polymodal.recipe.recipe import Recipe

#: Fraction of the letters of a text that must be Latin for an English checkpoint.
MIN_LATIN = 0.7
_LETTER = re.compile(r"[^\W\d_]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")


def installed_encoder(modality: str, recipe: Recipe, samples: Sequence[ColumnSample]) -> Options | None:
    """A frozen pretrained encoder for an input of a recipe with members, if its checkpoint is installed; else None.

    `quality: fast` uses none for texts and sounds, whose n-grams and statistics cost much less. English checkpoints
    read Latin letters only. Frames of a video are read by the checkpoint for images.
    """
    if recipe.quality is None or (modality in ("text", "audio") and recipe.quality == "fast"):
        return None
    if installed("image" if modality == "video" else modality) is None:
        return None
    if modality == "text" and not _is_latin(samples):
        return None
    frames = {"name": "pretrained_image", "checkpoint": "starter"}
    if modality == "video":
        video: Options = find("encoder", "frame_encoder").Options(frame_encoder=frames)
        return video
    encoder: Options = find("encoder", f"pretrained_{modality}").Options(checkpoint="starter")
    return encoder


def checkpoint_notes(recipe: Recipe) -> list[str]:
    """Which inputs read a frozen checkpoint, and which could if its extra were installed."""
    if recipe.quality is None:
        return []
    used = {
        name: spec.modality.name
        for name, spec in recipe.inputs.items()
        if spec.modality is not None and getattr(spec.encoder, "checkpoint", None) == "starter"
    }
    could = [
        name
        for name, spec in recipe.inputs.items()
        if spec.modality is not None
        and name not in used
        and any(one.modality == spec.modality.name for one in STARTERS.values())
        and installed(spec.modality.name) is None
    ]
    notes = [f"{join_words(list(used))}: read by frozen pretrained checkpoints (starter)"] if used else []
    if could:
        notes.append(
            f"{join_words(could)}: no pretrained checkpoint is installed; pip install 'polymodal[starter]', or in a "
            "clone pip install -e '.[starter]', often improves the scores"
        )
    return notes


def _is_latin(samples: Sequence[ColumnSample]) -> bool:
    text = " ".join(str(value)[:200] for sample in samples for value in sample.values[:500])
    letters = len(_LETTER.findall(text))
    return letters == 0 or len(_LATIN.findall(text)) >= MIN_LATIN * letters
