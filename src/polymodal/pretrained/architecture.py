"""Architectures of pretrained networks: selection of a tower or decoder, its layers, width and example inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.pretrained.checkpoint_config import CheckpointConfig
from polymodal.pretrained.multimodal import is_multimodal
from polymodal.pretrained.multimodal_parts import ImageFeatures, LanguagePart

#: The main inputs that the network of each part accepts.
INPUT_NAMES = {
    "text": {"input_ids"},
    "image": {"pixel_values"},
    "video": {"pixel_values", "pixel_values_videos"},
    "audio": {"input_values", "input_features"},
    "language": {"input_ids"},
    "sequence": {"input_ids"},
    "speech": {"input_features"},
    "multimodal": {"input_ids"},
}
#: The auto class of transformers for each part whose network includes a head; other parts use `AutoModel`.
AUTO_CLASSES = {
    "language": "AutoModelForCausalLM",
    "sequence": "AutoModelForSeq2SeqLM",
    "speech": "AutoModelForSpeechSeq2Seq",
    "multimodal": "AutoModelForMultimodalLM",
}
#: Parts that are only the decoder and head of a network; its encoder is another part.
PARTS_WITHOUT_ENCODER = {"sequence", "speech"}
TOWERS = {"text": "text_model", "image": "vision_model", "video": "vision_model", "audio": "audio_model"}
PROJECTIONS = {
    "text": ("text_projection", "text_embeds"),
    "image": ("visual_projection", "image_embeds"),
    "video": ("visual_projection", "image_embeds"),
    "audio": ("audio_projection", "audio_embeds"),
}


class ProjectedTower(nn.Module):
    """One tower of an image-text or audio-text model with its projection into the common space.

    The output is that of the tower, and in addition `text_embeds`, `image_embeds` or `audio_embeds` `[items, n]`: the
    projection of `pooler_output`.
    """

    def __init__(self, tower: Any, projection: nn.Module, name: str) -> None:
        super().__init__()
        self.tower, self.projection, self.name = tower, projection, name
        self.config, self.main_input_name = tower.config, tower.main_input_name

    def forward(self, **inputs: Tensor) -> Any:
        output = self.tower(**inputs)
        output[self.name] = self.projection(output.pooler_output)
        return output


def select_part(model: Any, part: str, checkpoint: CheckpointConfig) -> Any:
    """The submodel of a whole model for `part`: the encoder of a modality, or a generative decoder with its head.

    Raises:
        RecipeError: the model reads another modality.
    """
    tower = getattr(model, TOWERS[part], None) if part in TOWERS else None
    found: Any
    if part == "multimodal":
        found = LanguagePart(model)
    elif part == "image" and is_multimodal(checkpoint):
        found = ImageFeatures(model)
    elif part in AUTO_CLASSES:
        found = _remove_encoder(model) if part in PARTS_WITHOUT_ENCODER else model
    elif tower is not None:
        projection, name = PROJECTIONS[part]
        found = ProjectedTower(tower, getattr(model, projection), name) if hasattr(model, projection) else tower
    elif hasattr(model, "encoder") and hasattr(model, "decoder"):
        found = model.encoder
    elif hasattr(model, "encoder") and hasattr(model, "predictor"):  # V-JEPA: the predictor is not used
        found = model.encoder
        found.main_input_name = model.main_input_name
    else:
        found = model
    if found.main_input_name not in INPUT_NAMES[part]:
        raise RecipeError("checkpoint", f"{checkpoint.name} reads {found.main_input_name}, so it cannot encode {part}")
    if part not in AUTO_CLASSES and not isinstance(found, ProjectedTower | ImageFeatures):
        _drop_pooler(found)
    return found


def _remove_encoder(model: Any) -> Any:
    """Remove the encoder of an encoder-decoder model, which then reads `encoder_outputs`."""
    owner = model if hasattr(model, "encoder") else model.model
    owner.encoder = _NoEncoder(owner.decoder.get_input_embeddings())
    return model


class _NoEncoder(nn.Module):
    """Placeholder for a removed encoder: some architectures read the input embeddings of the model from it."""

    def __init__(self, embeddings: nn.Module) -> None:
        super().__init__()
        self._embeddings = [embeddings]  # in a list, so that it is not registered as a submodule

    def get_input_embeddings(self) -> nn.Module:
        return self._embeddings[0]


def auto_class(part: str) -> Any:
    """The class of transformers that builds and loads the network for `part`."""
    import transformers

    return getattr(transformers, AUTO_CLASSES.get(part, "AutoModel"))


def _drop_pooler(model: Any) -> None:
    """Remove a dense pooler over the first token: many checkpoints have no weights for it, and it is not used."""
    pooler = getattr(model, "pooler", None)
    if isinstance(pooler, nn.Linear) or isinstance(getattr(pooler, "dense", None), nn.Linear):
        model.pooler = None


def find_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of a network (of hierarchical networks: stages or blocks), from input to output: the outermost module
    list.

    If there are several module lists at the same depth, the last is used, since earlier ones belong to a front end. A
    network without module lists has no layers.
    """
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module)]
    if not lists:
        return []
    depth = min(name.count(".") for name in lists)
    found = model.get_submodule([name for name in lists if name.count(".") == depth][-1])
    return list(found.children())


def hidden_width(config: Any) -> int:
    """The width of the last hidden states.

    Raises:
        RecipeError: the configuration does not contain it.
    """
    for name in ("hidden_size", "d_model", "hidden_sizes", "hidden_dim", "n_embd", "dim"):
        found = getattr(config, name, None)
        if isinstance(found, int):
            return found
        if isinstance(found, list | tuple) and found:
            return int(found[-1])
    raise RecipeError(
        "checkpoint", f"the configuration of the {config.model_type} has no known key for its hidden size"
    )


def example_inputs(model: Any, items: int) -> dict[str, Tensor]:
    """Inputs on the meta device with the shape in the configuration."""
    config, name = model.config, model.main_input_name
    if name == "input_ids":
        return {name: torch.zeros(items, 8, dtype=torch.long, device="meta")}
    if name == "pixel_values":
        side = getattr(config, "image_size", None) or 224
        height, width = side if isinstance(side, list | tuple) else (side, side)
        frames = [config.num_frames] if hasattr(config, "num_frames") else []
        shape = [*frames, getattr(config, "num_channels", 3), height, width]
    elif name == "pixel_values_videos":
        shape = [config.frames_per_clip, config.in_chans, config.crop_size, config.crop_size]
    elif hasattr(config, "max_source_positions") and hasattr(config, "num_mel_bins"):
        shape = [config.num_mel_bins, 2 * config.max_source_positions]
    elif hasattr(config, "spec_size"):
        shape = [1, config.spec_size * (config.spec_size // config.num_mel_bins), config.num_mel_bins]
    elif hasattr(config, "max_length") and hasattr(config, "num_mel_bins"):
        shape = [config.max_length, config.num_mel_bins]
    else:
        shape = [16_000]
    return {name: torch.zeros(items, *shape, device="meta")}
