"""Video preprocessing of checkpoints: the number of frames and the geometry of each frame."""

from __future__ import annotations

from typing import Any

from polymodal.core.errors import RecipeError
from polymodal.data.media.image_preprocessing import ImagePreprocessing
from polymodal.pretrained.checkpoint_config import Card
from polymodal.pretrained.resolve import read_card

#: Prefix of the name of an image checkpoint that is applied to each frame of a video.
OF_IMAGES = "image:"
#: Keys of video processors for the selection of frames, which the video modality does itself.
_OF_SAMPLING = ("do_sample_frames", "fps", "num_frames", "return_metadata", "video_metadata")
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def clip_card(checkpoint: str) -> Card:
    """The configuration of a video checkpoint, or of an image checkpoint with the prefix `image:`.

    Raises:
        RecipeError: there is no checkpoint of that name, or it is not available.
        MissingExtraError: it requires an optional package.
    """
    modality = "image" if checkpoint.startswith(OF_IMAGES) else "video"
    try:
        return read_card(checkpoint.removeprefix(OF_IMAGES), modality)
    except RecipeError as error:
        raise error.with_prefix("checkpoint") from None


def clip_frames(checkpoint: str, card: Card) -> int | None:
    """The number of frames that the network reads; None for an image network, which reads each frame separately.

    Raises:
        RecipeError: the configuration does not contain it.
    """
    if checkpoint.startswith(OF_IMAGES):
        return None
    frames = card.config.get("num_frames", card.config.get("frames_per_clip"))
    if not isinstance(frames, int):
        raise RecipeError(
            "checkpoint",
            f"the config.json of {card.model!r} has no num_frames or frames_per_clip, so it is not a video network; "
            "apply an image network to each frame with encoder: {name: frame_encoder, frame_encoder: pretrained_image}",
        )
    return frames


def clip_geometry(card: Card) -> ImagePreprocessing:
    """The geometry of each frame.

    The processor of V-JEPA 2 resizes with torchvision. The same filter of Pillow, used here, differs by at most two of
    256 levels per pixel, almost always by at most one.

    Raises:
        RecipeError: the configuration does not define it, or defines an unsupported operation.
    """
    said = dict(card.files.get("video_preprocessor_config", card.preprocessor))
    for key in _OF_SAMPLING:
        said.pop(key, None)
    if str(said.get("video_processor_type", "")).startswith("VJEPA2"):
        said = _of_vjepa(said)
    try:
        return ImagePreprocessing.from_config(said, card.config)
    except RecipeError as error:
        raise error.with_prefix("checkpoint") from None


def _of_vjepa(said: dict[str, Any]) -> dict[str, Any]:
    """The equivalent configuration of a VideoMAE processor. The processor of V-JEPA ignores `size` and derives the
    shorter side from the crop."""
    crop = said.get("crop_size", 256)
    side = crop["height"] if isinstance(crop, dict) else crop
    size = {"shortest_edge": int(side * 256 / 224)}
    return {**_IMAGENET, **said, "size": size, "crop_size": crop, "image_processor_type": "VideoMAEImageProcessor"}
