"""The encoder of videos with a pretrained checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors import safe_open
from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.registry import register
from polymodal.nn.encoders.pretrained import PretrainedEncoder, PretrainedOptions
from polymodal.nn.encoders.pretrained_image import normalize_pixels
from polymodal.nn.encoders.token_pooling import average_tokens
from polymodal.pretrained.resolve import weights_folder
from polymodal.pretrained.video_checkpoint import frame_geometry
from polymodal.runtime.host_reads import can_read


@register
class PretrainedVideo(PretrainedEncoder):
    """A pretrained video Transformer over tubelets (boxes of pixels in space and time): VideoMAE (Tong et al.,
    "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training", 2022), ViViT
    (Arnab et al., "ViViT: A Video Vision Transformer", 2021), TimeSformer (Bertasius et al., "Is Space-Time Attention
    All You Need for Video Understanding?", 2021), or the encoder of V-JEPA 2 (Assran et al., "V-JEPA 2: Self-Supervised
    Video Models Enable Understanding, Prediction and Planning", 2025).

    The network reads a fixed number F of frames. Position i of a video with only L frames holds frame
    `floor((2 i + 1) L / (2 F))`: the frame at the center of segment i of F equal segments. So the input of a video does
    not depend on the batch, and no position is padding.

    The pooled output (`max_tokens: 1`) is the class token; without one, the mean of the tokens, normalized if the
    classifier of the architecture does so (VideoMAE: `LN(mean_t x_t)`, with identity scale and shift if the checkpoint
    has no classifier). Otherwise the output is all tokens, ordered by time, then by position.

    Raises:
        RecipeError: the network does not read videos of the size in its preprocessor configuration.
    """

    class Options(PretrainedOptions):
        name: Literal["pretrained_video"] = "pretrained_video"

    modality: ClassVar[str] = "video"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        _register_tensor_attributes(self.backbone)
        config = self.backbone.model.config
        self.tubelet_grid = _tubelet_grid(config, shape)
        self.tubelet = shape["frames"] // self.tubelet_grid[0]
        self.space_major = config.model_type == "timesformer"
        self.geometry = frame_geometry(self.checkpoint)
        self.norm: nn.LayerNorm | None = None
        if getattr(config, "use_mean_pooling", False):
            self.norm = nn.LayerNorm(self.backbone.width).requires_grad_(False)

    def load_pretrained(self) -> None:
        super().load_pretrained()
        if self.norm is not None:
            found = _classifier_norm(weights_folder(self.checkpoint))
            if found:
                self.norm.load_state_dict(found)

    def prepare_inputs(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """`pixel_values` or `pixel_values_videos` `[items, F, 3, height, width]` from `pixels` uint8 and `length`."""
        chosen = self._frame_indices(data)
        pixels = data["pixels"]
        some_are_shorter = not can_read(chosen) or bool((data["length"] < pixels.shape[1]).any())
        if chosen.shape[1] != pixels.shape[1] or some_are_shorter:
            first = pixels.shape[1] * torch.arange(pixels.shape[0], device=pixels.device).unsqueeze(1)
            pixels = pixels.flatten(0, 1).index_select(0, (first + chosen).flatten())
            pixels = pixels.view(*chosen.shape, *pixels.shape[1:])
        return {self.backbone.model.main_input_name: normalize_pixels(pixels, self.geometry)}

    def extract_tokens(self, output: Any, inputs: dict[str, Tensor], data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        steps, places = self.tubelet_grid
        hidden: Tensor = output.last_hidden_state
        extra = hidden.shape[1] - steps * places
        if self.options.max_tokens == 1:
            tokens = hidden[:, :1] if extra else hidden.mean(1, keepdim=True)
            tokens = tokens if self.norm is None else self.norm(tokens)
        else:
            tokens = hidden[:, extra:]
            if self.space_major:
                tokens = tokens.view(tokens.shape[0], places, steps, -1).transpose(1, 2).flatten(1, 2)
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return tokens, mask

    def compute_times(self, data: dict[str, Tensor], length: int) -> Tensor:
        """The mean time of the frames of each token, in seconds."""
        steps, places = self.tubelet_grid
        times = data["times"].float().gather(1, self._frame_indices(data)).view(-1, steps, self.tubelet).mean(-1)
        times = times.repeat_interleave(places, dim=1)
        if length == times.shape[1]:
            return times
        real = torch.ones(times.shape, dtype=torch.bool, device=times.device)
        return average_tokens(times.unsqueeze(-1), real, length)[0].squeeze(-1)

    def _frame_indices(self, data: dict[str, Tensor]) -> Tensor:
        """The index of the frame at each input position of the network, `[items, F]`."""
        frames = self.shape["frames"]
        place = torch.arange(frames, device=data["length"].device)
        return (2 * place + 1) * data["length"].unsqueeze(1) // (2 * frames)


def _classifier_norm(folder: Path) -> dict[str, Tensor]:
    """Scale and shift of the layer norm of the checkpoint's classifier; empty if it has no classifier."""
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            names = [name for name in tensors.keys() if name.startswith("fc_norm.")]  # noqa: SIM118  # not iterable
            found |= {name.removeprefix("fc_norm."): tensors.get_tensor(name).float() for name in names}
    return found


def _register_tensor_attributes(network: nn.Module) -> None:
    """Register tensors that are plain attributes (VideoMAE's position embedding) as non-persistent buffers, so that
    they move with the network. Their values follow from the configuration."""
    for module in network.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                delattr(module, name)
                module.register_buffer(name, value, persistent=False)


def _tubelet_grid(config: Any, shape: dict[str, Any]) -> tuple[int, int]:
    """The number of tubelets in time, and in space.

    Raises:
        RecipeError: the network does not read videos of this `shape`.
    """
    tubelet, patch = getattr(config, "tubelet_size", 1), getattr(config, "patch_size", None)
    if isinstance(tubelet, list | tuple):
        tubelet, *patch = tubelet
    frames = getattr(config, "num_frames", None) or config.frames_per_clip
    height, width = _pair(getattr(config, "image_size", None) or config.crop_size)
    if getattr(config, "attention_type", "") == "space_only":
        raise RecipeError(
            "checkpoint", "a TimeSformer of attention_type space_only ignores time; use another checkpoint"
        )
    if (shape["frames"], shape["height"], shape["width"]) != (frames, height, width):
        raise RecipeError(
            "checkpoint",
            f"its network reads {frames} frames of {height} x {width} pixels, but videos are prepared as "
            f"{shape['frames']} frames of {shape['height']} x {shape['width']}; "
            "its preprocessor_config.json does not match it",
        )
    rows, columns = (side // part for side, part in zip((height, width), _pair(patch), strict=True))
    return frames // tubelet, rows * columns


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
