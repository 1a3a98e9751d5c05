"""Are pictures prepared for a checkpoint exactly as its own processor does it, and how fast?

Data: fifty files of Debian's `tuxpaint-stamps-default` (GPL-2) and of `opencv-doc` (Apache-2.0), neither redistributed
here, drawn by a fixed seed from all PNG and JPEG files below some folders. Both sides begin with the bytes of a file
and end with the numbers that a network reads. Before anything is timed, they are compared picture by picture.

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
#: How much numbers may differ, as a share of the larger of 1 and the number.
WITHIN = 1e-6
#: Processors of transformers (its forms that work with PIL), and values that published checkpoints give them.
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


def geometry_of(processor: Any) -> ImagePreprocessing:
    """What its saved file says."""
    return ImagePreprocessing.from_config(json.loads(processor.to_json_string()), {})


def prepared_by(processor: Any, file: bytes) -> np.ndarray:
    """A file as the processor prepares it, `[3, height, width]` fp32; turned upright before, as `load_image` does."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    return np.asarray(processor(image, do_convert_rgb=True)["pixel_values"][0])


def prepared_here(geometry: ImagePreprocessing, file: bytes) -> tuple[np.ndarray, np.ndarray]:
    """A file as it is stored, `[height, width, 3]` uint8, and as a network reads it, `[3, height, width]` fp32."""
    pixels = decode(file, ImageRequest(0, "", geometry.without_normalization()), LimitOptions())["pixels"]
    return pixels, normalize_pixels(torch.from_numpy(pixels).permute(2, 0, 1)[None], geometry)[0].numpy()


def differences(processor: Any, files: list[bytes]) -> tuple[int, float]:
    """The largest difference of any pixel, in levels of 8 bits, and of any number, as a share of the larger of 1 and
    the number."""
    geometry = geometry_of(processor)
    std, mean = (np.array(one, np.float64)[:, None, None] for one in (geometry.std, geometry.mean))
    levels, share = 0, 0.0
    for file in files:
        wanted = prepared_by(processor, file)
        pixels, found = prepared_here(geometry, file)
        theirs = np.rint((wanted * std + mean) / geometry.rescale).astype(int)
        levels = max(levels, int(np.abs(theirs - pixels.transpose(2, 0, 1)).max()))
        share = max(share, float((np.abs(found - wanted) / np.maximum(1, np.abs(wanted))).max()))
    return levels, share


def real_files(folders: list[Path], count: int) -> list[bytes]:
    """Pictures below some folders, drawn by a fixed seed, half of them photographs (JPEG) where there are so many.

    Raises:
        SystemExit: there are too few.
    """
    draw = random.Random(0)
    photos, drawings = (
        [path for folder in folders for path in sorted(folder.rglob(pattern)) if path.is_file()]
        for pattern in ("*.jpg", "*.png")
    )
    draw.shuffle(photos)
    draw.shuffle(drawings)
    chosen = photos[: count // 2]
    chosen += drawings[: count - len(chosen)]
    if len(chosen) < count:
        raise SystemExit(f"there are only {len(chosen)} pictures (PNG, JPEG)")
    return [path.read_bytes() for path in chosen]


def run(folders: list[Path], smallest: bool) -> Record:
    """Pictures per second from the bytes of files to the numbers that a network reads."""
    record = Record(
        name="preprocessing",
        title="Pictures for pretrained checkpoints",
        method=(
            f"{FILES} real pictures (PNG and JPEG, from the bytes of their files) to the numbers that a network reads, "
            "on one thread, by each of several processors of transformers in their forms that work with PIL, picture "
            "by picture, and by Polymodal: decoded and brought to size one by one, numbers in batched torch. 'stored' "
            "is what every epoch but the first pays: 8-bit pixels are there already. The largest differences are those "
            "over all pictures."
        ),
        unit="pictures/s",
        larger_is_better=True,
    )
    files = real_files(folders, 4 if smallest else FILES)
    timed = ["DINOv2"] if smallest else ["ViT", "DINOv2", "CLIP", "ConvNeXt", "EfficientNet"]
    for name in PROCESSORS:
        levels, share = differences(reference(name), files)
        record.facts[f"largest difference, {name}"] = f"{levels} levels, {share:.1e} of the numbers"
        if levels or share > WITHIN:
            raise RuntimeError(f"{name}: pictures differ by {levels} levels, numbers by {share:g}")
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
    record.facts["pictures"] = len(files)
    return record


def _ours(name: str, files: list[bytes]) -> Callable[[], float]:
    geometry = geometry_of(reference(name))
    request, limits = ImageRequest(0, "", geometry.without_normalization()), LimitOptions()

    def measure() -> float:
        start = time.perf_counter()
        pixels = np.stack([decode(file, request, limits)["pixels"] for file in files])
        normalize_pixels(torch.from_numpy(pixels).permute(0, 3, 1, 2), geometry)
        return len(files) / (time.perf_counter() - start)

    return measure


def _stored(name: str, files: list[bytes]) -> Callable[[], float]:
    geometry = geometry_of(reference(name))
    images = [geometry.apply(decode_image(file, LimitOptions())) for file in files]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)

    def measure() -> float:
        start = time.perf_counter()
        normalize_pixels(pixels, geometry)
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
