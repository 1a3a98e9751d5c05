"""What of a backbone learns, and how fast."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field
from torch import nn

from polymodal.core.errors import RecipeError
from polymodal.core.options import Strict
from polymodal.pretrained.adapters import add_adapters

if TYPE_CHECKING:
    from polymodal.pretrained.backbone import Backbone

#: Options that count only with some ways of tuning.
ONLY = {
    "layers": {"last", "lora", "dora"},
    "rank": {"lora", "dora"},
    "rate": {"last", "lora", "dora", "full"},
    "decay": {"last", "full"},
    "checkpointing": {"last", "lora", "dora", "full"},
}
RATES = {"last": 0.05, "lora": 0.3, "dora": 0.3, "full": 0.03}
RANK, LAST, DECAY = 8, 2, 0.9


class TuningOptions(Strict):
    """What of a checkpoint learns, and how fast: options of every component with pretrained weights."""

    tune: Literal["frozen", "last", "lora", "dora", "full"] = "frozen"
    """What of the checkpoint learns. frozen: nothing; last: the top layers and what lies above them; lora, dora:
    low-rank adapters in its layers (Hu et al., 2021; Liu et al., 2024); full: everything."""
    layers: int | None = Field(default=None, ge=1)
    """Top layers that learn, with `last` (silent: 2), or get adapters, with `lora` and `dora` (silent: all). Layers
    of an encoder below run once for each item."""
    rank: int | None = Field(default=None, ge=1)
    """Rank of the adapters, with `lora` and `dora`; silent: 8."""
    rate: float | None = Field(default=None, gt=0)
    """Multiplies the learning rate of what learns here; silent: 0.3 with `lora` and `dora`, 0.05 with `last`, 0.03
    with `full`, since trained weights are lost at rates that new ones need."""
    decay: float | None = Field(default=None, gt=0, le=1)
    """Each layer learns at this factor of the rate of the one above it, with `last` and `full`; silent: 0.9."""
    checkpointing: bool = False
    """Compute the layers that learn a second time for their gradient, in place of keeping what they made: about a
    third slower, and memory for a fraction of it."""


def check(options: TuningOptions) -> None:
    """Raises RecipeError where an option is given that has no effect with this way of tuning."""
    for name, ways in ONLY.items():
        if getattr(options, name) and options.tune not in ways:
            raise RecipeError(name, f"it has no effect with tune: {options.tune}, only with {', '.join(sorted(ways))}")


def apply(backbone: Backbone, options: TuningOptions) -> None:
    """Set the backbone's cut, add adapters, and let learn what learns.

    Raises:
        RecipeError: the network has fewer layers, or cannot be tuned in this way.
    """
    if options.tune == "frozen":
        return
    depth = backbone.depth
    count = options.layers or (LAST if options.tune == "last" else depth)
    if options.layers is not None and options.layers > depth:
        raise RecipeError("layers", f"{backbone.card.model} has only {depth} layers")
    count = depth if options.tune == "full" else min(count, depth)
    backbone.cut = depth - count
    if options.tune == "full":
        backbone.model.requires_grad_(True)
        if options.decay is not None and not backbone.cuttable:
            raise RecipeError("decay", f"{backbone.card.model} has no list of layers that run one after another")
    elif options.tune == "last":
        for module in [*backbone.layers[backbone.cut :], *backbone.above()]:
            module.requires_grad_(True)
    else:
        layers, tower = backbone.listed()[backbone.cut :], getattr(backbone.model, "tower", backbone.model)
        add_adapters(tower, layers, options.rank or RANK, dora=options.tune == "dora")
    if options.checkpointing:
        backbone.checkpoint_gradients()


def rates(backbone: Backbone, options: TuningOptions) -> dict[nn.Parameter, float]:
    """Factors on the learning rate: `rate * decay^k` for the k-th layer from the top; above the layers `rate`, below
    them `rate * decay^depth`. A network without a list of layers that run one after another has `rate` everywhere."""
    if options.tune == "frozen":
        return {}
    rate = options.rate or RATES[options.tune]
    decay = options.decay or DECAY
    learning = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    if options.tune in ("lora", "dora") or not backbone.cuttable:
        return dict.fromkeys(learning, rate)
    found = dict.fromkeys(learning, rate * decay**backbone.depth)
    for place, layer in enumerate(reversed(backbone.layers)):
        found |= {one: rate * decay**place for one in layer.parameters() if one in found}
    for module in backbone.above():
        found |= {one: rate for one in module.parameters() if one in found}
    return found
