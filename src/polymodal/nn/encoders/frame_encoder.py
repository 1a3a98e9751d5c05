"""A video encoder that applies an image encoder to each frame, then a network over time."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from polymodal.core.needs import needs_value
from polymodal.core.options import Options as ComponentOptions
from polymodal.core.options import Size, SizedModel, sized_field
from polymodal.core.registry import build, components, find, register
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, EncoderOptions, FrozenPrefix
from polymodal.nn.encoders.pixels import pack_frames, unpack_frames
from polymodal.nn.encoders.position_embedding import PositionEmbedding, TimestampEmbedding, check_heads
from polymodal.nn.encoders.recurrent import LSTMStack
from polymodal.nn.layers.transformer import TransformerBlock
from polymodal.pretrained.video_checkpoint import IMAGE_PREFIX
from polymodal.recipe.slots import Slot


class ImageEncoderSlot(Slot):
    """Recipe slot that accepts the encoders of images."""

    def parse(self, value: Any) -> ComponentOptions:
        name = value.get("name") if isinstance(value, dict) else getattr(value, "name", value)
        encoder = components(self.kind).get(name) if isinstance(name, str) else None
        if encoder is not None and encoder.modality != "image":
            raise PydanticCustomError(
                "component",
                "{name} reads {modality}, but frames are images; available: {known}",
                {"name": repr(name), "modality": encoder.modality, "known": ", ".join(self._known())},
            )
        return super().parse(value)

    def _known(self) -> dict[str, type[ComponentOptions]]:
        encoders = components(self.kind).items()
        return {name: encoder.Options for name, encoder in encoders if encoder.modality == "image"}


@register
class FrameEncoder(Encoder):
    """An image encoder applied to each frame, then a network over time (Donahue et al., "Long-Term Recurrent
    Convolutional Networks for Visual Recognition and Description", 2015; Karpathy et al., "Large-Scale Video
    Classification with Convolutional Neural Networks", 2014, for the mean).

        f_t = mean of the tokens of frame t
        mean:         x_t = f_t
        lstm:         x_t = [forward state; backward state] over f + m(times)
        transformer:  x = blocks over f + p(order) + m(times)

    Each frame gives one token. The image encoder runs on all real frames of a batch at once, without padding. With
    `mean`, a frame token does not depend on the other frames or on its position: frame order has no effect. The other
    two networks also receive the time of each frame in seconds, since videos differ in frame rate.

    A pretrained image encoder determines the preprocessing of the frames, as it does for images. If it is frozen, its
    frame features f_t are cached, and only the layers over time run in each epoch. If its upper layers are trained,
    nothing is cached, since the cache would hold the hidden states of every patch of every frame.

    Raises:
        RecipeError: `num_heads` does not divide the hidden size, or the image encoder rejects an option.
    """

    class Options(EncoderOptions):
        name: Literal["frame_encoder"] = "frame_encoder"
        frame_encoder: Annotated[SerializeAsAny[ComponentOptions], ImageEncoderSlot("encoder", "resnet")] = Field(
            default="resnet", validate_default=True
        )
        """Image encoder that is applied to each frame: a name, or a mapping with its options."""
        temporal: Literal["mean", "lstm", "transformer"] = "transformer"
        """Network over time: none (`mean`), a bidirectional LSTM, or a Transformer."""
        num_layers: Annotated[int, needs_value("temporal", "lstm", "transformer")] = sized_field(2, 2, 4, ge=1, le=24)
        """Number of layers over time, for `lstm` and `transformer`."""
        num_heads: Annotated[int, needs_value("temporal", "transformer")] = sized_field(4, 4, 8, ge=1)
        """Number of attention heads of `transformer`; it must divide the hidden size."""
        dropout: Annotated[float, needs_value("temporal", "lstm", "transformer")] = Field(default=0.1, ge=0, lt=1)
        """Dropout rate in the layers over time."""

        def at_size(self, size: Size) -> Self:
            filled = super().at_size(size)
            frames = filled.frame_encoder
            return filled.model_copy(
                update={"frame_encoder": frames.at_size(size)} if isinstance(frames, SizedModel) else {}
            )

    modality: ClassVar[str] = "video"

    def __init__(self, options: Options, *, shape: dict[str, Any], width: int) -> None:
        super().__init__(options, shape=shape, width=width)
        self.frames: Encoder = build("encoder", options.frame_encoder, "frame_encoder", shape=shape, width=width)
        self.temporal = options.temporal
        self.width = self.frames.width
        if self.temporal == "mean":
            return
        self.project = nn.Identity() if self.width == width else nn.Linear(self.width, width)
        self.timestamps = TimestampEmbedding(width)
        if self.temporal == "lstm":
            self.recurrent = LSTMStack(width, width, options.num_layers, options.dropout)
            self.width = self.recurrent.width
            return
        check_heads(options.num_heads, width)
        self.width = width
        self.positions = PositionEmbedding("sincos", shape["frames"], width)
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, options.num_heads, options.dropout) for _ in range(options.num_layers)
        )
        self.norm = nn.LayerNorm(width)

    @classmethod
    def required_options(cls, options: Any) -> dict[str, Any]:
        """The options that the image encoder requires; its checkpoint is marked as an image checkpoint."""
        required: dict[str, Any] = find("encoder", options.frame_encoder.name).required_options(options.frame_encoder)
        return (
            {**required, "checkpoint": IMAGE_PREFIX + required["checkpoint"]} if "checkpoint" in required else required
        )

    @classmethod
    def has_frozen_checkpoint(cls, options: Any) -> bool:
        frames = options.frame_encoder
        return bool(find("encoder", frames.name).has_frozen_checkpoint(frames))

    def load_pretrained(self) -> None:
        self.frames.load_pretrained()

    def frozen_prefix(self) -> FrozenPrefix | None:
        """The image encoder, if it is frozen as a whole."""
        prefix = self.frames.frozen_prefix()
        if prefix is None or any(parameter.requires_grad for parameter in self.frames.parameters()):
            return None
        return FrozenPrefix(f"frames, {prefix.fingerprint}", self.frames.width, per_step={"times": ("float32", ())})

    def encode_frozen(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"hidden": self._frame_features(data), "length": data["length"], "times": data["times"]}

    def lr_multipliers(self) -> dict[nn.Parameter, float]:
        return self.frames.lr_multipliers()

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """`pixels [items, frames, 3, height, width]` uint8 (or `hidden [items, frames, n]`), `times [items, frames]`,
        `length [items]` -> `[items, frames, width]`.
        """
        real = length_mask(data["length"], data["times"].shape[1])
        x = data["hidden"] if "hidden" in data else self._frame_features(data)
        if self.temporal == "mean":
            return x, real
        x = self.project(x)  # [items, frames, width]
        x = x + self.timestamps(data["times"])
        if self.temporal == "lstm":
            return self.recurrent(x, data["length"]), real
        x = self.dropout(self.positions(x))
        for block in self.blocks:
            x = block(x, real)
        return self.norm(x), real

    def times(self, data: dict[str, Tensor], length: int) -> Tensor:
        """The time of each frame in seconds."""
        return data["times"]

    def _frame_features(self, data: dict[str, Tensor]) -> Tensor:
        """The mean of the tokens of each frame, `[items, frames, n]`; zeros at padding."""
        real = length_mask(data["length"], data["times"].shape[1])
        features, mask = self.frames({"pixels": pack_frames(data["pixels"], real)})
        weight = mask.to(features.dtype).unsqueeze(-1)
        return unpack_frames((features * weight).sum(1) / weight.sum(1), real)
