"""Going on from a saved model: what a new recipe, its preparation and its network take over of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polymodal.checkpoint.model_directory import verify_model_files, file_sha256, read_json, read_weights
from polymodal.checkpoint.weight_format import WeightFormat
from polymodal.core.errors import ArtifactError, RecipeError
from polymodal.core.options import Options
from polymodal.core.registry import build, find
from polymodal.preparation.preparation import Preparation
from polymodal.pretrained.fine_tuning import TuningOptions
from polymodal.recipe.recipe import InputSpec, OutputSpec, Recipe
from polymodal.tasks.base import Task

PATH = "training.start"
#: Spaces whose values are in units that a task learns: deviations of numbers, tokens of texts.
FITTED_SPACES = ("real", "text")
#: How the layers of a checkpoint learn: that may change from phase to phase, as long as it has the same weights.
FINE_TUNING_OPTIONS = frozenset(TuningOptions.model_fields)


@dataclass(frozen=True)
class SourceModel:
    """A saved model from which another goes on: its recipe, what its preparation learned, and its weights.

    An input of the new recipe with the name and the modality of one of the saved model is *carried*: options that the
    recipe leaves open, the fitted preparation and the weights of its tower are the saved model's.

    sum: the SHA-256 of its manifest, and so of all that it is
    """

    folder: Path
    recipe: Recipe
    manifest_sha256: str
    weight_format: WeightFormat

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> SourceModel | None:
        """The model that `training.start` names; None where it names none.

        Raises:
            RecipeError: there is no model.
            ArtifactError: the model was altered after it was saved, or is of a later format.
        """
        if recipe.training.init_from is None:
            return None
        folder = Path(recipe.training.init_from)
        if not (folder / "manifest.json").is_file():
            state = "holds no model" if folder.is_dir() else "is not there"
            raise RecipeError(PATH, f"{folder} {state}: name a directory that `fit` or `pretrain` has written")
        weight_format = WeightFormat(**verify_model_files(folder))
        return cls(folder, Recipe.read(folder / "recipe.yaml"), file_sha256(folder / "manifest.json"), weight_format)

    def weights(self) -> dict[str, Any]:
        """The weights by their names in the saved network, in fp32."""
        return self.weight_format.unpacked(read_weights(self.folder))

    # The recipe.

    def complete_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with the saved model's `size` and `width` where it says neither.

        Raises:
            RecipeError: it says another width.
        """
        theirs = self.recipe
        if "width" in recipe.model_fields_set and recipe.hidden_size != theirs.hidden_size:
            raise RecipeError("width", self._differs(recipe.hidden_size, theirs.hidden_size))
        size = recipe.size if "size" in recipe.model_fields_set else theirs.size
        return recipe.model_copy(update={"width": theirs.hidden_size, "size": size})

    def complete_input(self, name: str, spec: InputSpec) -> InputSpec | None:
        """The input with the saved model's options; None where the saved model has no input of this name and kind.

        Raises:
            RecipeError: the recipe says otherwise, or the input has other columns that are prepared together.
        """
        theirs = self.recipe.inputs.get(name)
        if theirs is None or theirs.modality is None or theirs.encoder is None:
            return None
        if spec.modality is not None and spec.modality.name != theirs.modality.name:
            return None
        self._agree(f"inputs.{name}.modality", spec.modality, theirs.modality)
        self._agree(f"inputs.{name}.encoder", spec.encoder, theirs.encoder)
        if find("modality", theirs.modality.name).many_columns and spec.columns != theirs.columns:
            raise RecipeError(f"inputs.{name}.columns", self._differs(spec.columns, theirs.columns))
        encoder = theirs.encoder
        if isinstance(spec.encoder, TuningOptions) and "tune" in spec.encoder.model_fields_set:
            encoder = encoder.model_copy(update={option: getattr(spec.encoder, option) for option in FINE_TUNING_OPTIONS})
        return spec.model_copy(update={"modality": theirs.modality, "encoder": encoder})

    def input_of_column(self, column: str) -> InputSpec | None:
        """The saved model's input that is named after this column and read it alone."""
        theirs = self.recipe.inputs.get(column)
        return theirs if theirs is not None and theirs.columns == [column] else None

    def order_inputs(self, inputs: dict[str, InputSpec]) -> dict[str, InputSpec]:
        """Inferred inputs with those of the saved model first, in its order."""
        first = {name: inputs[name] for name in self.recipe.inputs if name in inputs}
        return first | inputs

    def complete_output(self, name: str, spec: OutputSpec) -> OutputSpec:
        """The output with the saved model's task and decoder where it is silent and does not say otherwise."""
        theirs = self.recipe.outputs.get(name)
        if theirs is None or theirs.task is None or theirs.decoder is None or not _agrees(spec.task, theirs.task):
            return spec
        decoder = theirs.decoder if _agrees(spec.decoder, theirs.decoder) else spec.decoder
        return spec.model_copy(update={"task": theirs.task, "decoder": decoder})

    def fusion(self, inputs: Collection[str]) -> Options | None:
        """The saved model's fusion, if it is of the same inputs."""
        same = list(inputs) == list(self.recipe.inputs)
        return self.recipe.fusion if same and self.recipe.fuses else None

    def check_inputs(self, inputs: dict[str, InputSpec]) -> None:
        """Raises RecipeError where no input is carried; a model without inputs goes on from one without."""
        if (inputs or self.recipe.inputs) and not any(self._carries(name, spec) for name, spec in inputs.items()):
            problem = f"{self.folder} has the inputs {_listed(self.recipe.inputs)}, and none of them is here"
            raise RecipeError(PATH, f"{problem}: {_listed(inputs)}; name them alike")

    def matching_inputs(self, recipe: Recipe) -> list[str]:
        """The inputs of a complete recipe that are carried."""
        return [name for name, spec in recipe.inputs.items() if self._carries(name, spec)]

    def has_same_fusion(self, recipe: Recipe) -> bool:
        """Whether a complete recipe fuses the same inputs, all of them carried, by the same fusion."""
        theirs = self.recipe
        carried = self.matching_inputs(recipe) == list(recipe.inputs) == list(theirs.inputs)
        both = recipe.fuses and theirs.fuses and recipe.task_tokens == theirs.task_tokens
        return carried and both and recipe.fusion == theirs.fusion

    # The preparation.

    def load_modalities(self, preparation: Preparation) -> list[str]:
        """Load what the saved model's preparation learned of the carried inputs, and name them."""
        state, names = read_json(self.folder / "preparation.json"), self.matching_inputs(preparation.recipe)
        for name in names:
            place = list(self.recipe.inputs).index(name)
            preparation.modalities[name].load(self.folder / "preparation" / f"input{place}", state["inputs"][name])
        return names

    def load_tasks(self, preparation: Preparation) -> None:
        """Give outputs that can be carried the saved model's units: the scale of its numbers, the tokens of its
        texts."""
        for name in self._equal_outputs(preparation):
            task = preparation.tasks[name]
            if task.space in FITTED_SPACES and self._task(name, task.columns).classes == task.classes:
                preparation.tasks[name] = self._task(name, task.columns)

    def matching_outputs(self, preparation: Preparation) -> list[str]:
        """The outputs whose task, decoder, classes and units are those of the saved model, over the same fusion."""
        found = []
        for name in self._equal_outputs(preparation):
            task = preparation.tasks[name]
            theirs = self._task(name, task.columns)
            alike = theirs.classes == task.classes and theirs.output_shape == task.output_shape
            if alike and (task.space not in FITTED_SPACES or theirs.save() == task.save()):
                found.append(name)
        return found

    def _equal_outputs(self, preparation: Preparation) -> list[str]:
        recipe, theirs = preparation.recipe, self.recipe.outputs
        if not self.has_same_fusion(recipe):
            return []
        return [
            name
            for name, spec in recipe.outputs.items()
            if name in theirs and spec.task == theirs[name].task and spec.decoder == theirs[name].decoder
        ]

    def _task(self, name: str, columns: list[str]) -> Task:
        """The saved model's task, fitted."""
        task: Task = build("task", self.recipe.outputs[name].task, f"outputs.{name}", columns=columns)
        place = list(self.recipe.outputs).index(name)
        task.read_files(self.folder / "preparation" / f"output{place}")
        task.load(read_json(self.folder / "preparation.json")["outputs"][name])
        return task

    def _carries(self, name: str, spec: InputSpec) -> bool:
        theirs = self.recipe.inputs.get(name)
        if theirs is None or theirs.modality is None or spec.modality is None:
            return False
        return spec.modality.name == theirs.modality.name

    def _agree(self, path: str, said: Options | None, theirs: Options) -> None:
        """Raises RecipeError where the recipe says anything else than the saved model has."""
        if said is None:
            return
        if said.name != theirs.name:
            raise RecipeError(path, self._differs(said.name, theirs.name))
        for option in type(said).model_fields:
            if _silent(said, option):
                continue
            own, other = getattr(said, option), getattr(theirs, option)
            if isinstance(own, Options) and isinstance(other, Options):
                self._agree(f"{path}.{option}", own, other)
            elif own != other:
                raise RecipeError(f"{path}.{option}", self._differs(own, other))

    def _differs(self, ours: Any, theirs: Any) -> str:
        return f"the recipe says {ours!r}, and {self.folder} has {theirs!r}; leave it out, or do not go on from there"


def _listed(inputs: dict[str, InputSpec]) -> str:
    return ", ".join(f"{name} ({spec.modality.name})" for name, spec in inputs.items() if spec.modality) or "none"


def _silent(said: Options, option: str) -> bool:
    tuned = option in FINE_TUNING_OPTIONS and isinstance(said, TuningOptions)
    return option == "name" or option not in said.model_fields_set or tuned or getattr(said, option) is None


def _agrees(said: Options | None, theirs: Options) -> bool:
    if said is None:
        return True
    if said.name != theirs.name:
        return False
    options = [option for option in type(said).model_fields if not _silent(said, option)]
    return all(getattr(said, option) == getattr(theirs, option) for option in options)


def source_fingerprint(recipe: Recipe) -> str:
    """What tells the model that a run goes on from apart from others that stood in the same place; "" without one."""
    if recipe.training.init_from is None:
        return ""
    manifest = Path(recipe.training.init_from) / "manifest.json"
    if not manifest.is_file():
        raise ArtifactError(f"{manifest} is missing")
    return file_sha256(manifest)
