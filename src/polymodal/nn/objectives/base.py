"""Base class of objectives: losses on the inputs themselves, without a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.options import Options, SizedModel
from polymodal.core.types import Batch, FusionOutput, InputBatch, Tokens
from polymodal.distributed.world import SINGLE, World
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.towers import EncodedInputs, Tower


class ObjectiveOptions(Options, SizedModel):
    """Base of every objective's options."""

    inputs: list[str] = []
    """Inputs that the objective uses. Default: all inputs that it supports."""
    weight: float = Field(default=1.0, gt=0)
    """Weight of this loss in the total loss."""

    @property
    def referenced_inputs(self) -> list[tuple[str, str]]:
        """Inputs that options other than `inputs` name, as (option, input)."""
        return []


class InputInfo(NamedTuple):
    """An input as objectives see it: modality, shape of the prepared tensors, encoder."""

    modality: str
    shape: dict[str, Any]
    encoder: Encoder


class ObjectiveLoss(NamedTuple):
    """One loss of a batch.

    With several processes, a batch is the rows of all of them, and an objective has the same terms in all of them.

    loss: the scalar to minimize; with several processes the part of this one (`World`)
    baseline: loss of the best prediction without any information about the row; the training monitor compares with it
    num_values: weight of this batch in a mean over batches: number of rows, pairs or tokens that the loss averages over
    """

    name: str
    loss: Tensor
    baseline: float
    num_values: float


class NetworkProtocol(Protocol):
    """The parts of the network that an objective may use."""

    @property
    def towers(self) -> Mapping[str, Tower]:
        """The tower of each input."""

    @property
    def objectives(self) -> Mapping[str, Objective]:
        """All objectives of the network by name, including this one."""

    def fuse(self, encoded: EncodedInputs, rows: int, hidden: Mapping[str, Tensor] | None = None) -> list[FusionOutput]:
        """Fuse `rows` rows. `hidden[input] [rows]` masks that input in those rows."""


@dataclass(frozen=True)
class ObjectiveBatch:
    """A batch with its encoded inputs.

    tokens: tokens of every input before fusion, encoded once for all objectives and outputs
    reaugment: returns the same rows with newly drawn augmentations
    progress: fraction of training that is done, 0 to 1
    world: the processes that share the batch; `batch` and `tokens` are the rows of this one
    """

    network: NetworkProtocol
    batch: Batch
    tokens: Mapping[str, Tokens]
    reaugment: Callable[[], Batch]
    progress: float = 0.0
    world: World = SINGLE


def own_items(batch: InputBatch, world: World) -> Tensor:
    """Which items of an input this process counts, `[items]` bool. An item that several processes have is counted by
    the first of them."""
    items = len(next(iter(batch.data.values())))
    if world.size == 1:
        return torch.ones(items, dtype=torch.bool, device=batch.present.device)
    numbers = torch.full((items,), -1, device=batch.present.device)
    numbers[batch.index[batch.present]] = batch.item_numbers[batch.present]
    earlier = [numbers[:0], *(one.to(numbers.device) for one in world.gather_tensors(numbers)[: world.rank])]
    return ~torch.isin(numbers, torch.cat(earlier))


class Objective(nn.Module):
    """Base class of objectives.

    An objective is a module of the network: its own parameters (heads, mask tokens, prototypes) are saved with the
    model. It is built from all inputs of the recipe by name, in recipe order, and the hidden size. It draws all random
    numbers from the global generator of torch. A row without an input does not contribute to the loss of that input.

    Subclasses define `Options`, the class variables below and `forward`, and are registered with `register`.

    Example:
        >>> import torch
        >>> class Variance(Objective):
        ...     def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        ...         pooled = {name: step.tokens[name].pooled() for name in self.inputs}
        ...         return [ObjectiveLoss(name, (1 - x.std(0)).abs().mean(), 1.0, len(x)) for name, x in pooled.items()]
        >>> inputs = {name: InputInfo("number", {}, torch.nn.Identity()) for name in ("size", "price")}
        >>> Variance(ObjectiveOptions(name="variance", inputs=["price"]), inputs=inputs, width=8).inputs
        ['price']
    """

    kind: ClassVar[str] = "objective"
    Options: ClassVar[type[ObjectiveOptions]]
    #: Supported modalities; empty: all.
    modalities: ClassVar[tuple[str, ...]] = ()
    #: Minimum number of inputs.
    min_inputs: ClassVar[int] = 1
    #: Whether it uses the fused representation, so that the network must have a fusion.
    uses_fusion: ClassVar[bool] = False
    #: Whether it compares the rows of a batch. Rows that share an item should then be in different batches.
    compares_rows: ClassVar[bool] = False
    #: Whether it computes with the weights of the network after a step. Then each process must hold all of them.
    follows_weights: ClassVar[bool] = False
    #: Whether its validation loss can select the best epoch. If not, the last epoch is kept.
    usable_for_model_selection: ClassVar[bool] = True

    def __init__(self, options: ObjectiveOptions, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__()
        self.options, self.width = options, width
        modalities = {name: info.modality for name, info in inputs.items()}
        self.check_options(options, modalities)
        self.inputs = self.select_inputs(options.inputs, modalities)

    @classmethod
    def select_inputs(cls, named: list[str], modalities: Mapping[str, str]) -> list[str]:
        """Inputs that the objective uses, in recipe order.

        named: the option `inputs`
        modalities: modality of every input of the recipe

        Raises:
            RecipeError: an input does not exist, has an unsupported modality or is listed twice, or there are too few
                inputs.
        """
        for name in named:
            if name not in modalities:
                raise RecipeError("inputs", f"there is no input {name!r}; {did_you_mean(name, modalities)}")
            if cls.modalities and modalities[name] not in cls.modalities:
                fitting = ", ".join(cls.modalities)
                raise RecipeError(
                    "inputs", f"the modality of {name!r} is {modalities[name]}; this objective supports {fitting}"
                )
            if named.count(name) > 1:
                raise RecipeError("inputs", f"{name!r} is listed twice")
        fitting_names = [name for name in modalities if not cls.modalities or modalities[name] in cls.modalities]
        selected = [name for name in modalities if name in named] if named else fitting_names
        if len(selected) < cls.min_inputs:
            supported = " or ".join(cls.modalities) or "any modality"
            raise RecipeError(
                "inputs", f"this objective needs at least {cls.min_inputs} inputs of {supported}, not {selected}"
            )
        return selected

    @classmethod
    def check_options(cls, options: ObjectiveOptions, modalities: Mapping[str, str]) -> None:
        """Check every option that names an input, before the network is built.

        Raises:
            RecipeError: see `select_inputs`; or another option names an input that does not exist.
        """
        cls.select_inputs(options.inputs, modalities)
        for option, name in options.referenced_inputs:
            if name not in modalities:
                raise RecipeError(option, f"there is no input {name!r}; {did_you_mean(name, modalities)}")

    @property
    def raw_inputs(self) -> list[str]:
        """Inputs whose prepared tensors the objective reads, so that cached frozen features are not enough."""
        return []

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        """Losses of a batch; an empty list if too few rows have the inputs."""
        raise NotImplementedError(type(self).__name__)

    def after_step(self, network: NetworkProtocol) -> None:
        """Called after each optimizer step, for state that follows the weights, such as an EMA teacher."""

    def lr_multipliers(self) -> dict[nn.Parameter, float]:
        """Factor on the learning rate by parameter, for parameters with a learning rate of their own."""
        return {}
