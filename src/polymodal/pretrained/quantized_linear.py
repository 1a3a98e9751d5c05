"""Frozen linear layers with weights of 8 or 4 bits, under trainable adapters or other layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from polymodal.checkpoint.int8 import dequantize, quantize
from polymodal.runtime.meta_parameters import fill_meta_parameters

Quantization = Literal["none", "int8", "nf4"]
#: NormalFloat4 (Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", 2023, appendix E): quantiles of the
#: normal distribution, scaled to [-1, 1], with an exact zero.
NF4_VALUES = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
#: Neighboring weights that share a scale in 4 bits.
NF4_BLOCK = 64
#: Weights that are quantized at once, a multiple of two blocks.
CHUNK = 2**15


class QuantizedLinear(nn.Linear):
    """A frozen linear layer whose weight is kept in 8 or 4 bits. Products are in the precision of the training: the
    weight is computed for each product and not kept, also not for the gradient.

    int8: one scale for each output (Dettmers et al., "LLM.int8()", 2022, section 2.1); a quarter of the memory of fp32.
    nf4: NormalFloat4, one scale for each `NF4_BLOCK` weights; about a seventh.

    codes: `[out, in]` int8, or `[ceil(out in / 128) * 64]` uint8 with two codes in a byte
    scale: `[out]` or `[ceil(out in / 64)]` fp32
    """

    nf4_values: Tensor

    def __init__(self, layer: nn.Linear, kind: Literal["int8", "nf4"]) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.kind = layer.in_features, layer.out_features, kind
        self.bias = layer.bias
        codes, scale = quantize_weight(layer.weight, kind)
        self.codes = nn.Parameter(codes, requires_grad=False)
        self.scale = nn.Parameter(scale, requires_grad=False)
        self.register_buffer("nf4_values", torch.tensor(NF4_VALUES) if kind == "nf4" else None, persistent=False)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # a parameter of nn.Linear
        """The weight `[out, in]` in fp32, computed from the codes."""
        if self.kind == "int8":
            return dequantize(self.codes, self.scale)
        return dequantize_nf4(self.codes, self.scale, self.nf4_values)[: self.out_features * self.in_features].view(
            self.out_features, self.in_features
        )

    def forward(self, input: Tensor) -> Tensor:
        """`[..., in]` -> `[..., out]`."""
        product: Any = _Product.apply
        found: Tensor = product(input, self)
        return found


class _Product(torch.autograd.Function):
    """The output of a quantized layer; the gradient of its input computes the weight once more."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: QuantizedLinear) -> Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        return functional.linear(x, layer.weight, layer.bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (grad,) = grad_outputs
        return (grad @ ctx.layer.weight.to(grad.dtype)).to(ctx.dtype), None


def quantize_weight(weight: Tensor, kind: Literal["int8", "nf4"]) -> tuple[Tensor, Tensor]:
    """The codes and the scale of a weight `[out, in]`; `CHUNK` values are quantized at once."""
    if kind == "nf4":
        return quantize_nf4(weight)
    rows = max(1, CHUNK // max(1, weight[:1].numel()))
    return _joined([quantize(part) for part in torch.split(weight, rows)])


def quantize_nf4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The codes, two in a byte, and the scales of the blocks of a weight, whose last block is filled with zeros."""
    return _joined([_quantize_blocks(part.float()) for part in torch.split(weight.detach().reshape(-1), CHUNK)])


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    codes, scales = zip(*parts, strict=True)
    return torch.cat(codes), torch.cat(scales)


def _quantize_blocks(flat: Tensor) -> tuple[Tensor, Tensor]:
    blocks = functional.pad(flat, (0, -len(flat) % (2 * NF4_BLOCK))).view(-1, NF4_BLOCK)
    scale = blocks.abs().amax(1)
    values = torch.tensor(NF4_VALUES, device=flat.device)
    nearest = torch.bucketize(
        blocks / scale.clamp_min(torch.finfo(torch.float32).tiny)[:, None], (values[1:] + values[:-1]) / 2
    )
    pairs = nearest.to(torch.uint8).view(-1, 2)
    return pairs[:, 0] * 16 + pairs[:, 1], scale


def dequantize_nf4(codes: Tensor, scale: Tensor, values: Tensor) -> Tensor:
    """The weights in fp32, flat, with those that fill the last block.

    values: `NF4_VALUES` on the device of the codes, since copying them there for each product would wait
    """
    both = torch.stack([codes >> 4, codes & 15], dim=1).long()
    return (values[both].view(-1, NF4_BLOCK) * scale[:, None]).view(-1)


def quantize_frozen_layers(
    network: nn.Module,
    kind: Literal["int8", "nf4"],
    fill: Callable[[str, nn.Parameter], None] | None = None,
) -> int:
    """Replace the frozen linear layers of a network, and return how many there are. Layers that share their weight, as
    a head does with the embeddings, stay as they are.

    fill: gives a weight on the meta device, which has no memory, its values before it is quantized
    """
    uses = Counter(id(one) for module in network.modules() for one in module.parameters(recurse=False))
    places: dict[int, list[tuple[nn.Module, str]]] = {}  # a module can have several
    for module in network.modules():
        for name, child in module.named_children():
            if type(child) is nn.Linear and not child.weight.requires_grad and uses[id(child.weight)] == 1:
                places.setdefault(id(child), []).append((module, name))
    for owners in places.values():
        layer = getattr(*owners[0])
        if fill is not None:
            fill_meta_parameters(layer, fill)
        quantized = QuantizedLinear(layer, kind)
        for owner, name in owners:
            setattr(owner, name, quantized)
        del layer  # frees its weight
    return len(places)


def quantized_layers(network: nn.Module) -> dict[str, Literal["int8", "nf4"]]:
    """The number format of each quantized layer, by its name in the same network without adapters."""
    named = network.named_modules(remove_duplicate=False)
    return {name.removesuffix(".base_layer"): one.kind for name, one in named if isinstance(one, QuantizedLinear)}


def with_quantized_layers(
    weights: dict[str, Tensor], layers: Mapping[str, Literal["int8", "nf4"]]
) -> dict[str, Tensor]:
    """Weights of a network, with codes and scales in place of the weights of some layers."""
    found = dict(weights)
    for name, kind in layers.items():
        found[f"{name}.codes"], found[f"{name}.scale"] = quantize_weight(found.pop(f"{name}.weight"), kind)
    return found
