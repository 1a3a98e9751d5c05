"""Video networks with a pretrained checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors import safe_open
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.registry import register
from polymodal.nn.encoders.pretrained import PretrainedEncoder, PretrainedOptions
from polymodal.nn.encoders.pretrained_image import numbers
from polymodal.nn.encoders.tokens import average_tokens
from polymodal.pretrained.clips import clip_geometry
from polymodal.pretrained.source import weights_folder


@register
class PretrainedVideo(PretrainedEncoder):
    """A Transformer over boxes of pixels in space and time, as its checkpoint has it: VideoMAE (Tong et al.,
    "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training", 2022), ViViT
    (Arnab et al., "ViViT: A Video Vision Transformer", 2021), TimeSformer (Bertasius et al., "Is Space-Time Attention
    All You Need for Video Understanding?", 2021), V-JEPA 2 (Assran et al., "V-JEPA 2: Self-Supervised Video Models
    Enable Understanding, Prediction and Planning", 2025; its encoder alone).

    The network reads a fixed number F of frames. Place i of a clip that has only L of them holds frame
    `floor((2 i + 1) L / (2 F))`: the one shown at the middle of part i of F equal parts. So a clip is the same to the
    network whatever it is batched with, and no position is padding.

    Its summary of a clip is its class token; where it has none, the mean of its tokens, normalised where its
    classifiers do that (VideoMAE: `LN(mean_t x_t)`, the identity scale and shift where the checkpoint has no
    classifier). Else its tokens, box by box, those of one time beside one another.

    Raises:
        RecipeError: the checkpoint's network does not read clips of the size that its files say they are brought to.
    """

    class Options(PretrainedOptions):
        name: Literal["pretrained_video"] = "pretrained_video"

    modality: ClassVar[str] = "video"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        _hold_tensors(self.backbone)
        config = self.backbone.model.config
        self.boxes = _boxes(config, shape)
        self.tubelet = shape["frames"] // self.boxes[0]
        self.by_place = config.model_type == "timesformer"
        self.geometry = clip_geometry(self.card)
        self.norm: nn.LayerNorm | None = None
        if getattr(config, "use_mean_pooling", False):
            self.norm = nn.LayerNorm(self.backbone.width).requires_grad_(False)

    def initialise(self) -> None:
        super().initialise()
        if self.norm is not None:
            found = _classifier_norm(weights_folder(self.card))
            if found:
                self.norm.load_state_dict(found)

    def inputs(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """`pixel_values` or `pixel_values_videos` `[items, F, 3, height, width]` of `pixels` uint8 and `length`."""
        chosen = self._frames(data)
        pixels = data["pixels"]
        if chosen.shape[1] != pixels.shape[1] or bool((data["length"] < pixels.shape[1]).any()):  # some are shorter
            first = pixels.shape[1] * torch.arange(len(pixels), device=pixels.device).unsqueeze(1)
            pixels = pixels.flatten(0, 1).index_select(0, (first + chosen).flatten())
            pixels = pixels.view(*chosen.shape, *pixels.shape[1:])
        return {self.backbone.model.main_input_name: numbers(pixels, self.geometry)}

    def read(self, output: Any, inputs: dict[str, Tensor], data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        steps, places = self.boxes
        hidden: Tensor = output.last_hidden_state
        extra = hidden.shape[1] - steps * places
        if self.options.tokens == 1:
            tokens = hidden[:, :1] if extra else hidden.mean(1, keepdim=True)
            tokens = tokens if self.norm is None else self.norm(tokens)
        else:
            tokens = hidden[:, extra:]
            if self.by_place:
                tokens = tokens.view(len(tokens), places, steps, -1).transpose(1, 2).flatten(1, 2)
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return tokens, mask

    def moments(self, data: dict[str, Tensor], length: int) -> Tensor:
        """The mean moment of each token's frames."""
        steps, places = self.boxes
        times = data["times"].float().gather(1, self._frames(data)).view(-1, steps, self.tubelet).mean(-1)
        times = times.repeat_interleave(places, dim=1)
        if length == times.shape[1]:
            return times
        real = torch.ones(times.shape, dtype=torch.bool, device=times.device)
        return average_tokens(times.unsqueeze(-1), real, length)[0].squeeze(-1)

    def _frames(self, data: dict[str, Tensor]) -> Tensor:
        """The frame that stands at each place of the network, `[items, F]`."""
        frames = self.shape["frames"]
        place = torch.arange(frames, device=data["length"].device)
        return (2 * place + 1) * data["length"].unsqueeze(1) // (2 * frames)


def _classifier_norm(folder: Path) -> dict[str, Tensor]:
    """Scale and shift with which the checkpoint's classifier normalises the mean; none where it has no classifier."""
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            names = [name for name in tensors.keys() if name.startswith("fc_norm.")]  # noqa: SIM118  # not iterable
            found |= {name.removeprefix("fc_norm."): tensors.get_tensor(name).float() for name in names}
    return found


def _hold_tensors(network: nn.Module) -> None:
    """Make buffers of the tensors that are mere attributes (VideoMAE's positions): they move with the network, and
    follow from its configuration."""
    for module in network.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                delattr(module, name)
                module.register_buffer(name, value, persistent=False)


def _boxes(config: Any, shape: dict[str, Any]) -> tuple[int, int]:
    """Boxes in time, and in each of those in space.

    Raises:
        RecipeError: clips of `shape` are not what the network reads.
    """
    tubelet, patch = getattr(config, "tubelet_size", 1), getattr(config, "patch_size", None)
    if isinstance(tubelet, list | tuple):
        tubelet, *patch = tubelet
    frames = getattr(config, "num_frames", None) or config.frames_per_clip
    height, width = _pair(getattr(config, "image_size", None) or config.crop_size)
    if getattr(config, "attention_type", "") == "space_only":
        raise RecipeError("model", "a TimeSformer of attention_type space_only sees no time; name another checkpoint")
    if (shape["frames"], shape["height"], shape["width"]) != (frames, height, width):
        raise RecipeError(
            "model",
            f"its network reads {frames} frames of {height} x {width} pixels, but clips are prepared as "
            f"{shape['frames']} of {shape['height']} x {shape['width']}; its preprocessor_config.json does not fit it",
        )
    rows, columns = (side // part for side, part in zip((height, width), _pair(patch), strict=True))
    return frames // tubelet, rows * columns


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
