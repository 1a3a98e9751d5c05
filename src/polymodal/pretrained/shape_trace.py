"""Trace the shapes and module calls of a network in one run on the meta device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from polymodal.core.errors import RecipeError

#: Batch size of the traced run: a number that no other dimension is likely to have.
ITEMS = 5


@dataclass(frozen=True)
class Shape:
    """A tensor in the output of a stub.

    shape: zeros of this shape after the batch dimension; None: the hidden states that the stub receives
    argument: the position or name of the argument that is returned instead
    """

    shape: tuple[int, ...] | None = None
    given: int | str | None = None


@dataclass
class Trace:
    """The result of a traced run.

    hidden_shape: shape of the hidden states of an item at the split
    is_direct: whether the hidden states are the unmodified output of the layer below
    stub_outputs: output of the stub of each replaced module, by module name; nested, with `TensorSpec` for tensors
    output_modules: names of the modules that run only after the last layer
    """

    hidden: tuple[int, ...] = ()
    direct: bool = False
    answers: dict[str, Any] = field(default_factory=dict)
    above: list[str] = field(default_factory=list)


def run_without_content(model: nn.Module, layers: list[nn.Module], cut: int, inputs: dict[str, Tensor]) -> Trace:
    """Trace the network on inputs of these shapes (the first dimension is ignored).

    Raises:
        RecipeError: the network cannot be split: it does not run on the meta device, or the first dimension of the
            input of its layers is not the batch.
    """
    names = {module: name for name, module in model.named_modules()}
    calls: list[_Call] = []
    open_calls: list[_Call] = []
    hooks = []

    def enter(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        call = _Call(names[module], module, by_place(given, named), len(open_calls))
        calls.append(call)
        open_calls.append(call)

    def leave(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        open_calls.pop().output = output

    for module in names:
        hooks.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        hooks.append(module.register_forward_hook(leave))
    try:
        with torch.no_grad():
            _run(model, inputs)
    except Exception as error:
        problem = f"this network cannot be split between layers ({error}); use `freeze` or `full`"
        raise RecipeError("fine_tuning", problem) from error
    finally:
        for hook in hooks:
            hook.remove()
    return _read_trace(calls, layers, cut)


def _run(model: nn.Module, inputs: dict[str, Tensor]) -> None:
    """Run text networks on eight real tokens, since they read the values of masks; all others on the meta device."""
    if "input_ids" in inputs:
        model(input_ids=torch.ones(ITEMS, 8, dtype=torch.long))
        return
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    empty = {name: torch.empty_like(tensor, device="meta") for name, tensor in held.items()}
    blank = {
        name: torch.empty(ITEMS, *tensor.shape[1:], dtype=tensor.dtype, device="meta")
        for name, tensor in inputs.items()
        if "mask" not in name
    }
    functional_call(model, empty, (), blank)


@dataclass
class _Call:
    """One call of a module: its arguments by position or name, its nesting depth, and its output."""

    name: str
    module: nn.Module
    given: dict[int | str, Any]
    depth: int
    output: Any = None


def _read_trace(calls: list[_Call], layers: list[nn.Module], cut: int) -> Trace:
    places = {layer: [at for at, call in enumerate(calls) if call.module is layer] for layer in layers}
    if any(len(found) != 1 for found in places.values()):
        raise RecipeError("fine_tuning", "this network does not run each of its layers once; use `freeze` or `full`")
    first, last = places[layers[0]][0], places[layers[-1]][-1]
    trace = Trace()
    hidden = (
        first_tensor(calls[places[layers[cut]][0]].given) if cut < len(layers) else first_tensor(calls[last].output)
    )
    if hidden.ndim < 3 or hidden.shape[0] != ITEMS:
        problem = "the layers of this network do not have the batch as first dimension; use `freeze` or `full`"
        raise RecipeError("fine_tuning", problem)
    trace.hidden = tuple(hidden.shape[1:])
    trace.direct = cut > 0 and hidden is first_tensor(calls[places[layers[cut - 1]][0]].output)
    if cut > 0:
        for call in _outermost(calls[:first], layers):
            if any(isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) for module in call.module.modules()):
                answer = _answer(call, None)
                if answer is not None:
                    trace.answers[call.name] = answer
    for layer in layers[:cut]:
        call = calls[places[layer][0]]
        later = {id(one) for other in calls[_end(calls, places[layer][0]) :] for one in _tensors(other.given)}
        answer = _answer(call, later)
        if answer is not None:
            trace.answers[call.name] = answer
    ended = _end(calls, last)
    before = {call.module for call in calls[:ended]}
    trace.above = [call.name for call in _outermost(calls[ended:], layers) if call.module not in before]
    return trace


def _outermost(calls: list[_Call], layers: list[nn.Module]) -> Iterator[_Call]:
    """The outermost calls of modules that do not contain the layers."""
    inside: int | None = None
    for call in calls:
        if inside is not None and call.depth > inside:
            continue
        inside = None
        if call.output is not None and not any(module is layers[0] for module in call.module.modules()):
            inside = call.depth
            yield call


def _end(calls: list[_Call], start: int) -> int:
    """The index of the first call after the call at `start` has returned."""
    return next((at for at in range(start + 1, len(calls)) if calls[at].depth <= calls[start].depth), len(calls))


def _answer(call: _Call, later: set[int] | None) -> Any:
    """The output of the stub of a module; None if other modules need a value that a stub cannot provide, so that the
    module must run.

    later: ids of the tensors that modules after a layer read; other outputs of the layer besides hidden states may have
        any value. The position bias that the first layer computes for all layers is in `later`.
    """
    first = first_tensor(call.output)

    def shape(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        for place, given in call.given.items():
            if given is value:
                return Shape(given=place)
        if later is not None and value is first and value.shape == first_tensor(call.given).shape:
            return Shape()
        if later is not None and value is not first:
            if id(value) in later:
                raise _NotOfItems
            return Shape()
        if value.ndim == 0 or value.shape[0] != ITEMS:
            raise _NotOfItems
        return Shape(tuple(value.shape[1:]))

    try:
        return mapped(call.output, shape)
    except _NotOfItems:
        return None


class _NotOfItems(Exception):
    pass


def by_place(given: tuple[Any, ...], named: dict[str, Any]) -> dict[int | str, Any]:
    arguments: dict[int | str, Any] = dict(enumerate(given))
    arguments.update(named)
    return arguments


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Apply `change` to every leaf of nested tuples, lists and dicts (including model outputs of transformers).

    Example:
        >>> map_leaves({"a": (1, [2])}, lambda value: value + 1)
        {'a': (2, [3])}
    """
    if isinstance(value, dict):
        changed = {key: mapped(inner, change) for key, inner in value.items()}
        return changed if type(value) is dict else type(value)(**changed)
    if isinstance(value, tuple | list) and type(value) in (tuple, list):
        return type(value)(mapped(inner, change) for inner in value)
    return change(value)


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def keep(inner: Any) -> Any:
        if isinstance(inner, Tensor):
            found.append(inner)
        return inner

    mapped(value, keep)
    return found


def first_tensor(value: Any) -> Tensor:
    """The first tensor of a nested structure: by the conventions of transformers, the hidden states."""
    return _tensors(value)[0]
