"""Images preprocessed for a checkpoint equal those of its own processor, pixel by pixel."""

from __future__ import annotations

import io
import json
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from polymodal.core.errors import RecipeError
from polymodal.data.media.image import ImageRequest, decode, layout
from polymodal.data.media.image_preprocessing import ImagePreprocessing
from polymodal.recipe.data import LimitOptions

pytest.importorskip("transformers", reason="the reference processors are those of transformers")

from benchmarks.preprocessing import PROCESSORS, TOLERANCE, differences, reference

MODES = ["RGB", "L", "RGBA", "P", "LA", "1", "CMYK", "PA"]
SIZES = [(1, 1), (3, 2), (17, 19), (224, 224), (256, 256), (301, 200), (255, 301), (400, 9), (7, 350), (160, 121)]


def scene(draw: np.random.Generator, width: int, height: int) -> Image.Image:
    """Shapes on a gradient, with some noise."""
    slope = draw.uniform(0, 255, (2, 2, 3)).astype(np.uint8)
    image = Image.fromarray(slope).resize((width, height), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        ends = draw.integers(0, [width, height], (2, 2))
        corners = [tuple(ends.min(0).tolist()), tuple(ends.max(0).tolist())]
        color = tuple(draw.integers(0, 256, 3).tolist())
        getattr(pen, draw.choice(["rectangle", "ellipse", "line"]))(corners, fill=color)
    noisy = np.asarray(image).astype(int) + draw.integers(-9, 10, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def in_mode(draw: np.random.Generator, image: Image.Image, mode: str) -> Image.Image:
    if mode in ("RGBA", "LA", "PA"):
        image.putalpha(Image.fromarray(draw.integers(0, 256, image.size[::-1], dtype=np.uint8)))
        return image.convert("RGBA").quantize(16) if mode == "PA" else image.convert(mode)
    return image.quantize(16) if mode == "P" else image.convert(mode)


def made_files(count: int = 50) -> list[bytes]:
    """Files of odd sizes and modes, turned by their EXIF tag or not, PNG, JPEG, WebP and TIFF."""
    draw, files = np.random.default_rng(7), []
    for number in range(count):
        mode = MODES[number % len(MODES)]
        image = in_mode(draw, scene(draw, *SIZES[number % len(SIZES)]), mode)
        kind = {"CMYK": "TIFF", "RGB": ["PNG", "JPEG", "WEBP"][number % 3], "L": ["PNG", "JPEG"][number % 2]}
        exif = Image.Exif()
        exif[0x0112] = 1 + number % 8
        file = io.BytesIO()
        image.save(file, kind.get(mode, "PNG"), exif=exif)
        files.append(file.getvalue())
    return files


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return made_files()


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_images_equal_those_of_the_processor(name: str, files: list[bytes]) -> None:
    levels, share = differences(reference(name), files)
    assert levels == 0
    assert share < TOLERANCE


#: Files as they were written by older versions, or by other makers.
ODD: list[tuple[str, str, dict[str, Any]]] = [
    ("clip", "CLIP", {"size": 40, "crop_size": 32, "feature_extractor_type": "CLIPFeatureExtractor"}),
    ("vit", "ViT", {"size": 33, "do_normalize": False}),
    ("vit", "ViT", {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": 31}),
    ("vit", "ViT", {"size": [20, 31], "resample": 1}),
    ("vit", "ViT", {"size": 20, "default_to_square": False, "do_center_crop": True, "crop_size": 50}),
    ("deit", "DeiT", {"do_resize": False, "crop_size": {"height": 40, "width": 61}}),
    ("beit", "Beit", {"size": 30, "do_reduce_labels": True, "do_rescale": False, "image_mean": [100, 90, 80]}),
    ("siglip", "Siglip", {"size": {"height": 37, "width": 21}, "do_convert_rgb": None, "resample": 0}),
    ("convnext", "ConvNext", {"size": 60, "crop_pct": 0.95}),
    ("efficientnet", "EfficientNet", {"size": 40, "include_top": False, "do_center_crop": True, "crop_size": 37}),
    ("mobilenet_v1", "MobileNetV1", {"size": 41, "crop_size": 36}),
    ("blip", "Blip", {"size": 30}),
    ("pvt", "Pvt", {"size": 30}),
    ("chinese_clip", "ChineseCLIP", {"size": 41, "crop_size": 36}),
]


@pytest.mark.parametrize(("folder", "name", "values"), ODD, ids=lambda value: str(value))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_old_and_odd_files_are_understood(folder: str, name: str, values: dict[str, Any], files: list[bytes]) -> None:
    module = import_module(f"transformers.models.{folder}.image_processing_pil_{folder}")
    processor = getattr(module, f"{name}ImageProcessorPil")(**values)
    levels, share = differences(processor, files[:20])
    assert levels == 0
    assert share < TOLERANCE


def test_what_a_file_leaves_out_is_what_its_processor_does() -> None:
    for folder, name, _ in [*PROCESSORS.values(), *ODD]:
        module = import_module(f"transformers.models.{folder}.image_processing_pil_{folder}")
        whole = json.loads(getattr(module, f"{name}ImageProcessorPil")().to_json_string())
        for suffix in ("ImageProcessor", "ImageProcessorFast", "FeatureExtractor"):
            assert ImagePreprocessing.from_config(
                {"image_processor_type": name + suffix}, {}
            ) == ImagePreprocessing.from_config(whole, {})


def test_a_file_that_names_no_processor_is_read_by_the_network() -> None:
    for network, name in (("swin", "ViT"), ("resnet", "ConvNext"), ("dinov2", "Bit"), ("siglip", "Siglip")):
        assert ImagePreprocessing.from_config({}, {"model_type": network}) == ImagePreprocessing.from_config(
            {"image_processor_type": name}, {}
        )


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"image_processor_type": "LevitImageProcessor"}, "LevitImageProcessor"),
        ({}, "which its files do not name"),
        ({"image_processor_type": "ViTImageProcessor", "do_pad": True}, "do_pad: True"),
        ({"image_processor_type": "ViTImageProcessor", "do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"image_processor_type": "ViTImageProcessor", "crop_pct": 0.9}, "crop_pct: 0.9"),
        ({"image_processor_type": "ViTImageProcessor", "resample": 9}, "resample"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"longest_edge": 30}}, "longest_edge"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"shortest_edge": 30}}, "any size"),
        ({"image_processor_type": "ViTImageProcessor", "image_mean": [0.5]}, "1 channels"),
        ({"image_processor_type": "ConvNextImageProcessor", "size": {"height": 3, "width": 3}}, "crop_pct"),
    ],
)
def test_what_is_not_known_is_refused_by_name(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        ImagePreprocessing.from_config(values, {})


def test_numbers_of_dinov3_are_within_one_level_of_resizing_fractions() -> None:
    """Its own processor, which needs torchvision, divides by 255 before it resizes with antialiasing."""
    geometry = ImagePreprocessing.from_config({"image_processor_type": "DINOv3ViTImageProcessorFast"}, {})
    image = scene(np.random.default_rng(0), 500, 333)
    fractions = torch.from_numpy(np.asarray(image) / np.float32(255)).permute(2, 0, 1)[None]
    wanted = torch.nn.functional.interpolate(fractions, (224, 224), mode="bilinear", antialias=True)
    found = torch.from_numpy(geometry.apply(image) / np.float32(255)).permute(2, 0, 1)[None]
    assert float((found - wanted).abs().max()) < 1 / 255


def test_very_long_images_are_within_one_level_of_cutting_the_whole() -> None:
    """The whole resized picture would not fit into memory."""
    geometry = ImagePreprocessing(32, 32, 3, shortest_edge=32)
    image = scene(np.random.default_rng(0), 2, 70_000)
    whole = image.resize((32, 32 * 35_000), Image.Resampling.BICUBIC)
    top = (32 * 35_000 - 32) // 2
    found, wanted = geometry.apply(image), np.asarray(whole.crop((0, top, 32, top + 32)))
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_a_request_says_what_is_stored_and_survives_json(files: list[bytes]) -> None:
    geometry = ImagePreprocessing.from_config(
        {"image_processor_type": "BitImageProcessor", "size": 40, "crop_size": 30}, {}
    )
    plain = geometry.without_normalization()
    assert plain == ImagePreprocessing(30, 30, 3, shortest_edge=40)
    request = ImageRequest(30, "crop", plain)
    again = ImageRequest(30, "crop", json.loads(json.dumps(plain.__dict__)))
    assert again == request
    assert hash(again) == hash(request)
    found = decode(files[0], request, LimitOptions())["pixels"]
    assert (found.dtype, found.shape) == layout(request)["pixels"]
