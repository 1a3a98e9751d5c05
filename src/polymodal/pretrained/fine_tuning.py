"""Fine-tuning modes of pretrained backbones: trainable layers, adapters and learning rates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field
from torch import nn

from polymodal.core.errors import RecipeError
from polymodal.core.options import StrictModel
from polymodal.pretrained.adapters import add_adapters
from polymodal.pretrained.quantized_linear import Quantization, quantize_frozen_layers
from polymodal.pretrained.weights import InitialValues
from polymodal.runtime.meta_parameters import fill_meta_parameters

if TYPE_CHECKING:
    from polymodal.pretrained.backbone import Backbone

#: The fine-tuning modes in which each option has an effect.
OPTION_MODES = {
    "num_layers": {"last", "lora", "dora"},
    "lora_rank": {"lora", "dora"},
    "lr_multiplier": {"last", "lora", "dora", "full"},
    "layer_decay": {"last", "full"},
    "gradient_checkpointing": {"last", "lora", "dora", "full"},
    "quantization": {"freeze", "last", "lora", "dora"},
}
DEFAULT_LR_MULTIPLIERS = {"last": 0.05, "lora": 0.3, "dora": 0.3, "full": 0.03}
DEFAULT_LORA_RANK, DEFAULT_NUM_LAYERS, DEFAULT_LAYER_DECAY = 8, 2, 0.9


class FineTuningOptions(StrictModel):
    """Fine-tuning options of every component with pretrained weights."""

    fine_tuning: Literal["freeze", "last", "lora", "dora", "full"] = "freeze"
    """Trainable part of the checkpoint. `freeze`: none; `last`: the top layers and the modules after them; `lora`,
    `dora`: low-rank adapters in its layers (Hu et al., 2021; Liu et al., 2024); `full`: all weights."""
    num_layers: int | None = Field(default=None, ge=1)
    """Number of top layers that are trained (with `last`; default: 2) or get adapters (with `lora` and `dora`; default:
    all). The output of the layers of an encoder below them is computed once per item and cached."""
    lora_rank: int | None = Field(default=None, ge=1)
    """Rank of the adapters, with `lora` and `dora`. Default: 8."""
    lr_multiplier: float | None = Field(default=None, gt=0)
    """Multiplier of the learning rate for the trainable weights of the checkpoint. Default: 0.3 with `lora` and `dora`,
    0.05 with `last`, 0.03 with `full`, since the learning rate of new weights would destroy pretrained ones."""
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    """Layer-wise learning rate decay, with `last` and `full`: each layer has this multiple of the learning rate of the
    layer above it. Default: 0.9."""
    gradient_checkpointing: bool = False
    """Recompute activations of the trainable layers in the backward pass instead of storing them: about a third slower,
    with a fraction of the memory."""
    quantization: Quantization = "none"
    """Number format of the frozen matrices, in memory and in the saved model. `int8`: one scale for each output
    (Dettmers et al., 2022), a quarter of the memory; `nf4`: 4 bits with one scale for 64 weights, as in QLoRA (Dettmers
    et al., 2023), a seventh. Products are in the precision of the training, and slower, since the matrices are computed
    for each batch."""


def check_options(options: FineTuningOptions) -> None:
    """Check that all given options have an effect in this fine-tuning mode.

    Raises:
        RecipeError: an option has no effect.
    """
    for name, modes in OPTION_MODES.items():
        if getattr(options, name) not in (None, False, "none") and options.fine_tuning not in modes:
            raise RecipeError(
                name, f"it has no effect with fine_tuning: {options.fine_tuning}, only with {', '.join(sorted(modes))}"
            )


def apply_fine_tuning(backbone: Backbone, options: FineTuningOptions) -> None:
    """Set the split index of the backbone, add adapters, make the selected weights trainable, and quantize the frozen
    matrices.

    Raises:
        RecipeError: the network has fewer layers, or does not support this mode.
    """
    if options.fine_tuning == "freeze":
        _quantize(backbone, options)
        return
    depth = backbone.num_layers
    count = options.num_layers or (DEFAULT_NUM_LAYERS if options.fine_tuning == "last" else depth)
    if options.num_layers is not None and options.num_layers > depth:
        raise RecipeError("num_layers", f"{backbone.checkpoint.name} has only {depth} layers")
    count = depth if options.fine_tuning == "full" else min(count, depth)
    backbone.split_index = depth - count
    if options.fine_tuning == "full":
        backbone.model.requires_grad_(True)
        if options.layer_decay is not None and not backbone.is_splittable:
            raise RecipeError(
                "layer_decay", f"{backbone.checkpoint.name} has no list of layers that run one after another"
            )
    elif options.fine_tuning == "last":
        for module in [*backbone.layers[backbone.split_index :], *backbone.output_modules()]:
            module.requires_grad_(True)
        _quantize(backbone, options)
    else:
        _quantize(backbone, options)
        layers, tower = backbone.layer_list()[backbone.split_index :], getattr(backbone.model, "tower", backbone.model)
        add_adapters(tower, layers, options.lora_rank or DEFAULT_LORA_RANK, dora=options.fine_tuning == "dora")
    if options.gradient_checkpointing:
        backbone.enable_gradient_checkpointing()


def _quantize(backbone: Backbone, options: FineTuningOptions) -> None:
    """Quantize the frozen layers of a network whose parameters have no memory, and give all their first values."""
    if options.quantization == "none":
        return
    values = InitialValues()
    if not quantize_frozen_layers(backbone.model, options.quantization, values.fill):
        raise RecipeError("quantization", f"{backbone.checkpoint.name} has no frozen linear layer")
    fill_meta_parameters(backbone.model, values.fill)


def lr_multipliers(backbone: Backbone, options: FineTuningOptions) -> dict[nn.Parameter, float]:
    """Learning rate multiplier of each trainable parameter: `lr_multiplier * layer_decay^k` for the k-th layer from the
    top, `lr_multiplier` after the layers, `lr_multiplier * layer_decay^num_layers` before them. A network whose layers
    do not run in sequence has `lr_multiplier` everywhere."""
    if options.fine_tuning == "freeze":
        return {}
    multiplier = options.lr_multiplier or DEFAULT_LR_MULTIPLIERS[options.fine_tuning]
    decay = options.layer_decay or DEFAULT_LAYER_DECAY
    trainable = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    if options.fine_tuning in ("lora", "dora") or not backbone.is_splittable:
        return dict.fromkeys(trainable, multiplier)
    multipliers = dict.fromkeys(trainable, multiplier * decay**backbone.num_layers)
    for depth, layer in enumerate(reversed(backbone.layers)):
        multipliers |= {one: multiplier * decay**depth for one in layer.parameters() if one in multipliers}
    for module in backbone.output_modules():
        multipliers |= {one: multiplier for one in module.parameters() if one in multipliers}
    return multipliers
