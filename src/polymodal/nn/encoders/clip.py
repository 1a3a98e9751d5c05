"""A clip as a sequence of images."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from polymodal.core.options import Options as ComponentOptions
from polymodal.core.options import Size, Sized, sized
from polymodal.core.registry import build, components, find, register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions, Settled
from polymodal.nn.encoders.pixels import pack, unpack
from polymodal.nn.encoders.positions import Moments, Positions, check_heads
from polymodal.nn.encoders.recurrent import LSTMStack
from polymodal.nn.layers.transformer import TransformerBlock
from polymodal.pretrained.clips import OF_IMAGES
from polymodal.recipe.slots import Slot


class FrameSlot(Slot):
    """The encoders that read images."""

    def parse(self, value: Any) -> ComponentOptions:
        name = value.get("name") if isinstance(value, dict) else getattr(value, "name", value)
        encoder = components(self.kind).get(name) if isinstance(name, str) else None
        if encoder is not None and encoder.modality != "image":
            raise PydanticCustomError(
                "component",
                "{name} reads {modality}, but the frames of a clip are images: choose from {known}",
                {"name": repr(name), "modality": encoder.modality, "known": ", ".join(self._known())},
            )
        return super().parse(value)

    def _known(self) -> dict[str, type[ComponentOptions]]:
        found = components(self.kind).items()
        return {name: encoder.Options for name, encoder in found if encoder.modality == "image"}


@register
class Clip(Encoder):
    """Each frame through an image encoder, then a network over time (Donahue et al., "Long-Term Recurrent Convolutional
    Networks for Visual Recognition and Description", 2015; Karpathy et al., "Large-Scale Video Classification with
    Convolutional Neural Networks", 2014, for the mean).

        f_t = mean of the tokens of frame t
        mean:         x_t = f_t
        lstm:         x_t = [forward state; backward state] over f + m(times)
        transformer:  x = blocks over f + p(order) + m(times)

    Each frame is a token. All real frames of a batch go through the image encoder at once, and none of the
    padding does. In `mean` a frame knows nothing of the others nor of its place: the clip is the mean of its
    frames, in whatever order. The other two are told the seconds of each frame, since clips differ in how
    densely their frames lie.

    A pretrained image encoder prescribes how frames are prepared, as it does for images. Where nothing of it learns,
    the features f_t of the frames are settled, and only the layers over time run in each epoch. Where its upper layers
    learn, nothing is settled: its hidden states below them would be kept for every patch of every frame.

    Raises:
        RecipeError: `heads` does not divide the common width, or the image encoder refuses an option.
    """

    class Options(EncoderOptions):
        name: Literal["clip"] = "clip"
        frames: Annotated[SerializeAsAny[ComponentOptions], FrameSlot("encoder", "resnet")] = Field(
            default="resnet", validate_default=True
        )
        """The image encoder that reads each frame: a name, or a mapping with its options."""
        temporal: Literal["mean", "lstm", "transformer"] = "transformer"
        """How the frames become a sequence: each by itself, by a recurrent network, or by self-attention."""
        layers: int = sized(2, 2, 4, ge=1, le=24)
        """Layers over time, in `lstm` and `transformer`."""
        heads: int = sized(4, 4, 8, ge=1)
        """Attention heads of `transformer`; they must divide the common width."""
        dropout: float = Field(default=0.1, ge=0, lt=1)
        """Share of units dropped in training in the layers over time."""

        def at_size(self, size: Size) -> Self:
            filled = super().at_size(size)
            frames = filled.frames
            return filled.model_copy(update={"frames": frames.at_size(size)} if isinstance(frames, Sized) else {})

    modality: ClassVar[str] = "video"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.frames: Encoder = build("encoder", options.frames, "frames", shape=shape, width=width)
        self.temporal = options.temporal
        self.width = self.frames.width
        if self.temporal == "mean":
            return
        self.project = nn.Identity() if self.width == width else nn.Linear(self.width, width)
        self.moments = Moments(width)
        if self.temporal == "lstm":
            self.recurrent = LSTMStack(width, width, options.layers, options.dropout)
            self.width = self.recurrent.width
            return
        check_heads(options.heads, width)
        self.width = width
        self.positions = Positions("sincos", shape["frames"], width)
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, options.heads, options.dropout) for _ in range(options.layers)
        )
        self.norm = nn.LayerNorm(width)

    @classmethod
    def prescribe(cls, options: Any) -> dict[str, Any]:
        """What the image encoder needs of images; its checkpoint reads the frames one by one."""
        wanted: dict[str, Any] = find("encoder", options.frames.name).prescribe(options.frames)
        return {**wanted, "checkpoint": OF_IMAGES + wanted["checkpoint"]} if "checkpoint" in wanted else wanted

    def initialise(self) -> None:
        self.frames.initialise()

    def settled(self) -> Settled | None:
        """The features of the frames, where nothing of the image encoder learns."""
        below = self.frames.settled()
        if below is None or any(parameter.requires_grad for parameter in self.frames.parameters()):
            return None
        return Settled(f"frames, {below.name}", self.frames.width, records={"times": ("float32", ())})

    def settle(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"hidden": self._summaries(data), "length": data["length"], "times": data["times"]}

    def rates(self) -> dict[nn.Parameter, float]:
        return self.frames.rates()

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`pixels [items, frames, 3, height, width]` uint8 (or `hidden [items, frames, n]`), `times [items, frames]`,
        `length [items]` -> `[items, frames, width]`.
        """
        real = length_mask(data["length"], data["times"].shape[1])
        x = data["hidden"] if "hidden" in data else self._summaries(data)
        if self.temporal == "mean":
            return x, real
        x = self.project(x)
        x = x + self.moments(data["times"])
        if self.temporal == "lstm":
            return self.recurrent(x, data["length"]), real
        x = self.dropout(self.positions(x))
        for block in self.blocks:
            x = block(x, real)
        return self.norm(x), real

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        """The moments of the frames."""
        return data["times"]

    def _summaries(self, data: dict[str, Tensor]) -> Tensor:
        """The mean of each frame's tokens, `[items, frames, n]`; zeros in the padding."""
        real = length_mask(data["length"], data["times"].shape[1])
        features, mask = self.frames({"pixels": pack(data["pixels"], real)})
        weight = mask.to(features.dtype).unsqueeze(-1)
        return unpack((features * weight).sum(1) / weight.sum(1), real)
