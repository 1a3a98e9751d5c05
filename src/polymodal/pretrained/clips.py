"""What a checkpoint says of clips: how many frames its network reads, and how each is prepared."""

from __future__ import annotations

from typing import Any

from polymodal.core.errors import RecipeError
from polymodal.data.media.image_geometry import Geometry
from polymodal.pretrained.card import Card
from polymodal.pretrained.source import read_card

#: Stands before the name of a checkpoint that reads single images, and here the frames of a clip one by one.
OF_IMAGES = "image:"
#: What video processors say of choosing frames, which is left to the modality.
_OF_SAMPLING = ("do_sample_frames", "fps", "num_frames", "return_metadata", "video_metadata")
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def clip_card(checkpoint: str) -> Card:
    """The card of a checkpoint that reads clips, or, behind `image:`, images.

    Raises:
        RecipeError: there is none of that name, or it cannot be reached.
        MissingExtraError: it needs an optional package.
    """
    modality = "image" if checkpoint.startswith(OF_IMAGES) else "video"
    try:
        return read_card(checkpoint.removeprefix(OF_IMAGES), modality)
    except RecipeError as error:
        raise error.under("checkpoint") from None


def clip_frames(checkpoint: str, card: Card) -> int | None:
    """The frames that its network reads of each clip; None where it reads them one by one.

    Raises:
        RecipeError: its files do not say.
    """
    if checkpoint.startswith(OF_IMAGES):
        return None
    frames = card.config.get("num_frames", card.config.get("frames_per_clip"))
    if not isinstance(frames, int):
        raise RecipeError(
            "checkpoint",
            f"the config.json of {card.model!r} has no num_frames or frames_per_clip, so its network reads no clips; "
            "one that reads images can read their frames: encoder clip, with frames: pretrained_image",
        )
    return frames


def clip_geometry(card: Card) -> Geometry:
    """How each frame is prepared.

    V-JEPA 2's processor resizes by torchvision; Pillow's same filter gives pixels at most two levels apart, nearly all
    within one.

    Raises:
        RecipeError: its files do not say, or ask for what is not known here.
    """
    said = dict(card.files.get("video_preprocessor_config", card.preprocessor))
    for key in _OF_SAMPLING:
        said.pop(key, None)
    if str(said.get("video_processor_type", "")).startswith("VJEPA2"):
        said = _of_vjepa(said)
    try:
        return Geometry.of(said, card.config)
    except RecipeError as error:
        raise error.under("checkpoint") from None


def _of_vjepa(said: dict[str, Any]) -> dict[str, Any]:
    """The same as VideoMAE's processor would say it; V-JEPA's takes the shorter side from the crop, whatever `size`
    says."""
    crop = said.get("crop_size", 256)
    side = crop["height"] if isinstance(crop, dict) else crop
    size = {"shortest_edge": int(side * 256 / 224)}
    return {**_IMAGENET, **said, "size": size, "crop_size": crop, "image_processor_type": "VideoMAEImageProcessor"}
