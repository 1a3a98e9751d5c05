"""Which part of a checkpoint's network is meant, where its layers are, and what it reads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.pretrained.card import Card

#: By part: what its network reads, and in a network with several towers its tower and the projection of that.
READS = {
    "text": {"input_ids"},
    "image": {"pixel_values"},
    "video": {"pixel_values", "pixel_values_videos"},
    "audio": {"input_values", "input_features"},
    "language": {"input_ids"},
    "sequence": {"input_ids"},
    "speech": {"input_features"},
}
#: The class of transformers that builds the whole network, where it is not the one without a head.
NETWORKS = {
    "language": "AutoModelForCausalLM",
    "sequence": "AutoModelForSeq2SeqLM",
    "speech": "AutoModelForSpeechSeq2Seq",
}
#: Of these the decoder alone is meant, with its head: the encoder is another part.
WITHOUT_ENCODER = {"sequence", "speech"}
TOWERS = {"text": "text_model", "image": "vision_model", "video": "vision_model", "audio": "audio_model"}
PROJECTIONS = {
    "text": ("text_projection", "text_embeds"),
    "image": ("visual_projection", "image_embeds"),
    "video": ("visual_projection", "image_embeds"),
    "audio": ("audio_projection", "audio_embeds"),
}


class Projected(nn.Module):
    """One tower of an image-text or sound-text model with its projection into the common space.

    The output is the tower's own, and beside it `text_embeds`, `image_embeds` or `audio_embeds` `[items, n]`: the
    projection of its summary (`pooler_output`).
    """

    def __init__(self, tower: Any, projection: nn.Module, name: str) -> None:
        super().__init__()
        self.tower, self.projection, self.name = tower, projection, name
        self.config, self.main_input_name = tower.config, tower.main_input_name

    def forward(self, **inputs: Tensor) -> Any:
        output = self.tower(**inputs)
        output[self.name] = self.projection(output.pooler_output)
        return output


def encoder_of(model: Any, part: str, card: Card) -> Any:
    """The part of a whole model that encodes `part`; for those of `NETWORKS` what writes, with its head.

    Raises:
        RecipeError: the model encodes something else.
    """
    tower = getattr(model, TOWERS[part], None) if part in TOWERS else None
    if part in NETWORKS:
        found = _without_encoder(model) if part in WITHOUT_ENCODER else model
    elif tower is not None:
        projection, name = PROJECTIONS[part]
        found = Projected(tower, getattr(model, projection), name) if hasattr(model, projection) else tower
    elif hasattr(model, "encoder") and hasattr(model, "decoder"):
        found = model.encoder
    elif hasattr(model, "encoder") and hasattr(model, "predictor"):  # V-JEPA: what predicts hidden parts is left out
        found = model.encoder
        found.main_input_name = model.main_input_name
    else:
        found = model
    if found.main_input_name not in READS[part]:
        raise RecipeError("model", f"{card.model} reads {found.main_input_name}: it does not encode {part}")
    if part not in NETWORKS and not isinstance(found, Projected):
        _drop_pooler(found)
    return found


def _without_encoder(model: Any) -> Any:
    """An encoder-decoder that goes on from what its encoder gave (`encoder_outputs`)."""
    owner = model if hasattr(model, "encoder") else model.model
    owner.encoder = _NoEncoder(owner.decoder.get_input_embeddings())
    return model


class _NoEncoder(nn.Module):
    """In the place of an encoder: some architectures ask it for the embeddings of the whole."""

    def __init__(self, embeddings: nn.Module) -> None:
        super().__init__()
        self._embeddings = [embeddings]  # in a list, so that they stay the decoder's

    def get_input_embeddings(self) -> nn.Module:
        return self._embeddings[0]


def network_class(part: str) -> Any:
    """The class of transformers that builds and reads the network for `part`."""
    import transformers

    return getattr(transformers, NETWORKS.get(part, "AutoModel"))


def _drop_pooler(model: Any) -> None:
    """Leave out a dense layer over the first token: many checkpoints have no weights for it, and nothing reads it."""
    pooler = getattr(model, "pooler", None)
    if isinstance(pooler, nn.Linear) or isinstance(getattr(pooler, "dense", None), nn.Linear):
        model.pooler = None


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers (of hierarchical networks: stages or blocks), from the bottom: the outermost list of modules.

    Of several equally far out, the last is meant: those before it belong to a front end. A network without lists of
    modules has none.
    """
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module)]
    if not lists:
        return []
    depth = min(name.count(".") for name in lists)
    found = model.get_submodule([name for name in lists if name.count(".") == depth][-1])
    return list(found.children())


def width_of(config: Any) -> int:
    """The width of the last hidden states.

    Raises:
        RecipeError: the configuration does not say it.
    """
    for name in ("hidden_size", "d_model", "hidden_sizes", "hidden_dim", "n_embd", "dim"):
        found = getattr(config, name, None)
        if isinstance(found, int):
            return found
        if isinstance(found, list | tuple) and found:
            return int(found[-1])
    raise RecipeError("model", f"the configuration of a {config.model_type} does not say how wide it is")


def example(model: Any, items: int) -> dict[str, Tensor]:
    """Inputs without content (device meta) of the shape that the configuration speaks of."""
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
