"""Video preprocessing of checkpoints: the number of frames and the geometry of each frame."""

from __future__ import annotations

from typing import Any

from polymodal.core.errors import RecipeError
from polymodal.data.media.image_preprocessing import ImagePreprocessing
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.resolve import read_checkpoint_config

#: Prefix of the name of an image checkpoint that is applied to each frame of a video.
IMAGE_PREFIX = "image:"
#: Keys of video processors for the selection of frames, which the video modality does itself.
_SAMPLING_KEYS = ("do_sample_frames", "fps", "num_frames", "return_metadata", "video_metadata")
_IMAGENET_STATS = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def video_checkpoint_config(name: str) -> CheckpointConfig:
    """The configuration of a video checkpoint, or of an image checkpoint with the prefix `image:`.

    Raises:
        RecipeError: there is no checkpoint of that name, or it is not available.
        MissingExtraError: it requires an optional package.
    """
    modality = "image" if name.startswith(IMAGE_PREFIX) else "video"
    try:
        return read_checkpoint_config(name.removeprefix(IMAGE_PREFIX), modality)
    except RecipeError as error:
        raise error.with_prefix("checkpoint") from None


def required_num_frames(name: str, checkpoint: CheckpointConfig) -> int | None:
    """The number of frames that the network reads; None for an image network, which reads each frame separately.

    Raises:
        RecipeError: the configuration does not contain it.
    """
    if name.startswith(IMAGE_PREFIX):
        return None
    frames = checkpoint.config.get("num_frames", checkpoint.config.get("frames_per_clip"))
    if not isinstance(frames, int):
        raise RecipeError(
            "checkpoint",
            f"the config.json of {checkpoint.name!r} has no num_frames or frames_per_clip, so it is not a video "
            "network; apply an image network to each frame with "
            "encoder: {name: frame_encoder, frame_encoder: pretrained_image}",
        )
    return frames


def frame_geometry(checkpoint: CheckpointConfig) -> ImagePreprocessing:
    """The geometry of each frame.

    The processor of V-JEPA 2 resizes with torchvision. The same filter of Pillow, used here, differs by at most two of
    256 levels per pixel, almost always by at most one.

    Raises:
        RecipeError: the configuration does not define it, or defines an unsupported operation.
    """
    values = dict(checkpoint.files.get("video_preprocessor_config", checkpoint.preprocessor))
    for key in _SAMPLING_KEYS:
        values.pop(key, None)
    if str(values.get("video_processor_type", "")).startswith("VJEPA2"):
        values = _from_vjepa(values)
    try:
        return ImagePreprocessing.from_config(values, checkpoint.config)
    except RecipeError as error:
        raise error.with_prefix("checkpoint") from None


def _from_vjepa(values: dict[str, Any]) -> dict[str, Any]:
    """The equivalent configuration of a VideoMAE processor. The processor of V-JEPA ignores `size` and derives the
    shorter side from the crop."""
    crop = values.get("crop_size", 256)
    side = crop["height"] if isinstance(crop, dict) else crop
    size = {"shortest_edge": int(side * 256 / 224)}
    return {
        **_IMAGENET_STATS,
        **values,
        "size": size,
        "crop_size": crop,
        "image_processor_type": "VideoMAEImageProcessor",
    }
