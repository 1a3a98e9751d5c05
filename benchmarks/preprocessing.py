"""Preprocessing of images for a checkpoint: equality with its own processor, and speed.

Data: fifty files of Debian's `tuxpaint-stamps-default` (GPL-2) and of `opencv-doc` (Apache-2.0), neither redistributed
here, drawn with a fixed seed from all PNG and JPEG files in the given folders. Both sides start from the bytes of a
file and end with the input of a network. They are compared image by image before the timing.

    python -m benchmarks.preprocessing [--smallest] FOLDER ...      # FOLDER: an unpacked package
"""

from __future__ import annotations

import io
import json
import random
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from benchmarks.measure import interleaved
from benchmarks.record import RECORDS, Record, run_study
from polymodal.data.media.image import ImageRequest, decode, decode_image
from polymodal.data.media.image_preprocessing import ImagePreprocessing
from polymodal.nn.encoders.pretrained_image import normalize_pixels
from polymodal.recipe.data import LimitOptions
from polymodal.runtime.compute import ComputeConfig

FILES, ROUNDS = 50, 5
#: Largest difference of numbers, relative to the larger of 1 and the number.
TOLERANCE = 1e-6
#: Processors of transformers (their PIL versions), and their options in published checkpoints.
PROCESSORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ViT": ("vit", "ViT", {}),
    "ViT, 384": ("vit", "ViT", {"size": {"height": 384, "width": 384}}),
    "Swin": ("vit", "ViT", {"resample": 3, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}),
    "DeiT": ("deit", "DeiT", {}),
    "BEiT": ("beit", "Beit", {"resample": 2}),
    "DINOv2": ("bit", "Bit", {"size": {"shortest_edge": 256}, "image_mean": [0.485, 0.456, 0.406]}),
    "CLIP": ("clip", "CLIP", {}),
    "SigLIP": ("siglip", "Siglip", {}),
    "ConvNeXt": ("convnext", "ConvNext", {"size": {"shortest_edge": 224}}),
    "ConvNeXt, 384": ("convnext", "ConvNext", {}),
    "EfficientNet": ("efficientnet", "EfficientNet", {}),
    "EfficientNet, offset": (
        "efficientnet",
        "EfficientNet",
        {"rescale_offset": True, "rescale_factor": 1 / 127.5, "do_center_crop": True, "resample": 0},
    ),
    "MobileNetV2": ("mobilenet_v2", "MobileNetV2", {}),
}


def reference(name: str) -> Any:
    """A processor of transformers."""
    folder, start, values = PROCESSORS[name]
    module = import_module(f"transformers.models.{folder}.image_processing_pil_{folder}")
    return getattr(module, f"{start}ImageProcessorPil")(**values)


def preprocessing_of(processor: Any) -> ImagePreprocessing:
    """The preprocessing of its configuration file."""
    return ImagePreprocessing.from_config(json.loads(processor.to_json_string()), {})


def prepared_by(processor: Any, file: bytes) -> np.ndarray:
    """A file as prepared by the processor, `[3, height, width]` fp32; rotated upright before, as by `load_image`."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    return np.asarray(processor(image, do_convert_rgb=True)["pixel_values"][0])


def prepared_here(preprocessing: ImagePreprocessing, file: bytes) -> tuple[np.ndarray, np.ndarray]:
    """A file as it is stored, `[height, width, 3]` uint8, and as a network reads it, `[3, height, width]` fp32."""
    pixels = decode(file, ImageRequest(0, "", preprocessing.without_normalization()), LimitOptions())["pixels"]
    return pixels, normalize_pixels(torch.from_numpy(pixels).permute(2, 0, 1)[None], preprocessing)[0].numpy()


def differences(processor: Any, files: list[bytes]) -> tuple[int, float]:
    """The largest difference of any pixel, in levels of 8 bits, and of any number, relative to the larger of 1 and the
    number."""
    preprocessing = preprocessing_of(processor)
    std, mean = (np.array(one, np.float64)[:, None, None] for one in (preprocessing.std, preprocessing.mean))
    levels, relative = 0, 0.0
    for file in files:
        expected = prepared_by(processor, file)
        pixels, ours = prepared_here(preprocessing, file)
        theirs = np.rint((expected * std + mean) / preprocessing.rescale).astype(int)
        levels = max(levels, int(np.abs(theirs - pixels.transpose(2, 0, 1)).max()))
        relative = max(relative, float((np.abs(ours - expected) / np.maximum(1, np.abs(expected))).max()))
    return levels, relative


def real_files(folders: list[Path], count: int) -> list[bytes]:
    """Images in the given folders, drawn with a fixed seed, half of them photographs (JPEG) if there are enough.

    Raises:
        SystemExit: there are too few images.
    """
    rng = random.Random(0)
    photos, drawings = (
        [path for folder in folders for path in sorted(folder.rglob(pattern)) if path.is_file()]
        for pattern in ("*.jpg", "*.png")
    )
    rng.shuffle(photos)
    rng.shuffle(drawings)
    chosen = photos[: count // 2]
    chosen += drawings[: count - len(chosen)]
    if len(chosen) < count:
        raise SystemExit(f"there are only {len(chosen)} images (PNG, JPEG)")
    return [path.read_bytes() for path in chosen]


def run(folders: list[Path], smallest: bool) -> Record:
    """Images per second from the bytes of files to the input of a network."""
    record = Record(
        name="preprocessing",
        title="Images for pretrained checkpoints",
        method=(
            f"{FILES} real images (PNG and JPEG), from the bytes of their files to the input of a network, on one "
            "thread. Several processors of transformers (PIL versions) prepare image by image. Polymodal decodes and "
            "resizes one by one, and normalizes in batched torch. 'stored' is the cost of every epoch but the first: "
            "the 8-bit pixels are in the store. The largest differences are those over all images."
        ),
        unit="images/s",
        larger_is_better=True,
    )
    files = real_files(folders, 4 if smallest else FILES)
    timed = ["DINOv2"] if smallest else ["ViT", "DINOv2", "CLIP", "ConvNeXt", "EfficientNet"]
    for name in PROCESSORS:
        levels, relative = differences(reference(name), files)
        record.facts[f"largest difference, {name}"] = f"{levels} levels, {relative:.1e} relative"
        if levels or relative > TOLERANCE:
            raise RuntimeError(f"{name}: pixels differ by {levels} levels, numbers by {relative:g}")
    contestants: dict[str, Callable[[], float]] = {}
    for name in timed:
        contestants |= {
            f"{name}, Polymodal": _ours(name, files),
            f"{name}, stored": _stored(name, files),
            f"{name}, transformers": _theirs(name, files),
        }
    with ComputeConfig("fp32", 1).active():
        interleaved(record, contestants, 1 if smallest else ROUNDS, warm=0 if smallest else 1)
    for name in timed:
        record.compare(f"{name}, Polymodal", f"{name}, transformers")
        record.compare(f"{name}, stored", f"{name}, transformers")
    record.facts["images"] = len(files)
    return record


def _ours(name: str, files: list[bytes]) -> Callable[[], float]:
    preprocessing = preprocessing_of(reference(name))
    request, limits = ImageRequest(0, "", preprocessing.without_normalization()), LimitOptions()

    def measure() -> float:
        start = time.perf_counter()
        pixels = np.stack([decode(file, request, limits)["pixels"] for file in files])
        normalize_pixels(torch.from_numpy(pixels).permute(0, 3, 1, 2), preprocessing)
        return len(files) / (time.perf_counter() - start)

    return measure


def _stored(name: str, files: list[bytes]) -> Callable[[], float]:
    preprocessing = preprocessing_of(reference(name))
    images = [preprocessing.apply(decode_image(file, LimitOptions())) for file in files]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)

    def measure() -> float:
        start = time.perf_counter()
        normalize_pixels(pixels, preprocessing)
        return len(files) / (time.perf_counter() - start)

    return measure


def _theirs(name: str, files: list[bytes]) -> Callable[[], float]:
    processor = reference(name)

    def measure() -> float:
        start = time.perf_counter()
        np.stack([prepared_by(processor, file) for file in files])
        return len(files) / (time.perf_counter() - start)

    return measure


def main() -> None:
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    smallest = "--smallest" in sys.argv
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("--")]
    if not folders:
        raise SystemExit(__doc__)
    run_study(run, folders, smallest, smallest=smallest, folder=None if smallest else RECORDS)


if __name__ == "__main__":
    main()
