"""Image preprocessing of a checkpoint, read from its `preprocessor_config.json`: resizing and normalization.

The reference is the PIL version of each processor of transformers: pixels are equal, and normalized values are equal
within rounding. There are two intended differences. Images are first rotated by their EXIF tag, which the processors
leave to the caller (`transformers.image_utils.load_image` rotates them too). DINOv3's processor resizes floats, and all
others resize 8-bit values; here all resize 8-bit values, a difference of at most one level.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from polymodal.core.errors import RecipeError

_HALF = (0.5, 0.5, 0.5)
_IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
_CLIP = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}
_SHARED = {
    "do_resize": True,
    "do_center_crop": False,
    "crop_size": 224,
    "size": {"height": 224, "width": 224},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": _HALF,
    "image_std": _HALF,
}
_CROPPED = {"size": {"shortest_edge": 224}, "do_center_crop": True}

#: Defaults of each processor in addition to `_SHARED`. Other processors are not supported.
PROCESSORS: dict[str, dict[str, Any]] = {
    "vit": {"resample": 2},
    "deit": {"size": {"height": 256, "width": 256}, "do_center_crop": True},
    "beit": {},
    "pvt": _IMAGENET,
    "siglip": {},
    "blip": {"size": {"height": 384, "width": 384}, **_CLIP},
    "clip": {**_CROPPED, **_CLIP},
    "chineseclip": {**_CROPPED, **_CLIP},
    "bit": {**_CROPPED, **_CLIP},
    "mobilenetv1": {**_CROPPED, "size": {"shortest_edge": 256}, "resample": 2},
    "mobilenetv2": {**_CROPPED, "size": {"shortest_edge": 256}, "resample": 2},
    "convnext": {"size": {"shortest_edge": 384}, "crop_pct": 224 / 256},
    "efficientnet": {
        "size": {"height": 346, "width": 346},
        "crop_size": 289,
        "offset": False,
        "include_top": True,
    },
    "dinov3vit": {"resample": 2, **_IMAGENET},
    "gemma3": {"resample": 2},
    "videomae": {**_CROPPED, "resample": 2},
    "vivit": {**_CROPPED, "size": {"shortest_edge": 256}, "resample": 2, "rescale_factor": 1 / 127.5, "offset": True},
}
#: Processors that read a `size` of one number as the shorter edge. The others make a square of this side.
_SHORTEST = {"clip", "chineseclip", "bit", "siglip", "mobilenetv1", "mobilenetv2", "convnext", "videomae", "vivit"}
#: The processor of each network whose file does not name one.
_OF_NETWORK = {
    "swin": "vit",
    "swinv2": "vit",
    "dinov2": "bit",
    "dinov2_with_registers": "bit",
    "dinov3_vit": "dinov3vit",
    "dinov3_convnext": "dinov3vit",
    "convnextv2": "convnext",
    "resnet": "convnext",
    "regnet": "convnext",
    "chinese_clip": "chineseclip",
    "mobilenet_v1": "mobilenetv1",
    "mobilenet_v2": "mobilenetv2",
}
#: Keys that never change pixels: names, defaults of other call signatures, options for labels or many frames.
_HARMLESS = {
    "_processor_class",
    "_valid_processor_keys",
    "auto_map",
    "data_format",
    "device",
    "disable_grouping",
    "do_convert_rgb",
    "do_reduce_labels",
    "feature_extractor_type",
    "image_processor_type",
    "image_seq_length",
    "input_data_format",
    "model_input_names",
    "pad_size",
    "pan_and_scan_max_num_crops",
    "pan_and_scan_min_crop_size",
    "pan_and_scan_min_ratio_to_activate",
    "processor_class",
    "reduce_labels",
    "return_tensors",
    "video_processor_type",
}
#: The largest image, in pixels, that is resized as a whole before the crop.
_WHOLE = 2**25


#: Key in `Image.info` of images that had transparency, which was replaced by white.
TRANSPARENT = "transparent"


def background_color(image: Image.Image) -> str:
    """The padding color of an image: white if it had transparency, else black."""
    return "white" if image.info.get(TRANSPARENT) is True else "black"


@dataclass(frozen=True)
class ImagePreprocessing:
    """Image preprocessing of one checkpoint. All fields are JSON-ready; `ImagePreprocessing(**values)` restores them.

    height, width: of a preprocessed image
    resample: the filter, as a Pillow number (2: bilinear, 3: bicubic), without a first, coarser step
    stretch_to: `(height, width)` that images are stretched to before any crop
    shortest_edge: target of the shorter side before the crop, with the aspect ratio kept. If this and `stretch_to` are
        None, images are not resized. Parts outside `height` and `width` are cropped equally on both sides, and missing
        parts are black.
    pad: instead of both, the longer side is resized to the target, and the rest is filled with `background_color`
    rescale, mean, std: normalized values are `(pixel * rescale - mean) / std`, with one mean and std per channel
    """

    height: int
    width: int
    resample: int
    stretch_to: tuple[int, int] | None = None
    shortest_edge: int | None = None
    pad: bool = False
    rescale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("stretch_to", "mean", "std"):  # lists after transport as JSON
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(value))

    @classmethod
    def from_config(cls, preprocessor: dict[str, Any], config: dict[str, Any]) -> ImagePreprocessing:
        """The preprocessing stated in the files of a checkpoint.

        preprocessor: its `preprocessor_config.json`
        config: its `config.json`, which names the processor if `preprocessor` does not

        Raises:
            RecipeError: the processor or one of its keys is not supported, or images would have several sizes.
        """
        kind = processor_name(preprocessor, config)
        given = {key: value for key, value in preprocessor.items() if value is not None}
        if "rescale_offset" in given:
            given["offset"] = given.pop("rescale_offset")
        known = {*_SHARED, *PROCESSORS[kind], *_HARMLESS, "default_to_square"}
        for key, value in given.items():
            if key not in known and value is not False:
                raise RecipeError("", f"its preprocessor_config.json has {key}: {value!r}, which is not supported")
        values = {**_SHARED, **PROCESSORS[kind], **given}
        if values["resample"] not in set(Image.Resampling):
            raise RecipeError("", f"its preprocessor_config.json has an unsupported resample: {values['resample']!r}")
        height, width, stretched, shortest = _sides(values, kind)
        rescale = float(values["rescale_factor"]) if values["do_rescale"] else 1.0
        mean, std = _normalization(values)
        found = cls(height, width, int(values["resample"]), stretched, shortest)
        return replace(found, rescale=rescale, mean=mean, std=std)

    @property
    def resize_mode(self) -> str:
        """How rectangular images are resized: `crop`, `stretch` or `pad`."""
        return "pad" if self.pad else "crop" if self.stretch_to is None else "stretch"

    def with_resize_mode(self, fit: str) -> ImagePreprocessing:
        """The same size, filter and normalization with another resize mode. The checkpoint's own mode returns this
        object unchanged."""
        if fit == self.resize_mode:
            return self
        own: dict[str, Any] = {"stretch_to": None, "shortest_edge": None, "pad": fit == "pad"}
        if fit == "stretch":
            own["stretch_to"] = (self.height, self.width)
        elif fit == "crop":
            own["shortest_edge"] = min(self.height, self.width)
        return replace(self, **own)

    def apply(self, image: Image.Image) -> np.ndarray:
        """An RGB image as `[height, width, 3]` uint8, before normalization.

        For images so elongated that the resized image would have more than 34 million pixels, only the kept part is
        resized, which is equal up to rounding (at most one level).
        """
        width, height = image.size
        wanted = (height, width)
        if self.pad:
            return self._padded(image)
        if self.stretch_to is not None:
            wanted = self.stretch_to
        elif self.shortest_edge is not None:
            longest = int(self.shortest_edge * max(width, height) / min(width, height))
            wanted = (longest, self.shortest_edge) if width <= height else (self.shortest_edge, longest)
        filtered = Image.Resampling(self.resample)
        left, top = (wanted[1] - self.width) // 2, (wanted[0] - self.height) // 2
        if wanted[0] * wanted[1] > _WHOLE and left >= 0 and top >= 0:
            across, down = width / wanted[1], height / wanted[0]
            box = (left * across, top * down, (left + self.width) * across, (top + self.height) * down)
            return np.array(image.resize((self.width, self.height), filtered, box=box))
        image = image.resize((wanted[1], wanted[0]), filtered)
        if wanted != (self.height, self.width):
            image = image.crop((left, top, left + self.width, top + self.height))
        return np.array(image)

    def _padded(self, image: Image.Image) -> np.ndarray:
        scale = min(self.width / image.width, self.height / image.height)
        inside = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        canvas = Image.new("RGB", (self.width, self.height), background_color(image))
        small = image.resize(inside, Image.Resampling(self.resample))
        canvas.paste(small, ((self.width - inside[0]) // 2, (self.height - inside[1]) // 2))
        return np.array(canvas)

    def without_normalization(self) -> ImagePreprocessing:
        """The same without normalization: everything that decoded pixels depend on."""
        return replace(self, rescale=1.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def processor_name(preprocessor: dict[str, Any], config: dict[str, Any]) -> str:
    """The key of `PROCESSORS` for a checkpoint's processor.

    Raises:
        RecipeError: the processor is not supported.
    """
    names = [preprocessor.get(f"{key}_type") for key in ("image_processor", "feature_extractor", "video_processor")]
    name = next((name for name in names if name), None)
    if name is None:
        network = str(config.get("model_type", ""))
        kind = _OF_NETWORK.get(network, network)
    else:
        kind = re.sub(r"(ImageProcessor|FeatureExtractor|VideoProcessor)(Fast|Pil)?$", "", name).lower()
    if kind not in PROCESSORS:
        raise RecipeError(
            "",
            f"its image processor, {name or 'which its files do not name'}, is not supported; "
            f"supported are the processors of {', '.join(PROCESSORS)}",
        )
    return kind


def _sides(values: dict[str, Any], kind: str) -> tuple[int, int, tuple[int, int] | None, int | None]:
    """Height and width of preprocessed images, the stretch target, and the shorter side before the crop."""
    size = _size(values["size"], "size", square=values.get("default_to_square", kind not in _SHORTEST))
    crop = _size(values["crop_size"], "crop_size", square=True) if values["do_center_crop"] else None
    final = None if crop is None else (crop["height"], crop["width"])
    stretched: tuple[int, int] | None = None
    shortest: int | None = None
    if values["do_resize"]:
        shortest = size.get("shortest_edge")
        stretched = None if shortest is not None else (size["height"], size["width"])
    if "crop_pct" in values and values["do_resize"]:
        if shortest is None or final is not None:
            raise _config_error("has a crop_pct together with a crop_size or a fixed size")
        if shortest < 384:
            final, shortest = (shortest, shortest), int(shortest / values["crop_pct"])
        else:
            stretched, shortest = (shortest, shortest), None
    final = final or stretched
    if final is None:
        raise RecipeError("", "its preprocessor_config.json gives images of any size: it has no crop_size")
    return *final, stretched, shortest


def _size(value: Any, key: str, *, square: bool) -> dict[str, int]:
    """A size as a dict: `height` and `width`, or only `shortest_edge`."""
    if isinstance(value, int):
        return {"height": value, "width": value} if square else {"shortest_edge": value}
    if isinstance(value, list | tuple) and len(value) == 2:
        return {"height": int(value[0]), "width": int(value[1])}
    found = {name: int(side) for name, side in value.items() if side} if isinstance(value, dict) else {}
    if found.keys() not in ({"height", "width"}, {"shortest_edge"}) or (key == "crop_size" and "height" not in found):
        raise _config_error(f"has an unsupported {key}: {value!r}")
    return found


def _normalization(values: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The combined mean and standard deviation of each channel after all steps."""
    mean, std = [0.0] * 3, [1.0] * 3
    given = [_three(values[key]) for key in ("image_mean", "image_std")]
    if values["do_normalize"]:
        mean, std = given
    if values["do_rescale"] and values.get("offset"):
        mean = [value + 1 for value in mean]
    if values.get("include_top"):
        std = [value * other for value, other in zip(std, given[1], strict=True)]
    return tuple(mean), tuple(std)


def _three(value: Any) -> list[float]:
    values = [float(value)] * 3 if isinstance(value, int | float) else [float(one) for one in value]
    if len(values) != 3:
        raise _config_error(f"is for images with {len(values)} channels, not 3")
    return values


def _config_error(problem: str) -> RecipeError:
    return RecipeError("", f"its preprocessor_config.json {problem}")
