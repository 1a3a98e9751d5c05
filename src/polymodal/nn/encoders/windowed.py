"""Encoders of long items: one encoder for all consecutive windows of an item, and the mean over its windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from polymodal.core.errors import RecipeError
from polymodal.core.options import Options
from polymodal.core.registry import build
from polymodal.core.types import length_mask
from polymodal.nn.encoders.base import Encoder, FrozenPrefix
from polymodal.nn.layers.windows import Windows, split_items

#: The key of the shape of a modality that holds the maximum number of windows of an item; without it, there is one.
MAX_WINDOWS = "windows"
#: The key of the shape that holds the most records of a window, and the dimension of time of the prepared tensors where
#: it is not 1, by modality.
_RECORDS = {"time_series": "steps", "audio": "samples", "video": "frames"}
_TIME_DIMS: dict[str, dict[str, int]] = {"audio": {"values": 2}}
#: The field of cached features that holds the window of each hidden state.
_WINDOW = "window"


def build_encoder(options: Options | None, path: str, shape: dict[str, Any], width: int) -> Encoder:
    """The encoder of an input, windowed if its items have several windows.

    path: recipe path of the options
    shape: description of the prepared tensors (`Modality.shape()`), where steps, samples or frames are those of a
        window
    """
    own = {key: value for key, value in shape.items() if key != MAX_WINDOWS}
    encoder: Encoder = build("encoder", options, path, shape=own, width=width)
    return WindowedEncoder(encoder, own[_RECORDS[encoder.modality]]) if MAX_WINDOWS in shape else encoder


def whole_item_shape(shape: dict[str, Any]) -> dict[str, Any]:
    """The shape of whole items: steps, samples or frames are those of all windows together."""
    whole = {key: value for key, value in shape.items() if key != MAX_WINDOWS}
    for key in _RECORDS.values():
        if key in whole:
            whole[key] *= shape.get(MAX_WINDOWS, 1)
    return whole


def split_records(arrays: dict[str, Tensor], shape: dict[str, Any]) -> tuple[Windows, dict[str, Tensor]]:
    """The windows of stored items, `[items, records, ...]` with `length`, as the encoder of the input splits them."""
    size = next(shape[key] for key in _RECORDS.values() if key in shape)
    return split_items(arrays, size, {})


def split_prepared(data: dict[str, Tensor], size: int, modality: str) -> tuple[Windows, dict[str, Tensor]]:
    """The windows of collated items of a modality, of at most `size` steps, samples or frames each."""
    return split_items(data, size, _TIME_DIMS.get(modality, {}))


class WindowedEncoder(Encoder):
    """Applies one encoder to consecutive windows of each item and averages over the windows.

        y = mean over w of E(x[s_w : s_w + L_w])

    An item with `n` records (steps, samples, frames) has `ceil(n / size)` windows of equal length, up to one record.
    Windows do not overlap and cover the item. Training, evaluation and prediction use all windows. An item with one
    window is encoded as without windows.

    If `E` gives one token per window, the item has one token, their mean. If it gives several, the tokens of all
    windows follow each other in time, and neighbors are averaged, so that the item has as many tokens as one window
    (`Windows.average`). The tokens have no times: tasks with a timeline need whole items.

    The frozen layers of the encoder run once for each window. Their cached output holds the windows of an item one
    after the other, and the window of each hidden state.

    encoder: the encoder of a window
    size: the most records of a window
    """

    def __init__(self, encoder: Encoder, size: int) -> None:
        options, shape, width = encoder._init_args
        super().__init__(options, shape=shape, width=width)
        self.inner, self.size, self.width = encoder, size, encoder.width
        self.modality = encoder.modality  # type: ignore[misc]  # that of the class for other encoders
        self.num_fit_items = encoder.num_fit_items  # type: ignore[misc]

    def load_pretrained(self) -> None:
        self.inner.load_pretrained()

    @property
    def is_fitted(self) -> bool:
        return self.inner.is_fitted

    def fit_items(self, data: dict[str, Tensor]) -> None:
        self.inner.fit_items(self._split(data)[1])

    def item_bytes(self, length: int | None = None) -> float:
        return self.inner.item_bytes(None if length is None else min(length, self.size))

    def lr_multipliers(self) -> dict[nn.Parameter, float]:
        return self.inner.lr_multipliers()

    def forward(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        if "hidden" not in data:
            windows, parts = self._split(data)
            return windows.average(*self.inner(parts))
        windows = Windows.of_runs(data[_WINDOW], data["length"])
        parts = {name: windows.take(tensor) for name, tensor in data.items() if name not in (_WINDOW, "length")}
        for name in self._per_item():
            parts[name] = parts[name][:, 0]
        parts["length"] = windows.length
        return windows.average(*(self.inner.forward_cached(parts) if self.inner.is_frozen else self.inner(parts)))

    def frozen_prefix(self) -> FrozenPrefix | None:
        prefix = self.inner.frozen_prefix()
        if prefix is None:
            return None
        fields = {**prefix.per_step, **prefix.per_item, _WINDOW: ("int32", ())}
        return FrozenPrefix(f"windows of {self.size}\n{prefix.fingerprint}", prefix.width, per_step=fields)

    def encode_frozen(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        windows, parts = self._split(data)
        found = self.inner.encode_frozen(parts)
        real = length_mask(found.pop("length"), found["hidden"].shape[1])
        per_item = self._per_item()
        found[_WINDOW] = windows.number.int()
        for name in (*per_item, _WINDOW):
            found[name] = found[name].unsqueeze(1).expand(-1, real.shape[1], *found[name].shape[1:])
        joined = {name: windows.join(tensor, real) for name, tensor in found.items()}
        return {name: tensor for name, (tensor, _) in joined.items()} | {"length": joined[_WINDOW][1]}

    def _split(self, data: dict[str, Tensor]) -> tuple[Windows, dict[str, Tensor]]:
        return split_prepared(data, self.size, self.modality)

    def _per_item(self) -> list[str]:
        """The fields of the frozen layers' output with one value for each window."""
        prefix = self.inner.frozen_prefix()
        return [] if prefix is None else list(prefix.per_item)


def refuse_windows(encoders: Mapping[str, nn.Module], reason: str) -> None:
    """Check that none of the encoders, by input, reads windows.

    Raises:
        RecipeError: one does; `reason` says why this is not possible.
    """
    for name, encoder in encoders.items():
        if isinstance(encoder, WindowedEncoder):
            remedy = f"set inputs.{name}.modality.max_windows: 1, with a longer window if it must be whole"
            raise RecipeError("", f"{reason}, but {name!r} is encoded in several windows; {remedy}")


def window_encoder(encoder: nn.Module) -> nn.Module:
    """The encoder of one window; the encoder itself if it encodes whole items."""
    inner = encoder.inner if isinstance(encoder, WindowedEncoder) else encoder
    assert isinstance(inner, nn.Module)
    return inner
