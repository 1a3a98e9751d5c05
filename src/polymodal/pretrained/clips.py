"""What a checkpoint says of clips: how many frames its network reads, and how each is prepared."""

from __future__ import annotations

from polymodal.errors import RecipeError
from polymodal.pretrained.card import Card
from polymodal.pretrained.image_geometry import Geometry
from polymodal.pretrained.source import read_card

#: Stands before the name of a checkpoint that reads single images, and here the frames of a clip one by one.
OF_IMAGES = "image:"


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
    frames = card.config.get("num_frames")
    if not isinstance(frames, int):
        raise RecipeError(
            "checkpoint",
            f"the config.json of {card.model!r} has no num_frames, so its network reads no clips; one that reads "
            "images can read their frames: encoder clip, with frames: pretrained_image",
        )
    return frames


def clip_geometry(card: Card) -> Geometry:
    """How each frame is prepared.

    Raises:
        RecipeError: its files do not say, or ask for what is not known here.
    """
    try:
        return Geometry.of(card.preprocessor, card.config)
    except RecipeError as error:
        raise error.under("checkpoint") from None
