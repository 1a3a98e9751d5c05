"""What an objective is: something to learn from the inputs themselves, without a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from pydantic import Field
from torch import Tensor, nn

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.options import Options, SizedModel
from polymodal.core.types import Batch, Tokens, FusionOutput
from polymodal.nn.encoders.base import Encoder
from polymodal.nn.towers import EncodedInputs, Tower


class ObjectiveOptions(Options, SizedModel):
    """Base of every objective's options."""

    inputs: list[str] = []
    """The inputs that it learns from; silent: all that it can."""
    weight: float = Field(default=1.0, gt=0)
    """Weight of its loss beside those of other objectives and of the outputs."""

    @property
    def named(self) -> list[tuple[str, str]]:
        """Inputs that an option besides `inputs` names, as (option, input)."""
        return []


class InputInfo(NamedTuple):
    """What an objective is told of an input: its modality, the shape of its prepared tensors, and its encoder."""

    modality: str
    shape: dict[str, Any]
    encoder: Encoder


class ObjectiveLoss(NamedTuple):
    """One loss of a batch.

    loss: the scalar to minimise
    chance: the loss of the best guess that knows nothing of what is to be learned; the monitor compares with it
    rows: how much the batch counts in a mean over batches: the rows, pairs or tokens that the loss is a mean of
    """

    name: str
    loss: Tensor
    chance: float
    rows: float


class NetworkProtocol(Protocol):
    """What an objective may ask of the network that it is a part of."""

    @property
    def towers(self) -> Mapping[str, Tower]:
        """The tower of each input."""

    @property
    def objectives(self) -> Mapping[str, Objective]:
        """The objectives by name, this one among them."""

    def fuse(self, encoded: EncodedInputs, rows: int, hidden: Mapping[str, Tensor] | None = None) -> list[FusionOutput]:
        """What the fusion makes of so many encoded rows; `hidden[input] [rows]` hides that input in those rows."""


@dataclass(frozen=True)
class ObjectiveBatch:
    """A batch on its way through the objectives.

    tokens: every input's tokens before fusion, encoded once for all objectives and outputs
    again: makes the same rows once more, with other random changes
    progress: the share of training that is done, from 0 to 1
    """

    network: NetworkProtocol
    batch: Batch
    tokens: Mapping[str, Tokens]
    again: Callable[[], Batch]
    progress: float = 0.0


class Objective(nn.Module):
    """Base of every objective.

    An objective is a part of the network: what it learns beside the encoders (heads, mask tokens, prototypes) is saved
    with the model. It is built with every input of the recipe by name, in recipe order, and the common width. All that
    it draws at random comes from torch's global generator. A row that lacks an input tells it nothing of that input.
    """

    kind: ClassVar[str] = "objective"
    Options: ClassVar[type[ObjectiveOptions]]
    #: The modalities that it can learn from; empty: all.
    modalities: ClassVar[tuple[str, ...]] = ()
    #: The min_inputs inputs that it needs.
    min_inputs: ClassVar[int] = 1
    #: Whether it reads what the fusion makes of the inputs, so that the network must have one.
    uses_fusion: ClassVar[bool] = False
    #: Whether it compares the rows of a batch with each other, so that rows that share an item are better kept apart.
    compares_rows: ClassVar[bool] = False
    #: Whether epochs can be compared by its loss on validation rows; where not, the last epoch is kept.
    usable_for_model_selection: ClassVar[bool] = True

    def __init__(self, options: ObjectiveOptions, *, inputs: Mapping[str, InputInfo], width: int) -> None:
        super().__init__()
        self.options, self.width = options, width
        modalities = {name: one.modality for name, one in inputs.items()}
        self.check(options, modalities)
        self.inputs = self.chosen(options.inputs, modalities)

    @classmethod
    def chosen(cls, named: list[str], modalities: Mapping[str, str]) -> list[str]:
        """The inputs that it learns from, in recipe order.

        modalities: of every input of the recipe

        Raises:
            RecipeError: there is no such input, it is of a modality that the objective cannot learn from, it is named
                twice, or too few are left.
        """
        for name in named:
            if name not in modalities:
                raise RecipeError("inputs", f"there is no input {name!r}; {did_you_mean(name, modalities)}")
            if cls.modalities and modalities[name] not in cls.modalities:
                fitting = ", ".join(cls.modalities)
                raise RecipeError("inputs", f"{name!r} is {modalities[name]}, and this objective learns from {fitting}")
            if named.count(name) > 1:
                raise RecipeError("inputs", f"{name!r} is named twice")
        fitting_names = [name for name in modalities if not cls.modalities or modalities[name] in cls.modalities]
        found = [name for name in modalities if name in named] if named else fitting_names
        if len(found) < cls.min_inputs:
            wanted = " or ".join(cls.modalities) or "any modality"
            raise RecipeError("inputs", f"it needs {cls.min_inputs} or more inputs of {wanted}, and there are {found}")
        return found

    @classmethod
    def check(cls, options: ObjectiveOptions, modalities: Mapping[str, str]) -> None:
        """Check every option that names an input, before anything is built.

        Raises:
            RecipeError: as `chosen`; or another option names what is no input.
        """
        cls.chosen(options.inputs, modalities)
        for option, name in options.named:
            if name not in modalities:
                raise RecipeError(option, f"there is no input {name!r}; {did_you_mean(name, modalities)}")

    @property
    def raw_inputs(self) -> list[str]:
        """Inputs whose prepared tensors it must see, so that no features of settled layers can stand in for them."""
        return []

    def forward(self, step: ObjectiveBatch) -> list[ObjectiveLoss]:
        """The losses of a batch; none where too few of its rows have what it learns from."""
        raise NotImplementedError(type(self).__name__)

    def after_step(self, network: NetworkProtocol) -> None:
        """Called after each step of the optimiser, for what follows the weights (a teacher that is their average)."""

    def rates(self) -> dict[nn.Parameter, float]:
        """Parameters that learn at another rate than the rest, and the factor on the learning rate of each."""
        return {}
