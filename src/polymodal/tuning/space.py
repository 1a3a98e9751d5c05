"""The search space: recipe paths, each with choices or a range."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from polymodal.core.errors import RecipeError, did_you_mean
from polymodal.core.options import explicit_values as given_values
from polymodal.recipe.recipe import Recipe

#: Paths that define the inputs, the targets and the rows. All trials share them, so that their scores are comparable.
SHARED_SECTIONS = ("data", "evaluation", "seed")
SHARED_KEYS = ("columns", "privileged", "task", "loss_weight")
#: The path of the members, and the label of its choice of a network alone.
MEMBERS, NETWORK = "members", "[]"


@dataclass(frozen=True)
class CategoricalDimension:
    """A categorical dimension: one of `values`; the search starts with the first."""

    values: tuple[Any, ...]

    @property
    def labels(self) -> list[str]:
        """A JSON label for each value; `decode` maps it back to the value."""
        return [json.dumps(value, sort_keys=True) for value in self.values]

    def decode(self, label: Any) -> Any:
        return self.values[self.labels.index(label)]

    @property
    def initial(self) -> Any:
        return self.labels[0]

    @property
    def test_values(self) -> tuple[Any, ...]:
        return self.values

    def to_plain(self) -> Any:
        return list(self.values)


@dataclass(frozen=True)
class NumericDimension:
    """A numeric dimension from `low` to `high`, integer if both are integers; `log`: uniform on a logarithmic scale."""

    low: float
    high: float
    log: bool = False

    @property
    def is_integer(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def decode(self, label: Any) -> Any:
        return label

    @property
    def initial(self) -> float:
        """The middle of the range, where the search starts."""
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return round(middle) if self.is_integer else middle

    @property
    def test_values(self) -> tuple[Any, ...]:
        return (self.low, self.high)

    def to_plain(self) -> Any:
        return {"low": self.low, "high": self.high, "log": self.log}


Dimension = CategoricalDimension | NumericDimension


class SearchSpace:
    """The dimensions of a search by recipe path, outer paths before inner paths.

    The space can contain a component (`fusion`) and an option of it (`fusion.dropout`). The option is then drawn only
    if the chosen component has it.

    With choices of `members`, `[]` stands for a network. A trial with members has no network, unless the recipe sets
    `network: true`: settings of networks are not drawn, and its inputs have the first frozen pretrained encoder among
    their choices.
    """

    def __init__(self, dimensions: Mapping[str, Dimension], base: Recipe) -> None:
        """
        base: the base recipe of all trials, which lists all inputs with their modality and all outputs with their task

        Raises:
            RecipeError: a path is not in the recipe, or a value is invalid.
        """
        ordered = sorted(dimensions.items(), key=lambda pair: (pair[0] != MEMBERS, pair[0].count(".")))
        self.dimensions = dict(ordered)
        self.base = given_values(base)
        for path in self.dimensions:
            _check_path(path, base)
        self._allowed = {path: self._check_values(path) for path in self.dimensions}

    @classmethod
    def read(cls, source: Mapping[str, Any], base: Recipe) -> SearchSpace:
        """Create a space from plain values: `{path: [a, b]}` or `{path: {low, high, log}}`.

        Raises:
            RecipeError: as in the constructor; also for a dimension that is neither choices nor a range.
        """
        if not source:
            raise RecipeError("", "the search space is empty; give recipe paths with choices or ranges")
        return cls({str(path): _dimension(str(path), value) for path, value in source.items()}, base)

    def to_dict(self) -> dict[str, Any]:
        """The space as plain values, as in `read`."""
        return {path: dimension.to_plain() for path, dimension in self.dimensions.items()}

    def recipe(self, values: Mapping[str, Any]) -> Recipe:
        """The base recipe with the given `values` by path.

        Raises:
            RecipeError: the values are not compatible.
        """
        if values.get(MEMBERS) and not self.base.get("network"):
            values = {**self.frozen_encoders, "network": False, **values}
        elif MEMBERS in values:
            values = {"network": True, **values}
        ordered = sorted(values.items(), key=lambda pair: pair[0].count("."))
        return Recipe.read(self.base, dict(ordered))

    @property
    def has_networks(self) -> bool:
        """Whether a trial can have a network."""
        members = self.dimensions.get(MEMBERS)
        return self.base.get("network") is not False and (
            not isinstance(members, CategoricalDimension) or NETWORK in members.labels or bool(self.base.get("network"))
        )

    @cached_property
    def frozen_encoders(self) -> dict[str, Any]:
        """For each input whose encoder is searched, the first choice that is a frozen pretrained encoder, if any."""
        found = {}
        for path, dimension in self.dimensions.items():
            if not path.endswith(".encoder") or not isinstance(dimension, CategoricalDimension):
                continue
            for value in dimension.values:
                options = Recipe.read(self.base, {path: value}).inputs[_input(path)].encoder
                if getattr(options, "fine_tuning", None) == "freeze":
                    found[path] = value
                    break
        return found

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Values by path, suggested by an Optuna trial."""
        values: dict[str, Any] = {}
        for path, dimension in self.dimensions.items():
            if not self._applies(path, values):
                continue
            if isinstance(dimension, CategoricalDimension):
                values[path] = dimension.decode(trial.suggest_categorical(path, dimension.labels))
            elif dimension.is_integer:
                values[path] = trial.suggest_int(path, int(dimension.low), int(dimension.high), log=dimension.log)
            else:
                values[path] = trial.suggest_float(path, dimension.low, dimension.high, log=dimension.log)
        return values

    def initial_points(self, max_points: int) -> list[dict[str, Any]]:
        """The first points of a search, as labels and numbers by path: the initial value of every dimension; then each
        other choice of the members, and of a component of a network (fusion, then encoders, then decoders), with all
        other dimensions at their initial value."""
        first = {path: dimension.initial for path, dimension in self.dimensions.items()}
        found, members = [first], self.dimensions.get(MEMBERS)
        if isinstance(members, CategoricalDimension):
            found = [first | {MEMBERS: label} for label in members.labels]
            first |= {MEMBERS: next((label for label in members.labels if label == NETWORK), members.initial)}
        for path in sorted(self.dimensions, key=_importance):
            dimension = self.dimensions[path]
            if isinstance(dimension, CategoricalDimension) and path != MEMBERS and _importance(path) < 3:
                found += [first | {path: label} for label in dimension.labels[1:]]
        points = {json.dumps(point, sort_keys=True): point for point in map(self._without_idle, found)}
        return list(points.values())[:max_points]

    def _without_idle(self, point: dict[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for path, dimension in self.dimensions.items():
            if self._applies(path, values):
                values[path] = dimension.decode(point[path])
        return {path: point[path] for path in values}

    def _applies(self, path: str, values: Mapping[str, Any]) -> bool:
        """Whether `path` exists with the chosen `values` of outer paths, and has an effect on the members."""
        if MEMBERS in values and path != MEMBERS:
            of_members = path.split(".")[0] in (MEMBERS, "ensemble")
            if values[MEMBERS] and not self.base.get("network") and not of_members:
                return False
            if not values[MEMBERS] and of_members:
                return False
        outer = self._outer(path)
        if outer is None:
            return True
        return outer in values and json.dumps(values[outer], sort_keys=True) in self._allowed[path]

    def _outer(self, path: str) -> str | None:
        """The innermost other dimension that contains `path`."""
        return max((other for other in self.dimensions if path.startswith(f"{other}.")), key=len, default=None)

    def _check_values(self, path: str) -> set[str]:
        """The choices of the outer dimension, as labels, for which all values of `path` are valid."""
        outer = self._outer(path)
        if outer is None:
            for value in self.dimensions[path].test_values:
                self.recipe({path: value}).check_components()
            return set()
        dimension = self.dimensions[outer]
        allowed, problem = set(), None
        for choice in dimension.test_values if isinstance(dimension, CategoricalDimension) else ():
            try:
                for value in self.dimensions[path].test_values:
                    self.recipe({outer: choice, path: value}).check_components()
            except RecipeError as error:
                problem = error
            else:
                allowed.add(json.dumps(choice, sort_keys=True))
        if not allowed:
            raise problem or RecipeError(path, f"{outer} is a range and has no options")
        return allowed


def _input(path: str) -> str:
    return path.removeprefix("inputs.").removesuffix(".encoder")


def _importance(path: str) -> int:
    """The order in which components are varied: fusion, encoders, decoders, then all other settings."""
    if path == "fusion":
        return 0
    if path.endswith(".encoder"):
        return 1
    return 2 if path.endswith(".decoder") else 3


def _check_path(path: str, base: Recipe) -> None:
    """Raise RecipeError for an unknown path or a path that all trials must share; `Recipe` checks the rest."""
    kind, _, rest = path.partition(".")
    if kind not in Recipe.model_fields:
        raise RecipeError(path, f"a recipe has no such key; {did_you_mean(kind, Recipe.model_fields)}")
    if kind in SHARED_SECTIONS:
        raise RecipeError(path, "all trials share the same rows and evaluation; set it in the recipe instead")
    if kind in ("inputs", "outputs"):
        names = getattr(base, kind)
        name = max((one for one in names if rest == one or rest.startswith(f"{one}.")), key=len, default=None)
        if name is None:
            hint = did_you_mean(rest.split(".")[0], names)
            raise RecipeError(path, f"the recipe has no such {kind[:-1]}; {hint}")
        key = rest[len(name) + 1 :]
        if not key or key.split(".")[0] in SHARED_KEYS:
            raise RecipeError(path, "all trials share the same inputs and targets; set it in the recipe instead")


def _dimension(path: str, value: Any) -> Dimension:
    if isinstance(value, list) and value:
        labels = [json.dumps(one, sort_keys=True) for one in value]
        if len(set(labels)) < len(labels):
            raise RecipeError(path, "a choice is given twice")
        return CategoricalDimension(tuple(value))
    if isinstance(value, Mapping) and "low" in value and "high" in value:
        unknown = [key for key in value if key not in ("low", "high", "log")]
        if unknown:
            raise RecipeError(
                f"{path}.{unknown[0]}", f"unknown key; {did_you_mean(unknown[0], ['low', 'high', 'log'])}"
            )
        low, high, log = _number(path, value["low"]), _number(path, value["high"]), value.get("log", False)
        if not isinstance(log, bool):
            raise RecipeError(f"{path}.log", f"must be true or false, not {log!r}")
        if not low < high or (log and low <= 0):
            raise RecipeError(path, f"low must be less than high, and above 0 with log; given: {low} to {high}")
        return NumericDimension(low, high, log)
    raise RecipeError(path, f"must be choices [a, b] or a range {{low, high, log}}, not {value!r}")


def _number(path: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecipeError(path, f"low and high must be numbers, not {value!r}")
    return value


def base_recipe(given: Recipe, plan: Recipe, space: Mapping[str, Any]) -> Recipe:
    """The base recipe of all trials: the user's recipe with all inputs and outputs listed.

    Other settings stay unset, so that their defaults follow from the choices of a trial (such as the preprocessing of a
    checkpoint). An encoder is only set if the space changes options of it.

    given: the user's recipe; plan: the complete recipe; space: recipe paths as keys
    """
    given_dict = given_values(given)
    inputs, outputs = given_dict.get("inputs", {}), given_dict.get("outputs", {})
    encoder_options = {path.partition(".encoder.")[0] for path in space if ".encoder." in path}
    for name, spec in plan.inputs.items():
        assert spec.modality is not None
        assert spec.encoder is not None
        own = {"columns": spec.columns, "modality": {"name": spec.modality.name}, **inputs.get(name, {})}
        if f"inputs.{name}" in encoder_options and f"inputs.{name}.encoder" not in space and "encoder" not in own:
            checkpoint = {"checkpoint": spec.encoder.checkpoint} if hasattr(spec.encoder, "checkpoint") else {}
            own["encoder"] = {"name": spec.encoder.name, **checkpoint}
        inputs = {**inputs, name: own}
    for name, out in plan.outputs.items():
        assert out.task is not None
        outputs = {**outputs, name: {"columns": out.columns, "task": {"name": out.task.name}, **outputs.get(name, {})}}
    ordered = {name: inputs[name] for name in plan.inputs}
    return Recipe.read({**given_dict, "inputs": ordered, "outputs": outputs})
