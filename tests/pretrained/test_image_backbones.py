"""Pretrained image encoders on tiny checkpoints: features equal those of the transformers pipeline."""

from __future__ import annotations

import json
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image as Pillow

from laws.tiny import final_folder
from polymodal.core.errors import RecipeError
from polymodal.data.table.block import RowBlock
from polymodal.data.table.cell_errors import CellErrors
from polymodal.modalities.image import Image
from polymodal.nn.encoders.pretrained_image import PretrainedImage
from polymodal.pretrained.starter import efficientnet_lite
from polymodal.recipe.data import LimitOptions

VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 16}
TEXT = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
JOINT = {"vision_config": {**VIT, "image_size": 64}, "text_config": TEXT}
STAGES = {"hidden_sizes": [8, 12], "depths": [1, 1]}

#: A network, its configuration, the processor of its images, and that processor's values.
KINDS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "vit": ("ViT", {**VIT, "image_size": 64}, "ViT", {"size": {"height": 64, "width": 64}}),
    "deit": ("DeiT", {**VIT, "image_size": 64}, "DeiT", {"size": 80, "crop_size": 64}),
    "beit": ("Beit", {**VIT, "image_size": 64}, "Beit", {"size": 64}),
    "dinov2": ("Dinov2", {**VIT, "image_size": 96}, "Bit", {"size": {"shortest_edge": 72}, "crop_size": 64}),
    "registers": (
        "Dinov2WithRegisters",
        {**VIT, "image_size": 96, "num_register_tokens": 3},
        "Bit",
        {"size": {"shortest_edge": 72}, "crop_size": 64},
    ),
    "dinov3": ("DINOv3ViT", {**VIT, "image_size": 64, "num_register_tokens": 2}, "ViT", {"size": 64}),
    "siglip": ("Siglip", JOINT, "Siglip", {"size": {"height": 64, "width": 64}}),
    "clip": ("CLIP", {**JOINT, "projection_dim": 24}, "CLIP", {"size": {"shortest_edge": 64}, "crop_size": 64}),
    "clip_vision": ("CLIPVision", {**VIT, "image_size": 64}, "CLIP", {"size": 64, "crop_size": 64}),
    "convnext": ("ConvNext", {**STAGES, "num_stages": 2}, "ConvNext", {"size": {"shortest_edge": 64}}),
    "convnextv2": ("ConvNextV2", {**STAGES, "num_stages": 2}, "ConvNext", {"size": {"shortest_edge": 64}}),
    "resnet": ("ResNet", {**STAGES, "embedding_size": 8}, "ConvNext", {"size": {"shortest_edge": 64}}),
    "swin": (
        "Swin",
        {"image_size": 64, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4},
        "ViT",
        {"size": {"height": 64, "width": 64}},
    ),
    "dinov3_convnext": (
        "DINOv3ConvNext",
        {"hidden_sizes": [4, 8, 12, 16], "depths": [1, 1, 1, 1], "image_size": 64},
        "ViT",
        {"size": 64},
    ),
    "lite": (
        "EfficientNetLite",
        {"stages": [[1, 3, 1, 1, 8], [2, 5, 2, 6, 12]], "stem": 8, "hidden_size": 20, "image_size": 64},
        "ViT",
        {"size": {"shortest_edge": 72}, "do_center_crop": True, "crop_size": 64, "resample": 3},
    ),
    "efficientnet": (
        "EfficientNet",
        {
            "image_size": 64,
            "width_coefficient": 0.5,
            "depth_coefficient": 0.3,
            "hidden_dim": 640,
            "depthwise_padding": [],
        },
        "EfficientNet",
        {"size": {"height": 64, "width": 64}},
    ),
}
#: What transformers' own output calls the summary that is wanted; None: its class token.
SUMMARY = {"vit": None, "deit": None, "clip": "image_embeds"}
PREFIX = {
    "vit": 1,
    "deit": 2,
    "beit": 1,
    "dinov2": 1,
    "registers": 4,
    "dinov3": 3,
    "clip": 1,
    "clip_vision": 1,
    "dinov3_convnext": 1,
}


def processor(kind: str) -> Any:
    """The variant that uses PIL."""
    _, _, name, values = KINDS[kind]
    folder = {"EfficientNet": "efficientnet", "ConvNext": "convnext"}.get(name, name.lower())
    module = import_module(f"transformers.models.{folder}.image_processing_pil_{folder}")
    return getattr(module, f"{name}ImageProcessorPil")(**values)


@cache
def made(kind: str) -> str:
    """The folder of a tiny checkpoint."""
    network, config, _, _ = KINDS[kind]
    folder = Path(mkdtemp(prefix=f"tiny-{kind}-"))
    torch.manual_seed(0)
    module = efficientnet_lite if kind == "lite" else transformers
    model = getattr(module, f"{network}Model")(getattr(module, f"{network}Config")(**config)).eval()
    with torch.no_grad():  # as after training, so that means and steps are not all nought and one
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(0.3 * torch.rand_like(buffer))
    model.save_pretrained(folder)
    processor(kind).save_pretrained(folder)
    return final_folder(folder, f"image-{kind}")


def pictures(count: int = 3) -> list[Pillow.Image]:
    draw = np.random.default_rng(0)
    sizes = [(90, 70), (64, 64), (50, 120), (200, 33)][:count]
    return [Pillow.fromarray(draw.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


def prepared(folder: str, images: list[Pillow.Image]) -> tuple[Image, dict[str, torch.Tensor]]:
    modality = Image(Image.Options(checkpoint=folder), columns=["i"])
    modality.fit([])
    block = RowBlock({"i": images}, np.arange(len(images)), None, "table", CellErrors(), LimitOptions(), None)
    items = modality.prepare(block).items
    return modality, modality.collate(items.take(np.arange(len(items))))


def encoder(folder: str, modality: Image, **options: Any) -> PretrainedImage:
    chosen = PretrainedImage.Options(checkpoint=folder, **options)
    found = PretrainedImage(chosen, shape=modality.shape(), width=16)
    found.load_pretrained()
    return found.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_transformers(kind: str) -> None:
    folder, images = made(kind), pictures()
    modality, data = prepared(folder, images)
    values = processor(kind)(images, return_tensors="pt")["pixel_values"]
    network, joint = transformers.AutoModel.from_pretrained(folder).eval(), kind in ("clip", "siglip")
    with torch.no_grad():
        own = (network.vision_model if joint else network)(pixel_values=values)
        hidden = own.last_hidden_state
        if hidden.ndim == 4:
            hidden = hidden.flatten(2).transpose(1, 2)
        wanted = hidden[:, 0] if kind in SUMMARY else own.pooler_output.flatten(1)
        if kind == "clip":
            wanted = network.get_image_features(pixel_values=values).pooler_output
        one = encoder(folder, modality, max_tokens=1)
        every = encoder(folder, modality, max_tokens=None)
        some = encoder(folder, modality, max_tokens=3)
        read = one.prepare_inputs(data)["pixel_values"]
        torch.testing.assert_close(read, values, atol=1e-6, rtol=1e-6)
        assert read.is_contiguous(memory_format=torch.channels_last)
        summary, mask = one(data)
        assert mask.shape == (3, 1)
        assert summary.shape == (3, 1, one.width)
        torch.testing.assert_close(summary[:, 0], wanted, atol=1e-4, rtol=1e-4)
        tokens, mask = every(data)
        assert tokens.shape == (*mask.shape, every.width)
        assert mask.all()
        torch.testing.assert_close(tokens, hidden[:, PREFIX.get(kind, 0) :], atol=1e-4, rtol=1e-4)
        assert some(data)[0].shape == (3, 3, some.width)


@pytest.mark.parametrize("kind", KINDS)
def test_features_do_not_depend_on_the_batch(kind: str) -> None:
    modality, data = prepared(made(kind), pictures())
    for tokens in (1, None):
        network = encoder(made(kind), modality, max_tokens=tokens)
        with torch.no_grad():
            together = network(data)[0]
            for place in range(3):
                alone = network({"pixels": data["pixels"][place : place + 1]})[0]
                torch.testing.assert_close(alone[0], together[place], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_forward_from_cached_hidden_states_gives_the_same(kind: str) -> None:
    modality, data = prepared(made(kind), pictures())
    for tokens in (1, None):
        frozen = encoder(made(kind), modality, max_tokens=tokens)
        tuned = encoder(made(kind), modality, max_tokens=tokens, fine_tuning="last", num_layers=1)
        with torch.no_grad():
            wanted = frozen(data)[0]
            for network in (frozen, tuned):
                assert network.frozen_prefix() is not None
                torch.testing.assert_close(network(network.encode_frozen(data))[0], wanted, atol=1e-5, rtol=1e-5)
                torch.testing.assert_close(network(data)[0], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_position_embeddings_distinguish_the_tokens(kind: str) -> None:
    modality, data = prepared(made(kind), pictures())
    plain = encoder(made(kind), modality, max_tokens=None)
    placed = encoder(made(kind), modality, max_tokens=None, position_embedding="sincos")
    with torch.no_grad():
        added = placed(data)[0] - plain(data)[0]
        torch.testing.assert_close(placed(placed.encode_frozen(data))[0], placed(data)[0], atol=1e-5, rtol=1e-5)
    assert torch.allclose(added[0], added[1], atol=1e-5)
    distance = torch.cdist(added[:1], added[:1])[0] + torch.eye(added.shape[1])
    assert distance.min() > 0.1
    with pytest.raises(RecipeError, match="position_embedding"):
        encoder(made(kind), modality, max_tokens=1, position_embedding="sincos")


def test_masked_autoencoders_are_rejected(tmp_path: Path) -> None:
    transformers.ViTMAEModel(transformers.ViTMAEConfig(**VIT, image_size=64)).save_pretrained(tmp_path)
    processor("vit").save_pretrained(tmp_path)
    modality, _ = prepared(str(tmp_path), pictures())
    with pytest.raises(RecipeError, match=r"checkpoint: .*vit_mae masks parts"):
        encoder(str(tmp_path), modality)


def test_images_of_another_size_than_the_position_embeddings_are_rejected(tmp_path: Path) -> None:
    folder = Path(made("vit"))
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "size": {"height": 96, "width": 96}}))
    modality, _ = prepared(str(tmp_path), pictures())
    with pytest.raises(RecipeError, match=r"checkpoint: .*\(64, 64\).*\(96, 96\)"):
        encoder(str(tmp_path), modality)
