"""What a search may change: recipe paths, each with choices or a range."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.options import explicit_values as given_values
from polymodal.recipe.recipe import Recipe

#: Paths that decide what is learned from what, or on which rows: all trials share them, or their scores would not be
#: comparable.
SHARED_SECTIONS = ("data", "evaluation", "seed")
SHARED_KEYS = ("columns", "privileged", "task", "weight")


@dataclass(frozen=True)
class CategoricalDimension:
    """One of `values`; the first is where a search begins."""

    values: tuple[Any, ...]

    @property
    def labels(self) -> list[str]:
        """A text for each value, from which `value` finds it again."""
        return [json.dumps(value, sort_keys=True) for value in self.values]

    def value(self, drawn: Any) -> Any:
        return self.values[self.labels.index(drawn)]

    @property
    def start(self) -> Any:
        return self.labels[0]

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.values

    def to_plain(self) -> Any:
        return list(self.values)


@dataclass(frozen=True)
class NumericDimension:
    """A number from `low` to `high`, whole where both are; `log`: each doubling is equally likely."""

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def value(self, drawn: Any) -> Any:
        return drawn

    @property
    def start(self) -> float:
        """The middle, where a search begins."""
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return round(middle) if self.whole else middle

    @property
    def ends(self) -> tuple[Any, ...]:
        return (self.low, self.high)

    def to_plain(self) -> Any:
        return {"low": self.low, "high": self.high, "log": self.log}


Dimension = CategoricalDimension | NumericDimension


class SearchSpace:
    """The dimensions of a search, by recipe path, outer paths before those inside them.

    An option of a component (`fusion.dropout`) may stand beside the choice of that component (`fusion`): it is then
    drawn only where the chosen component has that option.
    """

    def __init__(self, dimensions: Mapping[str, Dimension], base: Recipe) -> None:
        """
        base: the recipe that every trial starts from; its inputs and outputs are all named, with their modality and
            task

        Raises:
            RecipeError: a path is not in the recipe, or a value is not possible there.
        """
        self.dimensions = dict(sorted(dimensions.items(), key=lambda pair: pair[0].count(".")))
        self.base = given_values(base)
        for path in self.dimensions:
            _check_path(path, base)
        self._allowed = {path: self._check_values(path) for path in self.dimensions}

    @classmethod
    def read(cls, source: Mapping[str, Any], base: Recipe) -> SearchSpace:
        """A space from plain values: `{path: [a, b]}` or `{path: {low, high, log}}`.

        Raises:
            RecipeError: as the constructor; also for a dimension that is neither choices nor a range.
        """
        if not source:
            raise RecipeError("", "the search space is empty: write recipe paths with choices or ranges")
        return cls({str(path): _dimension(str(path), value) for path, value in source.items()}, base)

    def to_dict(self) -> dict[str, Any]:
        """The space as plain values, as `read` takes them."""
        return {path: dimension.to_plain() for path, dimension in self.dimensions.items()}

    def recipe(self, values: Mapping[str, Any]) -> Recipe:
        """The base recipe with `values` by path.

        Raises:
            RecipeError: the values do not fit together.
        """
        ordered = sorted(values.items(), key=lambda pair: pair[0].count("."))
        return Recipe.read(self.base, [f"{path}={_as_yaml(value)}" for path, value in ordered])

    def fixed_encoders(self) -> dict[str, Any]:
        """For each input whose encoder is searched, the first choice that is frozen and pretrained, if there is one."""
        found = {}
        for path, dimension in self.dimensions.items():
            if not path.endswith(".encoder") or not isinstance(dimension, CategoricalDimension):
                continue
            for value in dimension.values:
                options = Recipe.read(self.base, [f"{path}={_as_yaml(value)}"]).inputs[_input(path)].encoder
                if getattr(options, "fine_tuning", None) == "freeze":
                    found[path] = value
                    break
        return found

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Values by path, drawn by an Optuna trial."""
        values: dict[str, Any] = {}
        for path, dimension in self.dimensions.items():
            if not self._applies(path, values):
                continue
            if isinstance(dimension, CategoricalDimension):
                values[path] = dimension.value(trial.suggest_categorical(path, dimension.labels))
            elif dimension.whole:
                values[path] = trial.suggest_int(path, int(dimension.low), int(dimension.high), log=dimension.log)
            else:
                values[path] = trial.suggest_float(path, dimension.low, dimension.high, log=dimension.log)
        return values

    def points(self, most: int) -> list[dict[str, Any]]:
        """Where a search begins, as drawn values by path: the start of every dimension; then each other choice of
        components (fusion, then encoders, then the rest) with all else at its start."""
        first = {path: dimension.start for path, dimension in self.dimensions.items()}
        found = [first]
        for path in sorted(self.dimensions, key=_importance):
            dimension = self.dimensions[path]
            if isinstance(dimension, CategoricalDimension) and _importance(path) < 3:
                found += [first | {path: label} for label in dimension.labels[1:]]
        return [self._without_idle(point) for point in found[:most]]

    def _without_idle(self, point: dict[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for path, dimension in self.dimensions.items():
            if self._applies(path, values):
                values[path] = dimension.value(point[path])
        return {path: point[path] for path in values}

    def _applies(self, path: str, values: Mapping[str, Any]) -> bool:
        """Whether `path` is there with the outer `values` that were chosen."""
        outer = self._outer(path)
        if outer is None:
            return True
        return outer in values and json.dumps(values[outer], sort_keys=True) in self._allowed[path]

    def _outer(self, path: str) -> str | None:
        """The innermost other dimension that `path` lies inside of."""
        return max((one for one in self.dimensions if path.startswith(f"{one}.")), key=len, default=None)

    def _check_values(self, path: str) -> set[str]:
        """The choices of the outer dimension, as labels, with which every value of `path` is possible."""
        outer = self._outer(path)
        if outer is None:
            for value in self.dimensions[path].ends:
                self.recipe({path: value}).check_components()
            return set()
        dimension = self.dimensions[outer]
        allowed, problem = set(), None
        for choice in dimension.ends if isinstance(dimension, CategoricalDimension) else ():
            try:
                for value in self.dimensions[path].ends:
                    self.recipe({outer: choice, path: value}).check_components()
            except RecipeError as error:
                problem = error
            else:
                allowed.add(json.dumps(choice, sort_keys=True))
        if not allowed:
            raise problem or RecipeError(path, f"{outer} is a range, which has nothing inside")
        return allowed


def _input(path: str) -> str:
    return path.removeprefix("inputs.").removesuffix(".encoder")


def _importance(path: str) -> int:
    """Which components to vary first: fusion, encoders, decoders; then everything else."""
    if path == "fusion":
        return 0
    if path.endswith(".encoder"):
        return 1
    return 2 if path.endswith(".decoder") else 3


def _check_path(path: str, base: Recipe) -> None:
    """Raises RecipeError for a path that leads nowhere or that all trials must share; `Recipe` checks the rest."""
    kind, _, rest = path.partition(".")
    if kind not in Recipe.model_fields:
        raise RecipeError(path, f"there is no such key in a recipe; {did_you_mean(kind, Recipe.model_fields)}")
    if kind in SHARED_SECTIONS:
        raise RecipeError(path, "every trial is tried on the same rows in the same way: set it in the recipe instead")
    if kind in ("inputs", "outputs"):
        names = getattr(base, kind)
        name = max((one for one in names if rest == one or rest.startswith(f"{one}.")), key=len, default=None)
        if name is None:
            hint = did_you_mean(rest.split(".")[0], names)
            raise RecipeError(path, f"there is no such {kind[:-1]}; {hint}")
        key = rest[len(name) + 1 :]
        if not key or key.split(".")[0] in SHARED_KEYS:
            raise RecipeError(
                path, "it decides what is learned from what, which all trials share; set it in the recipe"
            )


def _dimension(path: str, value: Any) -> Dimension:
    if isinstance(value, list) and value:
        labels = [json.dumps(one, sort_keys=True) for one in value]
        if len(set(labels)) < len(labels):
            raise RecipeError(path, "the same choice is there twice")
        return CategoricalDimension(tuple(value))
    if isinstance(value, Mapping) and "low" in value and "high" in value:
        unknown = [key for key in value if key not in ("low", "high", "log")]
        if unknown:
            raise RecipeError(
                f"{path}.{unknown[0]}", f"there is no such key; {did_you_mean(unknown[0], ['low', 'high', 'log'])}"
            )
        low, high, log = _number(path, value["low"]), _number(path, value["high"]), value.get("log", False)
        if not isinstance(log, bool):
            raise RecipeError(f"{path}.log", f"write true or false (given: {log!r})")
        if not low < high or (log and low <= 0):
            raise RecipeError(path, f"low must be less than high, and above 0 with log (given: {low} to {high})")
        return NumericDimension(low, high, log)
    raise RecipeError(path, f"write choices as [a, b], or a range as {{low, high, log}} (given: {value!r})")


def _number(path: str, value: Any) -> float:
    """A number; YAML reads `3e-4` as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise RecipeError(path, f"the ends of a range are numbers (given: {value!r})")
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        raise RecipeError(path, f"the ends of a range are numbers (given: {value!r})") from None


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=float("inf")).removesuffix("...\n").strip()


def base_recipe(given: Recipe, plan: Recipe, space: Mapping[str, Any]) -> Recipe:
    """What every trial starts from: what the user's recipe says, with every input and output named.

    All else stays open, so that it follows from what a trial chooses (a checkpoint's own preparation, the size dial).
    An encoder is named where the space only changes options inside it.

    given: the user's recipe; plan: the complete one; space: recipe paths as keys
    """
    said = given_values(given)
    inputs, outputs = said.get("inputs", {}), said.get("outputs", {})
    within = {path.partition(".encoder.")[0] for path in space if ".encoder." in path}
    for name, spec in plan.inputs.items():
        assert spec.modality is not None
        assert spec.encoder is not None
        own = {"columns": spec.columns, "modality": {"name": spec.modality.name}, **inputs.get(name, {})}
        if f"inputs.{name}" in within and f"inputs.{name}.encoder" not in space and "encoder" not in own:
            checkpoint = {"checkpoint": spec.encoder.checkpoint} if hasattr(spec.encoder, "checkpoint") else {}
            own["encoder"] = {"name": spec.encoder.name, **checkpoint}
        inputs = {**inputs, name: own}
    for name, out in plan.outputs.items():
        assert out.task is not None
        outputs = {**outputs, name: {"columns": out.columns, "task": {"name": out.task.name}, **outputs.get(name, {})}}
    ordered = {name: inputs[name] for name in plan.inputs}
    return Recipe.read({**said, "inputs": ordered, "outputs": outputs})
